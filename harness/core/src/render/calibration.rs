//! What the gate is worth, for a terminal.

use std::fmt::Write;

use super::Options;
use super::human::{self, counted};
use super::table::{Side, hanging, lines, width};
use crate::calibration::{Calibration, Sensitivity};
use crate::stats::binomial::rate_interval;
use crate::stats::sample::median;

/// How sure the intervals of rates are.
const CONFIDENCE: f64 = 0.95;

/// `calibration` as text.
#[must_use]
pub fn render(calibration: &Calibration, options: Options) -> String {
    let mut out = String::new();
    let style = options.style;
    let null = &calibration.null;
    let busy = match calibration.busy_neighbours {
        0 => String::new(),
        n => format!(" beside {}", counted(n.into(), "busy neighbour")),
    };
    let _ = writeln!(out, "{}", style.bold("nothing changed"));
    let runs = format!(
        "{} of {} with itself{busy}: {} failed, {} inconclusive; a run fails without cause {}",
        counted(null.runs, "comparison"),
        counted(calibration.cells.len() as u64, "cell"),
        null.failed_runs,
        null.inconclusive_runs,
        rate(null.failed_runs, null.runs),
    );
    let metrics = format!(
        "{} compared, {} of them noisy: {} failed, {} inconclusive; a metric fails without cause {}",
        counted(null.metrics, "metric"),
        human::count(null.tested_metrics),
        null.failed_metrics,
        null.inconclusive_metrics,
        rate(null.failed_metrics, null.metrics),
    );
    for text in [runs, metrics] {
        out.push_str(&hanging("  ", &text, options.width));
    }
    if !calibration.controls.is_empty() {
        let _ = writeln!(out, "\n{}", style.bold("planted"));
        let rows: Vec<Vec<String>> = calibration
            .controls
            .iter()
            .map(|(name, control)| {
                let by: Vec<String> =
                    control.by_metric.iter().filter(|(_, n)| **n > 0).map(|(metric, _)| metric.to_string()).collect();
                let found = format!("{} of {}", control.caught, control.planted);
                let shown = by.first().map_or("-".to_owned(), |first| match by.len() {
                    1 => first.clone(),
                    more => format!("{first} and {} more", more - 1),
                });
                vec![format!("  {name}"), found, shown]
            })
            .collect();
        for line in lines(&[Side::Left, Side::Right, Side::Left], &with_header(&["", "found", "by"], rows)) {
            let _ = writeln!(out, "{line}");
        }
    }
    let rows: Vec<Vec<String>> =
        calibration.metrics.iter().filter_map(|(metric, cells)| row(metric.metric().name, cells)).collect();
    if !rows.is_empty() {
        let _ = writeln!(out, "\n{}", style.bold("the smallest change found in 99 of 100 runs, on top of the limit"));
        let mut rows = with_header(&["", "varies by", "finds from", "worst", "where"], rows);
        let mut columns = vec![Side::Left, Side::Right, Side::Right, Side::Right, Side::Left];
        let mut table = lines(&columns, &rows);
        if table.iter().any(|line| width(line) > options.width) {
            columns.pop();
            rows.iter_mut().for_each(|row| drop(row.pop()));
            table = lines(&columns, &rows);
        }
        for line in table {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

fn with_header(header: &[&str], mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.insert(0, header.iter().map(|&text| text.to_owned()).collect());
    rows
}

/// A rate's upper end, in words.
fn rate(events: u64, of: u64) -> String {
    match rate_interval(events, of, CONFIDENCE) {
        Some(interval) => format!("in at most {} of cases", human::percent(round(interval.high))),
        None => "in a share that isn't known".to_owned(),
    }
}

/// To two digits.
fn round(share: f64) -> f64 {
    let scale = 10f64.powf(share.max(1e-9).log10().floor() - 1.0);
    (share / scale).round() * scale
}

fn row(metric: &str, cells: &[Sensitivity]) -> Option<Vec<String>> {
    let found: Vec<(f64, &str)> = cells.iter().filter_map(|s| Some((s.detectable?, s.cell.as_str()))).collect();
    let deviation = median(&cells.iter().map(|s| s.deviation).collect::<Vec<_>>())?;
    let middle = median(&found.iter().map(|f| f.0).collect::<Vec<_>>())?;
    let worst = found.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let share = |share: f64| human::change(round(share));
    let varies = human::percent(round(deviation));
    Some(vec![format!("  {metric}"), varies, share(middle), share(worst.0), worst.1.to_owned()])
}
