//! The allocator: forwards every call, and records it at the level in force.

use std::alloc::{GlobalAlloc, Layout};

use heapgate_segment::layout::{Level, Operation, Slot};

use crate::attach;
use crate::rseq::Window;
use crate::thread;

/// A global allocator that records what passes through it to `A`.
///
/// # Implementation
/// A call costs, over `A`'s own time: at level `off`, or without a segment, one load and one branch; at `count` a few plain adds to memory of
/// the thread's own; at `exact` also two readings of the clock, which is most of the cost. Calls are counted when `A` has succeeded. The time of
/// a call is `A`'s alone: the counting is outside the window.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
pub struct Telemetry<A>(A);

impl<A> Telemetry<A> {
    /// Records what passes to `inner`.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }

    /// The allocator below.
    pub const fn inner(&self) -> &A {
        &self.0
    }
}

// SAFETY: every method hands its arguments to the same method of `A` and returns what that returned; `A` is a GlobalAlloc by the bound.
// What is done beside that neither allocates nor unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Telemetry<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.alloc(layout) };
        match attach::level() {
            Level::Off => call(),
            Level::Count => counted_alloc(false, layout.size(), call()),
            level => counted_alloc(false, layout.size(), timed(level, Operation::Alloc, call)),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.alloc_zeroed(layout) };
        match attach::level() {
            Level::Off => call(),
            Level::Count => counted_alloc(true, layout.size(), call()),
            level => counted_alloc(true, layout.size(), timed(level, Operation::AllocZeroed, call)),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.dealloc(ptr, layout) };
        match attach::level() {
            Level::Off => call(),
            Level::Count => {
                count_dealloc(layout.size());
                call();
            }
            level => {
                count_dealloc(layout.size());
                timed(level, Operation::Dealloc, call);
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `realloc`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.realloc(ptr, layout, new_size) };
        match attach::level() {
            Level::Off => call(),
            Level::Count => counted_realloc(layout.size(), new_size, call()),
            level => counted_realloc(layout.size(), new_size, timed(level, Operation::Realloc, call)),
        }
    }
}

#[inline(always)]
fn counted_alloc(zeroed: bool, bytes: usize, ptr: *mut u8) -> *mut u8 {
    if ptr.is_null() {
        count_failed();
        return ptr;
    }
    thread::with_slot(
        |slot| slot.count_alloc::<false>(attach::sums, zeroed, bytes as u64),
        |shared| shared.count_alloc::<true>(attach::sums, zeroed, bytes as u64),
    );
    ptr
}

#[inline(always)]
fn count_dealloc(bytes: usize) {
    thread::with_slot(
        |slot| slot.count_dealloc::<false>(attach::sums, bytes as u64),
        |shared| shared.count_dealloc::<true>(attach::sums, bytes as u64),
    );
}

#[inline(always)]
fn counted_realloc(old: usize, new: usize, ptr: *mut u8) -> *mut u8 {
    if ptr.is_null() {
        count_failed();
        return ptr;
    }
    thread::with_slot(
        |slot| slot.count_realloc::<false>(attach::sums, old as u64, new as u64),
        |shared| shared.count_realloc::<true>(attach::sums, old as u64, new as u64),
    );
    ptr
}

#[cold]
fn count_failed() {
    thread::with_slot(Slot::count_failed::<false>, Slot::count_failed::<true>);
}

/// Makes a call, and times it if it is this one's turn.
#[inline(always)]
fn timed<R>(level: Level, operation: Operation, call: impl FnOnce() -> R) -> R {
    if level == Level::Exact || (level == Level::ExactAlloc && operation != Operation::Dealloc) {
        return timed_call(operation, 1, call);
    }
    match thread::current() {
        Some(slot) if slot.is_sampled() => sampled_call(slot, operation, call),
        // A thread without a slot has no countdown: its calls are counted, never timed, which the report notes.
        _ => call(),
    }
}

/// One call in many: out of the way of the others.
#[cold]
#[inline(never)]
fn sampled_call<R>(slot: &'static Slot, operation: Operation, call: impl FnOnce() -> R) -> R {
    let period = attach::sample_period();
    slot.draw_countdown(period);
    timed_call(operation, period, call)
}

#[inline(always)]
fn timed_call<R>(operation: Operation, weight: u64, call: impl FnOnce() -> R) -> R {
    let clock = attach::clock();
    let window = Window::open();
    let begin = clock.now();
    let result = call();
    let end = clock.now();
    let interrupted = window.close();
    // A counter that steps back by a few ticks between cores must not become a stall of centuries.
    let ticks = end.saturating_sub(begin);
    thread::with_slot(
        |slot| slot.record::<false>(operation, ticks, interrupted, weight),
        |shared| shared.record::<true>(operation, ticks, interrupted, weight),
    );
    result
}
