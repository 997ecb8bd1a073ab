//! The one reserved range of addresses: made at the first scope, kept until the process ends, and the whole test of
//! whether a pointer is ours.

use crate::os;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Bytes in a chunk, and its alignment.
pub const CHUNK_BYTES: usize = if cfg!(miri) { 64 << 10 } else { 1 << 20 };

/// Chunks in the largest range: 64 GiB.
pub(crate) const MAX_CHUNKS: usize = if cfg!(miri) { 64 } else { 1 << 16 };

/// The sizes tried, largest first. Below the last one the address space is so short (`RLIMIT_AS`) that a
/// reservation would take what the program itself needs.
const CANDIDATES: [usize; 4] = {
    let largest = MAX_CHUNKS * CHUNK_BYTES;
    [largest, largest / 4, largest / 16, largest / 64]
};

/// The range, whole: its start, with the logarithm of its length in chunks in the bits that alignment leaves free.
/// Null before there is one. Written once.
static RECORDED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// `RECORDED`'s start, ready to use. Every write is of the same value.
static BASE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// Its length in bytes; 0 until it may be used, so that no address is ours before. Written after `BASE`.
static LEN: AtomicUsize = AtomicUsize::new(0);
/// Why there is none; 0 while unknown.
static ERRNO: AtomicI32 = AtomicI32::new(0);
/// The key of the thread exit handler, plus one. Written once, before `LEN`.
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);

/// Whether the address range is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// No scope has been entered yet, so nothing was tried.
    Unused,
    /// Scopes bump.
    Active {
        /// Bytes of address space reserved, of which memory backs only what was used.
        range_bytes: usize,
    },
    /// The reservation failed, and every allocation goes to the inner allocator.
    Unavailable {
        /// The error number of the refusal, such as `ENOMEM` under `RLIMIT_AS`.
        errno: i32,
    },
}

/// Whether the range could be reserved, and if not, why.
///
/// ```
/// use heapgate_region::{Status, scope, status};
/// scope(|| ());
/// match status() {
///     Status::Active { range_bytes } => assert!(range_bytes >= heapgate_region::CHUNK_BYTES),
///     Status::Unavailable { errno } => eprintln!("no range: error {errno}"),
///     Status::Unused => unreachable!("a scope was entered"),
/// }
/// ```
pub fn status() -> Status {
    // Acquire pairs with the Release in `reserve`.
    match (LEN.load(Ordering::Acquire), ERRNO.load(Ordering::Relaxed)) {
        (0, 0) => Status::Unused,
        (0, errno) => Status::Unavailable { errno },
        (range_bytes, _) => Status::Active { range_bytes },
    }
}

/// Whether allocations can be bumped; reserves the range if nobody has tried yet.
pub fn available() -> bool {
    if status() == Status::Unused {
        reserve();
    }
    matches!(status(), Status::Active { .. })
}

/// Whether `ptr` points into the range. One subtraction and one comparison; false for all while there is no range.
#[inline]
pub fn is_ours(ptr: *const u8) -> bool {
    offset(ptr).is_some()
}

/// Where in the range `ptr` points, in bytes.
#[inline]
pub(crate) fn offset(ptr: *const u8) -> Option<usize> {
    // Acquire pairs with the Release in `reserve`: who sees the length sees the base. In the other order a low
    // address could look ours for an instant.
    let len = LEN.load(Ordering::Acquire);
    let offset = ptr.addr().wrapping_sub(BASE.load(Ordering::Relaxed).addr());
    (offset < len).then_some(offset)
}

/// The same address as `ptr`, with leave to touch the whole range: what a caller hands back may be narrowed to its
/// object.
pub(crate) fn widen(ptr: *const u8) -> *mut u8 {
    BASE.load(Ordering::Relaxed).with_addr(ptr.addr())
}

/// The first byte of chunk `index`, which the caller got from `chunk::acquire` or from [`offset`].
pub(crate) fn chunk_base(index: usize) -> *mut u8 {
    BASE.load(Ordering::Relaxed).wrapping_add(index.wrapping_mul(CHUNK_BYTES))
}

/// How many chunks the range holds.
pub(crate) fn chunks() -> usize {
    LEN.load(Ordering::Acquire) / CHUNK_BYTES
}

/// The key with which a thread arms its exit handler.
pub(crate) fn exit_key() -> Option<libc::pthread_key_t> {
    EXIT_KEY.load(Ordering::Relaxed).checked_sub(1)
}

/// Reserves the range, once. Threads that come here together each make one, the first to record its own wins, and all
/// of them publish that: nobody waits, so no fork can leave a child waiting.
#[cold]
pub(crate) fn reserve() {
    if ERRNO.load(Ordering::Relaxed) != 0 {
        return;
    }
    // Acquire pairs with the Release in `record`, for the memory behind the address.
    let mut recorded = RECORDED.load(Ordering::Acquire);
    if recorded.is_null() {
        // Without an exit handler the chunks of dead threads would be lost, so it comes first.
        match make_exit_key().and_then(|()| map()) {
            Ok((base, len)) => recorded = record(base, len),
            Err(errno) => {
                // Perhaps for want of what another thread has just taken.
                recorded = RECORDED.load(Ordering::Acquire);
                if recorded.is_null() {
                    return ERRNO.store(errno, Ordering::Relaxed);
                }
            }
        }
    }
    let chunks = 1usize << (recorded.addr() % CHUNK_BYTES);
    BASE.store(recorded.map_addr(|addr| addr & !(CHUNK_BYTES - 1)), Ordering::Relaxed);
    // Release pairs with the Acquire in `offset`, `chunks` and `status`.
    LEN.store(chunks * CHUNK_BYTES, Ordering::Release);
}

/// Maps the largest range that is to be had.
fn map() -> Result<(*mut u8, usize), i32> {
    let mut refused = libc::ENOMEM;
    for len in CANDIDATES {
        match os::reserve(len, CHUNK_BYTES) {
            Ok(base) => return Ok((base, len)),
            Err(errno) => refused = errno,
        }
    }
    Err(refused)
}

/// Records a range unless there is one, and returns what is recorded.
fn record(base: *mut u8, len: usize) -> *mut u8 {
    let chunks_log2 = (len / CHUNK_BYTES).ilog2() as usize;
    let mine = base.map_addr(|addr| addr | chunks_log2);
    match RECORDED.compare_exchange(std::ptr::null_mut(), mine, Ordering::Release, Ordering::Acquire) {
        Ok(_) => mine,
        Err(theirs) => {
            // SAFETY: the range from `map`, which nobody else has seen.
            unsafe { os::unreserve(base, len, CHUNK_BYTES) };
            theirs
        }
    }
}

fn make_exit_key() -> Result<(), i32> {
    if exit_key().is_some() {
        return Ok(());
    }
    let key = os::exit_key(crate::local::on_thread_exit)?;
    if EXIT_KEY.compare_exchange(0, key.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed).is_err() {
        os::delete_key(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::isolated;

    #[test]
    fn the_range_is_aligned_and_ends_where_it_says() {
        isolated(|| {
            let Status::Active { range_bytes } = ({
                available();
                status()
            }) else {
                panic!("no range: {:?}", status())
            };
            let base = chunk_base(0);
            assert_eq!(base.addr() % CHUNK_BYTES, 0);
            assert!(is_ours(base) && is_ours(base.wrapping_add(range_bytes - 1)));
            assert!(!is_ours(base.wrapping_sub(1)) && !is_ours(base.wrapping_add(range_bytes)));
        });
    }

    #[test]
    fn null_stack_and_static_addresses_are_not_ours() {
        isolated(|| {
            available();
            let here = 0u8;
            assert!(!is_ours(std::ptr::null()));
            assert!(!is_ours(&here));
            assert!(!is_ours((&raw const BASE).cast()));
        });
    }
}
