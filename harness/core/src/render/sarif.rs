//! SARIF 2.1.0: a rule for each metric, a result for each that got worse (`error`) or could not be decided (`warning`),
//! and a notification for each problem of the run.
//!
//! A result's place is the cell, by name. Where what failed was profiled, a result points to the line of code that changed
//! most, or that has most if only one side was profiled; its message says which. Else, where the report has call sites, a
//! result about allocations or memory also points to the line that allocates most in that cell: a place to begin looking,
//! not the cause, and its message says so. A line of a dependency is named, but not pointed to: it is not in the repository. Without either no place in the code is made up; GitHub's code scanning does not show such results.
//!
//! The format: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::label::labels;
use super::summary::{self, Figures};
use super::{evidence, human, list, series};
use crate::gate::{Decision, Line, Verdict};
use crate::metric::{ALL, MetricId};
use crate::report::{Cell, Report, Site, Sites};
use crate::sites::source::is_of_dependency;
use crate::uri;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The rule for answers that differ; metrics are rules under their own names.
const ANSWERS: &str = "answers";

/// The verdict over `report` as SARIF.
///
/// # Errors
/// None is known: all its parts have a JSON form.
pub fn render(report: &Report, verdict: &Verdict) -> Result<String, serde_json::Error> {
    let cells = report.cells();
    let sites: BTreeMap<&Cell, Sites> = cells.iter().filter_map(|c| Some((c.cell, c.sites()?))).collect();
    let names = labels(verdict.lines.iter().map(|l| &l.cell).chain(verdict.answers.iter().map(|a| &a.cell)));
    let name = |cell: &Cell| names.get(cell).cloned().unwrap_or_else(|| cell.to_string());
    let mut results: Vec<Value> = Vec::new();
    for answers in &verdict.answers {
        if let Some(level) = level(&answers.decision) {
            let cell = name(&answers.cell);
            results.push(json!({
                "ruleId": ANSWERS,
                "ruleIndex": ALL.len(),
                "level": level,
                "message": { "text": format!("{cell}: {}", answers.reason) },
                "locations": [{ "logicalLocations": [logical(&answers.cell, &cell)] }],
                "partialFingerprints": { "heapgate/v1": format!("{} {ANSWERS}", series::lasting_name(&answers.cell)) },
            }));
        }
    }
    for line in &verdict.lines {
        if let Some(level) = level(&line.decision) {
            results.push(result(verdict, line, level, &name(&line.cell), sites.get(&line.cell)));
        }
    }
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "heapgate",
                "version": report.fingerprint.build.heapgate,
                "rules": rules(),
            }},
            "invocations": [{
                // Whether heapgate came to a decision, whichever.
                "executionSuccessful": verdict.problems.is_empty(),
                "startTimeUtc": format!("{}Z", human::date_time(report.created_unix_s)),
                "toolExecutionNotifications": notifications(verdict),
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
            "properties": { "decision": summary::word(verdict.decision) },
        }],
    });
    serde_json::to_string_pretty(&log).map(|json| json + "\n")
}

fn level(decision: &Decision) -> Option<&'static str> {
    match decision {
        Decision::Fail => Some("error"),
        Decision::Inconclusive => Some("warning"),
        _ => None,
    }
}

/// One for each metric of the catalogue, in its order, so that a metric's place there is the rule's index.
fn rules() -> Vec<Value> {
    let metrics = ALL.iter().map(|id| {
        let metric = id.metric();
        json!({
            "id": metric.name,
            "shortDescription": { "text": metric.help },
            "help": { "text": format!(
                "{} Kind: {}; {} is better. `heapgate list metrics` shows all with their limits.",
                metric.help, list::kind(metric.kind), list::better(metric.better),
            ) },
            "defaultConfiguration": { "level": "error" },
        })
    });
    let answers = json!({
        "id": ANSWERS,
        "shortDescription": { "text": "What the measured phase computed." },
        "help": { "text": "The checksum of the workload's answers differs from the baseline's: it computes something else, so its figures can't be compared." },
        "defaultConfiguration": { "level": "error" },
    });
    metrics.chain([answers]).collect()
}

fn result(verdict: &Verdict, line: &Line, level: &str, cell: &str, sites: Option<&Sites>) -> Value {
    let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
    let mut text = if line.decision == Decision::Fail {
        format!("{cell}: {} {baseline} → {now} ({change}, limit {limits}): {}.", line.metric, line.reason)
    } else {
        format!("{cell}: {} could not be decided: {}.", line.metric, line.reason)
    };
    for advice in &line.advice {
        text.push_str(&format!("\n- {advice}"));
    }
    let mut location = json!({ "logicalLocations": [logical(&line.cell, cell)] });
    let found = sites.filter(|_| line.decision == Decision::Fail).and_then(|s| Some((s, foremost(line.metric, s)?)));
    // A profile of the failure knows better than the sites of the run.
    if let Some((culprits, culprit)) = verdict.foremost(line) {
        let which = if culprits.compared { "that changed most" } else { "with most" };
        text.push_str(&format!("\nThe line {which}, by a {} profile: {}.", culprits.profile, culprit.text()));
        point(&mut location, &mut text, &culprit.file, culprit.line);
    } else if let Some((sites, (site, share))) = found {
        text.push_str(&format!(
            "\nThe line that allocates most in this cell: {}:{} in {} ({} of all; one allocation in {} was sampled).",
            site.file,
            site.line,
            site.function,
            human::percent((share * 1000.0).round() / 1000.0),
            human::count(sites.period)
        ));
        point(&mut location, &mut text, &site.file, site.line);
    }
    let mut properties = json!({ "figures": evidence::figures(line) });
    for (name, value) in [("change", line.change), ("resolution", line.resolution), ("pValue", line.p_value)] {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            properties[name] = value.into();
        }
    }
    json!({
        "ruleId": line.metric.metric().name,
        "ruleIndex": ALL.iter().position(|m| *m == line.metric).unwrap_or_default(),
        "level": level,
        "message": { "text": text },
        "locations": [location],
        "partialFingerprints": { "heapgate/v1": format!("{} {}", series::lasting_name(&line.cell), line.metric) },
        "properties": properties,
    })
}

/// Points to a line of the repository. One of a dependency is not in it, which is said.
fn point(location: &mut Value, text: &mut String, file: &str, line: u32) {
    if is_of_dependency(file) {
        text.push_str(" It is a dependency's, and not in this repository.");
        return;
    }
    location["physicalLocation"] =
        json!({ "artifactLocation": { "uri": uri::relative(file) }, "region": { "startLine": line } });
}

fn logical(cell: &Cell, name: &str) -> Value {
    json!({ "name": name, "fullyQualifiedName": series::lasting_name(cell), "kind": "module" })
}

/// The site with a known line that allocates most, by calls or, for metrics of bytes, by bytes, and its share; none for
/// metrics that are not about what the program allocates.
fn foremost(metric: MetricId, sites: &Sites) -> Option<(&Site, f64)> {
    use MetricId::*;
    let known = sites.sites.iter().filter(|s| !s.file.is_empty() && s.line > 0);
    match metric {
        AllocationsPerUnit | PeakLiveObjects | LeftObjects => {
            known.max_by_key(|s| s.samples).map(|s| (s, sites.share(s)))
        }
        AllocatedBytesPerUnit | PeakLiveBytes | LeftBytes | PeakRss | LeftRss => {
            known.max_by_key(|s| s.sampled_bytes).map(|s| (s, sites.bytes_share(s)))
        }
        _ => None,
    }
}

fn notifications(verdict: &Verdict) -> Vec<Value> {
    let text = |problem: &crate::gate::Problem| match problem.place.as_str() {
        "" => problem.text.clone(),
        place => format!("{place}: {}", problem.text),
    };
    verdict
        .problems
        .iter()
        .map(|problem| {
            json!({
                "descriptor": { "id": problem.kind.name() },
                "level": "error",
                "message": { "text": text(problem) },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_are_known_are_pointed_to_and_only_where_allocations_matter() {
        let site = |function: &str, line, samples, sampled_bytes| Site {
            function: function.into(),
            file: if line > 0 { "a/src/lib.rs".into() } else { String::new() },
            line,
            samples,
            sampled_bytes,
            ..Site::default()
        };
        let sites = Sites {
            samples: 100,
            sampled_bytes: 1000,
            sites: vec![site("unknown", 0, 60, 100), site("often", 7, 30, 100), site("large", 9, 10, 800)],
            ..Sites::default()
        };
        let of = |metric| foremost(metric, &sites).map(|(s, share)| (s.function.as_str(), share));
        assert_eq!(of(MetricId::AllocationsPerUnit), Some(("often", 0.3)));
        assert_eq!(of(MetricId::PeakRss), Some(("large", 0.8)));
        assert_eq!(of(MetricId::StallP99), None);
    }
}
