//! The verdict for a terminal: what got worse first, what passed folded away, and the decision in the last line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::Options;
use super::label::labels;
use super::summary::{self, Figures};
use super::table::{Side, hanging, lines, width};
use crate::gate::{Decision, Line, Overall, Verdict};
use crate::report::{Cell, Report};

const INDENT: usize = 2;
/// The column of marks and the space after it: reasons stand below the metric's name.
const MARK: usize = 10;
/// The header of the smallest change that could have been seen.
const SEES: &str = "sees";
/// Columns of the table that narrow terminals do without.
const LIMIT: usize = 6;
const BASELINE: usize = 2;
/// Where the column of [`SEES`] is once those two are gone.
const SEES_LAST: usize = 4;

/// The verdict over `report` as text.
#[must_use]
pub fn render(report: &Report, verdict: &Verdict, options: Options) -> String {
    let style = options.style;
    let mut out = String::new();
    let sections = sections(verdict, options);
    let rows: Vec<Vec<String>> = sections.iter().flat_map(|s| s.rows.iter().map(|r| r.columns.clone())).collect();
    let any_rows = !rows.is_empty();
    let mut table = fitting(rows, options.width).into_iter();
    if let Some(header) = table.next().filter(|_| any_rows) {
        let _ = writeln!(out, "{}", style.dim(&header));
    }
    for section in &sections {
        let _ = writeln!(out, "{}", style.bold(&section.label));
        for (decision, text) in &section.answers {
            push_marked(&mut out, decision, text, options);
        }
        let mut said = BTreeSet::new();
        for row in &section.rows {
            let line = table.next().unwrap_or_default();
            let _ = writeln!(out, "{}", coloured(&line, &row.decision, options));
            if let Some(reason) = &row.reason {
                push_dim(&mut out, &hanging(&" ".repeat(INDENT + MARK), reason, options.width), options);
            }
            // One hint may be good for several metrics.
            for hint in row.advice.iter().filter(|hint| said.insert(hint.as_str())) {
                push_dim(&mut out, &hanging(&format!("{}→ ", " ".repeat(INDENT + MARK)), hint, options.width), options);
            }
        }
        for text in &section.memory {
            push_dim(&mut out, &hanging(&" ".repeat(INDENT), text, options.width), options);
        }
        for (decision, text) in &section.folded {
            push_marked(&mut out, decision, text, options);
        }
        if !section.quiet.is_empty() {
            let _ = writeln!(out, "{}", style.dim(&format!("{}{}", " ".repeat(INDENT), section.quiet)));
        }
        out.push('\n');
    }
    push_quiet_cells(&mut out, verdict, options);
    push_problems(&mut out, verdict, options);
    push_notes(&mut out, report, verdict, options);
    let word = summary::word(verdict.decision);
    let painted = match verdict.decision {
        Overall::Pass => style.good(&style.bold(word)),
        Overall::Fail => style.bad(word),
        Overall::Inconclusive => style.unsure(&style.bold(word)),
    };
    out.push_str(
        &hanging(&format!("{word}  "), &summary::sentence(verdict), options.width).replacen(word, &painted, 1),
    );
    out
}

/// Text after a decision's mark.
fn push_marked(out: &mut String, decision: &Decision, text: &str, options: Options) {
    let mark = format!("{}{:<MARK$}", " ".repeat(INDENT), mark(decision));
    out.push_str(&coloured(&hanging(&mark, text, options.width), decision, options));
}

/// One cell's part of the table.
struct Section {
    label: String,
    answers: Vec<(Decision, String)>,
    rows: Vec<Row>,
    /// Lines that share one reason and need no figures.
    folded: Vec<(Decision, String)>,
    /// Where resident memory went.
    memory: Vec<String>,
    quiet: String,
}

struct Row {
    decision: Decision,
    columns: Vec<String>,
    reason: Option<String>,
    advice: Vec<String>,
}

/// The cells that have something to show, worst first.
fn sections(verdict: &Verdict, options: Options) -> Vec<Section> {
    let mut ranked: Vec<(u8, bool, f64, Section)> = by_cell(verdict)
        .into_iter()
        .filter_map(|(label, cell, lines)| {
            let mut section = section(verdict, label, cell, &lines, options);
            let answers = verdict.answers.iter().filter(|a| a.cell == *cell).map(|a| a.decision.severity());
            let severity = lines.iter().map(|l| l.decision.severity()).chain(answers).max().unwrap_or(0);
            let shown = !section.rows.is_empty() || !section.folded.is_empty() || !section.answers.is_empty();
            section.quiet = if options.verbose { String::new() } else { section.quiet };
            // Nothing is worse than wrong answers.
            let wrong = section.answers.iter().any(|a| a.0 == Decision::Fail);
            let worst = lines.iter().map(|l| badness(l)).fold(f64::NEG_INFINITY, f64::max);
            shown.then_some((severity, wrong, worst, section))
        })
        .collect();
    ranked.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then(b.2.total_cmp(&a.2)));
    ranked.into_iter().map(|r| r.3).collect()
}

/// How bad a failed line is: how much worse it got.
fn badness(line: &Line) -> f64 {
    if line.decision == Decision::Fail { line.worsening().unwrap_or(0.0) } else { f64::NEG_INFINITY }
}

fn by_cell(verdict: &Verdict) -> Vec<(String, &Cell, Vec<&Line>)> {
    let mut names = labels(verdict.lines.iter().map(|l| &l.cell));
    let mut cells: BTreeMap<&Cell, Vec<&Line>> = BTreeMap::new();
    for line in &verdict.lines {
        cells.entry(&line.cell).or_default().push(line);
    }
    cells.into_iter().map(|(cell, lines)| (names.remove(cell).unwrap_or_default(), cell, lines)).collect()
}

fn section(verdict: &Verdict, label: String, cell: &Cell, lines: &[&Line], options: Options) -> Section {
    let mut said_of_answers: Vec<(Decision, String)> = Vec::new();
    for answers in
        verdict.answers.iter().filter(|a| a.cell == *cell && (a.decision != Decision::Pass || options.verbose))
    {
        let sums = |sums: &[String]| if sums.is_empty() { "none".to_owned() } else { sums.join(", ") };
        let text = match answers.decision {
            Decision::Pass => format!("{}: {}", answers.reason, sums(&answers.now)),
            _ => format!("{}: {} → {}", answers.reason, sums(&answers.baseline), sums(&answers.now)),
        };
        said_of_answers.push((answers.decision.clone(), text));
    }
    let loud = |l: &&Line| matches!(l.decision, Decision::Fail | Decision::Accepted { .. } | Decision::Improved);
    let mut shown: Vec<&Line> =
        lines.iter().copied().filter(|l| loud(l) || options.verbose && l.decision != Decision::Inconclusive).collect();
    // What could not be decided is folded by reason, but for single lines that have figures on both sides.
    let mut folded: Vec<(Decision, String)> = Vec::new();
    for (reason, of) in summary::by_reason(lines.iter().copied()) {
        match of[..] {
            [line] if line.baseline.is_some() && line.now.is_some() => shown.push(line),
            _ => folded.push((Decision::Inconclusive, summary::undecided(reason, &of, options.verbose))),
        }
    }
    if !options.verbose {
        shown.sort_by(|a, b| b.decision.severity().cmp(&a.decision.severity()).then(badness(b).total_cmp(&badness(a))));
    }
    Section {
        label,
        answers: said_of_answers,
        rows: shown.into_iter().map(row).collect(),
        folded,
        memory: verdict.memory.iter().filter(|m| m.cell == *cell).map(summary::memory).collect(),
        quiet: summary::quiet_counts(lines.iter().map(|l| &l.decision).filter(|d| **d != Decision::Improved)),
    }
}

fn row(line: &Line) -> Row {
    // Padded, so that reasons stand below the names whatever marks are in the table.
    let mark = format!("{}{:<2$}", " ".repeat(INDENT), mark(&line.decision), MARK - 2);
    let Figures { baseline, now, change, resolution, limits } = summary::figures(line);
    let plain = matches!(line.decision, Decision::Pass | Decision::Info | Decision::NotCompared { .. });
    Row {
        decision: line.decision.clone(),
        columns: vec![mark, line.metric.metric().name.to_owned(), baseline, now, change, resolution, limits],
        reason: (!plain).then(|| line.reason.clone()),
        advice: line.advice.clone(),
    }
}

/// The table's lines, header first. Where it is too wide, the limits go (the reasons name them), then the baselines.
fn fitting(mut rows: Vec<Vec<String>>, wanted: usize) -> Vec<String> {
    rows.insert(0, ["", "", "baseline", "now", "change", SEES, "limit"].map(str::to_owned).to_vec());
    let mut columns = vec![Side::Left, Side::Left, Side::Right, Side::Right, Side::Right, Side::Right, Side::Left];
    for dropped in [LIMIT, BASELINE, SEES_LAST] {
        let table = lines(&columns, &rows);
        if table.iter().all(|line| width(line) <= wanted) {
            return table;
        }
        columns.remove(dropped);
        rows.iter_mut().for_each(|row| drop(row.remove(dropped)));
    }
    lines(&columns, &rows)
}

fn mark(decision: &Decision) -> &'static str {
    match decision {
        Decision::Info => "-",
        _ => summary::decided(decision),
    }
}

/// Colours the mark at the beginning of a line.
fn coloured(line: &str, decision: &Decision, options: Options) -> String {
    let (mark, style) = (mark(decision), options.style);
    let painted = match decision {
        Decision::Fail => style.bad(mark),
        Decision::Inconclusive | Decision::Accepted { .. } => style.unsure(mark),
        Decision::Improved => style.good(mark),
        Decision::Pass => style.good(mark),
        Decision::NotCompared { .. } | Decision::Info => style.dim(mark),
    };
    line.replacen(mark, &painted, 1)
}

fn push_dim(out: &mut String, text: &str, options: Options) {
    for line in text.lines() {
        let trimmed = line.trim_start();
        let _ = writeln!(out, "{}{}", &line[..line.len() - trimmed.len()], options.style.dim(trimmed));
    }
}

/// The cells in which nothing needs attention: a line each.
fn push_quiet_cells(out: &mut String, verdict: &Verdict, options: Options) {
    if options.verbose {
        return;
    }
    let needs_attention = |d: &Decision| !matches!(d, Decision::Pass | Decision::NotCompared { .. } | Decision::Info);
    let rows: Vec<Vec<String>> = by_cell(verdict)
        .into_iter()
        .filter(|(_, cell, lines)| {
            let answers = verdict.answers.iter().filter(|a| a.cell == **cell).map(|a| &a.decision);
            !lines.iter().map(|l| &l.decision).chain(answers).any(needs_attention)
        })
        .map(|(label, _, lines)| vec![label, summary::quiet_counts(lines.iter().map(|l| &l.decision))])
        .collect();
    if rows.is_empty() {
        return;
    }
    let table = lines(&[Side::Left, Side::Left], &rows);
    if table.iter().all(|line| width(line) <= options.width) {
        out.push_str(&table.join("\n"));
    } else {
        let stacked: Vec<String> =
            rows.iter().map(|row| format!("{}\n{}{}", row[0], " ".repeat(INDENT), row[1])).collect();
        out.push_str(&stacked.join("\n"));
    }
    out.push_str("\n\n");
}

fn push_problems(out: &mut String, verdict: &Verdict, options: Options) {
    if verdict.problems.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", options.style.bold("problems"));
    for problem in &verdict.problems {
        let place = if problem.place.is_empty() { String::new() } else { format!("{}: ", problem.place) };
        out.push_str(&hanging("  - ", &format!("{place}{}", problem.text), options.width));
    }
    out.push('\n');
}

fn push_notes(out: &mut String, report: &Report, verdict: &Verdict, options: Options) {
    let mut notes = summary::baselines(report, verdict);
    notes.extend(verdict.notes.iter().cloned());
    notes.extend(summary::rule(verdict));
    if notes.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", options.style.bold(&format!("this run: {}", report.fingerprint.machine.class())));
    for note in notes {
        push_dim(out, &hanging("  - ", &note, options.width), options);
    }
    out.push('\n');
}
