//! github-action-benchmark's `customSmallerIsBetter`: a list of figures of which less is better. Throughput, of which more
//! is better, is left out, as that tool compares a whole file one way; `cpu_ns_per_unit` is in it instead.
//!
//! The format: benchmark-action/github-action-benchmark, `src/extract.ts` (`BenchmarkResult`); `range` is read by
//! `src/extractRangeInfo.ts`: `± ` and a number. An empty list is an error there, which is as it should be.

use serde::Serialize;

use super::{series, summary};
use crate::gate::Verdict;
use crate::metric::Better;
use crate::report::Report;

#[derive(Serialize)]
struct Bench {
    name: String,
    unit: String,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// `report`, with what `verdict` says of each figure beside it.
///
/// # Errors
/// None is known: all its parts have a JSON form.
pub fn render(report: &Report, verdict: &Verdict) -> Result<String, serde_json::Error> {
    let lines = series::lines(verdict);
    let benches: Vec<Bench> = series::all(report)
        .into_iter()
        .filter(|series| series.metric.metric().better == Better::Lower)
        .map(|series| {
            let (value, least, most) = series.summary();
            let mut extra = format!("{} repetitions", series.values.len());
            if let Some(line) = lines.get(&(series.cell, series.metric)) {
                extra.push_str(&format!("\n{}: {}", summary::decided(&line.decision), line.reason));
            }
            // Half of the way from the smallest to the largest: the range is that of a symmetric error.
            // With a decimal point, whole or not: a number of one digit is not read.
            let range = (most > least).then(|| format!("± {:?}", (most - least) / 2.0));
            Bench { name: format!("{} {}", series.name, series.metric), unit: series.unit, value, range, extra }
        })
        .collect();
    serde_json::to_string_pretty(&benches).map(|json| json + "\n")
}
