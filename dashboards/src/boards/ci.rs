//! **CI history**: runs that were pushed (`heapgate gate --push`), by commit: figures, limits, verdicts.

use heapgate_core::export::{RUN_FAMILIES, RunFamily};
use heapgate_core::metric::{ALL, Better, Metric, MetricId, Unit as Of};

use super::of_job;
use crate::board::{Board, Mark, Variable};
use crate::panel::{Kind, Panel, Unit};
use crate::selector::{Selector, run, run_family};

const CELL: &str = "{{workload}}/{{variant}} {{allocator}} {{parameters}}";
/// One line through all commits.
const ACROSS: &str = "max without (commit, instance, push_time_seconds)";
const DECISIONS: &[(u32, &str, &str)] = &[(0, "pass", "green"), (1, "inconclusive", "orange"), (2, "fail", "red")];

// A name that is not exported does not compile.
const START: &RunFamily = exported("heapgate_run_start_timestamp_seconds");
const COMPLETE: &RunFamily = exported("heapgate_run_complete");
const VERDICT: &RunFamily = exported("heapgate_run_verdict");
const VERDICT_LINES: &RunFamily = exported("heapgate_run_verdict_lines");
const PROBLEMS: &RunFamily = exported("heapgate_run_problems");
const REPETITIONS: &RunFamily = exported("heapgate_run_repetitions");
const FAILED_REPETITIONS: &RunFamily = exported("heapgate_run_failed_repetitions");
const METRIC_VERDICT: &RunFamily = exported("heapgate_run_metric_verdict");
const ANSWERS_VERDICT: &RunFamily = exported("heapgate_run_answers_verdict");
const CHANGE: &RunFamily = exported("heapgate_run_change_ratio");
const BASELINE: &RunFamily = exported("heapgate_run_baseline");
const BASELINE_BYTES: &RunFamily = exported("heapgate_run_baseline_bytes");
const BASELINE_SECONDS: &RunFamily = exported("heapgate_run_baseline_seconds");
const BASELINE_RATIO: &RunFamily = exported("heapgate_run_baseline_ratio");
const SOFT_LIMIT: &RunFamily = exported("heapgate_run_soft_limit_ratio");
const HARD_LIMIT: &RunFamily = exported("heapgate_run_hard_limit");
const HARD_LIMIT_BYTES: &RunFamily = exported("heapgate_run_hard_limit_bytes");
const HARD_LIMIT_SECONDS: &RunFamily = exported("heapgate_run_hard_limit_seconds");
const HARD_LIMIT_RATIO: &RunFamily = exported("heapgate_run_hard_limit_ratio");

const fn exported(name: &str) -> &'static RunFamily {
    let mut index = 0;
    while index < RUN_FAMILIES.len() {
        if same(RUN_FAMILIES[index].name.as_bytes(), name.as_bytes()) {
            return &RUN_FAMILIES[index];
        }
        index += 1;
    }
    panic!("no run exports this")
}

/// `==`, which constants can't use.
const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

pub(super) fn board() -> Board {
    let start = run_family(START).to_string();
    let of = |label: &str| -> String {
        let narrowed =
            of_job(run_family(REPETITIONS)).matching("branch", "$branch").matching("machine_class", "$machine");
        match label {
            "branch" | "machine_class" => of_job(run_family(START)).to_string(),
            _ => narrowed.to_string(),
        }
    };
    let variable =
        |name, label, of_label: &'static str| Variable { name, label, of: of_label, series: of(of_label), many: true };
    Board {
        uid: "heapgate-ci",
        title: "heapgate: CI history",
        description: "Runs pushed from CI with --push: figures by commit, the limits they are held to, and what the gate decided.",
        from: "now-30d",
        refresh: "5m",
        variables: vec![
            Variable { name: "job", label: "Job", of: "job", series: start, many: false },
            variable("branch", "Branch", "branch"),
            variable("machine", "Machine class", "machine_class"),
            variable("workload", "Workload", "workload"),
            variable("variant", "Variant", "variant"),
            variable("allocator", "Allocator", "allocator"),
        ],
        marks: vec![Mark {
            name: "Run",
            color: "blue",
            expr: format!("{} * 1000", of_run(START)),
            text: "{{commit}} ({{branch}}, {{verb}})",
            value_is_time: true,
        }],
        rows: vec![("Verdicts", verdicts()), ("Metrics that have a limit", metrics()), ("Commits", commits())],
    }
}

fn chosen_run(series: Selector) -> Selector {
    of_job(series).matching("branch", "$branch").matching("machine_class", "$machine")
}

fn of_run(family: &RunFamily) -> Selector {
    chosen_run(run_family(family))
}

fn chosen(series: Selector) -> Selector {
    chosen_run(series)
        .matching("workload", "$workload")
        .matching("variant", "$variant")
        .matching("allocator", "$allocator")
}

fn of(family: &RunFamily) -> Selector {
    chosen(run_family(family))
}

fn verdicts() -> Vec<Panel> {
    let decision = |decision: &str| of_run(VERDICT).with("decision", decision);
    vec![
        Panel::new(
            Kind::States,
            Unit::Word,
            "Verdict",
            "What the gate decided over everything. fail: the table below names the metrics; heapgate gate prints what to do. inconclusive for days: too few repetitions, or a \
             noisy machine; heapgate calibrate says how many are needed.",
        )
        .width(16)
        .query(
            "{{branch}} {{verb}} {{machine_class}}",
            format!(
                "max by (branch, verb, machine_class, matrix) (2 * {} or {} or 0 * {})",
                decision("fail"),
                decision("inconclusive"),
                decision("pass")
            ),
        )
        .words(DECISIONS),
        Panel::new(
            Kind::Stat,
            Unit::Seconds,
            "Since the last run",
            "How long ago the last run of each kind began. Much more than your CI's rhythm: it does not run, or does not push (it warns on stderr, and its verdict counts all \
             the same).",
        )
        .width(8)
        .query("{{branch}} {{verb}}", format!("time() - max by (branch, verb) ({})", of_run(START))),
        Panel::new(
            Kind::Table,
            Unit::Count,
            "Failed or undecided",
            "Metrics that failed, or could not be decided, in the last runs. Change is against the baseline: 15% more is 0.15. A regression that was meant is accepted in \
             heapgate.toml ([[accept]]), or by a new baseline with its reason.",
        )
        .query("Found", of(METRIC_VERDICT).matching("decision", "fail|inconclusive").to_string())
        .query(
            "Change",
            format!(
                "{}\nand ignoring (decision) {}",
                of(CHANGE),
                of(METRIC_VERDICT).matching("decision", "fail|inconclusive")
            ),
        ),
        Panel::new(
            Kind::Stack,
            Unit::Count,
            "Comparisons by outcome",
            "not-compared grows: the baseline misses cells or metrics; record it anew. accepted grows: exceptions pile up in heapgate.toml.",
        )
        .query("{{decision}}", format!("sum by (decision) ({})", of_run(VERDICT_LINES))),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Problems",
            "What stood in the way of a pass beyond single metrics: trials that failed, a baseline that is missing or can't be used, a run that was cut off. Any at \
             all: the run's own output says which and what to do.",
        )
        .query("{{kind}} {{branch}}", format!("max by (kind, branch) ({})", of_run(PROBLEMS)))
        .bad_from(1.0),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Repetitions",
            "Completed and failed ones, of the cell with the fewest. Failed ones: a workload crashed, or ran out of memory or time. Fewer completed ones than planned make verdicts \
             inconclusive.",
        )
        .query("completed", format!("min({})", of(REPETITIONS)))
        .query("failed", format!("max({})", of(FAILED_REPETITIONS)))
        .query("runs cut off", format!("count({} == 0) or vector(0)", of_run(COMPLETE))),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Cells whose answers were judged",
            "By outcome. fail: the program gives other answers than the baseline's; that is a bug or a new baseline, not a question of memory.",
        )
        .query("{{decision}}", format!("count by (decision) ({})", of(ANSWERS_VERDICT))),
    ]
}

/// One panel for each metric that the gate has a limit for, unless told otherwise.
fn metrics() -> Vec<Panel> {
    ALL.iter().filter(|id| gated(id.metric())).map(|&id| metric(id)).collect()
}

fn gated(metric: &Metric) -> bool {
    metric.limits.soft.is_some() || metric.limits.hard.is_some()
}

fn metric(id: MetricId) -> Panel {
    let metric = id.metric();
    let (unit, baseline, hard) = match metric.unit {
        Of::Count => (Unit::Count, BASELINE, HARD_LIMIT),
        Of::PerSecond => (Unit::PerSecond, BASELINE, HARD_LIMIT),
        Of::Bytes => (Unit::Bytes, BASELINE_BYTES, HARD_LIMIT_BYTES),
        Of::Nanos => (Unit::Seconds, BASELINE_SECONDS, HARD_LIMIT_SECONDS),
        Of::Share => (Unit::Share, BASELINE_RATIO, HARD_LIMIT_RATIO),
    };
    let narrowed = |family: &RunFamily| of(family).with("metric", metric.name);
    let (sign, way) = match metric.better {
        Better::Lower => ("+", "above"),
        Better::Higher => ("-", "below"),
    };
    let help = metric.help;
    let mut panel = Panel::new(
        Kind::Lines,
        unit,
        metric.name,
        format!(
            "{help} Median of the repetitions, by commit (marks). A line {way} its limit is a regression: the commit at its step is where to look, with heapgate ab --base \
             COMMIT^ and heapgate run --sites. A limit that moves: the baseline was recorded anew."
        ),
    )
    .query(CELL, format!("{ACROSS} ({})", chosen(run(id))));
    if metric.limits.soft.is_some() {
        panel = panel.query(
            format!("limit {CELL}"),
            format!("{ACROSS} ({} * (1 {sign} {}))", narrowed(baseline), narrowed(SOFT_LIMIT)),
        );
    }
    if metric.limits.hard.is_some() {
        panel = panel.query(format!("hard limit {CELL}"), format!("{ACROSS} ({})", narrowed(hard)));
    }
    panel
}

fn commits() -> Vec<Panel> {
    let metrics = [
        MetricId::AllocationsPerUnit,
        MetricId::PeakLiveObjects,
        MetricId::PeakLiveBytes,
        MetricId::PeakRss,
        MetricId::StallP95,
    ];
    let table = Panel::new(
        Kind::Table,
        Unit::Count,
        "Commits in the range of time",
        "The last figures of each commit and cell: bytes, and seconds for the stall. Sort by a column, and compare a commit with the one before it.",
    );
    let table = metrics.into_iter().fold(table, |table, id| {
        let expr = format!(
            "max by (commit, branch, workload, variant, allocator, parameters) (last_over_time({}[$__range]))",
            chosen(run(id))
        );
        table.query(id.metric().name, expr)
    });
    vec![table]
}
