//! Bencher Metric Format: for each benchmark its measures, each with a value and bounds. A cell is a benchmark, a metric
//! of the catalogue a measure, its value the median of the repetitions, and the bounds are their smallest and largest.
//!
//! The format: bencherdev/bencher, `lib/bencher_json/src/project/metric/mod.rs` (`JsonResultsMap`, `JsonNewMetric`). It
//! has no place for units nor for which way is better: those are set where the measures are kept.

use std::collections::BTreeMap;

use serde::Serialize;

use super::series;
use crate::report::Report;

#[derive(Serialize)]
struct Metric {
    value: f64,
    lower_value: f64,
    upper_value: f64,
}

/// `report` for `bencher run --adapter json`.
///
/// # Errors
/// None is known: all its parts have a JSON form.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    let mut results: BTreeMap<String, BTreeMap<&str, Metric>> = BTreeMap::new();
    for series in series::all(report) {
        let (value, lower_value, upper_value) = series.summary();
        let metric = Metric { value, lower_value, upper_value };
        results.entry(series.name).or_default().insert(series.metric.metric().name, metric);
    }
    serde_json::to_string_pretty(&results).map(|json| json + "\n")
}
