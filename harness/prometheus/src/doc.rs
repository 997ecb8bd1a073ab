//! `docs/live-metrics.md`, generated from the catalogue.

use std::fmt::Write;
use std::path::Path;

use crate::catalogue::{ALL, Metric, PROCESS_LABELS, Source};
use crate::stalls::BOUNDS_S;

const INTRODUCTION: &str = "\
# Live metrics

<!-- Generated from `harness/prometheus/src/catalogue.rs`: `HEAPGATE_BLESS=1 cargo test -p heapgate-prometheus` writes it again. -->

What a running process exports to Prometheus: by `heapgate_prometheus::collector()` in its own registry, or by the agent of its machine (`heapgate serve`).
What a run pushes from CI is in [metrics.md](metrics.md).

Every series of a process has these labels, where they are known:

";

const STALLS: &str = "
## Reading the stalls

A stall is the time of one call of the allocator. Calls that the scheduler interrupted are series of their own (`interrupted=\"true\"`): their time is the scheduler's,
or a wait inside the allocator. Where that can't be told (`heapgate_interrupted_available` is 0), all calls are in `interrupted=\"false\"`.

At level `sampled` one call in N is timed (`heapgate_sample_period`) and counts N times, so rates and quantiles are right on average, and a single long call is seen
with a probability of 1 in N. To be sure of it, raise the level to `exact-alloc` or `exact`. At level `count` nothing is timed.

Bounds, seconds: ";

/// The text of `docs/live-metrics.md`.
fn render() -> String {
    let mut out = INTRODUCTION.to_owned();
    for (label, about) in PROCESS_LABELS {
        let _ = writeln!(out, "- `{label}`: {about}");
    }
    for (source, title, about) in [
        (Source::Segment, "What the process counts", "Always there."),
        (Source::Kernel, "What the kernel says of it", "From `/proc`: there while the process lives."),
        (
            Source::Jemalloc,
            "What jemalloc says",
            "Only the process can ask jemalloc: there if it does (`collector().with_jemalloc()`), as of the last time that it did.",
        ),
        (
            Source::Group,
            "Groups",
            "There if the process has groups of threads under different settings, or is one ([live-ab.md](live-ab.md)). Arenas' figures are there if it asks \
             jemalloc for them (`Running::refresh`).",
        ),
        (
            Source::Control,
            "Settings and the soft limit",
            "There if the process can be steered: feature `control` of heapgate-alloc ([steering.md](steering.md)).",
        ),
        (Source::Region, "Regions", "There if the process has any and puts their figures into its segment."),
        (Source::Agent, "The agent itself", "Of `heapgate serve`, without the labels of a process."),
    ] {
        let _ = writeln!(out, "\n## {title}\n\n{about}\n");
        out.push_str("| metric | type | labels | |\n|---|---|---|---|\n");
        for metric in ALL.iter().map(|id| id.metric()).filter(|metric| metric.source == source) {
            let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
            let _ = writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels(metric));
        }
    }
    let bounds: Vec<String> = BOUNDS_S.iter().map(f64::to_string).collect();
    let _ = writeln!(
        out,
        "{STALLS}{}. A call is counted by the middle of the fine bucket that it was filed in, which is right to 3%.",
        bounds.join(", ")
    );
    out
}

fn labels(metric: &Metric) -> String {
    let labels = metric.labels.iter().map(|label| {
        if label.values.is_empty() {
            return format!("`{}`: its name", label.name);
        }
        let values: Vec<_> = label.values.iter().map(|value| format!("`{value}`")).collect();
        format!("`{}`: {}", label.name, values.join(", "))
    });
    labels.collect::<Vec<_>>().join("; ")
}

#[test]
fn docs_live_metrics_is_that_of_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/live-metrics.md");
    if std::env::var_os("HEAPGATE_BLESS").is_some() {
        std::fs::write(&path, render()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == render(),
        "docs/live-metrics.md is not what the code generates; run `HEAPGATE_BLESS=1 cargo test -p heapgate-prometheus` and commit it"
    );
}
