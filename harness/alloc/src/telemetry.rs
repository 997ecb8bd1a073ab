//! The allocator: forwards every call, and records it at the level in force.

use std::alloc::{GlobalAlloc, Layout};

use heapgate_segment::clock::{Anchor, ClockKind};
use heapgate_segment::layout::{Level, Operation, SAMPLES_STACKS, Slot};
use heapgate_segment::probes;

use crate::attach;
use crate::rseq::Window;
use crate::{stacks, thread};

/// The level at which nothing is done.
const OFF: u64 = Level::Off as u64;

/// The highest level word at which calls are counted and no more.
const COUNT: u64 = Level::Count as u64;

/// The level word that is usual where stacks are sampled.
const COUNT_AND_STACKS: u64 = COUNT | SAMPLES_STACKS;

/// A global allocator that records what passes through it to `A`.
///
/// # Implementation
/// A call costs, over `A`'s own time: at level `off`, or without a segment, one load and one branch; at `count` a few
/// plain adds to memory of the thread's own; at `exact` also two readings of the clock, which is most of the cost. Where
/// call stacks are sampled, each allocation counts down besides, and a sample takes microseconds, outside the window.
/// Calls are counted when `A` has succeeded. The time of a call is `A`'s alone: the counting is outside the window.
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

// SAFETY: every method hands its arguments to the same method of `A` and returns what that returned; `A` is a
// GlobalAlloc by the bound. What is done beside that neither allocates nor unwinds.
//
// The usual path, counting, is written to need no stack and to save no registers: whatever else may happen is a
// function of its own, called last.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Telemetry<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.alloc(layout) };
        let level = attach::level();
        if level == OFF {
            return call();
        }
        if level == COUNT_AND_STACKS {
            if !stacks::passes(layout.size()) {
                // SAFETY: the caller keeps `alloc`'s contract.
                return unsafe { self.sampled_alloc(layout) };
            }
        } else if is_timed(level, Operation::Alloc) {
            // SAFETY: the caller keeps `alloc`'s contract.
            return unsafe { self.timed_alloc(layout, level) };
        }
        counted_alloc(call(), layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Rarer than the others, and zeroing costs more than a call.
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { self.any_alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.dealloc(ptr, layout) };
        let level = attach::level();
        if level == OFF {
            return call();
        }
        if level == COUNT_AND_STACKS {
            if stacks::may_track(ptr) {
                // SAFETY: the caller keeps `dealloc`'s contract.
                return unsafe { self.traced_dealloc(ptr, layout, level) };
            }
        } else if is_timed(level, Operation::Dealloc) {
            // SAFETY: the caller keeps `dealloc`'s contract.
            return unsafe { self.timed_dealloc(ptr, layout, level) };
        }
        match thread::own_slot() {
            Some(slot) if !slot.count_dealloc(layout.size() as u64) => call(),
            // SAFETY: the caller keeps `dealloc`'s contract.
            slot => unsafe { self.unusual_dealloc(ptr, layout, slot) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `realloc`'s contract, which is `A`'s too.
        let call = || unsafe { self.0.realloc(ptr, layout, new_size) };
        let level = attach::level();
        if level == OFF {
            return call();
        }
        if is_timed(level, Operation::Realloc) {
            // SAFETY: the caller keeps `realloc`'s contract.
            return unsafe { self.timed_realloc(ptr, layout, new_size, level) };
        }
        counted_realloc(call(), layout.size(), new_size)
    }
}

impl<A: GlobalAlloc> Telemetry<A> {
    /// # Safety
    /// As [`GlobalAlloc::alloc`].
    #[inline(never)]
    unsafe fn timed_alloc(&self, layout: Layout, level: u64) -> *mut u8 {
        if level & SAMPLES_STACKS != 0 {
            // SAFETY: the caller's contract.
            return unsafe { self.traced_alloc(layout, level) };
        }
        // SAFETY: the caller's contract.
        counted_alloc(timed(level, Operation::Alloc, layout.size(), || unsafe { self.0.alloc(layout) }), layout.size())
    }

    /// # Safety
    /// As [`GlobalAlloc::alloc_zeroed`].
    #[inline(never)]
    unsafe fn any_alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        let call = || unsafe { self.0.alloc_zeroed(layout) };
        let word = attach::level();
        let level = word & !SAMPLES_STACKS;
        if level == OFF {
            return call();
        }
        let ptr = timed_if_due(level, Operation::AllocZeroed, layout.size(), call);
        if !ptr.is_null() {
            let bytes = layout.size() as u64;
            thread::with_slot(|slot| slot.count_zeroed::<false>(bytes), |shared| shared.count_zeroed::<true>(bytes));
        }
        let ptr = counted_alloc(ptr, layout.size());
        if word != level && !ptr.is_null() {
            stacks::allocated(ptr, layout.size());
        }
        ptr
    }

    /// # Safety
    /// As [`GlobalAlloc::dealloc`].
    #[inline(never)]
    unsafe fn timed_dealloc(&self, ptr: *mut u8, layout: Layout, level: u64) {
        if level & SAMPLES_STACKS != 0 {
            // SAFETY: the caller's contract.
            return unsafe { self.traced_dealloc(ptr, layout, level) };
        }
        count_dealloc(layout.size());
        // SAFETY: the caller's contract.
        timed(level, Operation::Dealloc, layout.size(), || unsafe { self.0.dealloc(ptr, layout) });
    }

    /// A free after which settling is due, or one by a thread without a slot.
    ///
    /// # Safety
    /// As [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn unusual_dealloc(&self, ptr: *mut u8, layout: Layout, counted_in: Option<&Slot>) {
        match counted_in {
            Some(slot) => thread::settle(slot),
            None => unusual_count_dealloc(layout.size()),
        }
        // SAFETY: the caller's contract.
        unsafe { self.0.dealloc(ptr, layout) }
    }

    /// # Safety
    /// As [`GlobalAlloc::realloc`].
    #[inline(never)]
    unsafe fn timed_realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize, level: u64) -> *mut u8 {
        // SAFETY: the caller's contract.
        let call = || unsafe { self.0.realloc(ptr, layout, new_size) };
        if level & SAMPLES_STACKS != 0 {
            return traced_realloc(call, ptr, layout.size(), new_size, level);
        }
        counted_realloc(timed(level, Operation::Realloc, new_size, call), layout.size(), new_size)
    }
}

// Where call stacks are sampled.
impl<A: GlobalAlloc> Telemetry<A> {
    /// One that did not pass: whether it succeeds or not, the next draw is its own.
    ///
    /// # Safety
    /// As [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn sampled_alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        let ptr = counted_alloc(unsafe { self.0.alloc(layout) }, layout.size());
        if ptr.is_null() {
            stacks::refused();
        } else {
            stacks::due(ptr, layout.size());
        }
        ptr
    }

    /// # Safety
    /// As [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn traced_alloc(&self, layout: Layout, word: u64) -> *mut u8 {
        let level = word & !SAMPLES_STACKS;
        // SAFETY: the caller's contract.
        let ptr = timed_if_due(level, Operation::Alloc, layout.size(), || unsafe { self.0.alloc(layout) });
        if level == OFF {
            return ptr;
        }
        let ptr = counted_alloc(ptr, layout.size());
        if !ptr.is_null() {
            stacks::allocated(ptr, layout.size());
        }
        ptr
    }

    /// # Safety
    /// As [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn traced_dealloc(&self, ptr: *mut u8, layout: Layout, word: u64) {
        let level = word & !SAMPLES_STACKS;
        if level != OFF {
            stacks::freeing(ptr);
            count_dealloc(layout.size());
        }
        // SAFETY: the caller's contract.
        timed_if_due(level, Operation::Dealloc, layout.size(), || unsafe { self.0.dealloc(ptr, layout) });
    }
}

#[cold]
#[inline(never)]
fn traced_realloc(call: impl FnOnce() -> *mut u8, from: *mut u8, old: usize, new: usize, word: u64) -> *mut u8 {
    let level = word & !SAMPLES_STACKS;
    if level == OFF {
        return call();
    }
    // Before the call, after which the address may be another thread's.
    let moving = stacks::reallocating(from);
    let ptr = counted_realloc(timed_if_due(level, Operation::Realloc, new, call), old, new);
    if ptr.is_null() {
        moving.stays(from);
    } else {
        moving.moved(ptr, new);
    }
    ptr
}

#[inline(always)]
fn count_dealloc(bytes: usize) {
    match thread::own_slot() {
        Some(slot) if !slot.count_dealloc(bytes as u64) => {}
        Some(slot) => thread::settle(slot),
        None => unusual_count_dealloc(bytes),
    }
}

#[inline(always)]
fn counted_alloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    match thread::own_slot() {
        Some(slot) if !ptr.is_null() => {
            if slot.count_alloc(bytes as u64) {
                return settled(ptr, slot);
            }
            ptr
        }
        _ => unusual_alloc(ptr, bytes),
    }
}

#[inline(always)]
fn counted_realloc(ptr: *mut u8, old: usize, new: usize) -> *mut u8 {
    match thread::own_slot() {
        Some(slot) if !ptr.is_null() => {
            if slot.count_realloc(old as u64, new as u64) {
                return settled(ptr, slot);
            }
            ptr
        }
        _ => unusual_realloc(ptr, old, new),
    }
}

/// Hands `ptr` through, so that the caller need not keep it.
#[cold]
#[inline(never)]
fn settled(ptr: *mut u8, slot: &Slot) -> *mut u8 {
    thread::settle(slot);
    ptr
}

/// An allocation that was refused, or one by a thread without a slot.
#[cold]
#[inline(never)]
fn unusual_alloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if ptr.is_null() {
        count_failed();
    } else {
        thread::with_slot(
            |slot| settle_if(slot.count_alloc(bytes as u64), slot),
            |shared| shared.count_alloc_shared(attach::sums(), bytes as u64),
        );
    }
    ptr
}

#[cold]
#[inline(never)]
fn unusual_count_dealloc(bytes: usize) {
    thread::with_slot(
        |slot| settle_if(slot.count_dealloc(bytes as u64), slot),
        |shared| shared.count_dealloc_shared(attach::sums(), bytes as u64),
    );
}

#[cold]
#[inline(never)]
fn unusual_realloc(ptr: *mut u8, old: usize, new: usize) -> *mut u8 {
    if ptr.is_null() {
        count_failed();
    } else {
        thread::with_slot(
            |slot| settle_if(slot.count_realloc(old as u64, new as u64), slot),
            |shared| shared.count_realloc_shared(attach::sums(), old as u64, new as u64),
        );
    }
    ptr
}

fn count_failed() {
    thread::with_slot(Slot::count_failed::<false>, Slot::count_failed::<true>);
}

fn settle_if(due: bool, slot: &Slot) {
    if due {
        thread::settle(slot);
    }
}

/// Whether this call needs more than counting: its time is to be recorded, or stacks are sampled. At the sampled levels
/// this counts the call down.
#[inline(always)]
fn is_timed(level: u64, operation: Operation) -> bool {
    const SAMPLED: u64 = Level::Sampled as u64;
    const EXACT_ALLOC: u64 = Level::ExactAlloc as u64;
    const EXACT: u64 = Level::Exact as u64;
    // The cheap levels first: to them a comparison more is a large part of the cost.
    if level <= COUNT {
        return false;
    }
    match level {
        EXACT => true,
        EXACT_ALLOC if operation != Operation::Dealloc => true,
        // A thread without a slot has no countdown: its calls are counted, never timed, which the report notes.
        SAMPLED | EXACT_ALLOC => thread::current().is_some_and(Slot::is_sampled),
        // Any other word that is no level counts.
        word => word & SAMPLES_STACKS != 0,
    }
}

/// Makes a call, and records its time if that is to be recorded.
#[inline(always)]
fn timed_if_due<R>(level: u64, operation: Operation, bytes: usize, call: impl FnOnce() -> R) -> R {
    if is_timed(level, operation) { timed(level, operation, bytes, call) } else { call() }
}

/// Makes a call and records its time. The probes lie outside the window: who attaches to them disturbs the program, not the
/// times that are recorded.
#[inline(always)]
fn timed<R>(level: u64, operation: Operation, bytes: usize, call: impl FnOnce() -> R) -> R {
    let exact = level == Level::Exact as u64 || (level == Level::ExactAlloc as u64 && operation != Operation::Dealloc);
    let weight = if exact { 1 } else { draw_next_sample() };
    probes::stall_start(operation as u64, bytes as u64);
    let clock = attach::clock();
    stacks::before_call();
    let window = Window::open();
    let begin = clock.now();
    let result = call();
    let end = clock.now();
    let interrupted = window.close();
    probes::stall_stop(operation as u64, bytes as u64);
    // A counter that steps back by a few ticks between cores must not become a stall of centuries.
    let ticks = end.saturating_sub(begin);
    match thread::own_slot() {
        Some(slot) => slot.record::<false>(operation, ticks, interrupted, weight),
        None => record_unusual(operation, ticks, interrupted, weight),
    }
    if stacks::is_slow(ticks) {
        stacks::slow(operation, ticks, interrupted, weight);
    }
    probes::stall_done(|| [ticks, ns_of(ticks), bytes as u64, operation as u64, u64::from(interrupted), weight]);
    result
}

/// Ticks in nanoseconds; 0 while the rate is not known. Only while somebody is attached to the probe that asks.
#[cold]
#[inline(never)]
fn ns_of(ticks: u64) -> u64 {
    let clock = attach::clock();
    if clock == ClockKind::Monotonic {
        return ticks;
    }
    let rate = attach::state().and_then(|state| state.writer.attached_at().ticks_per_second(Anchor::now(clock)));
    rate.map_or(0, |rate| (ticks as f64 * 1e9 / rate) as u64)
}

/// Draws when the next sample is due; returns for how many calls this one stands.
#[cold]
#[inline(never)]
fn draw_next_sample() -> u64 {
    let period = attach::sample_period();
    if let Some(slot) = thread::current() {
        slot.draw_countdown(period);
    }
    period
}

#[cold]
#[inline(never)]
fn record_unusual(operation: Operation, ticks: u64, interrupted: bool, weight: u64) {
    thread::with_slot(
        |slot| slot.record::<false>(operation, ticks, interrupted, weight),
        |shared| shared.record::<true>(operation, ticks, interrupted, weight),
    );
}
