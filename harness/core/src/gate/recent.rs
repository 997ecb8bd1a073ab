//! The rule where the last runs are the baseline: is this run's median one that they would have led us to expect?

use super::exact;
use super::judge::Lookup;
use super::line::{CellContext, Soft, disagreement, inconclusive};
use super::noisy::{CONFIDENCE, ROUNDING, Tested};
use super::verdict::{ChangeInterval, Decision};
use crate::baseline::{FEWEST_RUNS, Found, Level, RecentRuns, agree};
use crate::history::History;
use crate::metric::{Better, MetricId};
use crate::render::human::counted;
use crate::report::Report;
use crate::stats::prediction::against_history;
use crate::stats::sample::median;

/// The baselines of all workloads of `report`: the last runs, in `history`.
///
/// ```
/// use heapgate_core::{config::Config, gate::{Look, Overall, from_history, judge}, history::History, report::testing};
/// let report = testing::report(1, 3);
/// let verdict = judge(&report, &[], &from_history(&History::default(), &report), &Config::default(), Look::ONLY);
/// assert_eq!(verdict.decision, Overall::Inconclusive);
/// ```
#[must_use]
pub fn from_history(history: &History, report: &Report) -> Vec<Lookup> {
    let lookup = |runs: RecentRuns| Lookup {
        workload: runs.baseline.workload.clone(),
        found: Ok(Found::History(Box::new(runs))),
    };
    RecentRuns::by_workload(history, report).into_iter().map(lookup).collect()
}

impl CellContext<'_> {
    /// Compares with the last runs. `level` is what is known of them; `None` where they don't have the metric.
    pub(super) fn against_runs(
        &self,
        metric: MetricId,
        soft: f64,
        runs: &[f64],
        now: &[f64],
        level: Option<Level>,
    ) -> Soft {
        let (completed, have) = (self.now.completed().count(), level.map_or(0, |l| l.of));
        let level = match level {
            Some(level) if have >= FEWEST_RUNS => level,
            _ => {
                return Soft::Decided(inconclusive(&format!(
                    "the history has {} with it on this machine class, and {FEWEST_RUNS} are needed; each complete \
                     `heapgate run` or `gate` with these flags adds one",
                    counted(have as u64, "run")
                )));
            }
        };
        if now.is_empty() {
            return Soft::Decided(inconclusive("the runs before have it, but this one didn't measure it"));
        }
        if now.len() < completed {
            return Soft::Decided(inconclusive(&format!("only {} of {completed} repetitions measured it", now.len())));
        }
        let last = runs[runs.len() - 1];
        if level.exact && agree(now) {
            let mut finding = exact::decide(metric, last, now[0], soft);
            if finding.decision == Decision::Improved {
                "better than the last run".clone_into(&mut finding.reason);
            }
            return Soft::Decided(finding);
        }
        match test(metric, soft, runs, now, level) {
            Some(tested) => Soft::Tested { tested, said: exactness(metric, runs, now) },
            None => Soft::Decided(inconclusive("it is 0 or below, so that no factor can be told")),
        }
    }
}

/// Why an exact metric is decided as a noisy one.
fn exactness(metric: MetricId, runs: &[f64], now: &[f64]) -> Option<String> {
    if metric.metric().kind != crate::metric::Kind::Exact {
        return None;
    }
    let disagree = |text: String| text.replace("repetitions of the baseline", "the runs before");
    Some(disagreement(metric, runs, now).map_or("repetitions of the runs before disagree".to_owned(), disagree))
}

/// Tests this run's median against the limit `soft`, by what the runs before make likely.
fn test(metric: MetricId, soft: f64, runs: &[f64], now: &[f64], level: Level) -> Option<Tested> {
    let now = median(now)?;
    let allowed = soft * (1.0 + ROUNDING);
    let (more, less) = (1.0 + allowed, 1.0 - allowed);
    let at = |limit: f64| against_history(runs, now, limit, level.step, CONFIDENCE);
    let above = at(more)?;
    // No value is as far below as that.
    let (below_p, inside_below_p) = if less > 0.0 { at(less).map(|p| (p.p_below, p.p_above))? } else { (1.0, 0.0) };
    let (beyond_p, inside_p, better_p) = match metric.metric().better {
        Better::Lower => (above.p_above, above.p_below, below_p),
        Better::Higher => (below_p, inside_below_p, above.p_above),
    };
    let runs = Some(runs.len());
    Some(Tested { beyond_p, inside_p, better_p, least_p: 0.0, place: None, dependence: None, runs })
}

/// Where the true change is, as far as the runs before tell.
pub(super) fn interval(runs: &[f64], now: &[f64], level: Level) -> Option<ChangeInterval> {
    let interval = against_history(runs, median(now)?, 1.0, level.step, CONFIDENCE)?.interval;
    Some(ChangeInterval { low: interval.low - 1.0, high: interval.high - 1.0, confidence: interval.confidence })
}
