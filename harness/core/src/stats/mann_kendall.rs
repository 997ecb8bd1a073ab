//! Mann and Kendall's test for a trend (Mann 1945, "Nonparametric tests against trend"; Kendall, "Rank Correlation Methods",
//! for the exact distribution and the variance with ties): of all pairs of values, in how many is the later one higher? It
//! assumes nothing but that without a trend all orders of the values are as likely.

use statrs::distribution::{ContinuousCDF, Normal};

/// Up to this many values the distribution is exact. It costs n³ steps; beyond, the normal approximation overstates a
/// p-value of 1 in 1,000 by a sixth at most.
const EXACT: usize = 50;

/// With equal values the exact distribution overstates the p-value, which matters little up to here.
const EXACT_WITH_TIES: usize = 10;

/// How some values go, in the order given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Pairs in ascending order less those in descending order.
    pub score: i64,
    /// The probability of a score at least as high without a trend.
    pub p_rising: f64,
    /// The probability of a score at least as far from 0, on either side.
    pub p_either: f64,
}

/// How `values` go. They must not be NaN.
///
/// ```
/// use heapgate_core::stats::mann_kendall::trend;
/// // One order of 120, and the same the other way round.
/// let found = trend(&[1.0, 2.0, 3.0, 4.0, 5.0]);
/// assert_eq!((found.score, found.p_rising, found.p_either), (10, 1.0 / 120.0, 2.0 / 120.0));
/// ```
#[must_use]
pub fn trend(values: &[f64]) -> Trend {
    let later =
        |(i, a): (usize, &f64)| values[i + 1..].iter().map(|b| i64::from(b > a) - i64::from(b < a)).sum::<i64>();
    let score: i64 = values.iter().enumerate().map(later).sum();
    let p_at_least = distribution(values);
    Trend { score, p_rising: p_at_least(score), p_either: (2.0 * p_at_least(score.abs())).min(1.0) }
}

/// The probability of a score at least as high as some number, of values with the same ties in a random order.
fn distribution(values: &[f64]) -> impl Fn(i64) -> f64 {
    let n = values.len();
    let ties = tied_groups(values);
    let is_exact = n <= EXACT_WITH_TIES || (ties.is_empty() && n <= EXACT);
    let exact = if is_exact { inversions(n) } else { Vec::new() };
    let of = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let variance = (of(n as f64) - ties.iter().map(|&tied| of(tied as f64)).sum::<f64>()) / 18.0;
    move |score| {
        if variance <= 0.0 {
            return 1.0;
        }
        if !is_exact {
            // With the correction for continuity.
            return Normal::standard().sf((score as f64 - 1.0) / variance.sqrt());
        }
        // The score is all pairs less twice those in descending order.
        let pairs = (n * n.saturating_sub(1) / 2) as i64;
        let most = ((pairs - score) / 2) as usize;
        exact.iter().take(most + 1).sum::<f64>().min(1.0)
    }
}

/// The probability of each number of inversions in a random order of `n` values (Knuth 1973, 5.1.1): the last of them adds
/// 0 to n − 1.
fn inversions(n: usize) -> Vec<f64> {
    let mut probability = vec![1.0];
    for last in 2..=n {
        let mut next = vec![0.0; probability.len() + last - 1];
        for (count, p) in probability.iter().enumerate() {
            next[count..count + last].iter_mut().for_each(|sum| *sum += p / last as f64);
        }
        probability = next;
    }
    probability
}

/// Sizes of the groups of equal values.
fn tied_groups(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).map(<[f64]>::len).filter(|&n| n > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kendall's table, n = 4: of 24 orders 1, 3, 5, 6, 5, 3, 1 have 0 to 6 inversions.
    #[test]
    fn inversions_are_those_of_kendalls_table() {
        let four: Vec<f64> = inversions(4).iter().map(|p| (p * 24.0).round()).collect();
        assert_eq!(four, [1.0, 3.0, 5.0, 6.0, 5.0, 3.0, 1.0]);
    }

    #[test]
    fn rising_and_falling_are_mirror_images() {
        let rises = trend(&[1.0, 3.0, 2.0, 4.0]);
        let falls = trend(&[4.0, 2.0, 3.0, 1.0]);
        assert_eq!((rises.score, falls.score), (4, -4));
        assert_eq!(rises.p_either, falls.p_either);
        // 4 of 24 orders have one inversion at most; of the mirror image, all but the one in order.
        assert!((rises.p_rising - 4.0 / 24.0).abs() < 1e-12, "{rises:?}");
        assert!((falls.p_rising - 23.0 / 24.0).abs() < 1e-12, "{falls:?}");
    }

    #[test]
    fn what_never_changes_and_what_is_too_little_has_no_trend() {
        for values in [vec![], vec![1.0], vec![7.0; 9], vec![7.0; 60]] {
            assert_eq!(trend(&values), Trend { score: 0, p_rising: 1.0, p_either: 1.0 });
        }
    }

    #[test]
    fn the_approximation_meets_the_exact_distribution() {
        // 20 values with 60 of 190 pairs out of order, by both ways.
        let exact: f64 = inversions(20).iter().take(61).sum();
        let variance = 20.0 * 19.0 * 45.0 / 18.0;
        let near = Normal::standard().sf((190.0 - 120.0 - 1.0) / f64::sqrt(variance));
        assert!((exact - near).abs() < 0.001, "{exact} {near}");
    }
}
