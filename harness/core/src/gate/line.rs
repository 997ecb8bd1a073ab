//! One metric of one cell: which rule applies, and what comes of it.

use super::exact;
use super::noisy::{Evidence, Finding, Latencies, NoisyRule};
use super::verdict::{Decision, Line, Side};
use crate::baseline::{BaselineCell, agree};
use crate::config::{Config, OnMismatch};
use crate::metric::{Better, Kind, Limits, MetricId};
use crate::render::human;
use crate::report::{CellTrials, RepStalls};

/// What the baseline has for a cell.
#[derive(Clone, Copy)]
pub(super) enum Against<'a> {
    /// Its figures.
    Cell {
        baseline: &'a BaselineCell,
        /// Whether it was recorded on this machine's class.
        same_class: bool,
    },
    /// Nothing, and why.
    Nothing(&'static str),
}

/// One cell to be judged.
pub(super) struct CellContext<'a> {
    pub now: &'a CellTrials<'a>,
    pub now_stalls: &'a [RepStalls],
    pub against: Against<'a>,
    pub config: &'a Config,
    pub rule: &'a dyn NoisyRule,
}

impl CellContext<'_> {
    /// Judges `metric`; `None` where neither side has it and none is expected.
    pub(super) fn line(&self, metric: MetricId) -> Option<Line> {
        let limits = self.config.limits_for(self.now.cell, metric);
        let now = self.now.values(metric);
        let baseline: &[f64] = match self.against {
            Against::Cell { baseline, .. } => baseline.metrics.get(&metric).map_or(&[], Vec::as_slice),
            Against::Nothing(_) => &[],
        };
        let finding = if now.is_empty() && baseline.is_empty() {
            if !self.config.expects(self.now.cell, metric) {
                return None;
            }
            inconclusive("it has a limit in heapgate.toml, but was not measured")
        } else {
            self.finding(metric, limits, baseline, &now)
        };
        let (baseline, now) = (Side::of(baseline), Side::of(&now));
        let change = baseline.zip(now).and_then(|(b, n)| change(b.median, n.median));
        let Finding { decision, reason } = finding;
        Some(Line {
            cell: self.now.cell.clone(),
            metric,
            decision,
            baseline,
            now,
            change,
            interval: None,
            resolution: None,
            p_value: None,
            limits,
            reason,
            advice: Vec::new(),
        })
    }

    fn finding(&self, metric: MetricId, limits: Limits, baseline: &[f64], now: &[f64]) -> Finding {
        let hard = limits.hard.map(|hard| hard_limit(metric, hard, now));
        let soft = limits.soft.map(|soft| self.soft_limit(metric, soft, baseline, now));
        match (hard, soft) {
            (None, None) => Finding { decision: Decision::Info, reason: "no limit".to_owned() },
            (Some(one), None) | (None, Some(one)) => one,
            // The worse of the two; of equals the one that tells more, which is the comparison.
            (Some(hard), Some(soft)) => {
                if hard.decision.severity() > soft.decision.severity() {
                    hard
                } else {
                    soft
                }
            }
        }
    }

    /// Compares with the baseline.
    fn soft_limit(&self, metric: MetricId, soft: f64, baseline: &[f64], now: &[f64]) -> Finding {
        let (base_cell, same_class) = match self.against {
            Against::Nothing(why) => return inconclusive(why),
            Against::Cell { baseline, same_class } => (baseline, same_class),
        };
        let completed = self.now.completed().count();
        if baseline.is_empty() {
            return inconclusive("the baseline doesn't have it; record it again");
        }
        if now.is_empty() {
            return inconclusive("the baseline has it, but this run didn't measure it");
        }
        if now.len() < completed {
            return inconclusive(&format!("only {} of {completed} repetitions measured it", now.len()));
        }
        if base_cell.unit != self.now.unit() {
            return inconclusive("the unit of work isn't the baseline's");
        }
        let evidence = Evidence {
            metric,
            baseline,
            now,
            soft,
            baseline_latencies: latencies(&base_cell.stalls, base_cell.ticks_per_second),
            now_latencies: latencies(self.now_stalls, self.now.ticks_per_second()),
        };
        if metric.metric().kind == Kind::Exact {
            // The machine has no part in these, so its class doesn't matter, also where they turn out to vary.
            return match disagreement(metric, baseline, now) {
                None => exact::decide(metric, baseline[0], now[0], soft),
                Some(said) => {
                    let finding = self.rule.decide(&evidence);
                    Finding { reason: format!("{said}, so it is treated as noisy: {}", finding.reason), ..finding }
                }
            };
        }
        if base_cell.level != self.now.level() {
            return inconclusive(&format!(
                "measured at level {}, the baseline at {}",
                self.now.level(),
                base_cell.level
            ));
        }
        if same_class {
            return self.rule.decide(&evidence);
        }
        match self.config.on_mismatch {
            OnMismatch::Inconclusive => inconclusive("the baseline is of another machine class"),
            OnMismatch::ExactOnly => {
                let why = "the baseline is of another machine class".to_owned();
                Finding { reason: format!("left out: {why}"), decision: Decision::NotCompared { why } }
            }
        }
    }
}

fn inconclusive(reason: &str) -> Finding {
    Finding { decision: Decision::Inconclusive, reason: reason.to_owned() }
}

/// Whether the median is within the hard limit. It needs no baseline.
fn hard_limit(metric: MetricId, hard: f64, now: &[f64]) -> Finding {
    let Some(now) = Side::of(now) else {
        return inconclusive("it has a hard limit, but this run didn't measure it");
    };
    let (passed, word) = match metric.metric().better {
        Better::Lower => (now.median > hard, "above"),
        Better::Higher => (now.median < hard, "below"),
    };
    let limit = human::limit(metric.metric().unit, hard);
    if passed {
        Finding { decision: Decision::Fail, reason: format!("{word} the hard limit of {limit}") }
    } else {
        Finding { decision: Decision::Pass, reason: format!("within the hard limit of {limit}") }
    }
}

/// The side whose repetitions disagree on an exact metric, in words.
fn disagreement(metric: MetricId, baseline: &[f64], now: &[f64]) -> Option<String> {
    let (side, values) =
        [("this run", now), ("the baseline", baseline)].into_iter().find(|(_, values)| !agree(values))?;
    let Side { min, max, .. } = Side::of(values)?;
    let (min, max) = human::pair(metric.metric().unit, min, max);
    Some(format!("repetitions of {side} disagree ({min} to {max})"))
}

fn latencies(reps: &[RepStalls], ticks_per_second: f64) -> Option<Latencies<'_>> {
    (ticks_per_second > 0.0).then_some(Latencies { reps, ticks_per_second })
}

/// The change as a signed fraction of the baseline.
fn change(baseline: f64, now: f64) -> Option<f64> {
    if crate::stats::sample::same(baseline, now) {
        return Some(0.0);
    }
    (baseline != 0.0).then(|| (now - baseline) / baseline.abs()).filter(|c| c.is_finite())
}
