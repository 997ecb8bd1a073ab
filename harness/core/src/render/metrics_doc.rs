//! `docs/metrics.md`, generated from the catalogue.

use std::fmt::Write;

use super::human;
use super::list::{better, kind};
use crate::export::RUN_FAMILIES;
use crate::metric::{ALL, Kind, Unit};

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from `harness/core/src/metric.rs`: `HEAPGATE_BLESS=1 cargo test -p heapgate-core` writes it again. -->

The soft limit is the largest change for the worse against the baseline that passes, the hard limit a value that may not be passed
whatever the baseline says (a floor where higher is better). These are the defaults; `heapgate.toml` changes them, for all workloads or for one. A metric without
limits is shown and never fails a gate.
";

/// The text of `docs/metrics.md`.
#[must_use]
pub fn render() -> String {
    let mut out = INTRODUCTION.to_owned();
    for (of, about) in [
        (
            Kind::Exact,
            "The same in every repetition and on every machine, so any difference is real. Repetitions must agree; where they don't, the metric is treated as noisy, and that is said.",
        ),
        (
            Kind::Noisy,
            "Different from run to run and from machine to machine: decided on repeated fresh processes, and only against a baseline of the same machine class.",
        ),
        (
            Kind::Distribution,
            "Read off the histogram of the time of each allocator call. Calls that the scheduler interrupted are counted apart and are not in these. Compared as the noisy ones.",
        ),
    ] {
        let title = kind(of);
        let _ = writeln!(out, "\n## {}{}\n\n{about}\n", title[..1].to_uppercase(), &title[1..]);
        out.push_str(
            "| metric | unit | better | soft limit | hard limit | Prometheus | |\n|---|---|---|--:|--:|---|---|\n",
        );
        for metric in ALL.iter().map(|id| id.metric()).filter(|m| m.kind == of) {
            let soft = metric.limits.soft.map_or(String::new(), human::percent);
            let hard = metric.limits.hard.map_or(String::new(), |hard| human::limit(metric.unit, hard));
            let (name, unit, better, prometheus, help) =
                (metric.name, unit(metric.unit), better(metric.better), metric.prometheus, metric.help);
            let _ = writeln!(out, "| `{name}` | {unit} | {better} | {soft} | {hard} | `{prometheus}` | {help} |");
        }
    }
    out.push_str(FROM_HISTORY);
    out.push_str(PUSHED);
    for family in RUN_FAMILIES {
        let _ = writeln!(out, "| `{}` | {} |", family.name, family.help);
    }
    out
}

const PUSHED: &str = "
## For Prometheus

What `--push` and `--textfile` of `run`, `gate` and `ab` give: the medians of the repetitions under the names above, in base units (seconds, bytes, ratios), and the
families below. Everything is a gauge. Series have the labels `verb`, `machine_class`, `matrix` (a hash of the cells that were run), `branch` where known and
`commit`; those of a cell also `workload`, `variant`, `allocator` and `parameters`; those of a comparison also `metric`, by its name in the first column above.

| family | |
|---|---|
";

const FROM_HISTORY: &str = "
## Against the history

`heapgate gate --from-history N` takes no stored baseline, but the last N runs of the same cells on the same machine class that are complete and were not failed by
a gate. A series counts from its last change of level on (`heapgate history METRIC` shows where that was); at least 5 runs must have the metric.

- Exact metrics are compared with the last run, by the rule above, if all repetitions since the last change agree: three runs in a row, or a value that no run had
  before, make a level. Else they are treated as noisy.
- Noisy metrics and those of a distribution: this run's median against Student's prediction interval for one further run, on logarithms, so that the noise between runs
  (another day, another page layout) is allowed for. Runs with more repetitions than this one are taken with as many as it has. A history without noise is given
  that of rounding: a page of resident memory, one call or byte of a whole run in what is told per unit, 0.01% of shares, else one byte, nanosecond or count.
- The history has no histograms, so `stall_distribution_ns` is compared by its mean; and no answers, which are compared between this run's repetitions only.

A run that fails isn't part of the next baseline. A change for the worse that is meant is accepted in `heapgate.toml` (`[[accept]]`), or measured a few times by
`heapgate run`, whose runs are never failed. A drift so slow that no run of it fails is not found: the baseline moves with it. `heapgate history` shows it, and a
hard limit or a stored baseline stops it.
";

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "number",
        Unit::Bytes => "bytes",
        Unit::Nanos => "ns",
        Unit::PerSecond => "1/s",
        Unit::Share => "share of 1",
    }
}
