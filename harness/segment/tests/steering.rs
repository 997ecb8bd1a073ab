//! Attaching, and control from outside.
#![cfg(not(loom))]

mod common;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use common::{Segment, attachment};
use heapgate_segment::clock::ClockKind;
use heapgate_segment::layout::{InterruptedSplit, Level};

#[test]
fn only_one_process_attaches() {
    let segment = Segment::new(1);
    let attached: usize = thread::scope(|scope| {
        let tries: Vec<_> = (1..=4).map(|pid| scope.spawn(move || segment.writer.attach(attachment(pid)))).collect();
        tries.into_iter().map(|attached| usize::from(attached.join().unwrap())).sum()
    });
    assert_eq!(attached, 1);
    assert!(segment.reader().pid().is_some_and(|pid| (1..=4).contains(&pid)));
}

#[test]
fn what_the_process_says_of_itself_is_read_back() {
    let segment = Segment::new(1);
    assert_eq!(segment.reader().clock(), ClockKind::Unknown);
    assert_eq!(segment.reader().interrupted_split(), InterruptedSplit::Unknown);
    assert!(segment.writer.attach(attachment(77)));
    let reader = segment.reader();
    assert_eq!((reader.pid(), reader.clock()), (Some(77), ClockKind::Monotonic));
    assert_eq!(reader.interrupted_split(), InterruptedSplit::Available);
    assert_eq!(reader.ticks_per_second(None), Some(1e9));
}

#[test]
fn a_supervised_process_holds_still_until_it_is_released() {
    const STOPS: u32 = 5;
    let segment = Segment::attached(1);
    let control = segment.control();
    control.supervise();
    let steps = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for step in 1..=STOPS {
                steps.store(step, Relaxed);
                segment.writer.hold();
            }
        });
        for turn in 1..=STOPS {
            while control.held() != turn {
                control.wait_held(turn - 1, Duration::from_secs(10));
            }
            assert_eq!(steps.load(Relaxed), turn, "what was written before the stop is seen after it");
            assert_ne!(control.held(), control.released());
            thread::yield_now();
            assert_eq!(steps.load(Relaxed), turn, "it holds still");
            control.release(turn);
        }
    });
    assert_eq!(control.held(), control.released());
}

#[test]
fn a_process_that_nobody_supervises_never_stops() {
    let segment = Segment::attached(1);
    segment.writer.hold();
    assert_eq!(segment.control().held(), 0);
}

#[test]
fn a_release_that_comes_first_is_not_lost() {
    let segment = Segment::attached(1);
    segment.control().supervise();
    segment.control().release(1);
    segment.writer.hold();
    assert_eq!(segment.control().held(), 1);
}

#[test]
fn waiting_for_a_stop_ends_with_the_time() {
    let segment = Segment::attached(1);
    segment.control().wait_held(0, Duration::from_millis(5));
    assert_eq!(segment.control().held(), 0);
}

#[test]
fn every_level_is_read_back() {
    let segment = Segment::attached(1);
    for level in Level::ALL {
        segment.control().set_level(level);
        assert_eq!(segment.reader().level(), level);
        assert_eq!(Level::from_word(segment.writer.level_word().load(Relaxed)), level);
    }
}

#[test]
fn a_process_that_was_not_counted_for_a_time_is_marked() {
    for level in Level::ALL {
        let segment = Segment::attached(1);
        segment.control().set_level(level);
        segment.control().set_level(Level::Exact);
        assert_eq!(segment.reader().was_off(), level == Level::Off, "{}", level.name());
    }
}

#[test]
fn a_process_that_began_uncounted_is_marked_when_counting_begins() {
    let segment = Segment::new(1);
    segment.control().set_level(Level::Off);
    assert!(!segment.reader().was_off(), "nothing has been missed before there is a process");
    assert!(segment.writer.attach(attachment(1)));
    segment.control().set_level(Level::Count);
    assert!(segment.reader().was_off());
}
