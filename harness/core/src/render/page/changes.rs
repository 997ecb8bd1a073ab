//! The table of a cell's metrics: what each was and is, the change with its interval against the limit, and every repetition.

use std::fmt::Write;

use super::Detail;
use super::cell::OfCell;
use super::marks;
use super::shell::{data, escaped, prose};
use crate::gate::{Decision, Line};
use crate::metric::{self, Limits, MetricId};
use crate::render::summary::{self, Figures};
use crate::render::{evidence, human};
use crate::report::CellTrials;

/// Whether `line` is shown: where there is little room, only what has a limit or was decided.
pub(super) fn is_shown(line: &Line, detail: Detail) -> bool {
    detail == Detail::Full || line.limits != Limits::default() || line.decision != Decision::Info
}

/// A decision's mark and its class.
pub(super) fn mark(decision: &Decision) -> (&'static str, &'static str) {
    let mark = summary::decided(decision);
    let class = match decision {
        Decision::Info => "none",
        _ => mark.split(' ').next().unwrap_or_default(),
    };
    (mark, class)
}

/// The tables of all that was compared: first what needs attention, with why it was decided so, then the rest.
pub(super) fn compared(out: &mut String, of: &OfCell<'_>, detail: Detail) {
    let quiet = |line: &Line| matches!(line.decision, Decision::Pass | Decision::Info | Decision::NotCompared { .. });
    let lines = of.lines.iter().copied().filter(|l| is_shown(l, detail));
    let (folded, shown): (Vec<&Line>, Vec<&Line>) = lines.partition(|line| quiet(line));
    if !shown.is_empty() {
        push_table(out, &shown, of.trials.as_ref(), detail, true);
    }
    if folded.is_empty() {
        return;
    }
    let counts = summary::quiet_counts(folded.iter().map(|l| &l.decision));
    if shown.is_empty() {
        let _ = writeln!(out, "<p class=\"dim\">{counts}</p>");
        push_table(out, &folded, of.trials.as_ref(), detail, false);
    } else {
        let _ = writeln!(out, "<details class=\"rest\"><summary>{counts}</summary>");
        push_table(out, &folded, of.trials.as_ref(), detail, false);
        out.push_str("</details>\n");
    }
}

/// `reasons`: with why it was decided so, and advice, below each line.
fn push_table(out: &mut String, lines: &[&Line], trials: Option<&CellTrials<'_>>, detail: Detail, reasons: bool) {
    let full = detail == Detail::Full;
    out.push_str("<div class=\"wide\" role=\"region\" aria-label=\"metrics\" tabindex=\"0\"><table class=\"lines\"><thead><tr><th scope=\"col\">verdict</th><th scope=\"col\">metric</th><th scope=\"col\" class=\"n\">baseline</th><th scope=\"col\" class=\"n\">now</th><th scope=\"col\" class=\"n\">change</th><th scope=\"col\" class=\"n\">limit</th>");
    if full {
        out.push_str("<th scope=\"col\" title=\"the dot is the change, the bar where the true change is, the dashed line the limit\">change against limit</th><th scope=\"col\" title=\"a dot each; the bar is the baseline's range with its median, the dashed line the limit\">repetitions</th><th scope=\"col\" class=\"n\" title=\"the smallest change that could have been told from none\">could see</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for line in lines {
        push_line(out, line, trials, full);
        if reasons {
            let advice: String = line.advice.iter().map(|a| format!("<li>{}</li>", prose(a))).collect();
            let list = if advice.is_empty() { advice } else { format!("<ul>{advice}</ul>") };
            let columns = if full { 8 } else { 5 };
            let _ = writeln!(
                out,
                "<tr class=\"why\"><td></td><td class=\"small dim\" colspan=\"{columns}\">{}{list}</td></tr>",
                escaped(&because(line))
            );
        }
    }
    out.push_str("</tbody></table></div>\n");
}

fn push_line(out: &mut String, line: &Line, trials: Option<&CellTrials<'_>>, full: bool) {
    let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
    let (mark, class) = mark(&line.decision);
    let metric = line.metric.metric();
    let figure = |side: Option<crate::gate::Side>, text: &str| side.map_or("-".to_owned(), |s| data(s.median, text));
    let change = line.change.map_or(change.clone(), |value| data(value, &change));
    let interval = evidence::interval(line).map_or(String::new(), |(ends, confidence)| {
        format!("<br><span class=\"dim small\" title=\"{confidence} sure\">{}</span>", escaped(&ends))
    });
    let help = if full { format!(" title=\"{}\"", escaped(metric.help)) } else { String::new() };
    let _ = write!(
        out,
        "<tr><td class=\"mark {class}\">{mark}</td><th scope=\"row\"{help}><code>{}</code></th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{change}{interval}</td><td class=\"n\">{limits}</td>",
        metric.name,
        figure(line.baseline, &baseline),
        figure(line.now, &now),
    );
    if full {
        let values = trials.map(|t| t.values(line.metric)).unwrap_or_default();
        let _ = write!(
            out,
            "<td class=\"plot\">{}</td><td class=\"plot\">{}</td><td class=\"n\">{}</td>",
            marks::change(line),
            marks::repetitions(line, &values),
            line.resolution.map_or(String::new(), evidence::seen),
        );
    }
    out.push_str("</tr>\n");
}

/// Why a line was decided so.
fn because(line: &Line) -> String {
    let mut text = line.reason.clone();
    if let Decision::Accepted { why, until } = &line.decision {
        text.push_str(&format!("; accepted until {until}: {why}"));
    }
    if let Some(p) = line.p_value {
        text.push_str(&format!("; p {}", evidence::p_value(p)));
    }
    text
}

/// The table of what was measured, where it was compared with nothing.
pub(super) fn measured(out: &mut String, trials: &CellTrials<'_>, detail: Detail) {
    let full = detail == Detail::Full;
    out.push_str("<div class=\"wide\" role=\"region\" aria-label=\"metrics\" tabindex=\"0\"><table class=\"figures\"><thead><tr><th scope=\"col\">metric</th><th scope=\"col\" class=\"n\">median</th><th scope=\"col\" class=\"n\">lowest</th><th scope=\"col\" class=\"n\">highest</th>");
    if full {
        out.push_str("<th scope=\"col\">repetitions</th><th scope=\"col\">what it is</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for &id in metric::ALL {
        let values = trials.values(id);
        let limited = id.metric().limits != Limits::default();
        let Some(side) = crate::gate::Side::of(&values).filter(|_| full || limited) else { continue };
        push_measured(out, id, side, &values, full);
    }
    out.push_str("</tbody></table></div>\n");
}

fn push_measured(out: &mut String, id: MetricId, side: crate::gate::Side, values: &[f64], full: bool) {
    let metric = id.metric();
    let figure = |value: f64| data(value, &human::value(metric.unit, value));
    let _ = write!(
        out,
        "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
        metric.name,
        figure(side.median),
        figure(side.min),
        figure(side.max)
    );
    if full {
        let _ = write!(
            out,
            "<td class=\"plot\">{}</td><td class=\"dim small\">{}</td>",
            marks::dots(values),
            escaped(metric.help)
        );
    }
    out.push_str("</tr>\n");
}
