//! Which calls are timed at the sampled levels.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeSet;

use common::{Segment, rounds};
use heapgate_segment::layout::Slot;

/// Calls from here to the next sample.
fn interval(slot: &Slot, period: u64) -> u64 {
    let calls = 1 + (0..).take_while(|_| !slot.is_sampled()).count() as u64;
    slot.draw_countdown(period);
    calls
}

/// A slot past its first sample, which is its first call.
fn warm_slot(period: u64) -> &'static Slot {
    let slot = Segment::attached(1).thread(1).slot.unwrap();
    assert_eq!(interval(slot, period), 1);
    slot
}

#[test]
#[cfg_attr(miri, ignore = "a statistic of a million draws")]
fn one_call_in_a_period_is_sampled_on_average() {
    const PERIOD: u64 = 50;
    let slot = warm_slot(PERIOD);
    let calls: u64 = (0..1_000_000).map(|_| interval(slot, PERIOD)).sum();
    let mean = calls as f64 / 1e6;
    assert!((mean / PERIOD as f64 - 1.0).abs() < 0.02, "mean interval {mean}");
}

#[test]
fn intervals_take_every_length_up_to_twice_the_period() {
    const PERIOD: u64 = 4;
    let slot = warm_slot(PERIOD);
    let seen: BTreeSet<u64> = (0..rounds(1000, 200)).map(|_| interval(slot, PERIOD)).collect();
    assert_eq!(seen, (1..2 * PERIOD).collect());
}

#[test]
fn a_period_of_one_samples_every_call() {
    let slot = warm_slot(1);
    assert!((0..100).all(|_| interval(slot, 1) == 1));
}

#[test]
fn two_slots_do_not_sample_in_step() {
    let segment = Segment::attached(2);
    let intervals = |tid| {
        let slot = segment.thread(tid).slot.unwrap();
        (0..8).map(|_| interval(slot, 1000)).collect::<Vec<_>>()
    };
    assert_ne!(intervals(1), intervals(2));
}

#[test]
fn no_period_is_too_odd_to_draw_from() {
    // The period is a word that others may write.
    let slot = warm_slot(1);
    for period in [0, 1, u64::from(u32::MAX), u64::MAX / 2 + 1, u64::MAX] {
        slot.draw_countdown(period);
    }
}
