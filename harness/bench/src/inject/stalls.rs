//! Calls of the allocator that take longer: what the [`Switch`](crate::Switch) does beside calling the allocator while a
//! stall is planted.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Stall;
use crate::switch;

/// How long, ns.
static NS: AtomicU64 = AtomicU64::new(0);
/// Bits of ln(1 − share).
static LN_OTHERS: AtomicU64 = AtomicU64::new(0);
/// How many threads have begun to draw: each has a sequence of its own.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Both without destructor and with constant initial value: an access allocates nothing, at any time in a thread's
    // life.
    /// Calls up to the next one that takes longer, itself included; 0 before the first draw.
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A stall in force: until it is dropped.
#[derive(Debug)]
pub(super) struct Armed(());

/// From now on calls take longer.
pub(super) fn arm(stall: Stall) -> Armed {
    NS.store(stall.ns, Relaxed);
    LN_OTHERS.store((-stall.share).ln_1p().to_bits(), Relaxed);
    switch::detour(true);
    Armed(())
}

impl Drop for Armed {
    fn drop(&mut self) {
        switch::detour(false);
    }
}

/// On the path of every call while a stall is in force: no allocation, no lock.
pub(crate) fn before_call() {
    let left = match LEFT.get() {
        0 => draw(),
        left => left,
    };
    if left > 1 {
        LEFT.set(left - 1);
        return;
    }
    LEFT.set(draw());
    let (begin, time) = (Instant::now(), Duration::from_nanos(NS.load(Relaxed)));
    // It spins, as a thread does that waits for a lock or clears pages: sleeping would let the scheduler in.
    while begin.elapsed() < time {
        spin_loop();
    }
}

/// How many calls from now the next one takes longer, from 1. Geometric: each call alone has the probability asked for,
/// also in threads too short to see the mean distance.
fn draw() -> u64 {
    gap(uniform(next()), f64::from_bits(LN_OTHERS.load(Relaxed)))
}

/// The distance whose tail is `u`, by inversion.
fn gap(u: f64, ln_others: f64) -> u64 {
    // A cast stops at the largest number.
    1u64.saturating_add((u.ln() / ln_others) as u64)
}

/// Above 0, up to 1.
fn uniform(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn next() -> u64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = RANDOM.get();
    if state == 0 {
        // Threads start far apart in the generator's one cycle.
        state = mixed(THREADS.fetch_add(1, Relaxed).wrapping_add(1));
    }
    state = state.wrapping_add(GAMMA);
    RANDOM.set(state);
    mixed(state)
}

fn mixed(state: u64) -> u64 {
    let x = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_the_mean_and_the_spread_of_a_geometric_law() {
        for share in [1e-4f64, 1e-3, 0.1, 0.7] {
            let ln_others = (-share).ln_1p();
            let mut state = 1u64;
            let gaps: Vec<f64> = (0..40_000)
                .map(|_| {
                    state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                    gap(uniform(mixed(state)), ln_others) as f64
                })
                .collect();
            let count = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / count;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
            let (true_mean, true_variance) = (1.0 / share, (1.0 - share) / (share * share));
            assert!((mean - true_mean).abs() < 5.0 * (true_variance / count).sqrt(), "{share}: mean {mean}");
            assert!((variance / true_variance - 1.0).abs() < 0.1, "{share}: variance {variance}");
        }
    }

    #[test]
    fn every_call_or_hardly_any_is_no_special_case() {
        for u in [uniform(0), 0.5, uniform(u64::MAX)] {
            assert_eq!(gap(u, (-1f64).ln_1p()), 1, "{u}");
            assert!(gap(u, (-1e-300f64).ln_1p()) >= 1, "{u}");
        }
        assert_eq!(gap(0.5, (-1e-300f64).ln_1p()), u64::MAX);
    }
}
