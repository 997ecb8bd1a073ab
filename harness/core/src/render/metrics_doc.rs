//! `docs/metrics.md`, generated from the catalogue.

use std::fmt::Write;

use super::human;
use super::list::{better, kind};
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
    out
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "number",
        Unit::Bytes => "bytes",
        Unit::Nanos => "ns",
        Unit::PerSecond => "1/s",
        Unit::Share => "share of 1",
    }
}
