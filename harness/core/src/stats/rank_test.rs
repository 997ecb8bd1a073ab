//! Whether one sample tends to be greater than another: the Mann–Whitney test, one-sided, exact.
//!
//! Nothing is assumed but that the values of each sample are independent draws of one distribution (Mann and Whitney 1947).

use std::cell::RefCell;
use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, Normal};

use super::two_samples::{LARGEST_EXACT, mann_whitney_counts, mann_whitney_moments};

/// The probability of `other` exceeding `base` in as many pairs, if both are of one distribution. A pair of equal values
/// speaks against it, so that the probability is rather too large than too small. 1 where a sample is empty.
///
/// ```
/// use heapgate_core::stats::rank_test::p_greater;
/// // One order of 252 has all five above all five.
/// assert_eq!(p_greater(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]), 1.0 / 252.0);
/// ```
#[must_use]
pub fn p_greater(base: &[f64], other: &[f64]) -> f64 {
    let (n, m) = (base.len(), other.len());
    if n == 0 || m == 0 {
        return 1.0;
    }
    let above = base.iter().map(|b| other.iter().filter(|&o| o > b).count()).sum::<usize>();
    if n * m > LARGEST_EXACT {
        return approximate(n, m, above);
    }
    // Those with at least `above` pairs are as many as those with at most the rest.
    at_most(n, m, n * m - above)
}

thread_local! {
    /// Cumulative distributions by the sizes of the samples: a run asks for few of them, thousands of times.
    static DISTRIBUTIONS: RefCell<BTreeMap<(usize, usize), Vec<f64>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The probability of at most `pairs` pairs.
fn at_most(n: usize, m: usize, pairs: usize) -> f64 {
    DISTRIBUTIONS.with_borrow_mut(|all| {
        let cumulative = all.entry((n, m)).or_insert_with(|| {
            let counts = mann_whitney_counts(n, m);
            let total: f64 = counts.iter().sum();
            let sums = counts.iter().scan(0.0, |sum, count| {
                *sum += count;
                Some(*sum / total)
            });
            sums.collect()
        });
        cumulative[pairs]
    })
}

/// The smallest probability that samples of these sizes can give: how much evidence they can ever be.
#[must_use]
pub fn least_p(n: usize, m: usize) -> f64 {
    // One order of all: the binomial coefficient's inverse, by its logarithm so that it never overflows.
    let ln_orders: f64 = (1..=n).map(|i| ((m + i) as f64 / i as f64).ln()).sum();
    (-ln_orders).exp()
}

/// By the normal distribution with the statistic's mean and variance, and the correction for continuity.
fn approximate(n: usize, m: usize, above: usize) -> f64 {
    let (mean, deviation) = mann_whitney_moments(n, m);
    Normal::standard().sf((above as f64 - mean - 0.5) / deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_are_no_evidence() {
        assert_eq!(p_greater(&[1.0; 5], &[1.0; 5]), 1.0);
        assert_eq!(p_greater(&[], &[1.0]), 1.0);
        assert_eq!(p_greater(&[2.0, 3.0], &[0.0, 1.0]), 1.0);
    }

    #[test]
    fn the_least_probability_is_that_of_complete_separation() {
        for (n, m) in [(2, 2), (5, 5), (10, 20), (3, 7)] {
            let low: Vec<f64> = (0..n).map(f64::from).collect();
            let high: Vec<f64> = (0..m).map(|i| 100.0 + f64::from(i)).collect();
            let least = least_p(n as usize, m as usize);
            assert!((p_greater(&low, &high) / least - 1.0).abs() < 1e-9, "{n} and {m}");
        }
    }

    #[test]
    fn the_approximation_meets_the_exact_distribution() {
        let counts = mann_whitney_counts(60, 60);
        let all: f64 = counts.iter().sum();
        for above in [1800, 2000, 2200] {
            let exact = counts[..=3600 - above].iter().sum::<f64>() / all;
            let near = approximate(60, 60, above);
            assert!((near - exact).abs() < 0.005, "{above}: {near} {exact}");
        }
    }
}
