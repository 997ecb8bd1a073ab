//! Perfherder's data: a suite for each cell, a subtest for each metric, with its repetitions as replicates. One line, so
//! that it can stand in a job's log after `PERFHERDER_DATA: `, or be uploaded as `perfherder-data.json`.
//!
//! The format: mozilla/treeherder, `schemas/performance-artifact.json`; `replicates` is what its ingestion reads beyond
//! that.

use serde::Serialize;

use super::series;
use crate::gate::{Decision, Verdict};
use crate::metric::Better;
use crate::report::Report;

/// Larger values are not taken; such a subtest is left out.
const LARGEST: f64 = 1e12;
/// Longest unit.
const UNIT_CHARS: usize = 20;
/// Longest extra option.
const OPTION_CHARS: usize = 100;

#[derive(Serialize)]
struct Data {
    framework: Framework,
    suites: Vec<Suite>,
}

#[derive(Serialize)]
struct Framework {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Suite {
    name: String,
    extra_options: Vec<String>,
    subtests: Vec<Subtest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subtest {
    name: &'static str,
    value: f64,
    unit: String,
    lower_is_better: bool,
    /// Whether a change is news: where it has a limit.
    should_alert: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_change_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_threshold: Option<f64>,
    replicates: Vec<f64>,
}

/// `report` with the limits that `verdict` applied.
///
/// # Errors
/// None is known: all its parts have a JSON form.
pub fn render(report: &Report, verdict: &Verdict) -> Result<String, serde_json::Error> {
    let lines = series::lines(verdict);
    let clipped = |text: &str, chars| text.chars().take(chars).collect::<String>();
    let suites = report
        .cells()
        .iter()
        .filter(|trials| trials.completed().next().is_some())
        .map(|trials| {
            let subtests = series::of_cell(trials).into_iter().filter(|s| s.values.iter().all(|v| v.abs() <= LARGEST));
            Suite {
                name: series::lasting_name(trials.cell),
                extra_options: vec![clipped(&trials.cell.allocator, OPTION_CHARS)],
                subtests: subtests
                    .map(|series| {
                        let line = lines.get(&(series.cell, series.metric));
                        let soft = line.and_then(|l| l.limits.soft);
                        let gated = line.is_some_and(|l| {
                            (l.limits.soft.is_some() || l.limits.hard.is_some())
                                && !matches!(l.decision, Decision::NotCompared { .. })
                        });
                        Subtest {
                            name: series.metric.metric().name,
                            value: series.summary().0,
                            unit: clipped(&series.unit, UNIT_CHARS),
                            lower_is_better: series.metric.metric().better == Better::Lower,
                            should_alert: gated,
                            alert_change_type: soft.map(|_| "percentage"),
                            alert_threshold: soft.map(|soft| soft * 100.0),
                            replicates: series.values,
                        }
                    })
                    .collect(),
            }
        })
        .collect();
    let data = Data { framework: Framework { name: "heapgate" }, suites };
    serde_json::to_string(&data).map(|json| json + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::judge;
    use crate::metric::MetricId;
    use crate::report::testing;

    #[test]
    fn what_the_schema_refuses_is_not_sent() {
        let mut report = testing::report(1, 1);
        report.trials[0].cell.allocator = "x".repeat(200);
        report.trials[0].unit = "unit of a very long name".into();
        report.trials[0].metrics.insert(MetricId::PeakRss, 2e12);
        let data: serde_json::Value = serde_json::from_str(
            &render(&report, &judge(&report, &[], &[], &Config::default(), crate::gate::Look::ONLY)).unwrap(),
        )
        .unwrap();
        let suite = &data["suites"][0];
        assert_eq!(suite["extraOptions"][0].as_str().unwrap().len(), OPTION_CHARS);
        let subtests = suite["subtests"].as_array().unwrap();
        assert!(subtests.iter().all(|s| s["unit"].as_str().unwrap().len() <= UNIT_CHARS));
        assert!(subtests.iter().all(|s| s["name"] != "peak_rss_bytes") && !subtests.is_empty());
    }
}
