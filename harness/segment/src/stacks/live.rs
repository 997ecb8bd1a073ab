//! Which sampled objects live, by their address.
//!
//! **Finding them.** A free of any object asks first a filter of small counters: one load says of nearly all that they
//! were not sampled. Its counters are raised before an address is put into the table and lowered after it is taken out,
//! and one that has reached its limit stays there, so it never says "not sampled" of one that was. The table itself is
//! open addressing over a fixed number of places, all of which are looked at, so that taking out leaves no mark behind.
//! Who allocated an object is alone with its address until it is freed, so no two threads ever deal with one address.
//!
//! **The peak.** Whenever the live bytes of all stacks exceed the most so far, a new epoch begins. An entry that changes
//! for the first time in an epoch first keeps what it had: so at any time an entry had at the last peak what it keeps, or,
//! if it hasn't changed since, what it has. No call ever walks the table. With one thread it is exact; with several, wrong
//! by at most the changes that were under way at the peak.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::entry::{STACK_WORDS, add, spread, stack};
use super::sampling::Sample;
use super::{StackTable, header};

/// Counters of the filter, two a byte. Every free loads one, so all of them must stay in a first-level cache beside the
/// program's own data: they are 4 KiB. With 50 sampled objects alive, as at the default rates in a small program, one
/// other free in 160 looks at the table; with 1000, one in 9.
const COUNTERS: u64 = 1 << 13;
const COUNTER_BITS: u64 = 4;
const COUNTERS_A_WORD: u64 = 64 / COUNTER_BITS;
pub(super) const FILTER_WORDS: usize = (COUNTERS / COUNTERS_A_WORD) as usize;

/// A counter that got here is not lowered any more: how far it went beyond is not known. While there are fewer sampled
/// objects than counters that does not come to pass: that 15 of 8,192 share one of 8,192 has a chance of some 10⁻⁹.
const STUCK: u64 = (1 << COUNTER_BITS) - 1;

/// Places that an address may be at: eight in a cache line. Of a table that is half full, 32 neighbours are never all
/// taken by chance; it begins to refuse at about 80 %.
const PLACES: usize = 32;

/// A place that is being written. No allocator gives out address 1.
const BUSY: u64 = 1;

/// Words beside the address: which entry, calls, bytes, time.
pub(super) const RECORD_WORDS: usize = 4;

/// A sampled object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    entry: u64,
    calls: u64,
    bytes: u64,
    since: u64,
}

impl Tracked {
    pub(super) fn new(entry: usize, sample: Sample, now: u64) -> Self {
        Self { entry: entry as u64, calls: sample.calls, bytes: sample.bytes, since: now }
    }
}

/// Says of most addresses that they are not tracked.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a>(&'a FilterWords);

/// What a [`Filter`] looks at.
pub type FilterWords = [AtomicU64; FILTER_WORDS];

impl<'a> Filter<'a> {
    /// Takes what [`StackTable::filter`] gave.
    #[inline(always)]
    #[must_use]
    pub const fn new(words: &'a FilterWords) -> Self {
        Self(words)
    }

    /// The counter of `address`: its word, and how far it is shifted there.
    #[inline(always)]
    fn counter(self, address: u64) -> (&'a AtomicU64, u32) {
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): neighbours, and what is aligned alike, get
        // counters of their own.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let index = address.wrapping_mul(GOLDEN) >> (64 - COUNTERS.ilog2());
        (&self.0[(index / COUNTERS_A_WORD) as usize], (index % COUNTERS_A_WORD * COUNTER_BITS) as u32)
    }

    /// Whether the object at `address` may be tracked.
    #[inline(always)]
    #[must_use]
    pub fn may_have(self, address: u64) -> bool {
        let (word, shift) = self.counter(address);
        // Relaxed: who frees an object has it from who allocated it, and so sees the count that was made before.
        (word.load(Relaxed) >> shift) & STUCK != 0
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Live<'a> {
    pub(super) filter: &'a [AtomicU64; FILTER_WORDS],
    pub(super) keys: &'a [AtomicU64],
    pub(super) records: &'a [[AtomicU64; RECORD_WORDS]],
}

impl Live<'_> {
    #[inline(always)]
    pub(super) fn may_have(&self, address: u64) -> bool {
        Filter(self.filter).may_have(address)
    }

    pub(super) fn raise(&self, address: u64) {
        let (word, shift) = Filter(self.filter).counter(address);
        let raised = |counters: u64| ((counters >> shift) & STUCK != STUCK).then(|| counters.wrapping_add(1 << shift));
        let _ = word.fetch_update(Relaxed, Relaxed, raised);
    }

    pub(super) fn lower(&self, address: u64) {
        let (word, shift) = Filter(self.filter).counter(address);
        let lowered = |counters: u64| {
            // A counter at 0 is damaged: lowering it would borrow from its neighbour.
            let is_counting = !matches!((counters >> shift) & STUCK, 0 | STUCK);
            is_counting.then(|| counters.wrapping_sub(1 << shift))
        };
        let _ = word.fetch_update(Relaxed, Relaxed, lowered);
    }

    /// Where `address` may be.
    fn places(&self, address: u64) -> impl Iterator<Item = (&AtomicU64, &[AtomicU64; RECORD_WORDS])> {
        let first = spread(address).checked_rem(self.keys.len() as u64).unwrap_or(0) as usize;
        let around = (first..self.keys.len()).chain(0..first).take(PLACES);
        around.filter_map(|index| Some((self.keys.get(index)?, self.records.get(index)?)))
    }

    /// False if there is no room.
    fn put(&self, address: u64, tracked: &Tracked) -> bool {
        for (key, record) in self.places(address) {
            if key.load(Relaxed) != 0 || key.compare_exchange(0, BUSY, AcqRel, Relaxed).is_err() {
                continue;
            }
            let words = [tracked.entry, tracked.calls, tracked.bytes, tracked.since];
            record.iter().zip(words).for_each(|(place, word)| place.store(word, Relaxed));
            self.raise(address);
            // Release: who finds the address finds the record.
            key.store(address, Release);
            return true;
        }
        false
    }

    fn take(&self, address: u64) -> Option<Tracked> {
        let (key, record) = self.places(address).find(|(key, _)| key.load(Acquire) == address)?;
        let [entry, calls, bytes, since] = [0, 1, 2, 3].map(|word: usize| record[word].load(Relaxed));
        // Release: whoever takes the place writes after this has read.
        key.store(0, Release);
        self.lower(address);
        Some(Tracked { entry, calls, bytes, since })
    }
}

impl<'a> StackTable<'a> {
    /// The filter's words, for who asks it often.
    #[must_use]
    pub fn filter(&self) -> &'a FilterWords {
        self.live.filter
    }

    /// Whether the object at `address` may have been sampled: to be asked before [`Self::take`], as it costs one load.
    #[inline(always)]
    #[must_use]
    pub fn may_track(&self, address: u64) -> bool {
        self.live.may_have(address)
    }

    /// Takes the object at `address` out, before it is given back to the allocator, if it is a sampled one: afterwards the
    /// address may be another's. To be followed by [`Self::ended`], or by [`Self::put_back`] if it was not given back.
    #[must_use]
    pub fn take(&self, address: u64) -> Option<Tracked> {
        self.live.take(address)
    }

    /// A tracked object has ended, at time `now`.
    pub fn ended(&self, tracked: &Tracked, now: u64, is_temporary: bool) {
        let Some(entry) = self.entry_of(tracked) else { return };
        self.shrink(entry, tracked);
        entry[stack::FREED].fetch_add(tracked.calls, Relaxed);
        if is_temporary {
            entry[stack::TEMPORARIES].fetch_add(tracked.calls, Relaxed);
        }
        // A counter that steps back by a few ticks between cores must not become centuries.
        let ticks = now.saturating_sub(tracked.since);
        add(&entry[stack::LIFETIME], ticks as f64 * super::sampling::from_fixed(tracked.calls));
    }

    /// What [`Self::take`] took lives on: `realloc` has failed.
    pub fn put_back(&self, address: u64, tracked: &Tracked) {
        if !self.live.put(address, tracked) {
            self.forget(tracked);
        }
    }

    pub(super) fn track(&self, address: u64, tracked: &Tracked) {
        // Still here: its end was not seen, since nobody looked (sampling was off meanwhile).
        if self.live.may_have(address)
            && let Some(before) = self.live.take(address)
        {
            self.forget(&before);
        }
        if address <= BUSY || !self.live.put(address, tracked) {
            return self.count(header::UNTRACKED);
        }
        let Some(entry) = self.entry_of(tracked) else { return };
        self.keep_peak(entry);
        entry[stack::LIVE_OBJECTS].fetch_add(tracked.calls, Relaxed);
        entry[stack::LIVE_BYTES].fetch_add(tracked.bytes, Relaxed);
        let live = self.header[header::LIVE_BYTES].fetch_add(tracked.bytes, Relaxed).wrapping_add(tracked.bytes);
        if live > self.header[header::PEAK_BYTES].fetch_max(live, Relaxed) {
            self.header[header::EPOCH].fetch_add(1, Relaxed);
        }
    }

    /// A tracked object is not live any more, and of its end nothing is known.
    fn forget(&self, tracked: &Tracked) {
        self.count(header::UNTRACKED);
        if let Some(entry) = self.entry_of(tracked) {
            self.shrink(entry, tracked);
        }
    }

    fn shrink(&self, entry: &[AtomicU64; STACK_WORDS], tracked: &Tracked) {
        self.keep_peak(entry);
        entry[stack::LIVE_OBJECTS].fetch_sub(tracked.calls, Relaxed);
        entry[stack::LIVE_BYTES].fetch_sub(tracked.bytes, Relaxed);
        self.header[header::LIVE_BYTES].fetch_sub(tracked.bytes, Relaxed);
    }

    fn entry_of(&self, tracked: &Tracked) -> Option<&[AtomicU64; STACK_WORDS]> {
        usize::try_from(tracked.entry).ok().and_then(|index| self.stacks.get(index))
    }

    /// Before an entry changes: what it has is what it had at the last peak, if it hasn't changed since.
    fn keep_peak(&self, entry: &[AtomicU64; STACK_WORDS]) {
        let epoch = self.header[header::EPOCH].load(Relaxed);
        let last = entry[stack::EPOCH].load(Relaxed);
        if last == epoch {
            return;
        }
        // Read before the claim: whoever loses it goes on to change them.
        let [objects, bytes] = [stack::LIVE_OBJECTS, stack::LIVE_BYTES].map(|word| entry[word].load(Relaxed));
        if entry[stack::EPOCH].compare_exchange(last, epoch, AcqRel, Relaxed).is_ok() {
            entry[stack::PEAK_OBJECTS].store(objects, Relaxed);
            entry[stack::PEAK_BYTES].store(bytes, Relaxed);
        }
    }

    /// What an entry had at the last peak: objects and bytes.
    pub(super) fn peak_of(&self, entry: &[AtomicU64; STACK_WORDS]) -> [u64; 2] {
        let has_changed = entry[stack::EPOCH].load(Relaxed) == self.header[header::EPOCH].load(Relaxed);
        let words = if has_changed {
            [stack::PEAK_OBJECTS, stack::PEAK_BYTES]
        } else {
            [stack::LIVE_OBJECTS, stack::LIVE_BYTES]
        };
        words.map(|word| entry[word].load(Relaxed))
    }
}
