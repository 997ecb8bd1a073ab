//! A segment on the heap, where Miri can follow it, and threads that count into it.
//!
//! `MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-disable-stacked-borrows" cargo +nightly miri test -p heapgate-segment
//! --tests`
//!
//! Without its aliasing model, that is: to it each look at a segment is a look at 140,000 cells. All references here
//! are to atomics, which may alias; the library's own tests (`--lib`) run with it.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod everything;

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use heapgate_segment::clock::ClockKind;
use heapgate_segment::control::Control;
use heapgate_segment::layout::{self, InterruptedSplit, Level, Operation, Slot};
use heapgate_segment::reader::Reader;
use heapgate_segment::writer::{Attachment, Writer};

/// Rounds of a stress test: Miri is some thousand times slower.
pub const fn rounds(native: usize, miri: usize) -> usize {
    if cfg!(miri) { miri } else { native }
}

/// A formatted segment that nobody writes yet.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub words: &'static [AtomicU64],
    pub writer: Writer,
}

/// What is never freed, since a `Writer` wants memory for the process's life; named here so that no leak checker takes
/// it for lost.
static KEPT: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

impl Segment {
    /// A segment of `slots` slots, at level [`Level::Count`].
    pub fn new(slots: usize) -> Self {
        let bytes = layout::segment_bytes(slots);
        let memory = Layout::from_size_align(bytes, 128).unwrap();
        // SAFETY: `memory` is not of size 0.
        let base = NonNull::new(unsafe { alloc_zeroed(memory) }).unwrap_or_else(|| handle_alloc_error(memory));
        // SAFETY: `base` points to `bytes` zeroed bytes, aligned to 128, that are never freed; zero is a valid
        // AtomicU64.
        let words = unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>().as_ptr(), bytes / 8) };
        KEPT.lock().unwrap().push(words);
        layout::format(words, slots, Level::Count, 1);
        // SAFETY: as above; `words` is the only other way to that memory, and one of atomics.
        let writer = unsafe { Writer::from_raw(base, bytes) }.unwrap();
        Self { words, writer }
    }

    /// One that a process has attached to.
    pub fn attached(slots: usize) -> Self {
        let segment = Self::new(slots);
        assert!(segment.writer.attach(attachment(1)));
        segment
    }

    pub fn reader(&self) -> Reader<'static> {
        Reader::new(self.words).unwrap()
    }

    pub fn control(&self) -> Control<'static> {
        Control::new(self.words).unwrap()
    }

    /// A thread (or what counts as if it were one) of id `tid`.
    pub fn thread(&self, tid: u64) -> Thread {
        Thread { writer: self.writer, slot: self.writer.claim(tid) }
    }
}

pub fn attachment(pid: u32) -> Attachment {
    Attachment { pid, clock: ClockKind::Monotonic, interrupted_split: InterruptedSplit::Available }
}

/// What one thread counts in: its own slot, or the overflow slot.
#[derive(Debug)]
pub struct Thread {
    writer: Writer,
    pub slot: Option<&'static Slot>,
}

impl Thread {
    pub fn alloc(&self, bytes: u64) {
        self.count_alloc(false, bytes);
    }

    pub fn alloc_zeroed(&self, bytes: u64) {
        self.count_alloc(true, bytes);
    }

    fn count_alloc(&self, zeroed: bool, bytes: u64) {
        match self.slot {
            Some(slot) => {
                if zeroed {
                    slot.count_zeroed::<false>(bytes);
                }
                self.settle_if(slot.count_alloc(bytes));
            }
            None => {
                if zeroed {
                    self.writer.overflow().count_zeroed::<true>(bytes);
                }
                self.writer.overflow().count_alloc_shared(self.writer.sums(), bytes);
            }
        }
    }

    pub fn realloc(&self, old: u64, new: u64) {
        match self.slot {
            Some(slot) => self.settle_if(slot.count_realloc(old, new)),
            None => self.writer.overflow().count_realloc_shared(self.writer.sums(), old, new),
        }
    }

    pub fn dealloc(&self, bytes: u64) {
        match self.slot {
            Some(slot) => self.settle_if(slot.count_dealloc(bytes)),
            None => self.writer.overflow().count_dealloc_shared(self.writer.sums(), bytes),
        }
    }

    fn settle_if(&self, due: bool) {
        if let Some(slot) = self.slot.filter(|_| due) {
            slot.settle(self.writer.sums());
        }
    }

    pub fn fail(&self) {
        match self.slot {
            Some(slot) => slot.count_failed::<false>(),
            None => self.writer.overflow().count_failed::<true>(),
        }
    }

    pub fn record(&self, operation: Operation, ticks: u64, interrupted: bool, weight: u64) {
        match self.slot {
            Some(slot) => slot.record::<false>(operation, ticks, interrupted, weight),
            None => self.writer.overflow().record::<true>(operation, ticks, interrupted, weight),
        }
    }

    /// The thread ends.
    pub fn retire(self) {
        if let Some(slot) = self.slot {
            self.writer.retire(slot);
        }
    }
}
