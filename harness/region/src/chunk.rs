//! The side table: one entry for each chunk, the count that decides when its memory may be used again, and the
//! stack of chunks that wait for a thread.
//!
//! # The count
//! While a thread owns a chunk, the table's `count` is `BIAS` less the objects that *others* have freed; what the owner
//! allocates and frees it counts in plain cells of its own. [`Chunk::seal`] ends the ownership: it swaps the bias for
//! the owner's count of live objects. From then on `count` is the number of live objects, it only falls, and whoever
//! takes it to 0 (exactly one subtraction can) puts the chunk on the stack.
//!
//! No lock anywhere: a fork at any instruction leaves the child a stack it can use. It loses only the chunks that
//! other threads were holding.

use crate::{os, range, stats};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Above any number of objects a chunk can hold, so that the count of an owned chunk never reaches 0.
const BIAS: u32 = 1 << 31;
const _: () = assert!(range::CHUNK_BYTES < BIAS as usize);

/// One chunk's entry, in a cache line of its own: threads write neighbours at the same time.
#[repr(align(64))]
pub(crate) struct Chunk {
    count: AtomicU32,
    /// The next chunk on the stack, plus one; 0 ends it.
    next: AtomicU32,
    /// The thread that bumped it last; 0 for none.
    owner: AtomicU64,
    /// When its owner began to fill it, in that thread's order.
    serial: AtomicU64,
    /// From this offset on the memory reads as zero.
    dirty_bytes: AtomicUsize,
    committed: AtomicBool,
}

impl Chunk {
    const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            next: AtomicU32::new(0),
            owner: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            dirty_bytes: AtomicUsize::new(0),
            committed: AtomicBool::new(false),
        }
    }

    /// Whether `thread` filled it, and if so when. Asked by who holds a live object in it, so it can't change hands.
    pub(crate) fn serial_if_owned(&self, thread: u64) -> Option<u64> {
        // Relaxed: written before the object was made; that the object reached this thread ordered the two.
        (self.owner.load(Ordering::Relaxed) == thread).then(|| self.serial.load(Ordering::Relaxed))
    }

    /// Starts an ownership, or a fresh filling within one. Only with no object alive in the chunk: then nobody else
    /// touches the entry.
    pub(crate) fn begin(&self, thread: u64, serial: u64) {
        self.count.store(BIAS, Ordering::Relaxed);
        self.owner.store(thread, Ordering::Relaxed);
        self.serial.store(serial, Ordering::Relaxed);
    }

    /// Whether others have freed all of the `live` objects that the owner knows of.
    pub(crate) fn others_freed(&self, live: u64) -> bool {
        // Acquire pairs with the Release of every `free_one`: all use of the objects is over.
        u64::from(BIAS.wrapping_sub(self.count.load(Ordering::Acquire))) == live
    }

    /// Ends the ownership, with `live` objects the owner has not freed. True when no object is alive: the caller
    /// releases the chunk.
    #[must_use]
    pub(crate) fn seal(&self, live: u64, dirty_bytes: usize) -> bool {
        self.dirty_bytes.store(dirty_bytes, Ordering::Relaxed);
        let handover = BIAS.wrapping_sub(live as u32);
        // Release gives the entry to who frees the last object; Acquire takes the objects from those who freed them.
        self.count.fetch_sub(handover, Ordering::AcqRel) == handover
    }

    /// Counts a free by anyone but the owner of an owned chunk. True for the last object of a sealed chunk: the
    /// caller releases it.
    #[must_use]
    pub(crate) fn free_one(&self) -> bool {
        // Release pairs with the Acquire below, in `seal` and in `others_freed`: use of the object comes before.
        let last = self.count.fetch_sub(1, Ordering::Release) == 1;
        if last {
            fence(Ordering::Acquire);
        }
        last
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }
}

/// All zero, so it lies in pages that no file backs and nobody has touched: it costs what is used of it.
static TABLE: [Chunk; range::MAX_CHUNKS] = [const { Chunk::new() }; range::MAX_CHUNKS];
/// The top of the stack: a version in the high half (a chunk may leave and return between a load and its exchange),
/// index plus one in the low half.
static FREE: AtomicU64 = AtomicU64::new(0);
/// The first chunk that was never used.
static FRESH: AtomicU32 = AtomicU32::new(0);

/// The entry of chunk `index`. The mask is for the compiler: an index comes from an offset in the range.
#[inline]
pub(crate) fn entry(index: usize) -> &'static Chunk {
    const { assert!(range::MAX_CHUNKS.is_power_of_two()) };
    &TABLE[index & (range::MAX_CHUNKS - 1)]
}

/// Bytes of chunks that were ever committed.
pub(crate) fn committed_bytes() -> u64 {
    u64::from(FRESH.load(Ordering::Relaxed)) * range::CHUNK_BYTES as u64
}

/// Takes an empty chunk; the caller begins its ownership. `None` when the range is full or the kernel won't commit.
#[cold]
pub(crate) fn acquire() -> Option<usize> {
    let index = match pop() {
        Some(index) => index,
        None => fresh()?,
    };
    let chunk = entry(index);
    let reused = chunk.committed.load(Ordering::Relaxed);
    // SAFETY: the span is one chunk of the range, and an empty one that only this thread holds.
    if !reused && !unsafe { os::commit(range::chunk_base(index), range::CHUNK_BYTES) } {
        push(index);
        return None;
    }
    chunk.committed.store(true, Ordering::Relaxed);
    stats::chunk_acquired(reused);
    Some(index)
}

/// Gives back a chunk in which no object is alive and that no thread owns.
#[cold]
pub(crate) fn release(index: usize) {
    stats::chunk_released();
    push(index);
}

/// Gives the pages of all waiting chunks to the kernel. Returns the bytes that had been written to in them.
pub(crate) fn decommit_free() -> usize {
    let mut bytes = 0;
    let mut held = 0;
    // All are taken before the first goes back, or the same one would come up again.
    while let Some(index) = pop() {
        let chunk = entry(index);
        let dirty = chunk.dirty_bytes();
        // SAFETY: the span is one chunk of the range, empty, and off the stack only this thread holds it.
        if dirty > 0 && unsafe { os::decommit(range::chunk_base(index), range::CHUNK_BYTES) } {
            chunk.dirty_bytes.store(0, Ordering::Relaxed);
            bytes += dirty;
        }
        chunk.next.store(held, Ordering::Relaxed);
        held = index as u32 + 1;
    }
    while let Some(index) = held.checked_sub(1) {
        held = entry(index as usize).next.load(Ordering::Relaxed);
        push(index as usize);
    }
    bytes
}

fn fresh() -> Option<usize> {
    let chunks = range::chunks() as u32;
    let step = |index| (index < chunks).then_some(index + 1);
    // Relaxed: the number elects one taker; the chunk itself has no history to see.
    FRESH.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok().map(|index| index as usize)
}

fn push(index: usize) {
    let mut top = FREE.load(Ordering::Relaxed);
    loop {
        entry(index).next.store(top as u32, Ordering::Relaxed);
        // Release pairs with the Acquire in `pop`: the entry's fields and the memory go to the next owner.
        match FREE.compare_exchange_weak(top, succeed(top, index as u32 + 1), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => top = now,
        }
    }
}

fn pop() -> Option<usize> {
    // Acquire, here and on failure, pairs with the Release in `push`. Later exchanges continue its release sequence.
    let mut top = FREE.load(Ordering::Acquire);
    loop {
        let index = (top as u32).checked_sub(1)? as usize;
        // Another thread may have taken the chunk and changed `next`: then the version has moved, and this fails.
        let next = entry(index).next.load(Ordering::Relaxed);
        match FREE.compare_exchange_weak(top, succeed(top, next), Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => return Some(index),
            Err(now) => top = now,
        }
    }
}

/// The word that follows `top`: the next version over `link`.
fn succeed(top: u64, link: u32) -> u64 {
    ((top >> 32).wrapping_add(1) << 32) | u64::from(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as its owner leaves it, outside the table.
    fn owned() -> Chunk {
        let chunk = Chunk::new();
        chunk.begin(1, 1);
        chunk
    }

    #[test]
    fn sealing_an_empty_chunk_releases_it() {
        assert!(owned().seal(0, 0));
    }

    #[test]
    fn the_last_free_after_the_seal_releases_and_no_other() {
        let chunk = owned();
        assert!(!chunk.seal(3, 0));
        assert_eq!([chunk.free_one(), chunk.free_one(), chunk.free_one()], [false, false, true]);
    }

    #[test]
    fn frees_by_others_before_the_seal_are_counted_by_it() {
        let chunk = owned();
        assert!(!chunk.free_one() && !chunk.free_one());
        assert!(!chunk.others_freed(3));
        assert!(chunk.others_freed(2));
        assert!(chunk.seal(2, 0));
    }

    #[test]
    fn exactly_one_of_owner_and_freers_releases() {
        for _ in 0..if cfg!(miri) { 20 } else { 2_000 } {
            let chunk = owned();
            let released: u32 = std::thread::scope(|threads| {
                let freers =
                    [0; 2].map(|_| threads.spawn(|| u32::from(chunk.free_one()) + u32::from(chunk.free_one())));
                let sealed = u32::from(chunk.seal(4, 0));
                sealed + freers.into_iter().map(|freer| freer.join().unwrap()).sum::<u32>()
            });
            assert_eq!(released, 1);
        }
    }

    #[test]
    fn a_version_tells_a_returned_chunk_from_one_that_stayed() {
        let top = succeed(0, 7);
        let returned = succeed(succeed(top, 0), 7);
        assert_eq!(top as u32, returned as u32);
        assert_ne!(top, returned);
    }
}
