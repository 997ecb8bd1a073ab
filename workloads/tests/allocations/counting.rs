//! The system's allocator, counting calls that allocate (`alloc`, `alloc_zeroed` and `realloc`), live bytes, and the most of
//! those at one time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    let live = LIVE_BYTES.fetch_add(bytes, Relaxed) + bytes;
    PEAK_BYTES.fetch_max(live, Relaxed);
}

// SAFETY: every method hands its arguments, on whose contract it relies, unchanged to `System`, and counts on the side.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`, which is `System`'s too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `block` came from `System`, as all of ours do; the caller upholds the rest.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What some work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub calls: u64,
    /// The most bytes at one time, beyond those that were live before.
    pub peak_bytes: usize,
}

/// What `work` took, and what it came to.
pub fn taken<T>(work: impl FnOnce() -> T) -> (Taken, T) {
    let (calls, live) = (CALLS.load(Relaxed), LIVE_BYTES.load(Relaxed));
    PEAK_BYTES.store(live, Relaxed);
    let result = work();
    (Taken { calls: CALLS.load(Relaxed) - calls, peak_bytes: PEAK_BYTES.load(Relaxed) - live }, result)
}

/// How many threads this process has, where the system tells.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
