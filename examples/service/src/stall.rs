//! A stall on demand: one call of the allocator that takes long, below the telemetry, which takes it for the allocator's own.
//! For tests of alerts and dashboards; a service of yours has no use for it.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

/// How long.
const STALL: Duration = Duration::from_millis(250);

thread_local! {
    /// Whether this thread's next allocation is the one. Without destructor and with a constant initial value: an access
    /// allocates nothing, at any time in a thread's life.
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// An allocator that stalls when it is told to.
#[derive(Debug)]
pub(crate) struct Stalling<A>(A);

impl<A> Stalling<A> {
    pub(crate) const fn new(inner: A) -> Self {
        Self(inner)
    }
}

/// Makes one allocation that stalls.
pub(crate) fn one_allocation() -> String {
    ARMED.set(true);
    drop(black_box(Box::new([1u8; 64])));
    format!("an allocation took {} ms longer\n", STALL.as_millis())
}

fn stall_if_armed() {
    if ARMED.replace(false) {
        let begin = Instant::now();
        // It spins, as a thread does that waits for a lock or clears pages.
        while begin.elapsed() < STALL {
            spin_loop();
        }
    }
}

// SAFETY: every method hands its arguments to the same method of `A` and returns what that returned; `A` is a GlobalAlloc by
// the bound. What is done beside that neither allocates nor unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Stalling<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        stall_if_armed();
        // SAFETY: the caller keeps `alloc`'s contract, which is `A`'s too.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { self.0.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { self.0.dealloc(ptr, layout) }
    }
}
