//! Many threads, few slots, and a reader that looks on.
#![cfg(not(loom))]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::thread;

use common::{Segment, rounds};
use heapgate_segment::reader::{Reader, Totals};
use heapgate_segment::size_class::SIZE_CLASSES;

/// Bytes of the `n`th object: all over the size classes.
fn nth_size(n: usize) -> u64 {
    (n as u64).wrapping_mul(2_654_435_761) % 100_000
}

#[test]
fn totals_stay_exact_over_many_short_threads() {
    let waves = rounds(200, 5);
    let segment = Segment::attached(3);
    for wave in 0..waves {
        thread::scope(|scope| {
            for n in 0..3 {
                scope.spawn(move || {
                    let thread = segment.thread((wave * 3 + n + 1) as u64);
                    assert!(thread.slot.is_some(), "three threads at a time have three slots");
                    thread.alloc(100);
                    thread.alloc_zeroed(50);
                    thread.realloc(100, 200);
                    thread.dealloc(50);
                    thread.retire();
                });
            }
        });
    }
    let (reader, threads) = (segment.reader(), 3 * waves as u64);
    let totals = reader.totals();
    assert_eq!((totals.alloc_calls(), totals.alloc_bytes()), (threads, 100 * threads));
    assert_eq!(
        (totals.alloc_zeroed_calls(), totals.dealloc_calls(), totals.realloc_calls()),
        (threads, threads, threads)
    );
    assert_eq!((totals.live_objects(), totals.live_bytes()), (threads as i64, 200 * threads as i64));
    assert_eq!(reader.threads(), (threads, 0));
    assert!(reader.slots_used() <= 3);
}

#[test]
fn threads_that_find_no_slot_are_counted_exactly_together() {
    const THREADS: u64 = 6;
    let each = rounds(10_000, 50) as u64;
    let segment = Segment::attached(2);
    let all_have_claimed = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for tid in 1..=THREADS {
            let all_have_claimed = &all_have_claimed;
            scope.spawn(move || {
                let thread = segment.thread(tid);
                all_have_claimed.wait();
                for _ in 0..each {
                    thread.alloc(10);
                    thread.realloc(10, 30);
                    thread.dealloc(30);
                }
                thread.alloc(7);
                thread.retire();
            });
        }
    });
    let reader = segment.reader();
    assert_eq!(reader.threads(), (2, THREADS - 2));
    let totals = reader.totals();
    assert_eq!((totals.alloc_calls(), totals.alloc_bytes()), (THREADS * (each + 1), THREADS * (10 * each + 7)));
    assert_eq!((totals.realloc_calls(), totals.dealloc_calls()), (THREADS * each, THREADS * each));
    assert_eq!((totals.live_objects(), totals.live_bytes()), (THREADS as i64, 7 * THREADS as i64));
}

#[test]
fn a_slot_given_back_is_the_next_to_be_taken() {
    let segment = Segment::attached(3);
    let threads: Vec<_> = (1..=3).map(|tid| segment.thread(tid)).collect();
    assert!(segment.writer.claim(4).is_none());
    let middle = threads[1].slot.unwrap();
    segment.writer.retire(middle);
    assert!(std::ptr::eq(segment.writer.claim(5).unwrap(), middle));
    assert_eq!(segment.reader().threads(), (4, 1));
}

/// What holds at any moment of a process that frees nothing twice.
fn assert_nothing_freed_before_it_was_allocated(totals: &Totals) {
    assert!(totals.live_objects() >= 0, "{} live objects", totals.live_objects());
    assert!(totals.live_bytes() >= 0, "{} live bytes", totals.live_bytes());
    for class in 0..SIZE_CLASSES {
        let (allocated, freed) = totals.size_class(class);
        assert!(freed <= allocated, "size class {class}: {freed} of {allocated} freed");
    }
}

/// Reads again and again until told that it's enough, and at least once.
fn read_until(done: &AtomicBool, reader: Reader<'_>, check: impl Fn(&Totals)) {
    loop {
        let last = done.load(Relaxed);
        check(&reader.totals());
        if last {
            return;
        }
    }
}

#[test]
fn no_reader_sees_more_freed_than_allocated_while_threads_pass_objects_on() {
    const WRITERS: usize = 4;
    let objects = rounds(50_000, 60);
    let segment = Segment::attached(WRITERS);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_until(&done, segment.reader(), assert_nothing_freed_before_it_was_allocated));
        thread::scope(|scope| {
            let (to, from): (Vec<_>, Vec<_>) = (0..WRITERS).map(|_| mpsc::sync_channel::<u64>(16)).unzip();
            for (n, from) in from.into_iter().enumerate() {
                let to = to[(n + 1) % WRITERS].clone();
                scope.spawn(move || {
                    let thread = segment.thread(n as u64 + 1);
                    for object in 0..objects {
                        thread.alloc(nth_size(object));
                        to.send(nth_size(object)).unwrap();
                        // What the thread before this one has allocated; as it is, or after it has grown.
                        let bytes = from.recv().unwrap();
                        if object % 3 == 0 {
                            thread.realloc(bytes, bytes + 1000);
                            thread.dealloc(bytes + 1000);
                        } else {
                            thread.dealloc(bytes);
                        }
                    }
                    thread.retire();
                });
            }
        });
        done.store(true, Relaxed);
        reading.join().unwrap();
    });
    let totals = segment.reader().totals();
    assert_eq!((totals.live_objects(), totals.live_bytes()), (0, 0));
    assert_eq!(totals.alloc_calls(), (WRITERS * objects) as u64);
}

#[test]
fn objects_of_a_thread_that_began_during_a_reading_are_not_seen_freed_only() {
    const SLOTS: usize = rounds(32, 3);
    for _ in 0..rounds(200, 1) {
        let segment = Segment::attached(SLOTS);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| read_until(&done, segment.reader(), assert_nothing_freed_before_it_was_allocated));
            // One thread plays all: what one slot's owner allocates, the first slot's owner frees.
            let first = segment.thread(1);
            for tid in 2..=SLOTS as u64 {
                let fresh = segment.thread(tid);
                for object in 0..16 {
                    fresh.alloc(nth_size(object));
                    first.dealloc(nth_size(object));
                }
            }
            done.store(true, Relaxed);
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
fn a_phase_that_ends_while_threads_begin_has_not_more_freed_than_allocated() {
    const SLOTS: usize = 32;
    for _ in 0..30 {
        let segment = Segment::attached(SLOTS);
        thread::scope(|scope| {
            let first = segment.thread(1);
            scope.spawn(move || {
                for _ in 0..16 {
                    let phase = segment.writer.begin_phase(0, None);
                    phase.close(0, 0, None);
                    phase.end();
                }
            });
            for tid in 2..=SLOTS as u64 {
                let fresh = segment.thread(tid);
                for object in 0..64 {
                    fresh.alloc(nth_size(object));
                    first.dealloc(nth_size(object));
                }
            }
        });
        for phase in segment.reader().phases() {
            assert_nothing_freed_before_it_was_allocated(&phase.begin);
            assert_nothing_freed_before_it_was_allocated(&phase.end);
        }
    }
}
