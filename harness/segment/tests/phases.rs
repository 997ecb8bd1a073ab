//! Marks in a process's life, and what was counted between them.
#![cfg(not(loom))]

mod common;

use common::Segment;
use heapgate_segment::layout::{Gauge, MAX_PHASES, Operation};

#[test]
fn a_phase_holds_what_was_counted_between_its_marks() {
    let segment = Segment::attached(2);
    let (thread, other) = (segment.thread(1), segment.thread(2));
    thread.alloc(10);
    let phase = segment.writer.begin_phase(3, thread.slot);
    thread.alloc(20);
    other.alloc_zeroed(30);
    thread.dealloc(10);
    other.record(Operation::Alloc, 5, true, 1);
    phase.close(42, 0xFEED, thread.slot);
    thread.alloc(1000);
    phase.end();
    let phases = segment.reader().phases();
    let [phase] = &phases[..] else { panic!("{} phases", phases.len()) };
    assert_eq!((phase.kind, phase.units, phase.checksum, phase.ended), (3, 42, 0xFEED, true));
    assert_eq!((phase.begin.live_bytes(), phase.end.live_bytes()), (10, 50));
    let within = phase.end.since(&phase.begin);
    assert_eq!((within.alloc_calls(), within.alloc_bytes(), within.alloc_zeroed_bytes()), (1, 20, 30));
    assert_eq!((within.dealloc_calls(), within.live_objects()), (1, 1));
    assert_eq!(within.interrupted(Operation::Alloc).nth(5), Some(1));
}

#[test]
fn a_difference_keeps_counts_that_share_a_word_apart() {
    let segment = Segment::attached(1);
    let thread = segment.thread(1);
    let low_and_high = |low, high| {
        thread.record(Operation::Realloc, 8, true, low);
        thread.record(Operation::Realloc, 9, true, high);
    };
    low_and_high(1 << 31, 7);
    let earlier = segment.reader().totals();
    low_and_high((1 << 31) - 1, 1);
    let within = segment.reader().totals().since(&earlier);
    let counts: Vec<_> = within.interrupted(Operation::Realloc).skip(8).take(2).collect();
    assert_eq!(counts, [(1 << 31) - 1, 1]);
}

#[test]
#[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
fn an_open_phase_is_read_as_of_now() {
    let segment = Segment::attached(1);
    let thread = segment.thread(1);
    let reader = segment.reader();
    let phase = segment.writer.begin_phase(0, thread.slot);
    for live in 1..=3 {
        thread.alloc(8);
        let reading = &reader.phases()[0];
        assert_eq!((reading.ended, reading.end_at, reading.end.live_objects()), (false, None, live));
        assert_eq!((reading.peaks.objects, reading.peaks.bytes), (live, 8 * live));
    }
    phase.close(0, 0, thread.slot);
    // What putting in figures takes is not the phase's, whoever looks meanwhile.
    thread.alloc(8);
    let closed = &reader.phases()[0];
    assert_eq!((closed.ended, closed.end_at, closed.end.live_objects(), closed.peaks.objects), (false, None, 3, 3));
    phase.end();
    let ended = &reader.phases()[0];
    assert_eq!((ended.ended, ended.end.live_objects(), ended.peaks.objects), (true, 3, 3));
}

#[test]
#[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
fn an_ended_phase_does_not_change_any_more() {
    let segment = Segment::attached(1);
    let thread = segment.thread(1);
    let phase = segment.writer.begin_phase(0, thread.slot);
    thread.alloc(1);
    phase.close(1, 1, thread.slot);
    phase.end();
    (0..1000).for_each(|_| thread.alloc(1_000_000));
    let phase = &segment.reader().phases()[0];
    assert_eq!((phase.end.live_objects(), phase.peaks.objects, phase.peaks.bytes), (1, 1, 1));
}

#[test]
fn a_phase_has_the_gauges_that_were_set_and_no_others() {
    let segment = Segment::attached(1);
    let phase = segment.writer.begin_phase(0, None);
    phase.set_gauge(Gauge::JemallocAllocated, 0);
    phase.set_gauge(Gauge::RegionEscapedObjects, u64::MAX);
    phase.close(0, 0, None);
    phase.set_gauge(Gauge::JemallocRetained, 5);
    phase.end();
    let phase = &segment.reader().phases()[0];
    assert_eq!(phase.gauge(Gauge::JemallocAllocated), Some(0));
    assert_eq!(phase.gauge(Gauge::RegionEscapedObjects), Some(u64::MAX));
    assert_eq!(phase.gauge(Gauge::JemallocRetained), Some(5));
    assert_eq!(phase.gauge(Gauge::RegionScopes), None);
}

#[test]
#[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
fn phases_follow_each_other_in_time() {
    let segment = Segment::attached(1);
    for kind in 0..4 {
        let phase = segment.writer.begin_phase(kind, None);
        phase.close(0, 0, None);
        phase.end();
    }
    let (reader, mut last) = (segment.reader(), segment.reader().attached_at().ns);
    assert!(last > 0);
    for (kind, phase) in reader.phases().iter().enumerate() {
        assert_eq!(phase.kind, kind as u64);
        let end = phase.end_at.unwrap();
        assert!(last <= phase.begin_at.ns && phase.begin_at.ns <= end.ns);
        last = end.ns;
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
#[should_panic(expected = "phase 16 of 16")]
fn one_phase_too_many_is_refused() {
    let segment = Segment::attached(1);
    for kind in 0..=MAX_PHASES as u64 {
        segment.writer.begin_phase(kind, None).end();
    }
}
