//! A run for Prometheus: medians, limits and verdict in its text format, for a Pushgateway or node_exporter's textfile
//! collector.
//!
//! Names and help of measured figures come from the catalogue ([`crate::metric`]), values in Prometheus's base units.
//! Everything is a gauge: a run is a moment, and no sample has a time of its own, which both readers refuse.

mod exposition;
mod families;

use crate::gate::Verdict;
use crate::hash::fnv1a;
use crate::metric::{ALL, MetricId};
use crate::report::{Cell, Report};
use crate::shard::matrix_hash;

use exposition::{Family, Labels};

/// Longest value of a label, bytes. Some servers refuse more (Mimir by default 2,048), and nobody reads it in a legend.
pub const LONGEST_LABEL: usize = 200;

/// The labels by which the series of one run are told apart. A group's label of such a name would put all of them together.
pub const SERIES_LABELS: &[&str] =
    &["allocator", "commit", "decision", "kind", "level", "metric", "parameters", "unit", "variant", "workload"];

/// What a figure that is not in the catalogue says: its name, and one line of help. Series of all of them have the labels of
/// the run; those of a cell the cell's too.
#[derive(Debug)]
pub struct RunFamily {
    /// Name for Prometheus.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
}

macro_rules! run_families {
    ($($id:ident { $name:literal, $help:literal })*) => {
        $(pub(crate) const $id: RunFamily = RunFamily { name: $name, help: $help };)*

        /// Every family that a run may have beside those of the catalogue.
        pub const RUN_FAMILIES: &[RunFamily] = &[$($id),*];
    };
}

run_families! {
    INFO { "heapgate_run_info", "Always 1: what was measured, by which build, where." }
    START { "heapgate_run_start_timestamp_seconds", "When the run began, seconds since 1970." }
    COMPLETE { "heapgate_run_complete", "1 where every planned trial ended, 0 where the run was cut off." }
    VERDICT { "heapgate_run_verdict", "1 for the decision over everything, 0 for the others; absent where nothing was judged." }
    VERDICT_LINES { "heapgate_run_verdict_lines", "Comparisons by how they came out." }
    PROBLEMS { "heapgate_run_problems", "What stood in the way of a pass beyond single metrics, by kind." }
    CELL_INFO { "heapgate_run_cell_info", "Always 1: the unit of work of a cell and how much the telemetry recorded." }
    REPETITIONS { "heapgate_run_repetitions", "Repetitions of a cell that completed." }
    FAILED_REPETITIONS { "heapgate_run_failed_repetitions", "Repetitions of a cell that failed, crashed, or ran out of memory or time." }
    METRIC_VERDICT { "heapgate_run_metric_verdict", "1 for what came out for a metric of a cell: pass, improved, fail, accepted, inconclusive or not-compared; absent where it has no limit." }
    ANSWERS_VERDICT { "heapgate_run_answers_verdict", "1 for what came out for the answers of a cell." }
    CHANGE { "heapgate_run_change_ratio", "Change of a metric's median against the baseline, as a fraction of it: 0.15 is 15% more." }
    BASELINE { "heapgate_run_baseline", "Median of a metric in the baseline, for metrics that are plain numbers or per second." }
    BASELINE_BYTES { "heapgate_run_baseline_bytes", "Median of a metric in the baseline, bytes." }
    BASELINE_SECONDS { "heapgate_run_baseline_seconds", "Median of a metric in the baseline, seconds." }
    BASELINE_RATIO { "heapgate_run_baseline_ratio", "Median of a metric in the baseline, a share of 1." }
    SOFT_LIMIT { "heapgate_run_soft_limit_ratio", "Largest change of a metric for the worse that passes, as a fraction of the baseline." }
    HARD_LIMIT { "heapgate_run_hard_limit", "Value that a metric may not pass whatever the baseline, for metrics that are plain numbers or per second." }
    HARD_LIMIT_BYTES { "heapgate_run_hard_limit_bytes", "Value that a metric may not pass whatever the baseline, bytes." }
    HARD_LIMIT_SECONDS { "heapgate_run_hard_limit_seconds", "Value that a metric may not pass whatever the baseline, seconds." }
    HARD_LIMIT_RATIO { "heapgate_run_hard_limit_ratio", "Value that a metric may not pass whatever the baseline, a share of 1." }
}

/// What tells this run's series from those of another, beyond what is in its report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// The verb that measured: `run`, `gate` or `ab`. The same cells may be measured by several in one job.
    pub verb: &'a str,
    /// The branch, where known.
    pub branch: Option<&'a str>,
}

/// `report`, and `verdict` where there is one, in Prometheus's text format, version 0.0.4.
#[must_use]
pub fn prometheus(report: &Report, verdict: Option<&Verdict>, origin: Origin<'_>) -> String {
    let run = run_labels(report, origin);
    let mut out = Vec::new();
    families::push_run(&mut out, report, &run);
    families::push_cells(&mut out, report, &run);
    if let Some(verdict) = verdict {
        families::push_verdict(&mut out, verdict, &run);
    }
    exposition::text(&out)
}

/// The labels by which runs are told apart and the next run of the same kind takes the place of this one: what a
/// Pushgateway should group by. Not the commit, of which every one would stay for ever.
#[must_use]
pub fn grouping(report: &Report, origin: Origin<'_>) -> Vec<(&'static str, String)> {
    let mut labels = vec![
        ("verb", origin.verb.to_owned()),
        ("machine_class", bounded(&report.fingerprint.machine.class())),
        ("matrix", matrix(report)),
    ];
    labels.extend(origin.branch.map(|branch| ("branch", bounded(branch))));
    labels.retain(|(_, value)| !value.is_empty());
    labels
}

/// The labels of every series of a run.
fn run_labels(report: &Report, origin: Origin<'_>) -> Labels {
    let mut labels = Labels::default();
    for (name, value) in grouping(report, origin) {
        labels.push(name, &value);
    }
    labels.push("commit", &bounded(&report.fingerprint.build.commit));
    labels
}

/// The labels of every series of a cell.
fn cell_labels(run: &Labels, cell: &Cell) -> Labels {
    let mut labels = run.clone();
    labels.push("workload", &bounded(&cell.workload));
    labels.push("variant", &bounded(&cell.variant));
    labels.push("allocator", &bounded(&cell.allocator));
    let parameters: Vec<String> = cell.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.push("parameters", &bounded(&parameters.join(",")));
    labels
}

/// Which cells were measured, in short: two jobs that measure different cells don't take each other's place.
fn matrix(report: &Report) -> String {
    /// Enough to tell some thousand matrices apart.
    const DIGITS: usize = 12;
    let cells = report.cells();
    matrix_hash(cells.iter().map(|trials| trials.cell)).chars().take(DIGITS).collect()
}

/// `value`, or where it is longer than [`LONGEST_LABEL`] its beginning and a hash of the whole, so that different ones stay
/// different.
fn bounded(value: &str) -> String {
    if value.len() <= LONGEST_LABEL {
        return value.to_owned();
    }
    let hash = format!("…{:016x}", fnv1a(value.bytes()));
    let mut end = LONGEST_LABEL - hash.len();
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{hash}", &value[..end])
}

/// The family of the catalogue's `metric`.
fn measured(metric: MetricId) -> Family {
    let entry = metric.metric();
    Family::new(entry.prometheus, format!("{} Median of the repetitions.", entry.help))
}

/// Every metric of the catalogue, for docs and dashboards that must not name another.
pub fn measured_names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|metric| metric.metric().prometheus)
}

#[cfg(test)]
mod tests;
