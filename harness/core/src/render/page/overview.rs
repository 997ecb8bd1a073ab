//! The table of all cells.

use std::fmt::Write;

use super::cell::OfCell;
use super::shell::{data, escaped};
use super::{Detail, Subject, changes};
use crate::gate::Decision;
use crate::metric::{MetricId, Unit};
use crate::render::{human, summary};
use crate::stats::sample;

/// The figures that tell cells apart at a glance, and their headings.
const COLUMNS: [(MetricId, &str); 7] = [
    (MetricId::AllocationsPerUnit, "allocations per unit"),
    (MetricId::PeakLiveObjects, "peak live objects"),
    (MetricId::PeakLiveBytes, "peak live"),
    (MetricId::PeakRss, "peak RSS"),
    (MetricId::LeftRss, "left RSS"),
    (MetricId::StallP99, "stall P99"),
    (MetricId::Throughput, "units per s"),
];

/// Rows from which on a box to filter them helps.
const FILTER_FROM: usize = 12;

/// The table, at most `room` bytes of rows.
pub(super) fn overview(subject: Subject<'_>, cells: &[OfCell<'_>], room: usize) -> String {
    if cells.is_empty() {
        return "<p>No trials.</p>\n".to_owned();
    }
    let compared = subject.verdict.is_some();
    let mut out = String::from("<nav aria-label=\"cells\"><h2>Cells</h2>\n");
    if cells.len() >= FILTER_FROM {
        // Filled in by the script, without which it would do nothing.
        out.push_str("<div class=\"tools\" id=\"filter\"></div>\n");
    }
    out.push_str("<div class=\"wide\" role=\"region\" aria-label=\"table of cells\" tabindex=\"0\"><table class=\"cells\"><thead><tr>");
    if compared {
        out.push_str("<th scope=\"col\">verdict</th>");
    }
    out.push_str("<th scope=\"col\">cell</th>");
    for (metric, heading) in COLUMNS {
        let _ = write!(out, "<th scope=\"col\" class=\"n\" title=\"{}\">{heading}</th>", escaped(metric.metric().help));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let before = out.len();
    let mut shown = 0;
    for cell in cells {
        let row = row(cell, compared);
        if out.len() - before + row.len() > room {
            break;
        }
        out.push_str(&row);
        shown += 1;
    }
    out.push_str("</tbody></table></div>\n");
    if shown < cells.len() {
        let _ = writeln!(
            out,
            "<p class=\"note\">{} of {} are not in this table, which would be too long for a page; those that need attention stand first.</p>",
            human::count((cells.len() - shown) as u64),
            human::counted(cells.len() as u64, "cell"),
        );
    }
    out.push_str("</nav>\n");
    out
}

fn row(of: &OfCell<'_>, compared: bool) -> String {
    let mut row = String::from("<tr>");
    if compared {
        let (mark, class) = of.worst().map_or(("not run", "unsure"), changes::mark);
        // Over all its metrics, "no limit" is nothing to say.
        let mark = if of.worst() == Some(&Decision::Info) { "-" } else { mark };
        let _ = write!(row, "<td class=\"mark {class}\">{mark}</td>");
    }
    let about = match of.trials.as_ref().map(|t| (t.completed().count(), t.trials.len())) {
        None => "no trial".to_owned(),
        Some((done, all)) if done == all => {
            format!("per {}, ×{all}", escaped(of.trials.as_ref().map_or("", |t| t.unit())))
        }
        Some((done, all)) => format!("<b class=\"FAIL\">{done} of {all} completed</b>"),
    };
    let _ = write!(
        row,
        "<th scope=\"row\"><a href=\"#c{}\">{}</a> <span class=\"dim small\">{about}</span></th>",
        of.number,
        escaped(&of.label)
    );
    for (metric, _) in COLUMNS {
        let value = of.trials.as_ref().and_then(|t| sample::median(&t.values(metric)));
        let figure = value.map_or("-".to_owned(), |v| data(v, &short(metric.metric().unit, v)));
        let _ = write!(row, "<td class=\"n\">{figure}{}</td>", change(of, metric));
    }
    row.push_str("</tr>\n");
    row
}

/// The change below a figure that has a limit, coloured by what it means.
fn change(of: &OfCell<'_>, metric: MetricId) -> String {
    let Some(line) = of.line(metric).filter(|l| changes::is_shown(l, Detail::Brief)) else { return String::new() };
    let (_, class) = changes::mark(&line.decision);
    format!("<br><span class=\"small {class}\">{}</span>", summary::figures(line).change)
}

/// A figure whose heading names its rate already.
fn short(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond => human::value(Unit::Count, if value >= 100.0 { value.round() } else { value }),
        unit => human::value(unit, value),
    }
}
