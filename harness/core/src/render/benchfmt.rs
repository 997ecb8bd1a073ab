//! Go's benchmark format, for benchstat: a line for each repetition of each cell, with all its metrics.
//!
//! The format: golang/proposal, `design/14313-benchmark-format.md`, and golang/perf, `benchfmt/reader.go`. Metrics become
//! units in its manner: `allocations/unit`, `peak-rss-bytes` (shown as KiB, MiB), `stall-p99-ns` (shown in seconds).
//! Exact metrics are declared `assume=exact`, unless their repetitions disagree, since benchstat then could not compare
//! them.
//!
//! Configuration lines hold only what makes runs incomparable: benchstat puts runs that differ in any of them in tables
//! apart, so a commit among them would keep before from after.

use std::fmt::Write;

use super::{human, series, summary};
use crate::baseline::agree;
use crate::gate::Verdict;
use crate::metric::{ALL, Better, Kind, MetricId};
use crate::report::{CellTrials, Report};

/// `report` as benchmark results.
#[must_use]
pub fn render(report: &Report, verdict: &Verdict) -> String {
    let (build, machine) = (&report.fingerprint.build, &report.fingerprint.machine);
    let mut out = String::new();
    // Lines of no known form are skipped by readers.
    let _ = writeln!(
        out,
        "# heapgate {}, {}, commit {}: {}",
        one_line(&build.heapgate),
        human::date(report.created_unix_s),
        if build.commit.is_empty() { "unknown".to_owned() } else { one_line(&build.commit) },
        summary::word(verdict.decision)
    );
    let _ = writeln!(out, "goos: linux\ngoarch: {}\ncpu: {}", go_arch(&machine.arch), one_line(&machine.cpu));
    let cells = report.cells();
    for &metric in ALL {
        push_unit(&mut out, metric, &cells);
    }
    let mut unit_of_work = String::new();
    for trials in &cells {
        let unit = one_line(trials.unit());
        if unit != unit_of_work {
            let _ = writeln!(out, "unit: {unit}");
            unit_of_work = unit;
        }
        let name = capitalised(&series::lasting_name(trials.cell));
        for trial in trials.completed() {
            let values: Vec<String> = ALL
                .iter()
                .filter_map(|metric| Some((metric, trial.metrics.get(metric).filter(|v| v.is_finite())?)))
                .map(|(metric, value)| format!(" {value} {}", unit_of(*metric)))
                .collect();
            if !values.is_empty() {
                let _ = writeln!(out, "Benchmark{name} 1{}", values.concat());
            }
        }
    }
    out
}

/// What is to be known of a metric's unit, where any cell has it.
fn push_unit(out: &mut String, metric: MetricId, cells: &[CellTrials<'_>]) {
    let values: Vec<Vec<f64>> = cells.iter().map(|c| c.values(metric)).filter(|v| !v.is_empty()).collect();
    if values.is_empty() {
        return;
    }
    let better = match metric.metric().better {
        Better::Lower => "lower",
        Better::Higher => "higher",
    };
    let exact = metric.metric().kind == Kind::Exact && values.iter().all(|v| agree(v));
    let assume = if exact { " assume=exact" } else { "" };
    let _ = writeln!(out, "Unit {} better={better}{assume}", unit_of(metric));
}

/// A metric as a unit: `-` between words and `/` for per, so that benchstat finds `ns` and `bytes` in it.
fn unit_of(metric: MetricId) -> String {
    metric.metric().name.replace("_per_", "/").replace('_', "-")
}

/// An architecture by Go's name for it.
fn go_arch(arch: &str) -> String {
    match arch {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => one_line(other),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Benchmarks of Go begin with a capital.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::judge;
    use crate::report::testing;

    fn rendered(report: &Report) -> String {
        render(report, &judge(report, &[], &[], &Config::default(), crate::gate::Look::ONLY))
    }

    #[test]
    fn repetitions_that_disagree_are_not_called_exact() {
        let mut report = testing::report(2, 2);
        let exact = "Unit peak-live-objects better=lower assume=exact\n";
        assert!(rendered(&report).contains(exact));
        testing::set(&mut report.trials[0], MetricId::PeakLiveObjects, 1201.0);
        let text = rendered(&report);
        assert!(!text.contains(exact) && text.contains("Unit peak-live-objects better=lower\n"), "{text}");
        assert!(text.contains("Unit allocations/unit better=lower assume=exact\n"));
    }

    #[test]
    fn a_name_is_one_field() {
        let mut report = testing::report(1, 1);
        report.trials[0].cell.params.insert("text".into(), "a b\tc".into());
        let text = rendered(&report);
        let result = text.lines().find(|l| l.starts_with("Benchmark")).unwrap();
        assert!(result.starts_with("BenchmarkTokenize/hf-wordpiece/alloc=jemalloc/batch=32/text=a_b_c 1 "), "{result}");
        assert_eq!(result.split(' ').count() % 2, 0, "a name, a count, pairs: {result}");
    }
}
