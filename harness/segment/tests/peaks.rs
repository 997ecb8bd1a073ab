//! Highest points of live objects and bytes: exact with one thread, within the stated error with several.
#![cfg(not(loom))]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::{Segment, Thread, rounds};
use heapgate_segment::layout::{BATCH_BYTES, BATCH_OBJECTS};
use heapgate_segment::reader::Peaks;
use heapgate_segment::writer::Phase;
use proptest::prelude::*;

/// The truth: what is live, and the highest points since the phase began.
#[derive(Debug, Default, Clone)]
struct Truth {
    live: Vec<u64>,
    bytes: i64,
    peak_objects: i64,
    peak_bytes: i64,
}

impl Truth {
    fn alloc(&mut self, bytes: u64) {
        self.live.push(bytes);
        self.bytes += bytes as i64;
        self.note();
    }

    fn realloc(&mut self, object: usize, new: u64) -> u64 {
        let old = std::mem::replace(&mut self.live[object], new);
        self.bytes += new as i64 - old as i64;
        self.note();
        old
    }

    fn dealloc(&mut self, object: usize) -> u64 {
        let bytes = self.live.swap_remove(object);
        self.bytes -= bytes as i64;
        bytes
    }

    fn note(&mut self) {
        self.peak_objects = self.peak_objects.max(self.live.len() as i64);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    fn begin_phase(&mut self) {
        (self.peak_objects, self.peak_bytes) = (self.live.len() as i64, self.bytes);
    }

    /// Whether `peaks` is as near as it claims to be.
    fn agrees_with(&self, peaks: Peaks) -> bool {
        peaks.objects.abs_diff(self.peak_objects) <= peaks.objects_error
            && peaks.bytes.abs_diff(self.peak_bytes) <= peaks.bytes_error
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many objects of so many bytes.
    Alloc {
        objects: usize,
        bytes: u64,
    },
    Realloc {
        object: prop::sample::Index,
        bytes: u64,
    },
    Dealloc {
        objects: usize,
        first: prop::sample::Index,
    },
    BeginPhase,
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..2000, 1 => 2000u64..300_000, 1 => 300_000u64..100_000_000]
}

fn step() -> impl Strategy<Value = Step> {
    // Bursts about as long as a batch: the places where errors would add up.
    const BATCH: usize = BATCH_OBJECTS as usize;
    let burst = || prop_oneof![2 => 1..4usize, 1 => Just(BATCH - 1), 1 => Just(2 * BATCH - 1), 1 => 1..3 * BATCH];
    prop_oneof![
        6 => (burst(), size()).prop_map(|(objects, bytes)| Step::Alloc { objects, bytes }),
        2 => (any::<prop::sample::Index>(), size()).prop_map(|(object, bytes)| Step::Realloc { object, bytes }),
        6 => (burst(), any::<prop::sample::Index>()).prop_map(|(objects, first)| Step::Dealloc { objects, first }),
        1 => Just(Step::BeginPhase),
    ]
}

/// At most as many phases as there is room for.
fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0usize..4, step()), 0..120).prop_map(|mut steps| {
        let mut phases = 0;
        steps.retain(|(_, step)| {
            phases += usize::from(matches!(step, Step::BeginPhase));
            !matches!(step, Step::BeginPhase) || phases < 15
        });
        steps
    })
}

/// Takes the steps, each by one of `threads`, and looks at the peaks after each and at each phase's end.
fn run(segment: Segment, threads: &[Thread], steps: &[(usize, Step)]) -> Result<(), TestCaseError> {
    let mut truth = Truth::default();
    let mut open: Option<(Phase, Truth)> = None;
    for &(thread, step) in steps {
        let thread = &threads[thread % threads.len()];
        match step {
            Step::Alloc { objects, bytes } => {
                for _ in 0..objects {
                    thread.alloc(bytes);
                    truth.alloc(bytes);
                }
            }
            Step::Realloc { object, bytes } if !truth.live.is_empty() => {
                let old = truth.realloc(object.index(truth.live.len()), bytes);
                thread.realloc(old, bytes);
            }
            Step::Dealloc { objects, first } => {
                for _ in 0..objects.min(truth.live.len()) {
                    thread.dealloc(truth.dealloc(first.index(truth.live.len())));
                }
            }
            Step::Realloc { .. } => {}
            Step::BeginPhase => {
                if let Some((phase, _)) = open.take() {
                    phase.close(0, 0, thread.slot);
                    phase.end();
                    let peaks = segment.reader().phases().last().unwrap().peaks;
                    prop_assert!(truth.agrees_with(peaks), "at a phase's end: {peaks:?}, in truth {truth:?}");
                }
                truth.begin_phase();
                open = Some((segment.writer.begin_phase(0, thread.slot), truth.clone()));
            }
        }
        let peaks = segment.reader().peaks();
        prop_assert!(truth.agrees_with(peaks), "after {step:?}: {peaks:?}, in truth {truth:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
    fn with_one_thread_peaks_are_exact_in_every_phase(steps in steps()) {
        let segment = Segment::attached(1);
        let threads = [segment.thread(1)];
        run(segment, &threads, &steps)?;
        let peaks = segment.reader().peaks();
        prop_assert_eq!((peaks.objects_error, peaks.bytes_error), (0, 0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
    fn with_several_threads_peaks_are_within_two_batches_for_each(steps in steps()) {
        let segment = Segment::attached(4);
        let threads: Vec<_> = (1..=4).map(|tid| segment.thread(tid)).collect();
        run(segment, &threads, &steps)?;
        prop_assert_eq!(segment.reader().peaks().objects_error, 4 * 2 * BATCH_OBJECTS as u64);
        prop_assert_eq!(segment.reader().peaks().bytes_error, 4 * 2 * BATCH_BYTES as u64);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
    fn threads_without_a_slot_are_in_the_error_of_the_peaks(steps in steps()) {
        let segment = Segment::attached(1);
        let threads = [segment.thread(1), segment.thread(2)];
        prop_assert!(threads[1].slot.is_none());
        run(segment, &threads, &steps)?;
    }
}

#[test]
fn a_thread_that_takes_over_a_slot_starts_from_what_its_last_owner_left() {
    let segment = Segment::attached(1);
    let first = segment.thread(1);
    (0..100).for_each(|_| first.alloc(10));
    first.retire();
    let second = segment.thread(2);
    (0..50).for_each(|_| second.dealloc(10));
    (0..20).for_each(|_| second.alloc(10));
    let peaks = segment.reader().peaks();
    assert_eq!((peaks.objects, peaks.bytes), (100, 1000));
}

#[test]
fn with_threads_at_work_peaks_are_within_the_stated_error() {
    let segment = Segment::attached(4);
    let truth = Mutex::new(Truth::default());
    std::thread::scope(|scope| {
        for tid in 1..=4u64 {
            let truth = &truth;
            scope.spawn(move || {
                let thread = segment.thread(tid);
                let mut random = tid;
                for _ in 0..rounds(20_000, 100) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (object, bytes) = ((random >> 33) as usize, (random >> 40) % 5000);
                    // One lock around each count, so that the truth is known; the batches are as they would be without.
                    let mut truth = truth.lock().unwrap();
                    if truth.live.len() > 500 || (random >> 62 == 0 && !truth.live.is_empty()) {
                        let object = object % truth.live.len();
                        thread.dealloc(truth.dealloc(object));
                    } else {
                        thread.alloc(bytes);
                        truth.alloc(bytes);
                    }
                }
                thread.retire();
            });
        }
    });
    let (truth, peaks) = (truth.into_inner().unwrap(), segment.reader().peaks());
    assert!(truth.agrees_with(peaks), "{peaks:?}, in truth {truth:?}");
    assert_eq!(segment.reader().totals().live_objects(), truth.live.len() as i64);
}

#[test]
fn a_large_allocation_is_not_counted_twice_while_it_is_added_to_the_sums() {
    const LARGE: u64 = 1 << 30;
    let segment = Segment::attached(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let thread = segment.thread(1);
            for _ in 0..rounds(1_000_000, 50) {
                thread.alloc(LARGE);
                thread.dealloc(LARGE);
            }
            done.store(true, Relaxed);
        });
        let reader = segment.reader();
        while !done.load(Relaxed) {
            let bytes = reader.peaks().bytes;
            assert!(bytes <= LARGE as i64 + BATCH_BYTES, "{bytes}");
        }
    });
}
