//! The rule for metrics that differ from run to run: tests of the change against its limit, and what they decide.
//!
//! Two questions are asked of the repetitions, each by an exact rank test, which assumes no distribution: is the change
//! beyond the limit (and then, corrected for all metrics of the run, it fails), and is it inside (then it passes)? If
//! neither can be said, more repetitions are needed.

use super::look::Look;
use super::verdict::{ChangeInterval, Decision};
use crate::metric::{Better, MetricId};
use crate::render::human;
use crate::report::RepStalls;
use crate::stats::rank_test::{least_p, p_greater};
use crate::stats::serial::{Dependence, dependence};
use crate::stats::shape::{self, Histogram, Place};
use crate::stats::signed_rank::p_above;
use crate::stats::two_samples::factor;

/// How sure the intervals are that are shown.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Below this probability a metric may come to fail.
const SUSPECT: f64 = 0.05;

/// By what share of itself a limit may be passed before it counts: the rounding of a division.
pub(super) const ROUNDING: f64 = 1e-9;

/// Whether a worsening is beyond the soft limit. A limit of 0 is passed by anything above 0.
pub(super) fn beyond(worsening: f64, soft: f64) -> bool {
    worsening > soft * (1.0 + ROUNDING)
}

/// What is known about one metric of one cell on both sides. Both have at least one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub metric: MetricId,
    /// The baseline's values, one for each repetition.
    pub baseline: &'a [f64],
    /// This run's values, one for each repetition.
    pub now: &'a [f64],
    /// Whether repetitions of the same number ran one right after the other.
    pub paired: bool,
}

/// Stall histograms and the rate of their clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latencies<'a> {
    /// Times of calls in the measured phase, of each repetition.
    pub reps: &'a [RepStalls],
    /// Ticks per second; above 0.
    pub ticks_per_second: f64,
    /// Calls in a unit of work as a share of the other side's, at most 1. Those that are not made any more count as calls that
    /// took no time: without quick calls the rest are slower on average, and nobody waits longer.
    pub calls_share: f64,
}

/// Which calls of a histogram.
pub(super) type Calls = fn(&RepStalls) -> &[(u32, u64)];

/// What a rule says of one metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub decision: Decision,
    /// Why, in a few words.
    pub reason: String,
    /// Whether more repetitions could decide it.
    pub undecided: bool,
}

impl Finding {
    pub(super) fn new(decision: Decision, reason: impl Into<String>) -> Self {
        Self { decision, reason: reason.into(), undecided: false }
    }
}

/// What tests against a soft limit gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tested {
    /// The probability of a change this far beyond the limit where there is none beyond it.
    pub beyond_p: f64,
    /// The probability of a change this far inside the limit where it is at the limit.
    pub inside_p: f64,
    /// And this far on the other side: better by more than the limit.
    pub better_p: f64,
    /// The least that `beyond_p` can be with so many repetitions.
    pub least_p: f64,
    /// Where a whole histogram moved most.
    pub place: Option<Place>,
    /// How the values depend on the order in which they ran, if they do and it was not made up for.
    pub dependence: Option<Dependence>,
    /// How many runs the noise was taken from, where it is that between runs.
    pub runs: Option<usize>,
}

/// Tests the repetitions' values against the limit `soft`.
pub(super) fn test(evidence: &Evidence<'_>, soft: f64) -> Tested {
    // Turned so that more is worse, whatever the metric.
    let sign = match evidence.metric.metric().better {
        Better::Lower => 1.0,
        Better::Higher => -1.0,
    };
    let now: Vec<f64> = evidence.now.iter().map(|v| sign * v).collect();
    let moved = |by: f64| evidence.baseline.iter().map(|v| sign * v + by * v.abs()).collect::<Vec<f64>>();
    let allowed = soft * (1.0 + ROUNDING);
    let limit = moved(allowed);
    let beyond_p = p_greater(&limit, &now);
    // Dependence makes a failure doubtful, or hides one from all but pairs; what passes, passes.
    let asked = evidence.paired || beyond_p < SUSPECT;
    let dependence = [evidence.now, evidence.baseline].into_iter().filter(|_| asked).find_map(dependence);
    if dependence.is_some()
        && let Some(tested) = test_pairs(evidence, allowed)
    {
        return tested;
    }
    Tested {
        beyond_p,
        inside_p: p_greater(&now, &limit),
        better_p: p_greater(&now, &moved(-allowed)),
        least_p: least_p(evidence.baseline.len(), evidence.now.len()),
        place: None,
        dependence,
        runs: None,
    }
}

/// Tests pair by pair what ran one right after the other, so that what drifts over the run, on both sides alike, has no
/// part in it; `None` where there are no pairs.
fn test_pairs(evidence: &Evidence<'_>, allowed: f64) -> Option<Tested> {
    let Evidence { metric, baseline, now, paired } = *evidence;
    if !paired || baseline.len() != now.len() || baseline.iter().chain(now).any(|&v| v < 0.0) {
        return None;
    }
    let pairs = |a: &[f64], b: &[f64]| a.iter().copied().zip(b.iter().copied()).collect::<Vec<_>>();
    let (forth, back) = (pairs(baseline, now), pairs(now, baseline));
    // Beyond is above the limit where less is better, and below it where more is.
    let (worse, better, limit) = match metric.metric().better {
        Better::Lower => (&forth, &back, 1.0 + allowed),
        Better::Higher => (&back, &forth, 1.0 / (1.0 - allowed).max(f64::MIN_POSITIVE)),
    };
    Some(Tested {
        beyond_p: p_above(worse, limit)?,
        inside_p: p_above(better, 1.0 / limit)?,
        better_p: p_above(better, limit)?,
        least_p: 0.5f64.powi(now.len() as i32),
        place: None,
        dependence: None,
        runs: None,
    })
}

/// Tests whole histograms of `calls` against the limit `soft`; `None` where one side has no such calls.
pub(super) fn test_shapes(baseline: Latencies<'_>, now: Latencies<'_>, calls: Calls, soft: f64) -> Option<Tested> {
    let slower = slower(baseline, now, calls, soft)?;
    // There is no probability of being inside at every place of a distribution. It is where no place is suspect, or those
    // that are stay within the limit.
    let inside = if slower.worst.is_some_and(|worst| beyond(worst.factor() - 1.0, soft)) { 1.0 } else { 0.0 };
    let least_p = least_p(baseline.reps.len(), now.reps.len());
    let place = slower.worst;
    Some(Tested {
        beyond_p: slower.p_value,
        inside_p: inside,
        better_p: 1.0,
        least_p,
        place,
        dependence: None,
        runs: None,
    })
}

/// Sets whole histograms of `calls` against each other.
pub(super) fn slower(baseline: Latencies<'_>, now: Latencies<'_>, calls: Calls, soft: f64) -> Option<shape::Slower> {
    fn group<'a>(side: Latencies<'a>, calls: Calls) -> Vec<Histogram<'a>> {
        side.reps
            .iter()
            .map(|rep| Histogram {
                buckets: calls(rep),
                ns_per_tick: 1e9 / side.ticks_per_second,
                calls_share: side.calls_share,
            })
            .collect()
    }
    shape::slower(&group(baseline, calls), &group(now, calls), soft)
}

/// What the tests decide. `corrected` is `tested.beyond_p` after correction for `family` metrics tested together.
pub(super) fn decide(tested: &Tested, corrected: f64, family: usize, soft: f64, look: Look) -> Finding {
    let limit = human::percent(soft);
    if corrected <= look.alpha {
        if let Some(dependence) = tested.dependence {
            // Such values are fewer than they seem, and the probability larger.
            let reason = format!(
                "it seems worse by more than the {limit} allowed, but {}, so that can't be relied on; run it on a \
                 quieter machine, or interleaved with `heapgate ab`",
                dependence.kind
            );
            return Finding::new(Decision::Inconclusive, reason);
        }
        return Finding::new(Decision::Fail, format!("worse by more than the {limit} allowed{}", at(tested)));
    }
    if tested.better_p <= look.miss {
        let reason = match soft {
            _ if tested.runs.is_some() => format!("better by more than {limit} than the runs before"),
            0.0 => "better; record a new baseline to keep it so".to_owned(),
            _ => format!("better by more than {limit}; record a new baseline to keep it so"),
        };
        return Finding::new(Decision::Improved, reason);
    }
    if tested.inside_p <= look.miss {
        return Finding::new(Decision::Pass, format!("within the {limit} allowed"));
    }
    if let Some(runs) = tested.runs {
        // Repetitions say nothing of the noise between runs.
        let runs = human::counted(runs as u64, "run");
        let reason = match soft {
            0.0 => "it varies, and no runs can show that it has not grown at all; give it a limit in heapgate.toml"
                .to_owned(),
            _ => format!(
                "it may be inside or beyond the {limit} allowed, by the noise between {runs}; more runs in the history \
                 tell, or `heapgate ab`"
            ),
        };
        return Finding::new(Decision::Inconclusive, reason);
    }
    let never = tested.least_p * family as f64 > look.alpha;
    let reason = if soft == 0.0 && !never {
        "it varies, and no repetitions can show that it has not grown at all; give it a limit in heapgate.toml"
            .to_owned()
    } else if never {
        format!(
            "these repetitions can't show whether it is beyond the {limit} allowed; take more on both sides (-n 10)"
        )
    } else {
        format!("it may be inside or beyond the {limit} allowed{}; take more repetitions (--budget, -n)", at(tested))
    };
    Finding { decision: Decision::Inconclusive, reason, undecided: true }
}

/// Where in the distribution, in words.
fn at(tested: &Tested) -> String {
    let Some(place) = tested.place else { return String::new() };
    let (before, now) = human::pair(crate::metric::Unit::Nanos, place.baseline_ns, place.now_ns);
    format!(", most at {} ({before} → {now})", human::quantile(place.quantile))
}

/// Where the change is, and the smallest one that could have been told from none. Absent where values are negative or too
/// few.
pub(super) fn interval(baseline: &[f64], now: &[f64]) -> Option<ChangeInterval> {
    if baseline.iter().chain(now).any(|&value| value < 0.0) {
        return None;
    }
    let factor = factor(baseline, now, CONFIDENCE)?.interval?;
    Some(ChangeInterval { low: factor.low - 1.0, high: factor.high - 1.0, confidence: factor.confidence })
}

/// The smallest change that could have been told from none: how far the interval reaches from its middle.
pub(super) fn resolution(interval: ChangeInterval) -> Option<f64> {
    let (low, high) = (1.0 + interval.low, 1.0 + interval.high);
    // On the scale of factors: the ends are as far from the middle in ratio.
    let half = (high / low).sqrt() - 1.0;
    half.is_finite().then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: [f64; 10] = [100.0, 100.4, 99.8, 100.1, 99.6, 100.2, 99.9, 100.3, 99.7, 100.5];

    fn decision(now: &[f64], soft: f64, family: usize) -> Finding {
        let tested = test(&Evidence { metric: MetricId::PeakRss, baseline: &BASELINE, now, paired: false }, soft);
        decide(&tested, (tested.beyond_p * family as f64).min(1.0), family, soft, Look::ONLY)
    }

    #[test]
    fn one_repetition_is_no_evidence() {
        assert!(decision(&[200.0], 0.15, 1).undecided);
        assert!(decision(&[100.0], 0.15, 1).undecided);
    }

    #[test]
    fn one_outlier_decides_nothing() {
        assert!(decision(&[101.0, 900.0, 102.0, 100.0, 101.0], 0.15, 1).undecided);
        let ten = [101.0, 900.0, 102.0, 100.0, 101.0, 99.0, 100.5, 101.5, 100.0, 99.5];
        assert_eq!(decision(&ten, 0.15, 1).decision, Decision::Pass);
    }

    #[test]
    fn what_is_wholly_beyond_fails_and_what_is_wholly_inside_passes() {
        assert_eq!(decision(&[120.0, 119.0, 121.0, 118.0, 122.0], 0.15, 1).decision, Decision::Fail);
        assert_eq!(decision(&[110.0, 109.0, 111.0, 108.0, 112.0], 0.15, 1).decision, Decision::Pass);
        assert_eq!(decision(&[50.0, 51.0, 52.0, 50.5, 51.5], 0.15, 1).decision, Decision::Improved);
    }

    #[test]
    fn around_the_limit_more_repetitions_are_asked_for() {
        let finding = decision(&[114.0, 116.0, 115.0, 113.0, 117.0], 0.15, 1);
        assert!(finding.undecided && finding.decision == Decision::Inconclusive, "{finding:?}");
    }

    #[test]
    fn among_many_metrics_more_evidence_is_asked_for() {
        let five = [120.0, 119.0, 121.0, 118.0, 122.0];
        let finding = decision(&five, 0.15, 60);
        assert!(finding.undecided && finding.reason.contains("take more on both sides"), "{}", finding.reason);
        let ten: Vec<f64> = five.iter().flat_map(|v| [*v, v + 0.3]).collect();
        assert_eq!(decision(&ten, 0.15, 60).decision, Decision::Fail);
    }

    /// Both sides grow by half over the run, as on a machine that heats up.
    fn drifting(factor: f64) -> [Vec<f64>; 2] {
        let grown = |i: i32| 100.0 * (1.0 + 0.025 * f64::from(i)) + f64::from(i % 3);
        [(0..20).map(grown).collect(), (0..20).map(|i| grown(i) * factor * (1.0 + 0.001 * f64::from(i % 4))).collect()]
    }

    #[test]
    fn what_drifts_is_decided_on_pairs_where_there_are_some() {
        let decision = |factor: f64, paired: bool| {
            let [baseline, now] = drifting(factor);
            let tested = test(&Evidence { metric: MetricId::PeakRss, baseline: &baseline, now: &now, paired }, 0.05);
            decide(&tested, tested.beyond_p, 1, 0.05, Look::ONLY).decision
        };
        assert_eq!(decision(1.1, true), Decision::Fail);
        assert_eq!(decision(1.0, true), Decision::Pass);
    }

    #[test]
    fn what_drifts_does_not_fail_without_pairs() {
        let now: Vec<f64> = (0..10).map(|i| 120.0 + 3.0 * f64::from(i)).collect();
        let finding = decision(&now, 0.15, 1);
        assert_eq!(finding.decision, Decision::Inconclusive);
        assert!(finding.reason.contains("heapgate ab") && !finding.undecided, "{}", finding.reason);
    }

    #[test]
    fn less_is_worse_where_more_is_better() {
        let test = |now: &[f64]| {
            test(&Evidence { metric: MetricId::Throughput, baseline: &BASELINE, now, paired: false }, 0.1).beyond_p
        };
        assert!(test(&[80.0, 81.0, 79.0, 82.0, 78.0]) < 1e-3);
        assert!(test(&[120.0, 121.0, 119.0, 118.0, 122.0]) > 0.99);
    }

    #[test]
    fn the_resolution_is_the_reach_of_the_interval() {
        let interval = interval(&BASELINE, &BASELINE).unwrap();
        assert!(interval.low < 0.0 && interval.high > 0.0);
        let resolution = resolution(interval).unwrap();
        assert!((0.001..0.01).contains(&resolution), "{resolution}");
    }
}
