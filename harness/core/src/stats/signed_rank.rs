//! Pairs compared: two sides measured next to each other, as an interleaved run does. What drifts over the run is the
//! same for both halves of a pair and cancels, so this decides where [`super::serial`] found a drift.
//!
//! Wilcoxon's signed-rank test, and the estimate and interval that follow from it: the median of the Walsh averages,
//! means of two differences (Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", chapter 3.1–3.3). The
//! differences are those of logarithms, so the estimate is a factor. They are assumed to be independent between pairs
//! and symmetric about their middle, which the difference of two values from one distribution always is.

use statrs::distribution::{ContinuousCDF, Normal};

use super::two_samples::{Factor, Interval};

/// Up to this many pairs the distribution is exact, at n³/2 steps; beyond it the normal approximation, whose error is
/// then below 1 in 1,000.
const EXACT: usize = 200;

/// Logarithms of ratios closer than this are equal: a value, a quotient and two logarithms may each be off by a rounding,
/// and logarithms of factors up to a thousand have some binary digits before the point.
const ROUNDING: f64 = 16.0 * f64::EPSILON;

/// The probability of pairs as far above `limit_factor` as these, if `other` were just `limit_factor` times `base`:
/// small where it truly exceeds that. One-sided; for "below", swap the sides and invert the factor. `None` without
/// pairs. Values must not be negative nor NaN.
///
/// Equal differences, and pairs that are just at the limit, are ranked as if a finer measurement had told them apart in
/// the way that speaks most against "above": the result is never too small.
///
/// ```
/// use heapgate_core::stats::signed_rank::p_above;
/// let drifting = [(10.0, 10.3), (11.0, 11.35), (12.0, 12.5), (13.0, 13.45), (14.0, 14.6)];
/// assert_eq!(p_above(&drifting, 1.0), Some(1.0 / 32.0));
/// ```
#[must_use]
pub fn p_above(pairs: &[(f64, f64)], limit_factor: f64) -> Option<f64> {
    if pairs.is_empty() {
        return None;
    }
    let mut differences: Vec<f64> = pairs
        .iter()
        .map(|&pair| log_ratio(pair) - limit_factor.ln())
        .map(|d| if is_zero(d) { 0.0 } else { d })
        .collect();
    differences.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Of equal sizes, what is above the limit takes the lowest ranks; zeros count as below it.
    let mut rank_sum = 0;
    let mut first = 1;
    for group in differences.chunk_by(|a, b| equal(a.abs(), b.abs())) {
        let above = group.iter().filter(|&&d| d > 0.0).count();
        rank_sum += (first..first + above).sum::<usize>();
        first += group.len();
    }
    Some(at_least(pairs.len(), rank_sum))
}

/// By which factor the second of each pair exceeds the first, with an interval of at least `confidence` (0 to 1). Pairs
/// that all have the same ratio are taken as exact. `None` without pairs. Values must not be negative nor NaN.
#[must_use]
pub fn factor(pairs: &[(f64, f64)], confidence: f64) -> Option<Factor> {
    let ratios: Vec<f64> = pairs.iter().map(|&pair| log_ratio(pair)).collect();
    let mut walsh: Vec<f64> = Vec::with_capacity(ratios.len() * (ratios.len() + 1) / 2);
    for (i, &a) in ratios.iter().enumerate() {
        walsh.extend(ratios[i..].iter().map(|&b| mean(a, b)));
    }
    walsh.sort_unstable_by(f64::total_cmp);
    let all = walsh.len();
    let estimate = mean(*walsh.get(all.checked_sub(1)? / 2)?, walsh[all / 2]).exp();
    if ratios.len() > 1 && ratios.iter().all(|&r| equal(r, ratios[0])) {
        return Some(Factor { estimate, interval: Some(Interval { low: estimate, high: estimate, confidence: 1.0 }) });
    }
    let interval = interval_rank(ratios.len(), confidence).map(|(rank, confidence)| Interval {
        low: walsh[rank - 1].exp(),
        high: walsh[all - rank].exp(),
        confidence,
    });
    Some(Factor { estimate, interval })
}

/// Nothing against nothing is no change.
fn log_ratio((base, other): (f64, f64)) -> f64 {
    if base == other { 0.0 } else { (other / base).ln() }
}

/// Also of infinities: opposite ones cancel.
fn mean(a: f64, b: f64) -> f64 {
    if a == -b { 0.0 } else { a / 2.0 + b / 2.0 }
}

fn is_zero(d: f64) -> bool {
    d.abs() <= ROUNDING
}

fn equal(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= ROUNDING
}

/// The probability of a rank sum of `rank_sum` or more of the positive ones of `n` differences.
fn at_least(n: usize, rank_sum: usize) -> f64 {
    if n <= EXACT {
        // Symmetric: as likely as the ranks that are left, or fewer.
        return probabilities(n).iter().take(n * (n + 1) / 2 - rank_sum + 1).sum();
    }
    let (mean, deviation) = moments(n);
    Normal::standard().sf((rank_sum as f64 - 0.5 - mean) / deviation)
}

/// The probability of each rank sum: each rank is in it or not.
fn probabilities(n: usize) -> Vec<f64> {
    let mut probability = vec![1.0];
    for rank in 1..=n {
        let mut next = vec![0.0; probability.len() + rank];
        for (sum, p) in probability.iter().enumerate() {
            next[sum] += p / 2.0;
            next[sum + rank] += p / 2.0;
        }
        probability = next;
    }
    probability
}

fn moments(n: usize) -> (f64, f64) {
    let n = n as f64;
    (n * (n + 1.0) / 4.0, (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt())
}

/// Which of the sorted Walsh averages, counted from 1 at either end, bound the interval, and its true confidence.
/// `None` where even the outermost two don't reach `confidence`.
fn interval_rank(n: usize, confidence: f64) -> Option<(usize, f64)> {
    let tail = (1.0 - confidence) / 2.0;
    if n > EXACT {
        let (mean, deviation) = moments(n);
        let rank = (mean + 0.5 + deviation * Normal::standard().inverse_cdf(tail)).floor() as usize;
        return (rank >= 1).then_some((rank, confidence));
    }
    let mut below = 0.0;
    let mut reached = None;
    for (sum, p) in probabilities(n).iter().enumerate() {
        below += p;
        if below > tail {
            break;
        }
        reached = Some((sum + 1, 1.0 - 2.0 * below));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    /// Known answers: the table of Hollander, Wolfe and Chicken; R's `qsignrank(0.025, n)`.
    #[test]
    fn ranks_are_those_of_the_published_tables() {
        for (n, rank) in [(5, None), (6, Some(1)), (7, Some(3)), (8, Some(4)), (10, Some(9)), (20, Some(53))] {
            assert_eq!(interval_rank(n, 0.95).map(|r| r.0), rank, "{n}");
        }
        assert_eq!(probabilities(3), [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0].map(|c| c / 8.0));
    }

    #[test]
    fn a_drift_cancels_in_pairs() {
        let pairs: Vec<(f64, f64)> = (1..=8).map(|i| f64::from(i * 10)).map(|v| (v, v * 1.02)).collect();
        let exact = factor(&pairs, 0.95).unwrap();
        assert!((exact.estimate - 1.02).abs() < 1e-12 && exact.interval.unwrap().confidence == 1.0);
        assert_eq!(p_above(&pairs, 1.0), Some(1.0 / 256.0));
        assert_eq!(p_above(&pairs, 1.02), Some(1.0), "just at the limit is not above it");
        assert_eq!(p_above(&pairs, 1.03), Some(1.0));
    }

    #[test]
    fn zeros_and_ties_speak_against_a_change() {
        // The zero takes rank 1 and counts as below: 2 + 3 + 4 of 10, or more, is 2 of 16 orders.
        assert_eq!(p_above(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0)], 1.0), Some(2.0 / 16.0));
        // One of two equal sizes is below: the one above gets rank 1 of 3, and with rank 3 that makes 4: 3 of 8 orders.
        assert_eq!(p_above(&[(1.0, 2.0), (2.0, 1.0), (1.0, 8.0)], 1.0), Some(3.0 / 8.0));
        assert_eq!(p_above(&[], 1.0), None);
        assert_eq!(p_above(&[(0.0, 0.0); 5], 1.0), Some(1.0));
    }

    #[test]
    fn nothing_against_something_is_infinitely_more() {
        let appeared = factor(&[(0.0, 1.0), (0.0, 2.0)], 0.95).unwrap();
        assert_eq!(appeared.estimate, f64::INFINITY);
        assert_eq!(factor(&[(0.0, 1.0), (1.0, 0.0)], 0.95).unwrap().estimate, 1.0);
        assert_eq!(factor(&[(0.0, 0.0), (0.0, 0.0)], 0.95).unwrap().estimate, 1.0);
        assert_eq!(factor(&[], 0.95), None);
        assert_eq!(factor(&[(1.0, 2.0)], 0.95).unwrap().interval, None);
    }

    #[test]
    fn the_approximation_meets_the_exact_distribution() {
        let (mean, deviation) = moments(EXACT);
        for z in [1.0, 2.0, 3.0] {
            let rank_sum = (mean + z * deviation) as usize;
            let exact = at_least(EXACT, rank_sum);
            let approximate = Normal::standard().sf((rank_sum as f64 - 0.5 - mean) / deviation);
            assert!((exact - approximate).abs() < 1e-3, "{exact} {approximate}");
        }
        let rank = (mean + 0.5 + deviation * Normal::standard().inverse_cdf(0.025)).floor() as usize;
        assert!(rank.abs_diff(interval_rank(EXACT, 0.95).unwrap().0) <= 2);
    }

    /// 10 pairs of a drifting series, 2,000 times: the test at 0.05 fires at its exact level, 43 of 1,024 orders, and
    /// the interval covers as it says.
    #[test]
    fn error_rates_are_those_promised_under_a_drift() {
        let mut random = SplitMix64::new(8);
        let (mut fired, mut covered) = (0, 0);
        for _ in 0..2_000 {
            let mut value = |i: i32| 100.0 + 5.0 * f64::from(i) + random.normal();
            let pairs: Vec<(f64, f64)> = (0..10).map(|i| (value(i), value(i))).collect();
            fired += u32::from(p_above(&pairs, 1.0).unwrap() <= 0.05);
            let interval = factor(&pairs, 0.95).unwrap().interval.unwrap();
            covered += u32::from(interval.low <= 1.0 && 1.0 <= interval.high);
        }
        // 4.2 % is 84, four standard deviations are 36; 95.1 % is 1,902 and they are 39.
        assert!((48..=120).contains(&fired), "{fired}");
        assert!((1_863..=1_941).contains(&covered), "{covered}");
    }
}
