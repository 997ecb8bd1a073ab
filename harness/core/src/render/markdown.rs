//! The verdict for a comment on a pull request: short, what got worse first, the rest folded.

use std::fmt::Write;

use super::human;
use super::label::labels;
use super::summary::{self, Figures};
use crate::gate::{AnswersLine, Decision, Line, Verdict};
use crate::report::{Cell, Report};

/// Rows beyond this are counted, not shown: comments have a largest size.
const MOST_ROWS: usize = 50;

/// The verdict over `report` as Markdown.
#[must_use]
pub fn render(report: &Report, verdict: &Verdict) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "### heapgate: {}\n\n{}.",
        summary::word(verdict.decision),
        capitalised(&summary::sentence(verdict))
    );
    push_table(&mut out, verdict);
    push_list(
        &mut out,
        "Problems",
        verdict.problems.iter().map(|p| {
            if p.place.is_empty() {
                capitalised(&escaped(&p.text))
            } else {
                format!("{}: {}", code(&p.place), escaped(&p.text))
            }
        }),
    );
    let mut notes = vec![format!("this run: {}", report.fingerprint.machine.class())];
    notes.extend(summary::baselines(report, verdict));
    notes.extend(verdict.notes.iter().cloned());
    let _ = writeln!(out, "\n<details><summary>What was compared</summary>\n");
    for note in notes {
        let _ = writeln!(out, "- {}", escaped(&note));
    }
    out.push_str("\n</details>\n");
    out
}

fn push_table(out: &mut String, verdict: &Verdict) {
    let names = labels(verdict.lines.iter().map(|l| &l.cell));
    let name = |cell: &Cell| escaped(&names.get(cell).cloned().unwrap_or_else(|| cell.to_string()));
    let mut shown: Vec<&Line> =
        verdict.lines.iter().filter(|l| matches!(l.decision, Decision::Fail | Decision::Improved)).collect();
    // Stable, so within one decision the order of cells and metrics stays.
    shown.sort_by_key(|l| std::cmp::Reverse(l.decision.severity()));
    let answers: Vec<&AnswersLine> = verdict.answers.iter().filter(|a| a.decision != Decision::Pass).collect();
    if !(shown.is_empty() && answers.is_empty()) {
        out.push_str("\n| | cell | metric | baseline | now | change | limit |\n|---|---|---|--:|--:|--:|--:|\n");
    }
    for answers in &answers {
        let sums = |sums: &[String]| sums.iter().map(|s| code(s)).collect::<Vec<_>>().join(" ");
        let (mark, cell) = (mark(&answers.decision), name(&answers.cell));
        let _ =
            writeln!(out, "| {mark} | {cell} | answers | {} | {} | | |", sums(&answers.baseline), sums(&answers.now));
    }
    for line in shown.iter().take(MOST_ROWS) {
        let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
        let (mark, cell, metric) = (mark(&line.decision), name(&line.cell), code(line.metric.metric().name));
        let _ = writeln!(out, "| {mark} | {cell} | {metric} | {baseline} | {now} | {change} | {limits} |");
    }
    if shown.len() > MOST_ROWS {
        let _ = writeln!(out, "\n… and {}.", human::counted((shown.len() - MOST_ROWS) as u64, "more row"));
    }
    let undecided: Vec<String> = names
        .iter()
        .flat_map(|(cell, name)| {
            let of_cell = verdict.lines.iter().filter(|l| l.cell == **cell);
            let said = summary::by_reason(of_cell).into_iter();
            said.map(|(reason, lines)| {
                format!("{}: {}", escaped(name), escaped(&summary::undecided(reason, &lines, false)))
            })
        })
        .collect();
    let more = undecided.len().saturating_sub(MOST_ROWS);
    let rest = (more > 0).then(|| format!("… and {more} more"));
    push_list(out, "Could not be decided", undecided.into_iter().take(MOST_ROWS).chain(rest));
}

fn push_list(out: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n**{title}**\n");
    for item in items {
        let _ = writeln!(out, "- {item}");
    }
}

fn mark(decision: &Decision) -> &'static str {
    match decision {
        Decision::Fail => "**FAIL**",
        Decision::Inconclusive => "unsure",
        Decision::Improved => "better",
        Decision::Pass => "pass",
        Decision::NotCompared { .. } => "left out",
        Decision::Accepted { .. } => "accepted",
        Decision::Info => "",
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// `text` with nothing in it that Markdown or HTML would take for markup, and on one line.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// `text` as code within a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace(['`', '\n', '\r'], " ").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_no_markup() {
        assert_eq!(escaped("<img> | *x* @all `y`"), "&lt;img&gt; \\| \\*x\\* &#64;all \\`y\\`");
        assert_eq!(code("a`b|c"), "`a b\\|c`");
    }
}
