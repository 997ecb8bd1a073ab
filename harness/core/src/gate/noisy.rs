//! The rule for metrics that differ from run to run, and the seam behind which its statistics live.

use super::verdict::{Decision, worsening};
use crate::metric::MetricId;
use crate::render::human;
use crate::report::RepStalls;
use crate::stats::sample;

/// What is known about one metric of one cell on both sides. Both have at least one value.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The metric.
    pub metric: MetricId,
    /// The baseline's values, one for each repetition.
    pub baseline: &'a [f64],
    /// This run's values, one for each repetition.
    pub now: &'a [f64],
    /// Largest allowed change for the worse, as a fraction.
    pub soft: f64,
    /// The baseline's stall histograms, all repetitions together; absent where no call was timed.
    pub baseline_latencies: Option<Latencies<'a>>,
    /// This run's stall histograms, all repetitions together; absent where no call was timed.
    pub now_latencies: Option<Latencies<'a>>,
}

/// Stall histograms and the rate of their clock.
#[derive(Debug, Clone, Copy)]
pub struct Latencies<'a> {
    /// Times of calls in the measured phase, of each repetition.
    pub reps: &'a [RepStalls],
    /// Ticks per second.
    pub ticks_per_second: f64,
}

/// What a rule says: [`Decision::Pass`], `Improved`, `Fail` or `Inconclusive`, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What came out.
    pub decision: Decision,
    /// Why, in a few words.
    pub reason: String,
}

/// Decides metrics that differ from run to run.
pub trait NoisyRule {
    /// Whether the change is beyond the soft limit.
    fn decide(&self, evidence: &Evidence<'_>) -> Finding;
}

/// A noisy metric is decided on repeated fresh processes, never on one.
pub const MIN_REPETITIONS: usize = 2;

/// By what share of itself a limit may be passed before it counts: the rounding of a division.
const ROUNDING: f64 = 1e-9;

/// Whether a worsening is beyond the soft limit. A limit of 0 is passed by anything above 0.
pub(super) fn beyond(worsening: f64, soft: f64) -> bool {
    worsening > soft * (1.0 + ROUNDING)
}

/// Compares medians. It says nothing about how sure that is.
#[derive(Debug, Clone, Copy, Default)]
pub struct MedianRule;

impl NoisyRule for MedianRule {
    fn decide(&self, evidence: &Evidence<'_>) -> Finding {
        let finding = |decision, reason: String| Finding { decision, reason };
        for (side, values) in [("baseline", evidence.baseline), ("run", evidence.now)] {
            if values.len() < MIN_REPETITIONS {
                return finding(
                    Decision::Inconclusive,
                    format!(
                        "the {side} has {} repetition, and a noisy metric needs at least {MIN_REPETITIONS}",
                        values.len()
                    ),
                );
            }
        }
        let (Some(baseline), Some(now)) = (sample::median(evidence.baseline), sample::median(evidence.now)) else {
            return finding(Decision::Inconclusive, "no values".to_owned());
        };
        let worse = worsening(evidence.metric, baseline, now);
        let limit = human::percent(evidence.soft);
        if beyond(worse, evidence.soft) {
            finding(Decision::Fail, format!("the median is worse by more than the {limit} allowed"))
        } else if beyond(-worse, evidence.soft) {
            finding(
                Decision::Improved,
                format!("the median is better by more than {limit}; record a new baseline to keep it so"),
            )
        } else {
            finding(Decision::Pass, format!("the median is within the {limit} allowed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(baseline: &[f64], now: &[f64]) -> Decision {
        let evidence = Evidence {
            metric: MetricId::PeakRss,
            baseline,
            now,
            soft: 0.15,
            baseline_latencies: None,
            now_latencies: None,
        };
        MedianRule.decide(&evidence).decision
    }

    #[test]
    fn one_repetition_is_no_evidence() {
        assert_eq!(decide(&[100.0], &[200.0, 200.0]), Decision::Inconclusive);
        assert_eq!(decide(&[100.0, 100.0], &[200.0]), Decision::Inconclusive);
    }

    #[test]
    fn medians_decide_and_one_outlier_does_not() {
        assert_eq!(decide(&[100.0, 101.0, 99.0], &[101.0, 900.0, 102.0]), Decision::Pass);
        assert_eq!(decide(&[100.0, 101.0, 99.0], &[120.0, 119.0, 121.0]), Decision::Fail);
        assert_eq!(decide(&[100.0, 101.0, 99.0], &[50.0, 51.0, 52.0]), Decision::Improved);
    }
}
