//! The smallest change that the gate finds: by planting changes into values that were measured, and asking the rule.

use super::look::{Look, MOST_LOOKS, repetitions};
use crate::metric::{Better, MetricId};
use crate::stats::random::SplitMix64;
use crate::stats::rank_test::p_greater;

/// A change counts as found if the gate calls it a regression in this share of runs.
pub const POWER: f64 = 0.99;

/// Runs that are drawn for each size of change: their rate is right to 2%.
const DRAWS: u32 = 400;

/// Fewer values than this say nothing about how much the metric varies.
const FEWEST_VALUES: usize = 10;

/// Sizes of change that are tried: a fifth more each time.
const FIRST: f64 = 1e-4;
const GROWTH: f64 = 1.2;
const LARGEST: f64 = 10.0;

/// The smallest change for the worse, as a fraction, that the gate finds in a share [`POWER`] of runs where any change is one
/// too many: with `reps` repetitions on both sides in the first round, and up to [`MOST_LOOKS`] looks, among `family`
/// metrics. `values` are what the metric was while nothing was changed; runs are drawn from them, with the change planted on
/// one side. `None` where there are too few, or no change that small is found.
///
/// ```
/// use heapgate_core::{gate::detectable, metric::MetricId};
/// let values: Vec<f64> = (0..40).map(|i| 1e8 * (1.0 + 0.005 * f64::from(i * 7 % 10 - 5) / 5.0)).collect();
/// let seen = detectable(MetricId::PeakRss, &values, 5, 30).unwrap();
/// assert!((0.001..0.02).contains(&seen), "{seen}");
/// ```
#[must_use]
pub fn detectable(metric: MetricId, values: &[f64], reps: u32, family: usize) -> Option<f64> {
    if values.len() < FEWEST_VALUES || values.iter().any(|&v| v <= 0.0) {
        return None;
    }
    let mut size = FIRST;
    while size <= LARGEST {
        if found(metric, values, size, reps, family) {
            return Some(size);
        }
        size *= GROWTH;
    }
    None
}

/// Whether a change of `size` is found often enough.
fn found(metric: MetricId, values: &[f64], size: f64, reps: u32, family: usize) -> bool {
    /// The same values, the same answer.
    const SEED: u64 = 0x5eed;
    let mut random = SplitMix64::new(SEED);
    let factor = match metric.metric().better {
        Better::Lower => 1.0 + size,
        Better::Higher => 1.0 / (1.0 + size),
    };
    let allowed_misses = (f64::from(DRAWS) * (1.0 - POWER)).floor() as u32;
    let mut misses = 0;
    for _ in 0..DRAWS {
        let largest = repetitions(reps, MOST_LOOKS - 1);
        let mut draw = |factor: f64| -> Vec<f64> {
            (0..largest).map(|_| values[(random.next() % values.len() as u64) as usize] * factor).collect()
        };
        let (baseline, now) = (draw(1.0), draw(factor));
        let look = Look::one_of(MOST_LOOKS);
        let caught = (0..MOST_LOOKS).any(|round| {
            let n = repetitions(reps, round) as usize;
            let (baseline, now) = (&baseline[..n], &now[..n]);
            let beyond_p = match metric.metric().better {
                Better::Lower => p_greater(baseline, now),
                Better::Higher => p_greater(now, baseline),
            };
            beyond_p * family as f64 <= look.alpha
        });
        misses += u32::from(!caught);
        if misses > allowed_misses {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(noise: f64) -> Vec<f64> {
        let mut random = SplitMix64::new(1);
        (0..60).map(|_| 1e6 * (1.0 + noise * random.normal())).collect()
    }

    #[test]
    fn less_noise_shows_smaller_changes() {
        let of = |noise| detectable(MetricId::PeakRss, &values(noise), 5, 30).unwrap();
        let (quiet, loud) = (of(0.003), of(0.03));
        assert!(quiet < 0.012 && loud > 4.0 * quiet, "{quiet} {loud}");
        let faster = detectable(MetricId::Throughput, &values(0.003), 5, 30).unwrap();
        assert!((faster / quiet - 1.0).abs() < 0.5, "{faster} {quiet}");
    }

    #[test]
    fn among_more_metrics_larger_changes_are_needed() {
        let of = |family| detectable(MetricId::PeakRss, &values(0.01), 5, family).unwrap();
        assert!(of(1) < of(10_000), "{} {}", of(1), of(10_000));
    }

    #[test]
    fn too_few_values_say_nothing() {
        assert_eq!(detectable(MetricId::PeakRss, &[1.0; 9], 5, 1), None);
        assert_eq!(detectable(MetricId::PeakRss, &[0.0; 20], 5, 1), None);
    }
}
