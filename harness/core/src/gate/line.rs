//! One metric of one cell: which rule applies, and what comes of it.

use super::exact;
use super::look::Look;
use super::noisy::{self, Evidence, Finding, Latencies, Tested};
use super::recent;
use super::verdict::{Decision, Line, Side};
use crate::baseline::{BaselineCell, Levels, agree};
use crate::config::{Config, OnMismatch};
use crate::metric::{Better, Kind, MetricId};
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
        /// What is known of the runs, where they are the baseline.
        levels: Option<&'a Levels>,
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
}

/// A line of which the decision may wait: how much evidence is enough depends on how many metrics are tested.
pub(super) struct Draft {
    line: Line,
    hard: Option<Finding>,
    soft: Option<Soft>,
}

/// What comparing with the baseline gave.
pub(super) enum Soft {
    Decided(Finding),
    Tested {
        tested: Tested,
        /// What to say before the reason.
        said: Option<String>,
    },
}

impl Draft {
    /// The tested probability of a change this far beyond its limit, if one was tested.
    pub(super) fn p_value(&self) -> Option<f64> {
        match &self.soft {
            Some(Soft::Tested { tested, .. }) => Some(tested.beyond_p),
            _ => None,
        }
    }

    /// The line, with its probability `corrected` for all `family` metrics that were tested.
    pub(super) fn finish(self, corrected: Option<f64>, family: usize, look: Look) -> Line {
        let mut line = self.line;
        let soft = match (self.soft, line.limits.soft, corrected) {
            (Some(Soft::Tested { tested, said }), Some(limit), Some(corrected)) => {
                line.p_value = Some(corrected);
                let finding = noisy::decide(&tested, corrected, family, limit, look);
                Some(match said {
                    Some(said) => {
                        Finding { reason: format!("{said}, so it is treated as noisy: {}", finding.reason), ..finding }
                    }
                    None => finding,
                })
            }
            (Some(Soft::Decided(finding)), ..) => Some(finding),
            _ => None,
        };
        let finding = match (self.hard, soft) {
            (None, None) => Finding::new(Decision::Info, "no limit"),
            (Some(one), None) | (None, Some(one)) => one,
            // The worse of the two; of equals the one that tells more, which is the comparison.
            (Some(hard), Some(soft)) => {
                if hard.decision.severity() > soft.decision.severity() {
                    hard
                } else {
                    soft
                }
            }
        };
        (line.decision, line.reason, line.undecided) = (finding.decision, finding.reason, finding.undecided);
        line
    }
}

impl CellContext<'_> {
    /// Compares `metric`; `None` where neither side has it and none is expected.
    pub(super) fn draft(&self, metric: MetricId) -> Option<Draft> {
        let limits = self.config.limits_for(self.now.cell, metric);
        let now = self.now.values(metric);
        let baseline: &[f64] = match self.against {
            Against::Cell { baseline, .. } => baseline.metrics.get(&metric).map_or(&[], Vec::as_slice),
            Against::Nothing(_) => &[],
        };
        let (hard, soft) = if now.is_empty() && baseline.is_empty() {
            if !self.config.expects(self.now.cell, metric) {
                return None;
            }
            (None, Some(Soft::Decided(inconclusive("it has a limit in heapgate.toml, but was not measured"))))
        } else {
            (
                limits.hard.map(|hard| hard_limit(metric, hard, &now)),
                limits.soft.map(|soft| self.soft_limit(metric, soft, baseline, &now)),
            )
        };
        let comparable = self.comparable(metric);
        let exact = !baseline.is_empty() && !now.is_empty() && disagreement(metric, baseline, &now).is_none();
        let exact = exact && metric.metric().kind == Kind::Exact;
        let level = self.levels().map(|levels| levels.get(&metric).copied());
        let exact = exact && level.is_none_or(|level| level.is_some_and(|l| l.exact));
        let interval = match level {
            _ if !comparable || exact => None,
            None => noisy::interval(baseline, &now),
            Some(level) => level.and_then(|level| recent::interval(baseline, &now, level)),
        };
        let resolution = if exact { Some(0.0) } else { interval.and_then(noisy::resolution) };
        let (baseline, now) = (Side::of(baseline), Side::of(&now));
        let change = baseline.zip(now).and_then(|(b, n)| change(b.median, n.median));
        let line = Line {
            cell: self.now.cell.clone(),
            metric,
            decision: Decision::Info,
            undecided: false,
            baseline,
            now,
            change,
            interval,
            resolution,
            detectable: None,
            p_value: None,
            limits,
            reason: String::new(),
            advice: Vec::new(),
        };
        Some(Draft { line, hard, soft })
    }

    /// What is known of the last runs, where they are the baseline.
    fn levels(&self) -> Option<&Levels> {
        match self.against {
            Against::Cell { levels, .. } => levels,
            Against::Nothing(_) => None,
        }
    }

    /// Whether a difference in `metric` would be the program's, not the machine's.
    fn comparable(&self, metric: MetricId) -> bool {
        match self.against {
            Against::Nothing(_) => false,
            Against::Cell { same_class, .. } => same_class || metric.metric().kind == Kind::Exact,
        }
    }

    /// Compares with the baseline.
    fn soft_limit(&self, metric: MetricId, soft: f64, baseline: &[f64], now: &[f64]) -> Soft {
        let decided = |finding| Soft::Decided(finding);
        let (base_cell, same_class) = match self.against {
            Against::Nothing(why) => return decided(inconclusive(why)),
            Against::Cell { baseline, same_class, .. } => (baseline, same_class),
        };
        if let Some(levels) = self.levels() {
            return self.against_runs(metric, soft, baseline, now, levels.get(&metric).copied());
        }
        let completed = self.now.completed().count();
        if baseline.is_empty() {
            return decided(inconclusive("the baseline doesn't have it; record it again"));
        }
        if now.is_empty() && metric.metric().kind == Kind::Distribution && self.calls_share(base_cell) == 0.0 {
            return decided(Finding::new(Decision::Pass, "no call was made that could take time"));
        }
        if now.is_empty() {
            return decided(inconclusive("the baseline has it, but this run didn't measure it"));
        }
        if now.len() < completed {
            return decided(inconclusive(&format!("only {} of {completed} repetitions measured it", now.len())));
        }
        if base_cell.unit != self.now.unit() {
            return decided(inconclusive("the unit of work isn't the baseline's"));
        }
        let evidence = Evidence { metric, baseline, now, paired: self.config.interleaved };
        if metric.metric().kind == Kind::Exact {
            // The machine has no part in these, so its class doesn't matter, also where they turn out to vary.
            return match disagreement(metric, baseline, now) {
                None => decided(exact::decide(metric, baseline[0], now[0], soft)),
                said => Soft::Tested { tested: noisy::test(&evidence, soft), said },
            };
        }
        if base_cell.level != self.now.level() {
            return decided(inconclusive(&format!(
                "measured at level {}, the baseline at {}",
                self.now.level(),
                base_cell.level
            )));
        }
        if same_class {
            return self.tested(&evidence, base_cell, soft);
        }
        decided(match self.config.on_mismatch {
            OnMismatch::Inconclusive => inconclusive("the baseline is of another machine class"),
            OnMismatch::ExactOnly => {
                let why = "the baseline is of another machine class".to_owned();
                Finding::new(Decision::NotCompared { why: why.clone() }, format!("left out: {why}"))
            }
        })
    }

    fn tested(&self, evidence: &Evidence<'_>, base_cell: &BaselineCell, soft: f64) -> Soft {
        let calls: noisy::Calls = match evidence.metric {
            MetricId::StallDistribution => |rep| &rep.clean,
            MetricId::InterruptedDistribution => |rep| &rep.interrupted,
            _ => return Soft::Tested { tested: noisy::test(evidence, soft), said: None },
        };
        let baseline = latencies(&base_cell.stalls, base_cell.ticks_per_second, 1.0);
        let now = latencies(self.now_stalls, self.now.ticks_per_second(), self.calls_share(base_cell));
        match baseline.zip(now).and_then(|(baseline, now)| noisy::test_shapes(baseline, now, calls, soft)) {
            Some(tested) => Soft::Tested { tested, said: None },
            None => Soft::Decided(inconclusive("one side has no histogram of it")),
        }
    }

    /// Allocations in a unit of work as a share of the baseline's, at most 1; 1 where it isn't known.
    fn calls_share(&self, base_cell: &BaselineCell) -> f64 {
        let now = Side::of(&self.now.values(MetricId::AllocationsPerUnit));
        let baseline = base_cell.metrics.get(&MetricId::AllocationsPerUnit).and_then(|values| Side::of(values));
        match baseline.zip(now) {
            Some((baseline, now)) if baseline.median > 0.0 => (now.median / baseline.median).clamp(0.0, 1.0),
            _ => 1.0,
        }
    }
}

pub(super) fn inconclusive(reason: &str) -> Finding {
    Finding::new(Decision::Inconclusive, reason)
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
        Finding::new(Decision::Fail, format!("{word} the hard limit of {limit}"))
    } else {
        Finding::new(Decision::Pass, format!("within the hard limit of {limit}"))
    }
}

/// The side whose repetitions disagree on an exact metric, in words.
pub(super) fn disagreement(metric: MetricId, baseline: &[f64], now: &[f64]) -> Option<String> {
    let (side, values) =
        [("this run", now), ("the baseline", baseline)].into_iter().find(|(_, values)| !agree(values))?;
    let Side { min, max, .. } = Side::of(values)?;
    let (min, max) = human::pair(metric.metric().unit, min, max);
    Some(format!("repetitions of {side} disagree ({min} to {max})"))
}

fn latencies(reps: &[RepStalls], ticks_per_second: f64, calls_share: f64) -> Option<Latencies<'_>> {
    (ticks_per_second > 0.0).then_some(Latencies { reps, ticks_per_second, calls_share })
}

/// The change as a signed fraction of the baseline.
fn change(baseline: f64, now: f64) -> Option<f64> {
    if crate::stats::sample::same(baseline, now) {
        return Some(0.0);
    }
    (baseline != 0.0).then(|| (now - baseline) / baseline.abs()).filter(|c| c.is_finite())
}
