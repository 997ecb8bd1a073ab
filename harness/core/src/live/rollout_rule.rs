//! The rule by which a new version is judged beside the old one (E24). The dashboards' recording rules are written from these numbers
//! (`dashboards/src/rollout.rs`), and the experiment applies them.

pub use super::compare::MARGIN;

/// Fewest windows from which anything is decided: half an hour of five minutes each.
pub const WINDOWS: usize = 6;

/// Student's t for 95 % of both sides with [`WINDOWS`] - 1 degrees of freedom; with more windows it is less, and this is on the
/// safe side.
pub const STUDENT_T: f64 = 2.57;

/// A change by more than this either way is taken as this: of nothing at all there is no logarithm.
pub const LARGEST_CHANGE: f64 = 100.0;

/// The ends of the interval in which a change lies (1.15 is 15 % more), from one window's change each; `None` while nothing is
/// decided. In logarithms, in which twice and half are equally far from 1.
#[must_use]
pub fn interval(changes: &[f64]) -> Option<[f64; 2]> {
    let logs: Vec<f64> = changes.iter().map(|change| change.clamp(1.0 / LARGEST_CHANGE, LARGEST_CHANGE).ln()).collect();
    if logs.len() < WINDOWS || logs.iter().any(|log| log.is_nan()) {
        return None;
    }
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let deviation = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / n).sqrt();
    let error = STUDENT_T * deviation / (n - 1.0).sqrt();
    Some([(mean - error).exp(), (mean + error).exp()])
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, StudentsT};

    use super::*;

    #[test]
    fn the_quantile_is_that_of_the_fewest_windows() {
        let student = StudentsT::new(0.0, 1.0, (WINDOWS - 1) as f64).unwrap();
        assert!((student.inverse_cdf(0.975) - STUDENT_T).abs() < 0.005, "{}", student.inverse_cdf(0.975));
    }

    #[test]
    fn a_steady_change_is_its_own_interval_and_a_wild_one_is_wide() {
        let [low, high] = interval(&[1.2; WINDOWS]).unwrap();
        assert!((low - 1.2).abs() < 1e-9 && (high - 1.2).abs() < 1e-9);
        let [low, high] = interval(&[0.5, 2.0, 0.5, 2.0, 0.5, 2.0]).unwrap();
        assert!((low * high - 1.0).abs() < 1e-9 && low < 0.5);
        assert_eq!((interval(&[1.2; WINDOWS - 1]), interval(&[f64::NAN; WINDOWS])), (None, None));
        assert!((interval(&[0.0; WINDOWS]).unwrap()[1] * LARGEST_CHANGE - 1.0).abs() < 1e-9);
    }
}
