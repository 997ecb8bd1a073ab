//! The watching end of a segment: safe code throughout. What it finds is hostile: any bytes, any length, changing while
//! it reads.
//!
//! Every access is a bounds-checked load of one atomic word, every number is taken as it comes, and sums wrap instead
//! of panicking. It is one file so that all loads of hostile words can be read, and doubted, in one place.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Acquire};

use crate::arenas::{ArenaReading, Counts};
use crate::clock::{Anchor, ClockKind};
use crate::groups::{Group, MAX_GROUPS, group_of, is_owned};
use crate::histogram::BUCKETS;
use crate::identity::read_text;
use crate::layout::{
    self, BATCH_BYTES, BATCH_OBJECTS, COUNTER_WORDS, Counters, GROUP_BUCKETS, Gauge, Header, InterruptedSplit,
    LatencyGroup, LayoutError, Level, MAX_GAUGES, OPERATIONS, Operation, PHASE_STRIDE, PhaseRecord, SLOT_STRIDE, Shape,
    SharedIdentity, SharedText, Slot, Sums,
};
use crate::requests::{REQUESTS_STRIDE, Requests};
use crate::size_class::SIZE_CLASSES;
use crate::steering::Steering;
use crate::tally::Tally;

/// Where the header says whose segment it is.
const IDENTITY: usize = offset_of!(Header, identity);

/// A segment that is read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    words: &'a [AtomicU64],
    shape: Shape,
    /// Of a copy whose slots were added up: what was lost by that.
    folded: Option<Folded<'a>>,
}

/// What can't be seen of slots that were added up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Folded<'a> {
    pub(crate) slots_used: usize,
    pub(crate) owned: usize,
    /// The counters of each group's slots, added up; empty where there are no groups.
    pub(crate) groups: &'a [AtomicU64],
}

impl<'a> Reader<'a> {
    /// Takes words that should be a segment.
    ///
    /// # Errors
    /// Says why they are not.
    pub fn new(words: &'a [AtomicU64]) -> Result<Self, LayoutError> {
        Ok(Self { words, shape: layout::check(words)?, folded: None })
    }

    /// Takes a copy whose slots were added up.
    pub(crate) fn of_folded(words: &'a [AtomicU64], folded: Folded<'a>) -> Result<Self, LayoutError> {
        Ok(Self { folded: Some(folded), ..Self::new(words)? })
    }

    /// The word at `offset` bytes; 0 beyond the end (which [`layout::check`] rules out for every offset used here).
    fn word(&self, offset: usize) -> u64 {
        self.words.get(offset / 8).map_or(0, |word| word.load(Acquire))
    }

    /// Process id of the writer; `None` before one has attached.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.word(offset_of!(Header, pid))).ok().filter(|&pid| pid != 0)
    }

    /// What the writer's ticks are.
    #[must_use]
    pub fn clock(&self) -> ClockKind {
        match self.word(offset_of!(Header, clock)) {
            1 => ClockKind::Tsc,
            2 => ClockKind::VirtualCounter,
            3 => ClockKind::Monotonic,
            _ => ClockKind::Unknown,
        }
    }

    /// What the writer said of telling interrupted calls apart.
    #[must_use]
    pub fn interrupted_split(&self) -> InterruptedSplit {
        InterruptedSplit::from_word(self.word(offset_of!(Header, interrupted_split)))
    }

    /// When the writer attached.
    #[must_use]
    pub fn attached_at(&self) -> Anchor {
        self.anchor(offset_of!(Header, attached_at))
    }

    fn anchor(&self, offset: usize) -> Anchor {
        Anchor { ticks: self.word(offset), ns: self.word(offset + 8) }
    }

    /// When the writer's process started, as field 22 of `/proc/PID/stat` has it; `None` if it did not say.
    #[must_use]
    pub fn start_time(&self) -> Option<u64> {
        Some(self.word(IDENTITY + offset_of!(SharedIdentity, start_time))).filter(|&time| time != 0)
    }

    /// When the segment was published, ns since 1970; 0 if it was not.
    #[must_use]
    pub fn published_unix_ns(&self) -> u64 {
        self.word(IDENTITY + offset_of!(SharedIdentity, published_unix_ns))
    }

    /// The service's name; empty if it was not published. Control characters are replaced, here and below.
    #[must_use]
    pub fn service(&self) -> String {
        self.text(offset_of!(SharedIdentity, service))
    }

    /// As [`Self::service`], without allocating: its bytes go into `into`. Empty if they are not UTF-8.
    pub fn service_in<'b>(&self, into: &'b mut [u8; layout::MAX_TEXT_BYTES]) -> &'b str {
        let offset = IDENTITY + offset_of!(SharedIdentity, service);
        for (word, bytes) in into.as_chunks_mut().0.iter_mut().enumerate() {
            *bytes = self.word(offset + word * 8).to_le_bytes();
        }
        let length = into.iter().position(|&byte| byte == 0).unwrap_or(into.len());
        str::from_utf8(&into[..length]).unwrap_or("")
    }

    /// The service's version, as it calls it; may be empty.
    #[must_use]
    pub fn version(&self) -> String {
        self.text(offset_of!(SharedIdentity, version))
    }

    /// The allocator below the telemetry, as the service calls it; may be empty.
    #[must_use]
    pub fn allocator(&self) -> String {
        self.text(offset_of!(SharedIdentity, allocator))
    }

    fn text(&self, offset: usize) -> String {
        read_text((0..size_of::<SharedText>() / 8).map(|word| self.word(IDENTITY + offset + word * 8)))
    }

    /// Its settings, and what its soft limit does; `None` of a process that takes no requests.
    #[must_use]
    pub fn steering(&self) -> Option<Steering> {
        Steering::read(|offset| self.word(offset))
    }

    /// A figure of the process's own, as it last gave it; of trials, those are in the phases.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> Option<u64> {
        let is_set = self.word(offset_of!(Header, gauges_set)) & (1 << gauge as usize) != 0;
        is_set.then(|| self.word(offset_of!(Header, gauges) + gauge as usize * 8))
    }

    /// Arenas that were made, and those that were released.
    #[must_use]
    pub fn arena_counts(&self) -> (u64, u64) {
        let counts = arena_counts(|offset| self.word(offset));
        (counts.created, counts.finalized)
    }

    /// Arenas and scopes that are open, and where they were made. Of a copy whose slots were added up (see
    /// [`crate::published`]) only the counts are known: [`crate::published::Entry::read_arenas`] has the rest.
    #[must_use]
    pub fn arenas(&self) -> ArenaReading {
        // `check` found room for it.
        let words = self.words.get(self.shape.arenas_offset() / 8..).unwrap_or_default();
        ArenaReading::of(words, arena_counts(|offset| self.word(offset)))
    }

    /// One call in how many is timed at the sampled levels.
    #[must_use]
    pub fn sample_period(&self) -> u64 {
        self.word(offset_of!(Header, sample_period)).clamp(1, layout::MAX_SAMPLE_PERIOD)
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::from_word(self.word(offset_of!(Header, level)))
    }

    /// Whether the level was [`Level::Off`] for a time, so that live figures can't be trusted.
    #[must_use]
    pub fn was_off(&self) -> bool {
        self.word(offset_of!(Header, was_off)) != 0
    }

    /// Slots that were ever in use.
    #[must_use]
    pub fn slots_used(&self) -> usize {
        self.folded.map_or_else(|| self.slots_counted(), |folded| folded.slots_used)
    }

    /// Slots that are summed, beside the overflow slot.
    fn slots_counted(&self) -> usize {
        usize::try_from(self.word(offset_of!(Header, slots_used))).unwrap_or(usize::MAX).min(self.shape.slots)
    }

    /// Threads that have a slot now: those that have called the allocator and live. Of threads beyond the slots nobody
    /// knows how many live.
    #[must_use]
    pub fn threads_now(&self) -> usize {
        let owned = || (0..self.slots_counted()).filter(|slot| is_owned(self.owner(*slot))).count();
        self.folded.map_or_else(owned, |folded| folded.owned)
    }

    fn owner(&self, slot: usize) -> u64 {
        self.word(layout::OWNERS_OFFSET + slot * 8)
    }

    /// The groups that the process's threads are in.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        (1..=MAX_GROUPS).filter_map(|number| Group::read(number, |offset| self.word(offset))).collect()
    }

    /// What the threads of `group` have counted. What one group's threads allocated and another's freed is counted where it
    /// happened, so what is live of one group alone may be off, even below zero.
    #[must_use]
    pub fn group_totals(&self, group: &Group) -> Totals {
        if group.whole_process {
            return self.totals();
        }
        let mut totals = Totals::default();
        if let Some(folded) = &self.folded {
            let own = folded.groups.chunks_exact(COUNTER_WORDS).nth(group.number.wrapping_sub(1)).unwrap_or_default();
            for (total, word) in totals.0.iter_mut().zip(own) {
                *total = word.load(Acquire);
            }
            return totals;
        }
        // Words outside, slots inside, counted anew, as in `total`.
        let counters = layout::slots_offset(self.shape.slots) + offset_of!(Slot, counters);
        for (word, total) in totals.0.iter_mut().enumerate() {
            let own = (0..self.slots_counted()).filter(|&slot| group_of(self.owner(slot)) == group.number);
            let words = own.map(|slot| self.word(counters + word * 8 + slot * SLOT_STRIDE));
            *total = words.fold(0, u64::wrapping_add);
        }
        totals
    }

    /// The requests that `group` finished; `None` if there were none, or the program doesn't say.
    #[must_use]
    pub fn group_requests(&self, group: &Group) -> Option<Requests> {
        // A number that no group has is beyond the words, or those of nobody.
        let number = group.number.checked_sub(1).filter(|&number| number < MAX_GROUPS)?;
        let record = self.shape.requests_offset() + number * REQUESTS_STRIDE;
        Requests::read(|offset| self.word(record + offset))
    }

    /// Threads that ever claimed a slot, and threads that found none and used the overflow slot.
    #[must_use]
    pub fn threads(&self) -> (u64, u64) {
        (self.word(offset_of!(Header, claims)), self.word(offset_of!(Header, overflow_claims)))
    }

    /// Totals of the whole process, now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        if self.folded.is_some() {
            // All is in the overflow slot already.
            let overflow = layout::slots_offset(self.shape.slots) + self.shape.slots * SLOT_STRIDE;
            return self.counters_at(overflow + offset_of!(Slot, counters));
        }
        let mut totals = Totals::default();
        for (word, total) in totals.0.iter_mut().enumerate() {
            *total = self.total(word * 8);
        }
        totals
    }

    /// The few counts that most want, of the whole process. Allocates nothing.
    #[must_use]
    pub fn tally(&self) -> Tally {
        // In reading order, see `Counters`.
        let objects_freed = self.total(offset_of!(Counters, objects_freed));
        let bytes_freed = self.total(offset_of!(Counters, bytes_freed));
        Tally {
            objects_freed,
            bytes_freed,
            objects_allocated: self.total(offset_of!(Counters, objects_allocated)),
            bytes_allocated: self.total(offset_of!(Counters, bytes_allocated)),
            realloc_calls: self.total(offset_of!(Counters, realloc_calls)),
        }
    }

    /// Calls of all operations by latency: adds those that were not interrupted to `clean`, and returns how many were
    /// interrupted. Allocates nothing.
    pub fn add_latencies(&self, clean: &mut [u64; BUCKETS]) -> u64 {
        let mut interrupted = 0_u64;
        let touched = self.touched();
        for bucket in (0..BUCKETS).filter(|bucket| touched & (1 << (bucket / GROUP_BUCKETS)) != 0) {
            for operation in 0..OPERATIONS {
                let count = self.total(LatencyGroup::clean_offset(operation, bucket));
                clean[bucket] = clean[bucket].wrapping_add(count);
                // Two buckets share a word.
                if bucket % 2 == 0 {
                    let word = self.total(LatencyGroup::interrupted_offset(operation, bucket));
                    interrupted = interrupted.wrapping_add(word & u64::from(u32::MAX)).wrapping_add(word >> 32);
                }
            }
        }
        interrupted
    }

    /// Groups of latencies that hold any, as bits: of all slots together. What comes meanwhile is seen by the next look.
    fn touched(&self) -> u64 {
        let touched =
            |slot| self.word(layout::slots_offset(self.shape.slots) + slot * SLOT_STRIDE + offset_of!(Slot, touched));
        (0..self.slots_counted()).chain([self.shape.slots]).map(touched).fold(0, |all, of_one| all | of_one)
    }

    /// Objects and bytes that are live now: some words of [`Self::totals`] only, cheap enough for a curve over time.
    #[must_use]
    pub fn live(&self) -> (i64, i64) {
        let of = |freed: usize, allocated: usize| {
            let freed = self.total(freed);
            self.total(allocated).wrapping_sub(freed).cast_signed()
        };
        (
            of(offset_of!(Counters, objects_freed), offset_of!(Counters, objects_allocated)),
            of(offset_of!(Counters, bytes_freed), offset_of!(Counters, bytes_allocated)),
        )
    }

    /// One counter, summed over all slots. Words outside, slots inside: see [`Counters`]. The slots are counted anew
    /// for each word: an object whose free was seen may come from a slot that nobody had used when the reading began.
    fn total(&self, counter: usize) -> u64 {
        let first = layout::slots_offset(self.shape.slots) + offset_of!(Slot, counters) + counter;
        let slots = (0..self.slots_counted()).chain([self.shape.slots]);
        slots.map(|slot| self.word(first + slot * SLOT_STRIDE)).fold(0, u64::wrapping_add)
    }

    fn counters_at(&self, offset: usize) -> Totals {
        let mut totals = Totals::default();
        for (word, total) in totals.0.iter_mut().enumerate() {
            *total = self.word(offset + word * 8);
        }
        totals
    }

    /// Highest points of live objects and bytes since the present phase began (or the process, where there are no
    /// phases), and by how much each may be wrong; of a process that is running, not holding still, by a batch more.
    #[must_use]
    pub fn peaks(&self) -> Peaks {
        let sums = offset_of!(Header, sums);
        let slot = |index: usize, field: usize| {
            self.word(layout::slots_offset(self.shape.slots) + index * SLOT_STRIDE + field)
        };
        let counter = |index: usize, field: usize| slot(index, offset_of!(Slot, counters) + field);
        // What the slot that went highest had beyond what it had added, on top of what all have added. What is beyond a
        // batch is on its way to the sum at this instant, and must not be counted on both sides.
        let highest =
            |sum: usize, peak: usize, [freed, allocated]: [usize; 2], [room, added]: [usize; 2], batch: i64| {
                let sum = self.word(sums + sum).cast_signed();
                let beyond = |index| {
                    let freed = counter(index, freed);
                    let live = counter(index, allocated).wrapping_sub(freed);
                    live.wrapping_add(slot(index, room)).wrapping_sub(slot(index, added)).cast_signed().clamp(0, batch)
                };
                let beyond = (0..self.slots_counted()).map(beyond).max().unwrap_or(0);
                self.word(sums + peak).cast_signed().max(sum.wrapping_add(beyond))
            };
        Peaks {
            objects: highest(
                offset_of!(Sums, objects),
                offset_of!(Sums, peak_objects),
                [offset_of!(Counters, objects_freed), offset_of!(Counters, objects_allocated)],
                [offset_of!(Slot, room_objects), offset_of!(Slot, added_objects)],
                BATCH_OBJECTS,
            ),
            bytes: highest(
                offset_of!(Sums, bytes),
                offset_of!(Sums, peak_bytes),
                [offset_of!(Counters, bytes_freed), offset_of!(Counters, bytes_allocated)],
                [offset_of!(Slot, room_bytes), offset_of!(Slot, added_bytes)],
                BATCH_BYTES,
            ),
            ..self.peak_errors()
        }
    }

    /// One thread alone is exact; each of several may hold back up to two batches. Those without a slot hold nothing
    /// back, but what they add meets what others do hold back, so together they count as one more.
    fn peak_errors(&self) -> Peaks {
        let threads = match self.threads() {
            (0..=1, 0) => 0,
            (_, 0) => self.slots_used() as u64,
            _ => self.slots_used() as u64 + 1,
        };
        Peaks {
            objects: 0,
            bytes: 0,
            objects_error: threads.wrapping_mul(2 * BATCH_OBJECTS as u64),
            bytes_error: threads.wrapping_mul(2 * BATCH_BYTES as u64),
        }
    }

    /// The phases that have begun, in order.
    #[must_use]
    pub fn phases(&self) -> Vec<PhaseReading> {
        let begun = usize::try_from(self.word(offset_of!(Header, phases_begun))).unwrap_or(usize::MAX);
        (0..begun.min(self.shape.phases)).filter_map(|index| self.phase(index)).collect()
    }

    fn phase(&self, index: usize) -> Option<PhaseReading> {
        let base = layout::phases_offset(self.shape.slots) + index * PHASE_STRIDE;
        let field = |offset: usize| self.word(base + offset);
        let kind = field(offset_of!(PhaseRecord, kind)).checked_sub(1)?;
        let state = || field(offset_of!(PhaseRecord, state));
        let ended = state() == layout::PHASE_ENDED;
        let begin = self.counters_at(base + offset_of!(PhaseRecord, begin));
        // An open phase has come as far as the process has: if it is still open afterwards, for what is counted while a phase's
        // figures are put in is not the phase's.
        let is_open = || state() == layout::PHASE_OPEN;
        let so_far = is_open().then(|| (self.totals(), self.peaks())).filter(|_| is_open());
        let (end, peaks) = so_far.unwrap_or_else(|| {
            let peaks = Peaks {
                objects: field(offset_of!(PhaseRecord, peak_objects)).cast_signed(),
                bytes: field(offset_of!(PhaseRecord, peak_bytes)).cast_signed(),
                ..self.peak_errors()
            };
            (self.counters_at(base + offset_of!(PhaseRecord, end)), peaks)
        });
        let set = field(offset_of!(PhaseRecord, gauges_set));
        let mut gauges = [None; MAX_GAUGES];
        for (gauge, value) in gauges.iter_mut().enumerate().filter(|(gauge, _)| set & (1 << gauge) != 0) {
            *value = Some(field(offset_of!(PhaseRecord, gauges) + gauge * 8));
        }
        Some(PhaseReading {
            kind,
            ended,
            begin_at: self.anchor(base + offset_of!(PhaseRecord, begin_at)),
            end_at: ended.then(|| self.anchor(base + offset_of!(PhaseRecord, end_at))),
            units: field(offset_of!(PhaseRecord, units)),
            checksum: field(offset_of!(PhaseRecord, checksum)),
            peaks,
            gauges,
            begin,
            end,
        })
    }

    /// Ticks per second, from the anchors that the writer left, or else from `now`, an anchor of the same machine.
    #[must_use]
    pub fn ticks_per_second(&self, now: Option<Anchor>) -> Option<f64> {
        match self.clock() {
            ClockKind::Monotonic => return Some(1e9),
            // No process has attached, so there is no first anchor.
            ClockKind::Unknown => return None,
            ClockKind::Tsc | ClockKind::VirtualCounter => {}
        }
        let first = self.attached_at();
        let last = self.phases().iter().map(|phase| phase.end_at.unwrap_or(phase.begin_at)).next_back();
        last.and_then(|last| first.ticks_per_second(last)).or_else(|| first.ticks_per_second(now?))
    }
}

/// What a header says of arenas. Releases before creations: none is released that was not made.
pub(crate) fn arena_counts(word: impl Fn(usize) -> u64) -> Counts {
    let finalized = word(offset_of!(Header, arenas_finalized));
    let untracked = word(offset_of!(Header, arenas_untracked));
    Counts { created: word(offset_of!(Header, arenas_created)), finalized, untracked }
}

/// Highest points of live objects and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peaks {
    /// Objects.
    pub objects: i64,
    /// Bytes.
    pub bytes: i64,
    /// By how much `objects` may be wrong.
    pub objects_error: u64,
    /// By how much `bytes` may be wrong.
    pub bytes_error: u64,
}

/// One phase as it was found.
#[derive(Debug, Clone)]
pub struct PhaseReading {
    /// The writer's number for the kind of phase.
    pub kind: u64,
    /// Whether it has ended. If it has not, `end` and `peaks` are of now, or of when its totals were taken.
    pub ended: bool,
    /// When it began.
    pub begin_at: Anchor,
    /// When it ended.
    pub end_at: Option<Anchor>,
    /// Units of work done.
    pub units: u64,
    /// Checksum of the answers.
    pub checksum: u64,
    /// Highest points within the phase.
    pub peaks: Peaks,
    /// The process's own figures.
    gauges: [Option<u64>; MAX_GAUGES],
    /// The process's totals when it began.
    pub begin: Totals,
    /// The process's totals when it ended.
    pub end: Totals,
}

impl PhaseReading {
    /// A figure of the process's own, if it gave one.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> Option<u64> {
        self.gauges[gauge as usize]
    }

    /// The workload's own figure `index`, if it was recorded and is a number.
    #[must_use]
    pub fn figure(&self, index: usize) -> Option<f64> {
        let bits = *self.gauges.get(layout::FIRST_FIGURE + index)?;
        bits.map(f64::from_bits).filter(|figure| figure.is_finite())
    }
}

/// Counts of a whole process (or of a phase, as a difference of two).
#[derive(Clone, PartialEq, Eq)]
pub struct Totals(Box<[u64; COUNTER_WORDS]>);

impl Default for Totals {
    fn default() -> Self {
        Self(Box::new([0; COUNTER_WORDS]))
    }
}

impl core::fmt::Debug for Totals {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Totals({} calls)", self.allocation_calls())
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        impl Totals {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> u64 { self.0[offset_of!(Counters, $name) / 8] })*
        }
    };
}

counts! {
    /// Objects allocated: calls of `alloc` and `alloc_zeroed`.
    objects_allocated
    /// Objects freed: calls of `dealloc`.
    objects_freed
    /// Bytes handed out: by `alloc`, `alloc_zeroed`, and the new sizes of `realloc`.
    bytes_allocated
    /// Bytes given back: by `dealloc`, and the old sizes of `realloc`.
    bytes_freed
    /// Calls of `alloc_zeroed`.
    alloc_zeroed_calls
    /// Bytes they asked for.
    alloc_zeroed_bytes
    /// Calls of `realloc`.
    realloc_calls
    /// Bytes of the new sizes.
    realloc_new_bytes
    /// Bytes of the old sizes.
    realloc_old_bytes
    /// Calls that the allocator refused.
    failed_calls
}

impl Totals {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (now, before) in difference.0.iter_mut().zip(earlier.0.iter()) {
            // Wrapping per word also takes apart the packed counts rightly, as both halves only grow.
            *now = now.wrapping_sub(*before);
        }
        difference
    }

    // A running process may be between a sum and its part, so the differences below stop at 0.

    /// Calls of `alloc`.
    #[must_use]
    pub fn alloc_calls(&self) -> u64 {
        self.objects_allocated().saturating_sub(self.alloc_zeroed_calls())
    }

    /// Bytes they asked for.
    #[must_use]
    pub fn alloc_bytes(&self) -> u64 {
        self.bytes_allocated().saturating_sub(self.alloc_zeroed_bytes()).saturating_sub(self.realloc_new_bytes())
    }

    /// Calls of `dealloc`.
    #[must_use]
    pub fn dealloc_calls(&self) -> u64 {
        self.objects_freed()
    }

    /// Bytes they gave back.
    #[must_use]
    pub fn dealloc_bytes(&self) -> u64 {
        self.bytes_freed().saturating_sub(self.realloc_old_bytes())
    }

    /// Calls that hand out memory.
    #[must_use]
    pub fn allocation_calls(&self) -> u64 {
        self.objects_allocated().wrapping_add(self.realloc_calls())
    }

    /// Objects allocated and not freed.
    #[must_use]
    pub fn live_objects(&self) -> i64 {
        self.objects_allocated().wrapping_sub(self.objects_freed()).cast_signed()
    }

    /// Bytes allocated and not freed, as requested.
    #[must_use]
    pub fn live_bytes(&self) -> i64 {
        self.bytes_allocated().wrapping_sub(self.bytes_freed()).cast_signed()
    }

    /// By size class: objects allocated, freed.
    #[must_use]
    pub fn size_class(&self, class: usize) -> (u64, u64) {
        assert!(class < SIZE_CLASSES, "no such size class");
        (
            self.0[offset_of!(Counters, class_allocated) / 8 + class],
            self.0[offset_of!(Counters, class_freed) / 8 + class],
        )
    }

    /// Undisturbed calls of `operation` in each latency bucket.
    pub fn clean(&self, operation: Operation) -> impl Iterator<Item = u64> {
        (0..BUCKETS).map(move |bucket| self.0[LatencyGroup::clean_offset(operation as usize, bucket) / 8])
    }

    /// Interrupted calls of `operation` in each latency bucket.
    pub fn interrupted(&self, operation: Operation) -> impl Iterator<Item = u64> {
        let words = (0..BUCKETS).step_by(2).map(move |bucket| {
            // Both buckets' counts.
            self.0[LatencyGroup::interrupted_offset(operation as usize, bucket) / 8]
        });
        words.flat_map(|word| [word & u64::from(u32::MAX), word >> 32])
    }

    /// Calls timed, by operation: clean, interrupted.
    #[must_use]
    pub fn timed_calls(&self) -> [(u64, u64); OPERATIONS] {
        [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc]
            .map(|op| (self.clean(op).fold(0, u64::wrapping_add), self.interrupted(op).fold(0, u64::wrapping_add)))
    }
}
