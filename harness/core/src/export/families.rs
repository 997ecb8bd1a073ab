//! What a run gives, as families of gauges.

use super::exposition::{Family, Labels};
use super::{
    ANSWERS_VERDICT, BASELINE, BASELINE_BYTES, BASELINE_RATIO, BASELINE_SECONDS, CELL_INFO, CHANGE, COMPLETE,
    FAILED_REPETITIONS, HARD_LIMIT, HARD_LIMIT_BYTES, HARD_LIMIT_RATIO, HARD_LIMIT_SECONDS, INFO, METRIC_VERDICT,
    PROBLEMS, REPETITIONS, RunFamily, SOFT_LIMIT, START, VERDICT, VERDICT_LINES, bounded, cell_labels, measured,
};
use crate::gate::{Decision, Overall, ProblemKind, Verdict};
use crate::metric::{ALL, MetricId, Unit};
use crate::report::Report;
use crate::stats::sample;

/// The run as a whole.
pub(super) fn push_run(out: &mut Vec<Family>, report: &Report, run: &Labels) {
    let (build, machine) = (&report.fingerprint.build, &report.fingerprint.machine);
    let mut info = run.clone();
    for (name, value) in [
        ("version", &build.heapgate),
        ("rustc", &build.rustc),
        ("target", &build.target),
        ("profile", &build.profile),
        ("cpu", &machine.cpu),
        ("kernel", &machine.kernel),
        ("libc", &machine.libc),
    ] {
        info.push(name, &bounded(value));
    }
    out.push(one(&INFO, info, 1.0));
    out.push(one(&START, run.clone(), report.created_unix_s as f64));
    out.push(one(&COMPLETE, run.clone(), if report.complete { 1.0 } else { 0.0 }));
}

/// What was measured in each cell.
pub(super) fn push_cells(out: &mut Vec<Family>, report: &Report, run: &Labels) {
    let cells = report.cells();
    let mut info = family(&CELL_INFO);
    let mut completed = family(&REPETITIONS);
    let mut failed = family(&FAILED_REPETITIONS);
    for trials in &cells {
        let labels = cell_labels(run, trials.cell);
        info.push(labels.with("unit", &bounded(trials.unit())).with("level", trials.level()), 1.0);
        let reps = trials.completed().count();
        completed.push(labels.clone(), reps as f64);
        failed.push(labels, (trials.trials.len() - reps) as f64);
    }
    out.extend([info, completed, failed]);
    for &metric in ALL {
        let mut family = measured(metric);
        for trials in &cells {
            let values: Vec<f64> = trials.values(metric).into_iter().filter(|value| value.is_finite()).collect();
            if let Some(median) = sample::median(&values) {
                family.push(cell_labels(run, trials.cell), in_base_unit(metric, median));
            }
        }
        out.push(family);
    }
}

/// What the gate decided, by which limits, against what.
pub(super) fn push_verdict(out: &mut Vec<Family>, verdict: &Verdict, run: &Labels) {
    let mut decision = family(&VERDICT);
    // All three, so that the state that is gone is 0 and not the last that was seen.
    for state in [Overall::Pass, Overall::Fail, Overall::Inconclusive] {
        decision.push(run.with("decision", overall(state)), if state == verdict.decision { 1.0 } else { 0.0 });
    }
    out.push(decision);

    let tally = &verdict.tally;
    let mut lines = family(&VERDICT_LINES);
    for (name, count) in [
        ("pass", tally.passed),
        ("improved", tally.improved),
        ("fail", tally.failed),
        ("accepted", tally.accepted),
        ("inconclusive", tally.inconclusive),
        ("not-compared", tally.not_compared),
        ("info", tally.info),
    ] {
        lines.push(run.with("decision", name), count as f64);
    }
    out.push(lines);

    let mut problems = family(&PROBLEMS);
    for kind in ProblemKind::ALL {
        let count = verdict.problems.iter().filter(|problem| problem.kind == kind).count();
        problems.push(run.with("kind", kind.name()), count as f64);
    }
    out.push(problems);

    push_lines(out, verdict, run);

    let mut answers = family(&ANSWERS_VERDICT);
    for line in &verdict.answers {
        answers.push(cell_labels(run, &line.cell).with("decision", word(&line.decision)), 1.0);
    }
    out.push(answers);
}

/// One sample a comparison in each family that has one.
fn push_lines(out: &mut Vec<Family>, verdict: &Verdict, run: &Labels) {
    let mut decisions = family(&METRIC_VERDICT);
    let mut changes = family(&CHANGE);
    let mut soft = family(&SOFT_LIMIT);
    let mut baselines = ByUnit::new([&BASELINE, &BASELINE_BYTES, &BASELINE_SECONDS, &BASELINE_RATIO]);
    let mut hard = ByUnit::new([&HARD_LIMIT, &HARD_LIMIT_BYTES, &HARD_LIMIT_SECONDS, &HARD_LIMIT_RATIO]);
    for line in &verdict.lines {
        let labels = cell_labels(run, &line.cell).with("metric", line.metric.metric().name);
        if line.decision != Decision::Info {
            decisions.push(labels.with("decision", word(&line.decision)), 1.0);
        }
        if let Some(change) = line.change {
            changes.push(labels.clone(), change);
        }
        if let Some(baseline) = &line.baseline {
            baselines.push(line.metric, labels.clone(), baseline.median);
        }
        if let Some(limit) = line.limits.soft {
            soft.push(labels.clone(), limit);
        }
        if let Some(limit) = line.limits.hard {
            hard.push(line.metric, labels, limit);
        }
    }
    out.extend([decisions, changes, soft]);
    out.extend(baselines.0);
    out.extend(hard.0);
}

/// A figure of metrics of every unit: one family would mix units, of which Prometheus knows only what the name says.
struct ByUnit([Family; 4]);

impl ByUnit {
    /// Plain numbers, bytes, seconds, ratios.
    fn new(families: [&RunFamily; 4]) -> Self {
        Self(families.map(family))
    }

    fn push(&mut self, metric: MetricId, labels: Labels, value: f64) {
        let index = match metric.metric().unit {
            Unit::Count | Unit::PerSecond => 0,
            Unit::Bytes => 1,
            Unit::Nanos => 2,
            Unit::Share => 3,
        };
        self.0[index].push(labels, in_base_unit(metric, value));
    }
}

fn family(of: &RunFamily) -> Family {
    Family::new(of.name, of.help)
}

fn one(of: &RunFamily, labels: Labels, value: f64) -> Family {
    let mut family = family(of);
    family.push(labels, value);
    family
}

fn in_base_unit(metric: MetricId, value: f64) -> f64 {
    metric.metric().unit.to_base(value)
}

fn overall(decision: Overall) -> &'static str {
    match decision {
        Overall::Pass => "pass",
        Overall::Fail => "fail",
        Overall::Inconclusive => "inconclusive",
    }
}

/// As in the verdict's JSON.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Pass => "pass",
        Decision::Improved => "improved",
        Decision::Fail => "fail",
        Decision::Accepted { .. } => "accepted",
        Decision::Inconclusive => "inconclusive",
        Decision::NotCompared { .. } => "not-compared",
        Decision::Info => "info",
    }
}
