//! A bump arena that threads share: every allocation takes its lock.

#![allow(unsafe_code, reason = "a block outlives the lock under which it was allocated")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Instant;

use bumpalo::Bump;

/// Where copies of things can be kept.
pub trait Arena {
    /// Keeps a copy of `items`.
    fn keep<T: Copy>(&self, items: &[T]) -> &[T];
}

impl Arena for Bump {
    fn keep<T: Copy>(&self, items: &[T]) -> &[T] {
        self.alloc_slice_copy(items)
    }
}

/// The arena. It is used through [`Lease`]s, and reset when there are none.
#[derive(Debug, Default)]
pub struct Shared {
    /// The outer lock keeps a reset away from those who hold blocks; the inner one is that of an allocation.
    bump: RwLock<Mutex<Bump>>,
    waits: AtomicU64,
    wait_total_ns: AtomicU64,
    wait_max_ns: AtomicU64,
}

/// The right to allocate, and to hold what was allocated for as long as the lease lives.
#[derive(Debug)]
pub struct Lease<'s> {
    shared: &'s Shared,
    bump: RwLockReadGuard<'s, Mutex<Bump>>,
}

/// How often the arena was found locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contention {
    /// Times.
    pub waits: u64,
    /// Time until the lock was then had, in all, ns.
    pub total_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
}

impl Shared {
    /// Starts using the arena. A thread must not wait for a reset while it holds one.
    pub fn lease(&self) -> Lease<'_> {
        Lease { shared: self, bump: self.bump.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Takes everything back, when the last lease has ended.
    pub fn reset(&self) {
        let mut bump = self.bump.write().unwrap_or_else(PoisonError::into_inner);
        bump.get_mut().unwrap_or_else(PoisonError::into_inner).reset();
    }

    /// Bytes of the arena's chunks.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bump = self.bump.read().unwrap_or_else(PoisonError::into_inner);
        let bump = bump.lock().unwrap_or_else(PoisonError::into_inner);
        bump.allocated_bytes()
    }

    /// What waiting there was since [`Self::forget_contention`].
    #[must_use]
    pub fn contention(&self) -> Contention {
        Contention {
            waits: self.waits.load(Relaxed),
            total_ns: self.wait_total_ns.load(Relaxed),
            max_ns: self.wait_max_ns.load(Relaxed),
        }
    }

    /// Counts from 0 again.
    pub fn forget_contention(&self) {
        for counter in [&self.waits, &self.wait_total_ns, &self.wait_max_ns] {
            counter.store(0, Relaxed);
        }
    }

    fn waited(&self, ns: u64) {
        self.waits.fetch_add(1, Relaxed);
        self.wait_total_ns.fetch_add(ns, Relaxed);
        self.wait_max_ns.fetch_max(ns, Relaxed);
    }
}

impl Lease<'_> {
    /// The clock is only read where there is something to wait for: it costs more than an allocation.
    fn lock(&self) -> MutexGuard<'_, Bump> {
        match self.bump.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let start = Instant::now();
                let guard = self.bump.lock().unwrap_or_else(PoisonError::into_inner);
                self.shared.waited(start.elapsed().as_nanos() as u64);
                guard
            }
        }
    }
}

impl Arena for Lease<'_> {
    fn keep<T: Copy>(&self, items: &[T]) -> &[T] {
        let block = NonNull::from(self.lock().alloc_slice_copy(items));
        // SAFETY: only the lifetime is made longer, from the inner lock's to that of `&self`. The block stays as it is
        // for that long: it holds initialized `T`s, aligned (also where they are none or of size 0); its one mutable
        // reference ended above; and bumpalo hands out each byte once until the `Bump` is reset or dropped, since its
        // chunks never move. Later allocations, of whatever thread, write only bytes not handed out yet. To reset or
        // drop takes the `Bump` exclusively or owned, and while this lease holds the outer lock for reading no one has
        // either: `reset` waits for the write lock, whose taking orders our reads before what is written next; dropping
        // or moving needs `Shared`, which the lease borrows; and inside the inner lock no one calls but `keep` and
        // `bytes`, through `&Bump`. A panic there (out of memory) comes before a block is handed out, so a poisoned
        // lock may be used. What `T` borrows outlives the result, whose type names it; no destructor is skipped, since
        // `T` is `Copy`; and other threads get at the `T`s only by the result, with the rules of any `&[T]`.
        unsafe { block.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Of each thread.
    const BLOCKS: u64 = if cfg!(miri) { 20 } else { 1_000 };

    #[test]
    fn blocks_of_all_threads_keep_what_was_put_in_them() {
        let shared = Shared::default();
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let shared = &shared;
                scope.spawn(move || {
                    let lease = shared.lease();
                    let items = |n: u64| vec![thread * 1_000 + n; n as usize % 7 + 1];
                    let kept: Vec<&[u64]> = (0..BLOCKS).map(|n| lease.keep(&items(n))).collect();
                    assert!(kept.iter().zip(0..).all(|(&block, n)| block == items(n)));
                });
            }
        });
        assert!(shared.bytes() as u64 >= 4 * BLOCKS * 8);
    }

    #[test]
    fn blocks_stay_as_they_were_while_others_are_put_in_and_until_a_reset() {
        let shared = Shared::default();
        for round in 0..2u8 {
            let (one, two) = (shared.lease(), shared.lease());
            let (text, none) = (one.keep(&[round; 3]), one.keep::<u64>(&[]));
            let number = two.keep(&[u64::MAX]);
            // Aligned after odd bytes, and in a chunk of its own.
            let far = two.keep(&[u32::from(round); 1_000]);
            let borrowed = one.keep(&[text, b"from elsewhere"]);
            drop(shared.lease());
            assert_eq!((text, none, number), (&[round; 3][..], &[][..], &[u64::MAX][..]));
            assert_eq!((far[999], borrowed[0], borrowed[1]), (u32::from(round), text, &b"from elsewhere"[..]));
            drop((one, two));
            shared.reset();
        }
    }

    #[test]
    fn a_reset_waits_for_the_last_lease() {
        let shared = Arc::new(Shared::default());
        let lease = shared.lease();
        let kept = lease.keep(&[7u32; 100]);
        let resetting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.reset()
        });
        assert!(shared.bump.try_write().is_err());
        assert_eq!(kept, [7; 100]);
        drop(lease);
        resetting.join().expect("it has its turn");
    }
}
