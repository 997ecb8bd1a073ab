//! The measured process's end of a segment.

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::arenas;
use crate::clock::{Anchor, ClockKind};
use crate::groups::{GROUPS_OFFSET, GroupRecord, MAX_GROUPS};
use crate::identity::Identity;
use crate::layout::{
    self, Counters, Gauge, Header, InterruptedSplit, LayoutError, Level, MAX_SAMPLE_PERIOD, OWNERS_OFFSET,
    PHASE_STRIDE, PhaseRecord, SLOT_STRIDE, Shape, Slot, Sums,
};
use crate::mailbox::{MAILBOX_OFFSET, MAILBOX_WORDS, Mailbox};
use crate::owners;
use crate::requests::{REQUESTS_STRIDE, RequestRecord};
use crate::steering::{STEERING_OFFSET, SharedSteering};

/// A segment that this process writes. Copies of it are the same segment.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    base: NonNull<u8>,
    shape: Shape,
}

// SAFETY: all access through `base` is to atomics, and the memory is valid for the process's life (`from_raw`).
unsafe impl Send for Writer {}
// SAFETY: as above.
unsafe impl Sync for Writer {}

/// What the process says of its first moments.
#[derive(Debug, Clone, Copy)]
pub struct Attachment {
    /// Its process id.
    pub pid: u32,
    /// What its ticks are.
    pub clock: ClockKind,
    /// Whether interrupted calls are told apart.
    pub interrupted_split: InterruptedSplit,
}

impl Writer {
    /// Takes memory that holds a segment.
    ///
    /// # Errors
    /// If it is not a segment of this version.
    ///
    /// # Safety
    /// `base` points to `bytes` bytes, aligned to 128, that stay mapped and writable until the process ends and that
    /// nobody accesses but through atomics of the sizes in [`layout`].
    pub unsafe fn from_raw(base: NonNull<u8>, bytes: usize) -> Result<Self, LayoutError> {
        // SAFETY: the caller vouches for `bytes` bytes, aligned, alive and accessed as atomics only.
        let words = unsafe { core::slice::from_raw_parts(base.cast::<AtomicU64>().as_ptr(), bytes / 8) };
        Ok(Self { base, shape: layout::check(words)? })
    }

    /// The head of the segment.
    #[inline(always)]
    #[must_use]
    pub fn header(&self) -> &'static Header {
        // SAFETY: `check` found room for the header at `base`, which is aligned and lives as long as the process
        // (`from_raw`); all its fields are atomics, so any bits are valid and shared references may alias.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Where requests come.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox<'static> {
        // SAFETY: `check` found room for OWNERS_OFFSET bytes at `base`, and more; the mailbox ends before that, at a multiple
        // of 8 from the aligned base, and lives as long as the process (`from_raw`); only atomics.
        Mailbox(unsafe { self.base.add(MAILBOX_OFFSET).cast::<[AtomicU64; MAILBOX_WORDS]>().as_ref() })
    }

    /// What this process says of its settings.
    #[must_use]
    pub fn steering(&self) -> &'static SharedSteering {
        // SAFETY: `check` found room for OWNERS_OFFSET bytes at `base`, and more; the block ends before that, at a multiple of
        // 8 from the aligned base, and lives as long as the process (`from_raw`); only atomics.
        unsafe { self.base.add(STEERING_OFFSET).cast::<SharedSteering>().as_ref() }
    }

    /// Changes how much is recorded, as [`crate::control::Control::set_level`] does from outside.
    pub fn set_level(&self, level: Level) {
        self.header().set_level(level);
    }

    /// The sums that slots add to.
    #[inline(always)]
    #[must_use]
    pub fn sums(&self) -> &'static Sums {
        &self.header().sums
    }

    /// The level word, to be watched by every call.
    #[must_use]
    pub fn level_word(&self) -> &'static AtomicU64 {
        &self.header().level
    }

    /// Switches the sampling of call stacks on or off.
    pub fn sample_stacks(&self, on: bool) {
        if on {
            self.header().level.fetch_or(layout::SAMPLES_STACKS, Relaxed);
        } else {
            self.header().level.fetch_and(!layout::SAMPLES_STACKS, Relaxed);
        }
    }

    /// One call in how many is timed at the sampled levels.
    #[inline(always)]
    #[must_use]
    pub fn sample_period(&self) -> u64 {
        // The word can be written from outside.
        self.header().sample_period.load(Relaxed).clamp(1, MAX_SAMPLE_PERIOD)
    }

    /// Makes this process the segment's one writer. False if another process has been that before: two must not count
    /// into one segment.
    #[must_use]
    pub fn attach(&self, with: Attachment) -> bool {
        let header = self.header();
        if header.pid.compare_exchange(0, u64::from(with.pid), AcqRel, Relaxed).is_err() {
            return false;
        }
        header.interrupted_split.store(with.interrupted_split as u64, Relaxed);
        header.attached_at.set(Anchor::now(with.clock));
        // Last, and Release: a reader that knows the clock finds the whole anchor.
        header.clock.store(with.clock as u64, Release);
        true
    }

    /// Puts a figure of the process's own into the header, as it is now.
    pub fn set_gauge(&self, gauge: Gauge, value: u64) {
        let header = self.header();
        header.gauges[gauge as usize].store(value, Relaxed);
        // Release: a reader that sees it set finds a value.
        header.gauges_set.fetch_or(1 << gauge as usize, Release);
    }

    /// Says whose segment it is.
    pub fn identify(&self, identity: &Identity<'_>) {
        identity.write(&self.header().identity);
    }

    /// What the segment says of group `number`, from 1.
    ///
    /// # Panics
    /// If there can't be so many.
    #[must_use]
    pub fn group(&self, number: usize) -> &'static GroupRecord {
        assert!((1..=MAX_GROUPS).contains(&number), "group {number} of {MAX_GROUPS}");
        // SAFETY: `check` found room for OWNERS_OFFSET bytes at `base`, and more; the table ends before that, at a multiple of 8
        // from the aligned base, and lives as long as the process (`from_raw`); only atomics.
        unsafe { self.base.add(GROUPS_OFFSET).cast::<GroupRecord>().add(number - 1).as_ref() }
    }

    /// The requests of group `number`, from 1.
    ///
    /// # Panics
    /// If there can't be so many.
    #[must_use]
    pub fn requests(&self, number: usize) -> &'static RequestRecord {
        assert!((1..=MAX_GROUPS).contains(&number), "group {number} of {MAX_GROUPS}");
        let offset = self.shape.requests_offset() + (number - 1) * REQUESTS_STRIDE;
        // SAFETY: `check` found room for MAX_GROUPS records at the offset of the first, a multiple of 4096 from the aligned base,
        // and a record's size is a multiple of its alignment; they live as long as the process (`from_raw`); only atomics.
        unsafe { self.base.add(offset).cast::<RequestRecord>().as_ref() }
    }

    /// The registry of arenas.
    pub(crate) fn arenas(&self) -> &'static arenas::Table {
        // SAFETY: `check` found room for the registry at this offset, a multiple of 4096 from the aligned base; only atomics.
        unsafe { self.base.add(self.shape.arenas_offset()).cast::<arenas::Table>().as_ref() }
    }

    /// Slot `index`; the one past the last is the overflow slot.
    fn slot_at(&self, index: usize) -> &'static Slot {
        assert!(index <= self.shape.slots, "slot {index} of {}", self.shape.slots);
        // SAFETY: `check` found room for slots + 1 slots at this offset, a multiple of 4096 from the aligned base; only
        // atomics.
        unsafe { self.base.add(layout::slots_offset(self.shape.slots) + index * SLOT_STRIDE).cast::<Slot>().as_ref() }
    }

    /// The slot that threads share, by atomic adds, when all others are taken.
    #[must_use]
    pub fn overflow(&self) -> &'static Slot {
        self.slot_at(self.shape.slots)
    }

    fn owners(&self) -> &'static [AtomicU64] {
        // SAFETY: `check` found room for `slots` words at OWNERS_OFFSET, a multiple of 8 from the aligned base; only
        // atomics.
        unsafe {
            core::slice::from_raw_parts(self.base.add(OWNERS_OFFSET).cast::<AtomicU64>().as_ptr(), self.shape.slots)
        }
    }

    /// A slot for thread `tid` (not 0), which becomes its owner; `None` if all are taken: the thread is to use
    /// [`Self::overflow`].
    #[must_use]
    pub fn claim(&self, tid: u64) -> Option<&'static Slot> {
        self.claim_first(tid, 0)
    }

    /// The same for a thread of `group` (a number from 1; 0 for none) that has had no slot before.
    #[must_use]
    pub fn claim_first(&self, tid: u64, group: usize) -> Option<&'static Slot> {
        let slot = self.claim_in(tid, group);
        let header = self.header();
        if slot.is_some() { &header.claims } else { &header.overflow_claims }.fetch_add(1, Relaxed);
        slot
    }

    /// A slot of `group` (a number from 1; 0 for none) for thread `tid` (not 0), which is to give back the one that it has.
    #[must_use]
    pub fn claim_in(&self, tid: u64, group: usize) -> Option<&'static Slot> {
        assert!(group <= MAX_GROUPS, "group {group} of {MAX_GROUPS}");
        let header = self.header();
        let tid = tid & u64::from(u32::MAX);
        let is_new = |index| self.slot_at(index).is_new();
        if let Some(index) = owners::claim(self.owners(), tid, group as u64, is_new) {
            // Release: a reader that counts this slot in finds the owner table as it was.
            header.slots_used.fetch_max(index as u64 + 1, Release);
            let slot = self.slot_at(index);
            if slot.is_new() {
                // Or the first call of every thread would be taken for a sample.
                slot.draw_countdown(self.sample_period());
            }
            Some(slot)
        } else {
            None
        }
    }

    /// Gives back the slot that [`Self::claim`] gave this thread. It keeps its counts; the next owner goes on from
    /// them.
    pub fn retire(&self, slot: &'static Slot) {
        slot.flush(self.sums());
        slot.clear_busy();
        let index = (core::ptr::from_ref(slot).addr() - core::ptr::from_ref(self.slot_at(0)).addr()) / SLOT_STRIDE;
        owners::retire(&self.owners()[index]);
    }

    fn phase_at(&self, index: usize) -> &'static PhaseRecord {
        assert!(index < self.shape.phases, "phase {index} of {}", self.shape.phases);
        // SAFETY: `check` found room for that many phases at this offset, a multiple of 4096 from the aligned base;
        // only atomics.
        unsafe {
            self.base.add(layout::phases_offset(self.shape.slots) + index * PHASE_STRIDE).cast::<PhaseRecord>().as_ref()
        }
    }

    /// Marks the beginning of a phase of `kind` (the reader's number for it). `own` is the caller's slot, so that its
    /// part of the peaks is exact. One thread of the process marks phases: two at once would write one record.
    ///
    /// A segment that has no room for phases at all is a service's: nobody looks for phases there, and none is recorded.
    ///
    /// # Panics
    /// If the segment has no room for another phase.
    pub fn begin_phase(&self, kind: u64, own: Option<&Slot>) -> Phase {
        if self.shape.phases == 0 {
            return Phase { writer: *self, record: None };
        }
        let header = self.header();
        let index = header.phases_begun.load(Relaxed) as usize;
        let record = self.phase_at(index);
        record.kind.store(kind + 1, Relaxed);
        if let Some(slot) = own {
            slot.flush(&header.sums);
        }
        header.sums.reset_peaks();
        self.snapshot(&record.begin);
        record.begin_at.set(Anchor::now(self.clock()));
        header.phases_begun.store(index as u64 + 1, Release);
        Phase { writer: *self, record: Some(record) }
    }

    /// What this process's ticks are.
    #[must_use]
    pub fn clock(&self) -> ClockKind {
        match self.header().clock.load(Relaxed) {
            1 => ClockKind::Tsc,
            2 => ClockKind::VirtualCounter,
            _ => ClockKind::Monotonic,
        }
    }

    /// When this process attached, on both clocks.
    #[must_use]
    pub fn attached_at(&self) -> Anchor {
        self.header().attached_at.get()
    }

    /// Sums all slots into `into`.
    fn snapshot(&self, into: &Counters) {
        let header = self.header();
        // Words outside, slots inside: all that counts frees, in every slot, is read before all that counts
        // allocations. The slots are counted anew for each word: an object whose free was seen may come from a slot
        // that nobody had used when the reading began.
        for (word, sum) in into.words().iter().enumerate() {
            let used = header.slots_used.load(Acquire) as usize;
            let slots = (0..used.min(self.shape.slots)).chain([self.shape.slots]);
            let words = slots.map(|index| self.slot_at(index).counters.words()[word].load(Acquire));
            sum.store(words.fold(0, u64::wrapping_add), Relaxed);
        }
    }

    /// Bytes handed out so far, in all slots; by `realloc` too.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        let used = self.header().slots_used.load(Acquire) as usize;
        let slots = (0..used.min(self.shape.slots)).chain([self.shape.slots]);
        slots.map(|index| self.slot_at(index).counters.bytes_allocated.load(Relaxed)).fold(0, u64::wrapping_add)
    }

    /// If a supervisor wants it: says that this process has stopped, and waits until it is released.
    pub fn hold(&self) {
        let header = self.header();
        if header.supervised.load(Acquire) == 0 {
            return;
        }
        // Release: what was written before is there for whoever sees the new number.
        let turn = header.held.fetch_add(1, Release).wrapping_add(1);
        crate::map::wake(&header.held);
        loop {
            let released = header.released.load(Acquire);
            // Not `==`: another thread of this process may hold too, and be released after.
            if released.wrapping_sub(turn).cast_signed() >= 0 {
                return;
            }
            crate::map::wait(&header.released, released, None);
        }
    }
}

/// A phase that has begun. It ends by [`Self::end`]; if it never does, readers find it open.
#[derive(Debug)]
#[must_use = "a phase that is not ended stays open"]
pub struct Phase {
    writer: Writer,
    /// `None` where the segment keeps no phases.
    record: Option<&'static PhaseRecord>,
}

impl Phase {
    /// Puts a figure of the process's own into the record.
    pub fn set_gauge(&self, gauge: Gauge, value: u64) {
        self.set(gauge as usize, value);
    }

    /// Records the workload's own figure `index`.
    ///
    /// # Panics
    /// If `index` is not below [`MAX_FIGURES`](layout::MAX_FIGURES).
    pub fn set_figure(&self, index: usize, value: f64) {
        assert!(index < layout::MAX_FIGURES, "figure {index} of {}", layout::MAX_FIGURES);
        self.set(layout::FIRST_FIGURE + index, value.to_bits());
    }

    fn set(&self, gauge: usize, value: u64) {
        if let Some(record) = self.record {
            record.gauges[gauge].store(value, Relaxed);
            record.gauges_set.fetch_or(1 << gauge, Relaxed);
        }
    }

    /// Takes the totals. What happens from here on is not the phase's.
    pub fn close(&self, units: u64, checksum: u64, own: Option<&Slot>) {
        let Some(record) = self.record else { return };
        let header = self.writer.header();
        record.end_at.set(Anchor::now(self.writer.clock()));
        if let Some(slot) = own {
            slot.flush(&header.sums);
        }
        record.peak_objects.store(header.sums.peak_objects.load(Relaxed), Relaxed);
        record.peak_bytes.store(header.sums.peak_bytes.load(Relaxed), Relaxed);
        self.writer.snapshot(&record.end);
        record.units.store(units, Relaxed);
        record.checksum.store(checksum, Relaxed);
        // Release: a reader that sees it closed sees the totals.
        record.state.store(layout::PHASE_CLOSED, Release);
    }

    /// Declares the record complete. Release: a reader that sees it ended sees all of it, but for figures recorded later.
    pub fn end(&self) {
        if let Some(record) = self.record {
            record.state.store(layout::PHASE_ENDED, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page-aligned, zeroed memory, shared as a segment's is.
    #[repr(C, align(4096))]
    struct Memory([AtomicU64; layout::segment_bytes(1) / 8]);

    static MEMORY: Memory = Memory([const { AtomicU64::new(0) }; layout::segment_bytes(1) / 8]);

    #[test]
    fn threads_take_turns_on_one_slot_and_share_the_other() {
        layout::format(&MEMORY.0, 1, Level::Count, 1);
        let base = NonNull::from(&MEMORY);
        // SAFETY: a static of atomics, aligned to a page, is valid for the process's life.
        let writer = unsafe { Writer::from_raw(base.cast(), size_of::<Memory>()) }.unwrap();
        std::thread::scope(|scope| {
            for tid in 1..=3 {
                scope.spawn(move || {
                    for _ in 0..5 {
                        if let Some(slot) = writer.claim(tid) {
                            if slot.count_alloc(10) {
                                slot.settle(writer.sums());
                            }
                            writer.retire(slot);
                        } else {
                            writer.overflow().count_alloc_shared(writer.sums(), 10);
                        }
                    }
                });
            }
        });
        let header = writer.header();
        assert_eq!(header.claims.load(Relaxed) + header.overflow_claims.load(Relaxed), 15);
        assert_eq!((writer.sums().objects.load(Relaxed), writer.sums().bytes.load(Relaxed)), (15, 150));
        assert_eq!(writer.sums().peak_objects.load(Relaxed), 15);
    }

    #[test]
    fn memory_that_holds_no_segment_is_not_taken() {
        static EMPTY: Memory = Memory([const { AtomicU64::new(0) }; layout::segment_bytes(1) / 8]);
        // SAFETY: a static of atomics, aligned to a page, is valid for the process's life.
        let refused = unsafe { Writer::from_raw(NonNull::from(&EMPTY).cast(), size_of::<Memory>()) };
        assert_eq!(refused.unwrap_err(), LayoutError::NotASegment);
    }
}
