//! Whether the values of one side, in the order in which they ran, are independent draws of one thing. Every test and
//! interval of the gate takes them for that; where they are not, its p-values promise more than they hold.
//!
//! Three questions, each with its own test:
//! - drift: Mann and Kendall's test for a trend, of [`super::mann_kendall`];
//! - autocorrelation: the rank version of von Neumann's ratio (Bartels 1982, "The rank version of von Neumann's ratio
//!   test for randomness");
//! - two modes: by how much two groups explain the spread (Engelman and Hartigan 1969, "Percentage points of a test for
//!   clusters").
//!
//! The first two look at ranks only, and a mode takes three values, so one stray value can't fire any of
//! them. Power is small where values are few: six values can't show a drift at [`SIGNIFICANCE`] at all, and seven must all
//! be in order.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use statrs::distribution::{Beta, ContinuousCDF};

use super::mann_kendall::trend;
use super::random::SplitMix64;
use super::ranks::mid_ranks;

/// The p-value below which dependence is reported. It is asked of every metric of every cell, some hundreds a run: at
/// 1 in 1,000 most runs on a sound machine report none.
pub const SIGNIFICANCE: f64 = 1e-3;

/// Fewer values than this have too few orders for any of the tests: of five, a trend has a p-value of 1 in 60.
pub const FEWEST: usize = 6;

/// How [`SIGNIFICANCE`] is divided among the three tests, so that it holds for all of them together (a weighted
/// Bonferroni correction). Drift has the largest share, since it is the most frequent and the most harmful: it is what
/// lets seven values in perfect order fire.
const SHARE_OF_DRIFT: f64 = 0.5;
const SHARE_OF_AUTOCORRELATION: f64 = 0.25;
const SHARE_OF_TWO_MODES: f64 = 0.25;

/// Up to this many values all their orders are tried: 40,320.
const ALL_ORDERS: usize = 8;

/// A group of fewer is stray values, not a mode.
const SMALLEST_MODE: usize = 3;

/// Simulated samples of the test for two modes; its smallest p-value is 1 in 20,000.
const SIMULATED: u32 = 20_000;

/// The simulation ends early once this many simulated samples were as extreme: the p-value is no longer of interest
/// (Besag and Clifford 1991, "Sequential Monte Carlo p-values").
const ENOUGH_AS_EXTREME: u32 = 10;

/// Larger samples are thinned to this many of their quantiles, which shows two modes as well and bounds the cost.
const MODES_SEEN_IN: usize = 100;

/// Same values, same answer.
const SEED: u64 = 0x5e71a1;

/// How values depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They grow or fall over the run.
    Drift {
        /// Whether they grow.
        grows: bool,
    },
    /// Neighbours resemble each other.
    Autocorrelation,
    /// They fall into two groups.
    TwoModes,
}

/// Dependence that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dependence {
    /// Which.
    pub kind: Kind,
    /// The probability of independent values looking as dependent, by any of the three tests.
    pub p_value: f64,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drift { grows: true } => "values grow over the run",
            Self::Drift { grows: false } => "values fall over the run",
            Self::Autocorrelation => "each value resembles the one before it",
            Self::TwoModes => "values fall into two groups",
        })
    }
}

/// The dependence that `values`, in the order in which they ran, show at [`SIGNIFICANCE`]; `None` where they show none
/// or are fewer than [`FEWEST`]. Of several kinds a drift is named first, then autocorrelation: a drift makes
/// neighbours alike and can make two groups, not the other way round. Values must not be NaN.
///
/// ```
/// use heapgate_core::stats::serial::{Kind, dependence};
/// let leaking = [10.0, 10.4, 10.9, 11.1, 11.6, 12.2, 12.5, 13.1];
/// assert_eq!(dependence(&leaking).unwrap().kind, Kind::Drift { grows: true });
/// assert_eq!(dependence(&[10.0, 10.4, 9.9, 10.1, 10.6, 10.2, 9.5, 10.3]), None);
/// ```
#[must_use]
pub fn dependence(values: &[f64]) -> Option<Dependence> {
    if values.len() < FEWEST {
        return None;
    }
    let trend = trend(values);
    let found = |kind, p: f64, share: f64| {
        let p_value = (p / share).min(1.0);
        (p_value < SIGNIFICANCE).then_some(Dependence { kind, p_value })
    };
    found(Kind::Drift { grows: trend.score > 0 }, trend.p_either, SHARE_OF_DRIFT)
        .or_else(|| found(Kind::Autocorrelation, autocorrelation(values), SHARE_OF_AUTOCORRELATION))
        .or_else(|| found(Kind::TwoModes, two_modes(values), SHARE_OF_TWO_MODES))
}

/// The p-value of Bartels' ratio, one-sided: only neighbours that are *alike* make a sample say less than its size;
/// values that alternate make tests careful, not careless. Exact up to eight values, also with ties; beyond it
/// Bartels' beta approximation. It is within 6 % of the exact p-value at 0.05 and 0.01; at 1 in 4,000 it overstates by a
/// third for nine values (see the tests) and understates by a seventh for 20 (in 400,000 simulated orders).
#[must_use]
pub fn autocorrelation(values: &[f64]) -> f64 {
    let n = values.len();
    // Twice the ranks are whole numbers.
    let mut ranks: Vec<i64> = mid_ranks(values).iter().map(|r| (2.0 * r) as i64).collect();
    let seen = squared_steps(&ranks);
    if n <= ALL_ORDERS {
        let (mut as_extreme, mut all) = (0u32, 0u32);
        for_each_order(&mut ranks, &mut |order| {
            all += 1;
            as_extreme += u32::from(squared_steps(order) <= seen);
        });
        return f64::from(as_extreme) / f64::from(all);
    }
    let mean = n as f64 + 1.0;
    let spread: f64 = ranks.iter().map(|&r| (r as f64 - mean).powi(2)).sum();
    if spread == 0.0 {
        return 1.0;
    }
    beta_tail(n, seen as f64 / spread)
}

/// Bartels' approximation: a quarter of the ratio has a symmetric beta distribution of the same variance.
fn beta_tail(n: usize, ratio: f64) -> f64 {
    let n = n as f64;
    let variance = 4.0 * (n - 2.0) * (5.0 * n * n - 2.0 * n - 9.0) / (5.0 * n * (n + 1.0) * (n - 1.0) * (n - 1.0));
    let shape = (4.0 / variance - 1.0) / 2.0;
    Beta::new(shape, shape).map_or(1.0, |beta| beta.cdf((ratio / 4.0).min(1.0)))
}

fn squared_steps(ranks: &[i64]) -> i64 {
    ranks.windows(2).map(|pair| (pair[1] - pair[0]).pow(2)).sum()
}

/// Every order once (Heap 1963).
fn for_each_order<T>(values: &mut [T], visit: &mut impl FnMut(&[T])) {
    let mut turn = vec![0; values.len()];
    visit(values);
    let mut i = 1;
    while i < values.len() {
        if turn[i] < i {
            values.swap(if i % 2 == 0 { 0 } else { turn[i] }, i);
            visit(values);
            turn[i] += 1;
            i = 1;
        } else {
            turn[i] = 0;
            i += 1;
        }
    }
}

/// The p-value of two groups: how often a sample of a uniform distribution splits as well. Uniform, because of all
/// distributions with one mode it splits best but for those with a long tail (Hartigan and Hartigan 1985 take it for the
/// same reason); on 20 values of an exponential distribution the test still fires in fewer than 1 of 100 samples.
#[must_use]
pub fn two_modes(values: &[f64]) -> f64 {
    if values.len() < 2 * SMALLEST_MODE {
        return 1.0;
    }
    let sample = super::sample::evenly(&spread_ties(values), MODES_SEEN_IN);
    let seen = split(&sample);
    if seen <= 0.0 {
        return 1.0;
    }
    let mut as_extreme = 0;
    for round in 1..=SIMULATED {
        as_extreme += u32::from(simulated_split(sample.len(), round as usize - 1) >= seen);
        if as_extreme == ENOUGH_AS_EXTREME {
            return f64::from(as_extreme) / f64::from(round);
        }
    }
    f64::from(as_extreme + 1) / f64::from(SIMULATED + 1)
}

/// How well the simulated sample of this number, of `n` values, splits. The same for all values that are tested, so each is
/// made once: at most [`SIMULATED`] for each of [`MODES_SEEN_IN`] sizes, 16 MB.
fn simulated_split(n: usize, number: usize) -> f64 {
    thread_local! {
        static MADE: RefCell<HashMap<usize, (SplitMix64, Vec<f64>)>> = RefCell::default();
    }
    MADE.with_borrow_mut(|made| {
        let (random, splits) = made.entry(n).or_insert_with(|| (SplitMix64::new(SEED), Vec::new()));
        while splits.len() <= number {
            let mut sample: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
            sample.sort_unstable_by(f64::total_cmp);
            splits.push(split(&sample));
        }
        splits[number]
    })
}

/// The best split of sorted values in two groups: the squares between the groups over those within.
fn split(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    let mean = sorted.iter().sum::<f64>() / n as f64;
    let total: f64 = sorted.iter().map(|v| (v - mean).powi(2)).sum();
    let mut below = 0.0;
    let mut most_between = 0.0f64;
    for (i, v) in sorted.iter().enumerate().take(n - SMALLEST_MODE) {
        below += v - mean;
        let size = i + 1;
        if size >= SMALLEST_MODE && sorted[size] > *v {
            most_between = most_between.max(below * below * n as f64 / (size * (n - size)) as f64);
        }
    }
    // What rounding leaves of nothing is nothing.
    let within = total - most_between;
    match () {
        () if most_between == 0.0 => 0.0,
        () if within <= total * f64::EPSILON * n as f64 => f64::INFINITY,
        () => most_between / within,
    }
}

/// Sorted, with equal values spread over the smallest step between different ones: values in coarse units are no
/// modes. Where there are but two different values, nothing tells the unit from the distance of two modes, and they
/// stay.
fn spread_ties(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let step = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > 0.0).fold(f64::INFINITY, f64::min);
    let groups: Vec<&[f64]> = sorted.chunk_by(|a, b| a == b).collect();
    if groups.len() < 3 {
        return sorted;
    }
    groups
        .iter()
        .flat_map(|group| {
            let size = group.len() as f64;
            group.iter().enumerate().map(move |(i, v)| v + step * ((i as f64 + 0.5) / size - 0.5))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(random: &mut SplitMix64, n: usize) -> Vec<f64> {
        (0..n).map(|_| 100.0 + random.normal()).collect()
    }

    #[test]
    fn a_leak_is_a_drift_and_its_direction_is_said() {
        let grows: Vec<f64> = (0..7).map(f64::from).collect();
        let falls: Vec<f64> = grows.iter().rev().copied().collect();
        assert_eq!(dependence(&grows).unwrap().kind.to_string(), "values grow over the run");
        assert_eq!(dependence(&falls).unwrap().kind.to_string(), "values fall over the run");
        assert_eq!(dependence(&grows[..6]), None, "1 in 360 orders of six are as sorted");
    }

    #[test]
    fn a_drift_in_noise_is_found_in_forty_values() {
        let mut random = SplitMix64::new(3);
        let drifting: Vec<f64> = (0..40).map(|i| f64::from(i) * 0.1 + random.normal()).collect();
        assert_eq!(dependence(&drifting).unwrap().kind, Kind::Drift { grows: true });
    }

    #[test]
    fn a_slow_wave_is_autocorrelated_and_no_drift() {
        let mut random = SplitMix64::new(4);
        let wave: Vec<f64> =
            (0..40).map(|i| (std::f64::consts::TAU * f64::from(i) / 20.0).cos() + 0.2 * random.normal()).collect();
        assert_eq!(dependence(&wave).unwrap().kind, Kind::Autocorrelation);
    }

    #[test]
    fn two_huge_page_states_are_two_modes() {
        let values = [100.1, 112.2, 100.3, 112.0, 99.9, 112.3, 112.1, 100.2, 99.8, 112.4];
        assert_eq!(dependence(&values).unwrap().kind, Kind::TwoModes);
        let two_values = [1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0];
        assert_eq!(dependence(&two_values).unwrap().kind, Kind::TwoModes);
    }

    #[test]
    fn values_in_coarse_units_and_stray_values_are_no_modes() {
        let pages = [3.0, 4.0, 5.0, 4.0, 4.0, 3.0, 5.0, 4.0, 5.0, 3.0, 4.0, 4.0];
        assert_eq!(dependence(&pages), None);
        let stray = [1.0, 1.1, 0.9, 9.0, 1.05, 0.95, 9.1, 1.02, 0.97, 1.03];
        assert_eq!(dependence(&stray), None);
        assert_eq!(dependence(&[5.0; 20]), None);
        assert_eq!(dependence(&[5.0; 6]), None);
    }

    /// Exact for nine values by trying all 362,880 orders, once, against the approximation.
    #[test]
    fn the_beta_approximation_is_near_the_exact_tail_where_it_takes_over() {
        let mut ranks: Vec<i64> = (1..=9).map(|r| 2 * r).collect();
        let spread: i64 = ranks.iter().map(|r| (r - 10).pow(2)).sum();
        let mut sums = Vec::with_capacity(362_880);
        for_each_order(&mut ranks, &mut |order| sums.push(squared_steps(order)));
        assert_eq!(sums.len(), 362_880);
        sums.sort_unstable();
        for (one_in, most) in [(4_000, 1.5), (1_000, 1.3), (100, 1.06), (20, 1.06)] {
            let at = sums[362_880 / one_in];
            let exact = sums.partition_point(|&s| s <= at) as f64 / 362_880.0;
            let factor = beta_tail(9, at as f64 / spread as f64) / exact;
            assert!((0.94..most).contains(&factor), "1 in {one_in}: {factor}");
        }
    }

    /// 4,000 samples of ten normal values: 4 reports are expected of 1 in 1,000 at most; 14 would come up in fewer than
    /// 1 in 10,000 runs of this test with other seeds.
    #[test]
    fn independent_values_are_left_alone() {
        let mut random = SplitMix64::new(5);
        let reported = (0..4_000).filter(|_| dependence(&normal(&mut random, 10)).is_some()).count();
        assert!(reported < 14, "{reported}");
    }

    /// 1 % is 20 of 2,000; the 99.99 % quantile of that is 38, and the rate here is far lower.
    #[test]
    fn two_modes_are_not_seen_in_ten_normal_or_skewed_values() {
        let mut random = SplitMix64::new(6);
        let level = SIGNIFICANCE * SHARE_OF_TWO_MODES;
        let fired = (0..2_000).filter(|_| two_modes(&normal(&mut random, 10)) < level).count();
        assert!(fired <= 4, "{fired}");
        let mut skewed = || -> Vec<f64> { (0..20).map(|_| -(1.0 - random.uniform()).ln()).collect() };
        let fired = (0..1_000).filter(|_| two_modes(&skewed()) < level).count();
        assert!(fired <= 10, "{fired}");
    }
}
