//! Two small samples compared: by which factor one exceeds the other, with an interval that assumes nothing of their
//! distribution.
//!
//! Hodges and Lehmann's estimate for a change of scale: the median of all ratios between a value of one sample and a
//! value of the other; its interval follows from the Mann–Whitney test (Hollander, Wolfe and Chicken, "Nonparametric
//! Statistical Methods", chapter 4.2–4.3). The test's distribution is computed exactly, so that five repetitions are
//! not taken for fifty.

use statrs::distribution::{ContinuousCDF, Normal};

use super::sample;

/// The factor between two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// The estimate; infinite from 0.
    pub estimate: f64,
    /// Where the true factor is, with probability `confidence`; absent where the samples are too small to say.
    pub interval: Option<Interval>,
}

/// An interval and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Its true confidence: at least what was asked for.
    pub confidence: f64,
}

/// Up to this product of sizes the distribution of the statistic is counted out; beyond, the normal approximation is right
/// to a few thousandths of itself, and counting takes seconds, then hours.
pub(super) const LARGEST_EXACT: usize = 4_000;

/// Of larger samples so many values stand for all, evenly spaced in order: a quarter of a million ratios tell the median and
/// the ends of the interval to a few thousandths of the spread, and are sorted at once.
const MOST_VALUES: usize = 500;

/// By which factor `other` exceeds `base`, with an interval of at least `confidence` (0 to 1). Values must not be
/// negative nor NaN. Samples without any spread are taken as exact: their factor is known.
///
/// ```
/// use heapgate_core::stats::two_samples::factor;
/// let halved = factor(&[10.0, 11.0, 10.5, 10.2, 10.9], &[5.0, 5.2, 5.1, 5.4, 5.3], 0.95).unwrap();
/// assert!(halved.interval.unwrap().high < 0.6);
/// ```
///
/// `None` where a sample is empty.
#[must_use]
pub fn factor(base: &[f64], other: &[f64], confidence: f64) -> Option<Factor> {
    let [few_base, few_other] = [base, other].map(|values| sample::evenly(values, MOST_VALUES));
    let mut ratios: Vec<f64> = few_base.iter().flat_map(|&b| few_other.iter().map(move |&o| ratio(b, o))).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let estimate = median(&ratios)?;
    let exact = |values: &[f64]| values.len() > 1 && values.iter().all(|&v| sample::same(v, values[0]));
    let interval = if exact(base) && exact(other) {
        Some(Interval { low: estimate, high: estimate, confidence: 1.0 })
    } else {
        let (rank, confidence) = interval_rank(base.len(), other.len(), confidence)?;
        // The same share of the ratios, where they are not all.
        let rank = rank.map(|rank| (rank * ratios.len() / (base.len() * other.len())).max(1));
        rank.map(|rank| Interval { low: ratios[rank - 1], high: ratios[ratios.len() - rank], confidence })
    };
    Some(Factor { estimate, interval })
}

/// Nothing against nothing is no change.
fn ratio(base: f64, other: f64) -> f64 {
    if base == other { 1.0 } else { other / base }
}

/// Of sorted values that may be infinite.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ if sorted[middle].is_infinite() => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Which of the sorted ratios, counted from 1 at either end, bound the interval, and its true confidence; no rank where
/// even the outermost two don't reach `confidence`.
fn interval_rank(n: usize, m: usize, confidence: f64) -> Option<(Option<usize>, f64)> {
    let tail = (1.0 - confidence) / 2.0;
    if n * m > LARGEST_EXACT {
        let (mean, deviation) = mann_whitney_moments(n, m);
        let rank = (mean + 0.5 + deviation * Normal::standard().inverse_cdf(tail)).floor();
        return Some(((rank >= 1.0).then_some(rank as usize), confidence));
    }
    let counts = mann_whitney_counts(n, m);
    let all: f64 = counts.iter().sum();
    let mut below = 0.0;
    let mut reached = (None, 0.0);
    for (u, count) in counts.iter().enumerate() {
        below += count;
        if below / all > tail {
            return Some(reached);
        }
        reached = (Some(u + 1), 1.0 - 2.0 * below / all);
    }
    Some(reached)
}

/// Mean and standard deviation of the Mann–Whitney statistic.
pub(super) fn mann_whitney_moments(n: usize, m: usize) -> (f64, f64) {
    let (n, m) = (n as f64, m as f64);
    (n * m / 2.0, (n * m * (n + m + 1.0) / 12.0).sqrt())
}

/// In how many of the orders of `n` and `m` values each value of the Mann–Whitney statistic comes up (Mann and Whitney
/// 1947: the recurrence over which sample the largest value is from).
pub(super) fn mann_whitney_counts(n: usize, m: usize) -> Vec<f64> {
    // counts[j][u] for samples of i and j values, i growing.
    let mut counts: Vec<Vec<f64>> = (0..=m).map(|_| vec![1.0]).collect();
    for i in 1..=n {
        let mut next: Vec<Vec<f64>> = vec![vec![1.0]];
        for j in 1..=m {
            let mut of = vec![0.0; i * j + 1];
            // The largest is of the first sample: it exceeds all j of the second.
            for (u, count) in counts[j].iter().enumerate() {
                of[u + j] += count;
            }
            for (u, count) in next[j - 1].iter().enumerate() {
                of[u] += count;
            }
            next.push(of);
        }
        counts = next;
    }
    counts.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    /// Known answers: the table of critical values in Hollander, Wolfe and Chicken; R's `qwilcox`.
    #[test]
    fn ranks_are_those_of_the_published_tables() {
        for (n, m, rank) in
            [(3, 3, None), (4, 4, Some(1)), (5, 5, Some(3)), (6, 6, Some(6)), (10, 10, Some(24)), (5, 8, Some(7))]
        {
            assert_eq!(interval_rank(n, m, 0.95).unwrap().0, rank, "{n} and {m}");
        }
        let (_, confidence) = interval_rank(5, 5, 0.95).unwrap();
        assert!((confidence - (1.0 - 8.0 / 252.0)).abs() < 1e-12, "{confidence}");
    }

    #[test]
    fn counts_are_those_of_all_orders() {
        assert_eq!(mann_whitney_counts(2, 2), [1.0, 1.0, 2.0, 1.0, 1.0]);
        assert_eq!(mann_whitney_counts(5, 5).iter().sum::<f64>(), 252.0);
        assert_eq!(mann_whitney_counts(1, 3), [1.0; 4]);
    }

    #[test]
    fn samples_without_spread_give_the_factor_itself() {
        let exact = factor(&[4.0, 4.0], &[2.0, 2.0], 0.95).unwrap();
        assert_eq!(exact.interval, Some(Interval { low: 0.5, high: 0.5, confidence: 1.0 }));
        assert_eq!(factor(&[0.0, 0.0], &[0.0, 0.0], 0.95).unwrap().estimate, 1.0);
        assert_eq!(factor(&[0.0, 0.0], &[1.0, 1.0], 0.95).unwrap().estimate, f64::INFINITY);
        assert_eq!(factor(&[], &[1.0], 0.95), None);
        assert_eq!(factor(&[1.0], &[2.0], 0.95).unwrap().interval, None, "one value has no spread to be seen");
    }

    #[test]
    fn three_noisy_repetitions_say_nothing() {
        let three = factor(&[1.0, 1.1, 1.2], &[9.0, 9.1, 9.2], 0.95).unwrap();
        assert!(three.estimate > 7.0 && three.interval.is_none());
    }

    /// The interval holds the true factor as often as it says: 2,000 pairs of samples with a factor of 1.
    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        let mut random = crate::stats::random::SplitMix64::new(7);
        // Skewed, as times are: squares of uniform numbers.
        let mut sample = || -> Vec<f64> {
            (0..5).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).map(|u| 0.1 + u * u).collect()
        };
        let covered = (0..2_000)
            .filter(|_| {
                let interval = factor(&sample(), &sample(), 0.95).unwrap().interval.unwrap();
                interval.low <= 1.0 && 1.0 <= interval.high
            })
            .count();
        // 96.8 % of 2,000 is 1,937; three standard deviations are 24.
        assert!((1_912..=1_961).contains(&covered), "{covered}");
    }

    #[test]
    fn beyond_what_is_counted_out_the_interval_goes_on_as_before() {
        let (exact, _) = interval_rank(63, 63, 0.95).unwrap();
        let (mean, deviation) = mann_whitney_moments(63, 63);
        let near = mean + 0.5 - 1.959_964 * deviation;
        assert!((exact.unwrap() as f64 - near).abs() < 2.0, "{exact:?} {near}");
        let mut random = SplitMix64::new(1);
        let mut values = |center: f64| (0..3_000).map(|_| center + random.normal()).collect::<Vec<f64>>();
        let (base, other) = (values(100.0), values(101.0));
        let factor = factor(&base, &other, 0.95).unwrap();
        let interval = factor.interval.unwrap();
        // A normal sample's mean is known to 1.96 √(2 / 3,000): ±0.05 of 100.
        assert!((factor.estimate - 1.01).abs() < 6e-4, "{factor:?}");
        assert!(interval.low < factor.estimate && factor.estimate < interval.high, "{factor:?}");
        assert!((4e-4..2e-3).contains(&(interval.high - interval.low)), "{factor:?}");
    }
}
