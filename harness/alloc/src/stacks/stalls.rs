//! Slow calls: which are, and what they spent their time with.
//!
//! A call that is timed is slow if it took as long as the threshold, and nothing interrupted it. What it did meanwhile, the
//! allocator's own hooks say ([`mark`]), on the same thread; and else, what the kernel did (`kernel`): then a call that was
//! interrupted since it gave its CPU up itself is taken too, as one that waited for a lock.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use heapgate_segment::layout::Operation;
use heapgate_segment::stacks::{Capabilities, Place, Settings, StackTable, StallKind};

use super::kernel::{self, Seen};
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

/// Says that [`mark`] will be called for all calls of `kinds` from now on, so that the others are none of them. To be said
/// before slow calls are taken.
pub fn marks(kinds: &[StallKind]) {
    let bits = kinds.iter().fold(0, |bits, &kind| bits | 1 << kind as u64);
    MARKED.fetch_or(bits, Relaxed);
}

/// Whether this process's slow calls are to be taken, now or later: whoever can [`mark`] what calls do may then get ready.
#[must_use]
pub fn takes_slow_calls() -> bool {
    TABLE.get().is_some_and(|table| table.settings().stall_threshold_ns > 0)
}

pub(super) fn switch_on(table: &StackTable<'_>, settings: &Settings, ns_per_tick: f64) {
    if settings.stall_threshold_ns == 0 {
        return;
    }
    let told = if settings.asks_kernel { kernel::switch_on() } else { &[] };
    let bits = told.iter().fold(MARKED.load(Relaxed), |bits, &kind| bits | 1 << kind as u64);
    table.set_capabilities(Capabilities(bits));
    // Without a rate nothing is known of any call.
    if ns_per_tick > 0.0 {
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
        kernel::before_call();
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
    let Some(kind) = kind(interrupted) else { return };
    with_place(table, |place| {
        table.record_stall(&Place { stall: Some((operation, kind)), ..place }, weight, ticks);
    });
}

/// With what the call that has just ended spent its time; `None` if that was not its own affair.
fn kind(interrupted: bool) -> Option<StallKind> {
    let (seen, marked) = (kernel::since_begin(), KIND.get());
    kind_of(interrupted, marked, seen)
}

fn kind_of(interrupted: bool, marked: StallKind, seen: Option<Seen>) -> Option<StallKind> {
    match seen {
        // Only waited: the scheduler did nothing to it.
        Some(Seen { waits: 1.., preemptions: 0, .. }) => Some(StallKind::LockWait),
        _ if interrupted => None,
        Some(Seen { faults: 1.., .. }) if marked == StallKind::Unknown => Some(StallKind::PageFault),
        _ => Some(marked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_from_a_preemption_and_a_mark_from_the_fault_that_it_brought() {
        let seen = |faults, waits, preemptions| Some(Seen { faults, waits, preemptions });
        let unknown = StallKind::Unknown;
        for (interrupted, marked, seen, expected) in [
            (false, unknown, None, Some(unknown)),
            (true, unknown, None, None),
            (true, StallKind::Purge, None, None),
            (true, unknown, seen(0, 1, 0), Some(StallKind::LockWait)),
            (true, unknown, seen(0, 1, 1), None),
            (true, unknown, seen(3, 0, 1), None),
            (false, unknown, seen(1, 0, 0), Some(StallKind::PageFault)),
            (false, StallKind::FreshMapping, seen(1, 0, 0), Some(StallKind::FreshMapping)),
            (false, StallKind::Purge, seen(0, 0, 0), Some(StallKind::Purge)),
            (false, unknown, seen(0, 0, 0), Some(unknown)),
        ] {
            assert_eq!(kind_of(interrupted, marked, seen), expected, "{interrupted} {marked:?} {seen:?}");
        }
    }
}
