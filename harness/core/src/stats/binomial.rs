//! Rates that were counted: how many of so many trials. False alarms and missed regressions are such rates.

use statrs::distribution::{Beta, ContinuousCDF};

use super::two_samples::Interval;

/// Clopper and Pearson's interval of a rate (1934, "The use of confidence or fiducial limits illustrated in the case of
/// the binomial"): it holds the true rate with at least `confidence` (0 to 1), whatever that rate is. `None` where
/// nothing was tried, or more succeeded than were tried, or `confidence` is no probability below 1.
///
/// ```
/// use heapgate_core::stats::binomial::rate_interval;
/// let no_alarm_in_a_thousand = rate_interval(0, 1_000, 0.95).unwrap();
/// assert!(no_alarm_in_a_thousand.low == 0.0 && no_alarm_in_a_thousand.high < 0.0037);
/// ```
#[must_use]
pub fn rate_interval(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    if trials == 0 || successes > trials || !(0.0..1.0).contains(&confidence) {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    let (hits, misses) = (successes as f64, (trials - successes) as f64);
    let low = if successes == 0 { 0.0 } else { Beta::new(hits, misses + 1.0).ok()?.inverse_cdf(tail) };
    // From the other end, since 1 − x keeps the digits of a rate near 0 where tails near 1 don't.
    let high = if misses == 0.0 { 1.0 } else { 1.0 - Beta::new(misses, hits + 1.0).ok()?.inverse_cdf(tail) };
    Some(Interval { low, high, confidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_of_n_has_the_bound_of_its_closed_form() {
        for n in [1, 10, 1_000, 100_000] {
            let interval = rate_interval(0, n, 0.95).unwrap();
            let bound = 1.0 - 0.025_f64.powf(1.0 / n as f64);
            assert!(interval.low == 0.0 && (interval.high / bound - 1.0).abs() < 1e-9, "{n}: {interval:?} {bound}");
            let all = rate_interval(n, n, 0.95).unwrap();
            assert!(all.high == 1.0 && (all.low - (1.0 - bound)).abs() < 1e-9, "{n}: {all:?}");
        }
    }

    /// At its ends, the tails of the binomial distribution hold 2.5 % each.
    #[test]
    fn the_ends_leave_the_tails_asked_for() {
        let interval = rate_interval(3, 20, 0.95).unwrap();
        let choose = |k: i32| (0..k).map(|i| f64::from(20 - i) / f64::from(i + 1)).product::<f64>();
        let exactly = |k: i32, rate: f64| choose(k) * rate.powi(k) * (1.0 - rate).powi(20 - k);
        let at_least_3: f64 = (3..=20).map(|k| exactly(k, interval.low)).sum();
        let at_most_3: f64 = (0..=3).map(|k| exactly(k, interval.high)).sum();
        assert!((at_least_3 - 0.025).abs() < 1e-9 && (at_most_3 - 0.025).abs() < 1e-9, "{at_least_3} {at_most_3}");
    }

    #[test]
    fn what_is_no_rate_has_no_interval() {
        assert_eq!(rate_interval(0, 0, 0.95), None);
        assert_eq!(rate_interval(2, 1, 0.95), None);
        assert_eq!(rate_interval(1, 2, 1.0), None);
        assert_eq!(rate_interval(1, 2, f64::NAN), None);
    }
}
