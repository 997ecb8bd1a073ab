//! One run against the runs before it: is its median one that the history would have led us to expect?
//!
//! On logarithms, so that changes are factors, by Student's prediction interval for one further value (Hahn and Meeker,
//! "Statistical Intervals", chapter 4.7): s · √(1 + 1/N) with N − 1 degrees of freedom. What noise there is *between*
//! runs (another day, another kernel, another page layout) is in the history and is allowed for, unlike by a test of the
//! repetitions of two runs. The history must be of one level: cut it at its last change point first.

use std::fmt;

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::two_samples::Interval;

/// Two runs are the fewest that have a spread. Their interval reaches 15 times their noise either way; five or more are of
/// use.
pub const FEWEST: usize = 2;

/// Relative noise that is left of anything: well above what logarithms, sums and decimal text cost a double, well below
/// any change of interest.
const ARITHMETIC: f64 = 1e-12;

/// What the noise was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The history's own spread.
    Seen,
    /// The rounding of the unit: the history spreads less than that, or not at all.
    Rounding,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seen => "noise as between the runs before",
            Self::Rounding => "the runs before agree: noise as of rounding the unit",
        })
    }
}

/// A run as seen from its history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// By which factor the run exceeds the geometric mean of the history.
    pub factor: f64,
    /// Where the true factor is.
    pub interval: Interval,
    /// The probability of a factor this high or higher if the true one were just the limit: small where it exceeds it.
    pub p_above: f64,
    /// The probability of a factor this low or lower if the true one were just the limit: small where it is below it.
    pub p_below: f64,
    /// What the noise was taken from.
    pub spread: Spread,
}

/// The median of this run against the medians of the runs before it. `resolution` is the smallest step of the metric in
/// its unit: 1 for counts and bytes, 4,096 for what is counted in pages.
///
/// A history without spread decides too: what differs from it by more than rounding can do is a change. The standard
/// deviation is never taken for less than that of rounding, `resolution` / √12 (or that of arithmetic, where
/// `resolution` is 0). Zero stands for half of `resolution`, as the most that is rounded to nothing; so nothing against
/// nothing is no change, and something against nothing a finite one.
///
/// `None` where the history has fewer than [`FEWEST`] runs, a value is negative or not finite, a value is 0 and
/// `resolution` is too, or `limit_factor` or `confidence` make no sense.
///
/// ```
/// use heapgate_core::stats::prediction::against_history;
/// let steady = [1_000.0, 1_000.0, 1_000.0, 1_000.0, 1_000.0];
/// let run = against_history(&steady, 1_030.0, 1.02, 1.0, 0.95).unwrap();
/// assert!(run.p_above < 1e-3, "{run:?}");
/// ```
#[must_use]
pub fn against_history(
    history: &[f64],
    now: f64,
    limit_factor: f64,
    resolution: f64,
    confidence: f64,
) -> Option<Prediction> {
    let sound = |v: f64| v.is_finite() && v >= 0.0;
    let sense = limit_factor.is_finite() && limit_factor > 0.0 && (0.0..1.0).contains(&confidence);
    if history.len() < FEWEST || !sense || ![now, resolution].iter().chain(history).all(|&v| sound(v)) {
        return None;
    }
    let log = |v: f64| Some(v.max(resolution / 2.0)).filter(|&v| v > 0.0).map(f64::ln);
    let logs = history.iter().map(|&v| log(v)).collect::<Option<Vec<f64>>>()?;
    let runs = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / runs;
    let seen = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (runs - 1.0)).sqrt();
    let rounding = (resolution / 12.0_f64.sqrt() / mean.exp()).max(ARITHMETIC);
    let (deviation, spread) = if seen > rounding { (seen, Spread::Seen) } else { (rounding, Spread::Rounding) };

    let error = deviation * (1.0 + 1.0 / runs).sqrt();
    let change = log(now)? - mean;
    let student = StudentsT::new(0.0, 1.0, runs - 1.0).ok()?;
    let reach = error * student.inverse_cdf(f64::midpoint(1.0, confidence));
    let t = (change - limit_factor.ln()) / error;
    Some(Prediction {
        factor: change.exp(),
        interval: Interval { low: (change - reach).exp(), high: (change + reach).exp(), confidence },
        p_above: student.sf(t),
        p_below: student.cdf(t),
        spread,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    #[test]
    fn a_history_without_spread_still_alarms() {
        for runs in [2, 5, 20] {
            let run = against_history(&vec![1e6; runs], 1.02e6, 1.01, 1.0, 0.95).unwrap();
            assert!(run.p_above < 1e-4 && run.spread == Spread::Rounding && run.interval.low > 1.01, "{run:?}");
            let same = against_history(&vec![1e6; runs], 1e6, 1.01, 1.0, 0.95).unwrap();
            assert!(same.p_below < 1e-4 && (same.factor - 1.0).abs() < 1e-12, "{same:?}");
        }
        let no_unit = against_history(&[0.125; 5], 0.126, 1.0, 0.0, 0.95).unwrap();
        assert!(no_unit.p_above < 1e-9, "{no_unit:?}");
        let same = against_history(&[0.1 + 0.2; 7], 0.3, 1.0, 0.0, 0.95).unwrap();
        assert!(same.p_above > 0.4 && same.p_below > 0.4, "{same:?}");
    }

    #[test]
    fn a_difference_within_rounding_is_none() {
        let run = against_history(&[20.0; 10], 21.0, 1.0, 4.0, 0.95).unwrap();
        assert!(run.p_above > 0.05 && run.interval.low < 1.0, "{run:?}");
    }

    #[test]
    fn nothing_is_compared_with_nothing_and_with_something() {
        let still_nothing = against_history(&[0.0; 8], 0.0, 1.0, 1.0, 0.95).unwrap();
        assert!(still_nothing.factor == 1.0 && still_nothing.p_above == 0.5, "{still_nothing:?}");
        let appeared = against_history(&[0.0; 8], 1_000.0, 1.2, 1.0, 0.95).unwrap();
        assert!(appeared.p_above < 1e-4 && (appeared.factor - 2_000.0).abs() < 1e-6, "{appeared:?}");
        assert_eq!(
            against_history(&[0.0; 8], 0.0, 1.0, 0.0, 0.95),
            None,
            "without a unit nothing says how little it is"
        );
    }

    #[test]
    fn what_makes_no_sense_has_no_answer() {
        for (history, now, limit) in [
            (&[][..], 1.0, 1.0),
            (&[1.0], 1.0, 1.0),
            (&[1.0, f64::NAN], 1.0, 1.0),
            (&[1.0, 2.0], -1.0, 1.0),
            (&[1.0, 2.0], f64::INFINITY, 1.0),
            (&[1.0, 2.0], 1.0, 0.0),
        ] {
            assert_eq!(against_history(history, now, limit, 1.0, 0.95), None, "{history:?} {now} {limit}");
        }
        assert_eq!(against_history(&[1.0, 2.0], 1.0, 1.0, 1.0, 1.0), None);
    }

    /// 4,000 runs of the same noise as the six before them: 1 in 100 are above the limit of 1 at 0.01, and 95 % in the
    /// interval.
    #[test]
    fn false_alarms_are_as_many_as_promised() {
        let mut random = SplitMix64::new(21);
        let (mut alarms, mut covered) = (0, 0);
        for _ in 0..4_000 {
            let history: Vec<f64> = (0..6).map(|_| (0.03 * random.normal()).exp()).collect();
            let run = against_history(&history, (0.03 * random.normal()).exp(), 1.0, 0.0, 0.95).unwrap();
            alarms += u32::from(run.p_above < 0.01);
            covered += u32::from(run.interval.low <= 1.0 && 1.0 <= run.interval.high);
        }
        // Four standard deviations are 25 of 40, and 55 of 3,800.
        assert!((15..=65).contains(&alarms) && (3_745..=3_855).contains(&covered), "{alarms} {covered}");
    }
}
