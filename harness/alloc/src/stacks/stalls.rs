//! Slow calls: which are, and what they spent their time with.
//!
//! A call that is timed is slow if it took as long as the threshold, and nothing interrupted it. What it did meanwhile, the
//! allocator's own hooks say ([`mark`]), on the same thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use heapgate_segment::layout::Operation;
use heapgate_segment::stacks::{Capabilities, Place, Settings, StackTable, StallKind};

use super::{TABLE, with_place};

/// A threshold that no call reaches: nobody looks for slow calls.
const NEVER: u64 = u64::MAX;

/// From how many ticks on a call is slow.
static SLOW_TICKS: AtomicU64 = AtomicU64::new(NEVER);

/// Which kinds [`mark`] is called with in this process.
static MARKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What was marked during the call under way: a [`StallKind`].
    static KIND: Cell<StallKind> = const { Cell::new(StallKind::Unknown) };
}

/// Says what the allocator does at this moment, in a call of this thread: for hooks that it calls then. It costs a load
/// where slow calls aren't looked for. Of several marks in one call, giving memory back counts more than mapping it.
#[inline]
pub fn mark(kind: StallKind) {
    if SLOW_TICKS.load(Relaxed) != NEVER {
        KIND.set(KIND.get().max(kind));
    }
}

/// Says that [`mark`] will be called for all calls of `kinds` from now on, so that the others are none of them.
pub fn marks(kinds: &[StallKind]) {
    let bits = kinds.iter().fold(0, |bits, &kind| bits | 1 << kind as u64);
    let all = MARKED.fetch_or(bits, Relaxed) | bits;
    if let Some(table) = TABLE.get() {
        table.set_capabilities(Capabilities(all));
    }
}

/// Whether this process's slow calls are to be taken, now or later: whoever can [`mark`] what calls do may then get ready.
#[must_use]
pub fn takes_slow_calls() -> bool {
    TABLE.get().is_some_and(|table| table.settings().stall_threshold_ns > 0)
}

pub(super) fn switch_on(table: &StackTable<'_>, settings: &Settings, ns_per_tick: f64) {
    table.set_capabilities(Capabilities(MARKED.load(Relaxed)));
    // Without a rate nothing is known of any call.
    if settings.stall_threshold_ns > 0 && ns_per_tick > 0.0 {
        let ticks = (settings.stall_threshold_ns as f64 / ns_per_tick).ceil() as u64;
        SLOW_TICKS.store(ticks.clamp(1, NEVER - 1), Relaxed);
    }
}

pub(super) fn switch_off() {
    SLOW_TICKS.store(NEVER, Relaxed);
}

/// A call that is timed is about to begin.
#[inline(always)]
pub(crate) fn before_call() {
    if SLOW_TICKS.load(Relaxed) != NEVER {
        KIND.set(StallKind::Unknown);
    }
}

/// Whether a call of `ticks` is to be taken, if nothing interrupted it.
#[inline(always)]
pub(crate) fn is_slow(ticks: u64) -> bool {
    ticks >= SLOW_TICKS.load(Relaxed)
}

/// Takes the stack of a slow call that stands for `weight` calls.
#[cold]
#[inline(never)]
pub(crate) fn slow(operation: Operation, ticks: u64, interrupted: bool, weight: u64) {
    let Some(table) = TABLE.get() else { return };
    if interrupted {
        return;
    }
    let kind = KIND.get();
    with_place(table, |place| {
        table.record_stall(&Place { stall: Some((operation, kind)), ..place }, weight, ticks);
    });
}
