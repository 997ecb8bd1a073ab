//! What `heapgate run` prints: the main figures of each cell, medians over its repetitions.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::label::labels;
use super::table::{Side, hanging, lines};
use super::{Options, human};
use crate::metric::{MetricId, Unit};
use crate::report::{CellTrials, Report, Sites};
use crate::stats::sample;

/// The figures, with the two lines of their headings.
const COLUMNS: [(MetricId, &str, &str); 8] = [
    (MetricId::AllocationsPerUnit, "allocs", "/unit"),
    (MetricId::AllocatedBytesPerUnit, "bytes", "/unit"),
    (MetricId::PeakLiveBytes, "peak", "live"),
    (MetricId::PeakRss, "peak", "RSS"),
    (MetricId::LeftRss, "left", "RSS"),
    (MetricId::StallP99, "stall", "P99"),
    (MetricId::StallMax, "stall", "max"),
    (MetricId::Throughput, "units", "/s"),
];

/// The main figures of `report`'s cells as text.
#[must_use]
pub fn render(report: &Report, options: Options) -> String {
    let style = options.style;
    let cells = report.cells();
    let mut out = String::new();
    if cells.is_empty() {
        out.push_str("No trials.\n");
        return out;
    }
    let names = labels(cells.iter().map(|c| c.cell));
    let mut rows = vec![heading(|c| c.1), heading(|c| c.2)];
    rows.extend(cells.iter().map(figures));
    let mut table = lines(&[Side::Right; COLUMNS.len() + 1], &rows).into_iter();
    for heading in table.by_ref().take(2) {
        let _ = writeln!(out, "{}", style.dim(&heading));
    }
    for (trials, figures) in cells.iter().zip(table) {
        let completed = trials.completed().count();
        let about = match completed {
            0 => "no repetition completed".to_owned(),
            n => format!("per {}, {}", trials.unit(), human::counted(n as u64, "repetition")),
        };
        let _ =
            writeln!(out, "{}  {}", style.bold(names.get(trials.cell).map_or("", String::as_str)), style.dim(&about));
        if completed > 0 {
            let _ = writeln!(out, "{figures}");
        }
        let own = own_figures(trials);
        if !own.is_empty() {
            for line in hanging("    ", &own, options.width).lines() {
                let _ = writeln!(out, "{}", style.dim(line));
            }
        }
        for (outcome, reps) in failures(trials) {
            let noun = if reps.len() == 1 { "repetition" } else { "repetitions" };
            let text = hanging("  FAIL  ", &format!("{noun} {}: {outcome}", reps.join(", ")), options.width);
            out.push_str(&text.replacen("FAIL", &style.bad("FAIL"), 1));
        }
    }
    for trials in &cells {
        // Of those that did not complete too: what a program allocated before it died is worth knowing.
        if let Some(sites) = Sites::merged(trials.trials.iter().filter_map(|t| t.sites.as_ref())) {
            let name = names.get(trials.cell).map_or("", String::as_str);
            let _ = writeln!(out, "\n{}  {}", style.bold(name), style.dim("allocation sites of the measured phase"));
            out.push_str(&super::sites::table(&sites, options));
        }
    }
    if !report.complete {
        let _ = writeln!(out, "\n{}", style.unsure("The run was cut off before all its trials ended."));
    }
    out
}

/// The same figures as a table of Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let cells = report.cells();
    let names = labels(cells.iter().map(|c| c.cell));
    let headings: String = COLUMNS.iter().map(|(_, first, second)| format!(" {first} {second} |")).collect();
    let mut out = format!("| cell | repetitions |{headings}\n| --- | ---: |{}\n", " ---: |".repeat(COLUMNS.len()));
    for trials in &cells {
        let (completed, all) = (trials.completed().count(), trials.trials.len());
        let repetitions =
            if completed == all { all.to_string() } else { format!("**{completed} of {all} completed**") };
        let name = super::markdown::escaped(names.get(trials.cell).map_or("", String::as_str));
        let _ = writeln!(out, "| {name} | {repetitions} | {} |", figures(trials)[1..].join(" | "));
    }
    if !report.complete {
        out.push_str("\nThe run was cut off before all its trials ended.\n");
    }
    out
}

/// Medians of what the workload measured itself: `latency_p95_ns 1.20 ms, batch_mean 17`.
fn own_figures(trials: &CellTrials<'_>) -> String {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in trials.completed().flat_map(|trial| &trial.figures) {
        values.entry(name).or_default().push(*value);
    }
    let figures: Vec<String> = values
        .iter()
        .filter_map(|(name, values)| {
            Some(format!("{name} {}", human::value(Unit::of_figure(name), sample::median(values)?)))
        })
        .collect();
    figures.join(", ")
}

/// How repetitions ended that didn't complete, and which.
fn failures(trials: &CellTrials<'_>) -> Vec<(String, Vec<String>)> {
    let mut failures: Vec<(String, Vec<String>)> = Vec::new();
    for failed in trials.trials.iter().filter(|t| !t.outcome.is_completed()) {
        let outcome = failed.outcome.to_string();
        match failures.iter_mut().find(|f| f.0 == outcome) {
            Some((_, reps)) => reps.push(human::repetition(failed.rep)),
            None => failures.push((outcome, vec![human::repetition(failed.rep)])),
        }
    }
    failures
}

fn heading(of: fn(&(MetricId, &'static str, &'static str)) -> &'static str) -> Vec<String> {
    std::iter::once(String::new()).chain(COLUMNS.iter().map(|c| of(c).to_owned())).collect()
}

fn figures(trials: &CellTrials<'_>) -> Vec<String> {
    let figure = |metric: MetricId| {
        sample::median(&trials.values(metric)).map_or("-".to_owned(), |v| short(metric.metric().unit, v))
    };
    std::iter::once(String::new()).chain(COLUMNS.iter().map(|c| figure(c.0))).collect()
}

/// A figure whose heading names its rate already.
fn short(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond => human::value(Unit::Count, if value >= 100.0 { value.round() } else { value }),
        unit => human::value(unit, value),
    }
}
