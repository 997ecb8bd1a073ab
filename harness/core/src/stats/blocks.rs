//! A running comparison whose windows depend on each other: paired in blocks that are long enough not to.
//!
//! A service's windows of a second are not independent: a request that leaves memory behind shows in all windows after it, on
//! the one side that served it. To [`Paired`] that looks like a difference that lasts. So windows are joined into blocks, and
//! the blocks are what is tested.
//!
//! **How long a block is.** From the windows so far: their integrated autocorrelation time τ = 1 + 2Σρ(k), by the initial
//! monotone sequence of sums of two neighbouring ρ (Geyer 1992, "Practical Markov chain Monte Carlo"), with one standard error
//! added to the first, and spikes clipped; and a block of the least power of two that is 3(τ − 1) windows or more. Independent windows are blocks
//! of their own. It is asked for when the windows have doubled, and blocks only grow; then the test starts anew on all windows.
//! A series that wanders as far as it was watched has τ of a good part of its length, so there are never blocks enough to
//! decide anything, which is right.
//!
//! The promise of [`Paired`] holds for blocks that are exchangeable between the sides. That the blocks' length is chosen from
//! the windows themselves makes it one that was simulated, not one that was proved: see the tests here, with dependence of none
//! to a random walk.

use super::sequential::{Interval, Paired};

/// Windows before anything is tested: fewer say nothing of how they depend on each other.
pub const FEWEST_WINDOWS: usize = 32;

/// Length of a block in units of τ − 1. With 2 and windows that keep 0.8 of the one before, 1.2% of simulated comparisons of
/// nothing fired at a level of 1%; with 4, 0.0%, and differences took twice as long.
const TIMES_TAU: f64 = 3.0;

/// Beyond so many median deviations a window is a spike: of a normal distribution, 1 in 140 is.
const SPIKE: f64 = 4.0;

/// Windows that are looked at for τ, the last ones: more would only take time.
const MOST_WINDOWS: usize = 8192;

/// Differences of windows, tested in blocks.
#[derive(Debug, Clone, Default)]
pub struct Blocked {
    windows: Vec<f64>,
    /// Windows in a block; 0 before the first ones are enough.
    block: usize,
    /// How many windows are in the blocks that were tested.
    tested: usize,
    paired: Paired,
}

impl Blocked {
    /// Takes the difference of the next window. One that is not finite says nothing and is passed over.
    pub fn push(&mut self, difference: f64) {
        if !difference.is_finite() {
            return;
        }
        self.windows.push(difference);
        let count = self.windows.len();
        if count >= FEWEST_WINDOWS && count.is_power_of_two() {
            let needed = block_of(&self.windows[count.saturating_sub(MOST_WINDOWS)..]);
            if needed > self.block {
                (self.block, self.tested, self.paired) = (needed, 0, Paired::default());
            }
        }
        while self.block > 0 && self.tested + self.block <= count {
            let block = &self.windows[self.tested..self.tested + self.block];
            self.paired.push(block.iter().sum::<f64>() / self.block as f64);
            self.tested += self.block;
        }
    }

    /// Windows taken.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Windows in a block now; 0 while they are too few to say.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// The mean difference of all windows; `None` before there is one.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (!self.windows.is_empty()).then(|| self.windows.iter().sum::<f64>() / self.windows.len() as f64)
    }

    /// The smallest level at which "no difference" was rejected so far, at most 1.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        self.paired.p_value()
    }

    /// The differences that the windows leave possible: see [`Paired::interval`].
    #[must_use]
    pub fn interval(&self, alpha: f64) -> Option<Interval> {
        self.paired.interval(alpha)
    }
}

/// The length of blocks that hardly depend on each other.
fn block_of(windows: &[f64]) -> usize {
    let needed = TIMES_TAU * (correlation_time(&clipped(windows)) - 1.0);
    (needed.ceil() as usize).max(1).next_power_of_two()
}

/// The windows without their spikes, which stand alone and would hide how the others depend on each other.
fn clipped(windows: &[f64]) -> Vec<f64> {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let middle = median(windows.to_vec());
    let spread = median(windows.iter().map(|window| (window - middle).abs()).collect());
    // Where more than half are the same, there is nothing that they could be beside.
    let most = if spread > 0.0 { SPIKE * spread } else { f64::INFINITY };
    windows.iter().map(|window| window.clamp(middle - most, middle + most)).collect()
}

/// The integrated autocorrelation time τ, in windows; at least 1.
fn correlation_time(windows: &[f64]) -> f64 {
    let count = windows.len() as f64;
    let mean = windows.iter().sum::<f64>() / count;
    let covariance = |lag: usize| -> f64 {
        windows.iter().zip(&windows[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / count
    };
    let variance = covariance(0);
    if variance <= 0.0 {
        return 1.0;
    }
    let correlation = |lag: usize| match lag {
        0 => 1.0,
        // Few windows say little: one standard error on the side of caution.
        1 => covariance(1) / variance + 1.0 / count.sqrt(),
        _ => covariance(lag) / variance,
    };
    let pairs = (0..windows.len() / 2).step_by(2).map(|lag| correlation(lag) + correlation(lag + 1));
    let monotone = pairs.scan(f64::INFINITY, |last, pair| {
        *last = pair.min(*last);
        (*last > 0.0).then_some(*last)
    });
    f64::max(2.0 * monotone.sum::<f64>() - 1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    /// What is promised of one comparison.
    const ALPHA: f64 = 0.01;
    const WINDOWS: usize = 1_000;

    /// A series in which each window keeps `memory` of the one before, of a standard deviation of 1 (but for a random walk).
    fn series(random: &mut SplitMix64, memory: f64) -> Vec<f64> {
        let spread = if memory < 1.0 { (1.0 - memory * memory).sqrt() } else { 1.0 };
        let mut last = random.normal();
        let next = |_| {
            last = memory * last + spread * random.normal();
            last
        };
        (0..WINDOWS).map(next).collect()
    }

    /// After how many windows of `series` plus `shift` a difference is found, if it is.
    fn found(series: &[f64], shift: f64) -> Option<usize> {
        let mut blocked = Blocked::default();
        (1..).zip(series).find_map(|(window, value)| {
            blocked.push(value + shift);
            (blocked.p_value() < ALPHA).then_some(window)
        })
    }

    fn rate(memory: f64, runs: usize) -> f64 {
        let mut random = SplitMix64::new(29);
        (0..runs).filter(|_| found(&series(&mut random, memory), 0.0).is_some()).count() as f64 / runs as f64
    }

    #[test]
    fn windows_that_depend_on_each_other_fire_no_more_often_than_promised() {
        const RUNS: usize = 200;
        let bound = ALPHA + 3.0 * (ALPHA / RUNS as f64).sqrt();
        for memory in [0.0, 0.5, 0.8, 0.95, 1.0] {
            let fired = rate(memory, RUNS);
            assert!(fired <= bound, "{fired} of the runs with a memory of {memory}");
        }
    }

    #[test]
    fn without_blocks_they_would() {
        let mut random = SplitMix64::new(31);
        let fires = |series: &[f64]| {
            let mut paired = Paired::default();
            series.iter().any(|&value| {
                paired.push(value);
                paired.p_value() < ALPHA
            })
        };
        let fired = (0..100).filter(|_| fires(&series(&mut random, 0.9))).count();
        assert!(fired > 30, "{fired} of 100");
    }

    #[test]
    fn a_difference_is_found_the_later_the_more_windows_depend_on_each_other() {
        let mut random = SplitMix64::new(37);
        let mut median = |memory: f64| {
            let mut windows: Vec<usize> =
                (0..40).map(|_| found(&series(&mut random, memory), 1.0).unwrap_or(usize::MAX)).collect();
            windows.sort_unstable();
            windows[20]
        };
        let (independent, dependent) = (median(0.0), median(0.8));
        assert!(independent <= 100 && dependent <= WINDOWS, "{independent}, {dependent}");
        assert!(independent < dependent);
        assert_eq!(median(1.0), usize::MAX, "of a random walk nothing can be said");
    }

    #[test]
    fn nothing_follows_from_nothing() {
        let mut blocked = Blocked::default();
        (0..200).for_each(|_| blocked.push(0.0));
        assert_eq!((blocked.p_value(), blocked.interval(ALPHA), blocked.block()), (1.0, None, 1));
        blocked.push(f64::NAN);
        assert_eq!(blocked.windows(), 200);
    }
}
