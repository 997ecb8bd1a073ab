//! A watched stretch of one thread's work is counted exactly, whatever other threads do meanwhile.

use std::alloc::System;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use heapgate_alloc::{Telemetry, ThreadWatch, Watched};

#[global_allocator]
static ALLOCATOR: Telemetry<System> = Telemetry::new(System);

fn watched(work: impl FnOnce()) -> Watched {
    let watch = ThreadWatch::begin().expect("the allocator is installed");
    work();
    watch.end()
}

/// Objects of `bytes`, which the watched code frees or not.
fn objects(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::with_capacity(count);
    all.extend((0..count).map(|_| Vec::with_capacity(bytes)));
    black_box(all)
}

#[test]
fn each_call_is_counted_by_its_kind() {
    let seen = watched(|| {
        let mut text: Vec<u8> = black_box(Vec::with_capacity(100));
        text.reserve_exact(200);
        drop(black_box(vec![0u8; 50]));
    });
    let expected = Watched {
        allocations: 3,
        reallocations: 1,
        deallocations: 2,
        allocated_bytes: 350,
        peak_live_objects: 2,
        peak_live_bytes: 250,
        left_objects: 0,
        left_bytes: 0,
    };
    assert_eq!(seen, expected);
}

#[test]
fn nothing_is_nothing() {
    let seen = watched(|| {
        black_box(1 + black_box(1));
    });
    assert_eq!((seen.allocations, seen.deallocations, seen.peak_live_bytes), (0, 0, 0));
}

#[test]
fn a_peak_far_beyond_a_batch_is_exact() {
    // A batch is 64 objects or 64 KiB: the highest point lies where many have come and gone since.
    for (count, bytes) in [(1, 1), (63, 10), (64, 10), (65, 10), (1000, 10), (10, 100_000), (1000, 1000)] {
        let seen = watched(|| {
            drop(objects(count, bytes));
            for _ in 0..500 {
                drop(objects(count.div_ceil(3), bytes));
            }
        });
        let list = (count * size_of::<Vec<u8>>()) as u64;
        assert_eq!(seen.peak_live_objects, count as u64 + 1, "{count} objects of {bytes}");
        assert_eq!(seen.peak_live_bytes, (count * bytes) as u64 + list, "{count} objects of {bytes}");
        assert_eq!((seen.left_objects, seen.left_bytes), (0, 0));
    }
}

#[test]
fn what_was_there_before_and_is_freed_makes_room() {
    let before = objects(200, 1000);
    let seen = watched(|| {
        drop(before);
        drop(objects(100, 1000));
    });
    assert_eq!((seen.peak_live_objects, seen.peak_live_bytes), (0, 0));
    assert_eq!((seen.left_objects, seen.allocations), (-201, 101));
}

#[test]
fn a_watch_within_a_watch_belongs_to_both() {
    let outer = ThreadWatch::begin().expect("installed");
    let kept = objects(10, 10);
    let inner = ThreadWatch::begin().expect("installed");
    drop(objects(300, 10));
    let inner = inner.end();
    drop(objects(5, 10));
    let outer = outer.end();
    assert_eq!((inner.peak_live_objects, inner.left_objects), (301, 0));
    assert_eq!((outer.peak_live_objects, outer.left_objects), (11 + 301, 11));
    assert_eq!((outer.allocations, outer.deallocations), (11 + 301 + 6, 301 + 6));
    drop(kept);
}

#[test]
fn a_peak_before_an_inner_watch_is_kept() {
    let outer = ThreadWatch::begin().expect("installed");
    drop(objects(50, 10));
    watched(|| drop(objects(2, 10)));
    assert_eq!(outer.end().peak_live_objects, 51);
}

#[test]
fn an_inner_watch_does_not_count_itself() {
    let outer = ThreadWatch::begin().expect("installed");
    let at_the_peak = watched(|| ());
    let outer = outer.end();
    assert_eq!((outer.allocations, outer.deallocations, outer.allocated_bytes), (0, 0, 0));
    assert_eq!((outer.peak_live_objects, outer.peak_live_bytes), (0, 0));
    assert_eq!(at_the_peak.allocations, 0);
}

#[test]
fn a_panic_leaves_the_watches_around_it_right() {
    let outer = ThreadWatch::begin().expect("installed");
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _watch = ThreadWatch::begin().expect("installed");
        let held = objects(400, 10);
        // Without the hook, which would print, and allocate for a backtrace.
        std::panic::resume_unwind(Box::new(held.len()));
    }));
    assert!(result.is_err());
    let during = watched(|| drop(objects(1, 10)));
    assert_eq!(during.peak_live_objects, 2);
    let outer = outer.end();
    assert!((401..410).contains(&outer.peak_live_objects), "{outer:?}");
}

#[test]
fn other_threads_are_not_counted() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    drop(objects(100, 100));
                }
            });
        }
        for _ in 0..200 {
            let seen = watched(|| drop(objects(100, 100)));
            assert_eq!((seen.allocations, seen.deallocations, seen.peak_live_objects), (101, 101, 101));
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn every_thread_can_watch_itself() {
    std::thread::scope(|scope| {
        for count in 1..40 {
            scope.spawn(move || assert_eq!(watched(|| drop(objects(count, 8))).allocations, count as u64 + 1));
        }
    });
}
