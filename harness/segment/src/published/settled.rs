//! What is remembered of a file from one reading to the next, so that threads that do nothing cost next to nothing.

use core::mem::offset_of;
use std::time::{Duration, Instant};

use super::buffer::{LATENCIES_OFFSET, length_of, words_of};
use crate::layout::{COUNTER_WORDS, Counters, Slot};

/// After so long without a call a thread's counts are taken for final until its next one. A call is counted before or after it
/// is timed: one that was under way at a reading, and took longer than this, is seen with the thread's next call or
/// after [`KEPT_FOR`].
const QUIET: Duration = Duration::from_secs(10);

/// How long sums are kept before everything is read again.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// How much of a slot has to be read to see whether anything was counted in it.
pub(super) const SIGN_BYTES: usize = offset_of!(Slot, counters) + offset_of!(Counters, class_allocated);

const COUNTERS: usize = offset_of!(Slot, counters);

/// What a process's quiet threads have counted: 32 KiB at most, and 32 bytes a thread.
///
/// It belongs to one file. Given with another it is of no harm to that: what it says is of slots whose signs are equal.
#[derive(Debug, Default)]
pub struct Settled {
    slots: Vec<Seen>,
    /// Counters of the slots that are in it, added up.
    sum: Vec<u64>,
    began: Option<Instant>,
}

/// One slot, as it was when it was last read.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    sign: u64,
    /// When it was first found so.
    since: Option<Instant>,
    is_in_sum: bool,
}

impl Settled {
    /// Prepares for a reading of `slots` slots.
    pub(super) fn begin(&mut self, slots: usize, now: Instant) {
        // The overflow slot is the last: with another number of slots each is another.
        if self.slots.len() != slots {
            *self = Self::default();
            self.slots.resize(slots, Seen::default());
        }
        if self.began.is_some_and(|began| now.saturating_duration_since(began) >= KEPT_FOR) {
            self.forget_sum();
        }
    }

    /// What was added up is no longer so. When each slot was last found changed is still known.
    pub(super) fn forget_sum(&mut self) {
        self.slots.iter_mut().for_each(|seen| seen.is_in_sum = false);
        self.sum = Vec::new();
        self.began = None;
    }

    /// Whether slot `slot` needs no full reading, if its sign is still the same.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|seen| seen.is_in_sum)
    }

    /// Whether the beginning of slot `slot`, which is in the sum, says that nothing was counted since.
    pub(super) fn still_holds(&self, slot: usize, beginning: &[u8]) -> bool {
        self.slots.get(slot).is_some_and(|seen| seen.sign == sign_of(beginning))
    }

    /// Notes a slot that was read in full; if it has been quiet for long enough, the next reading need not. `read` is as
    /// much of it as [`length_of`] asks for.
    pub(super) fn note(&mut self, slot: usize, read: &[u8], now: Instant) {
        let Some(seen) = self.slots.get_mut(slot) else { return };
        let sign = sign_of(read);
        if seen.sign != sign || seen.since.is_none() {
            *seen = Seen { sign, since: Some(now), is_in_sum: false };
            return;
        }
        let quiet = seen.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        // What was touched since its length was determined was not read.
        if quiet < QUIET || read.len() < length_of(read) {
            return;
        }
        seen.is_in_sum = true;
        self.began.get_or_insert(now);
        let counted = &read[COUNTERS..read.len().min(COUNTERS + COUNTER_WORDS * 8)];
        if self.sum.len() < counted.len() / 8 {
            self.sum.reserve_exact(counted.len() / 8 - self.sum.len());
            self.sum.resize(counted.len() / 8, 0);
        }
        for (sum, word) in self.sum.iter_mut().zip(words_of(counted)) {
            *sum = sum.wrapping_add(word);
        }
    }

    /// The counters of all slots in the sum, from the first.
    pub(super) fn sum(&self) -> &[u64] {
        &self.sum
    }
}

/// A number that is another after whatever is counted: every word in it only grows, and each call raises at least one.
/// (What only classes of sizes and latencies tell apart is not in it.)
fn sign_of(slot: &[u8]) -> u64 {
    const FREED: usize = COUNTERS + offset_of!(Counters, objects_freed);
    const CLASSES: usize = COUNTERS + offset_of!(Counters, class_freed);
    const ALLOCATED: usize = COUNTERS + offset_of!(Counters, objects_allocated);
    let touched = offset_of!(Slot, touched);
    let parts = [touched..touched + 8, FREED..CLASSES, ALLOCATED..SIGN_BYTES];
    parts.into_iter().flat_map(|part| words_of(&slot[part])).fold(0, u64::wrapping_add)
}

const _: () = assert!(SIGN_BYTES < LATENCIES_OFFSET);
