//! The verdict for a comment on a pull request: short, what got worse first, the rest folded. Whatever the verdict, it is
//! within GitHub's largest size, and says what it left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::label::labels;
use super::summary::{self, Figures};
use super::{evidence, human};
use crate::gate::{AnswersLine, Decision, Line, MemoryLine, Verdict};
use crate::metric::Unit;
use crate::report::{Cell, Report};

/// The first line, unseen when shown: by it a comment is found again, to be replaced instead of repeated.
pub const MARKER: &str = "<!-- heapgate -->";

/// GitHub takes comments of fewer characters than this. Everything here is counted in bytes, of which there are never
/// fewer than characters, however they are counted.
const LARGEST_COMMENT: usize = 65_536;
/// Bytes for each part. Together with what is fixed (heading, sentence, titles: under 2,000) they stay below
/// [`LARGEST_COMMENT`], so that no part takes another's room.
const TABLE: usize = 22_000;
const DETAILS: usize = 22_000;
const UNDECIDED: usize = 5_000;
const PROBLEMS: usize = 6_000;
const NOTES: usize = 6_000;
const FIXED: usize = 2_000;
const _: () = assert!(TABLE + DETAILS + UNDECIDED + PROBLEMS + NOTES + FIXED < LARGEST_COMMENT);

/// Rows beyond this are counted, not shown: nobody reads them in a comment.
const MOST_ROWS: usize = 50;
/// Longest name, and longest text of one item: longer ones are cut, so that one of them does not fill a part.
const NAME: usize = 200;
const TEXT: usize = 600;
/// Hints for one metric.
const MOST_ADVICE: usize = 5;
/// Checksums of one side that are shown, and the longest.
const MOST_SUMS: usize = 3;
const SUM: usize = 64;

/// The verdict over `report` as Markdown.
#[must_use]
pub fn render(report: &Report, verdict: &Verdict) -> String {
    let mut out = format!(
        "{MARKER}\n### heapgate: {}\n\n{}.\n",
        summary::word(verdict.decision),
        capitalised(&summary::sentence(verdict))
    );
    let names = labels(verdict.lines.iter().map(|l| &l.cell).chain(verdict.answers.iter().map(|a| &a.cell)));
    let names: Names<'_> = names.into_iter().map(|(cell, name)| (cell, escaped(&cut(&name, NAME)))).collect();
    push_table(&mut out, verdict, &names);
    push_details(&mut out, verdict, &names);
    push_undecided(&mut out, verdict, &names);
    let problems = verdict.problems.iter().map(|p| {
        let text = escaped(&cut(&p.text, TEXT));
        if p.place.is_empty() { capitalised(&text) } else { format!("{}: {text}", code(&cut(&p.place, NAME))) }
    });
    push_list(&mut out, "Problems", problems.collect(), PROBLEMS);
    let mut notes = vec![format!("this run: {}", report.fingerprint.machine.class())];
    notes.extend(summary::baselines(report, verdict));
    notes.extend(verdict.notes.iter().cloned());
    out.push_str("\n<details><summary>What was compared</summary>\n\n");
    let items = notes.iter().map(|n| format!("- {}\n", escaped(&cut(n, TEXT)))).collect();
    push_items(&mut out, items, notes.len(), "more note", NOTES);
    out.push_str("\n</details>\n");
    out
}

/// Names of cells, escaped.
type Names<'a> = BTreeMap<&'a Cell, String>;

fn name<'a>(names: &'a Names<'_>, cell: &Cell) -> &'a str {
    names.get(cell).map_or("", String::as_str)
}

/// Pushes those of `items`, the first of `all`, that fit into `budget` bytes, whole ones only, and says how many are left
/// out.
fn push_items(out: &mut String, items: Vec<String>, all: usize, more: &str, budget: usize) {
    /// Room for the line that says it.
    const MORE: usize = 80;
    let (mut left, mut shown) = (budget.saturating_sub(MORE), 0);
    for item in items {
        if shown == MOST_ROWS || item.len() > left {
            break;
        }
        left -= item.len();
        shown += 1;
        out.push_str(&item);
    }
    if shown < all {
        let _ = writeln!(out, "\n… and {}.", human::counted((all - shown) as u64, more));
    }
}

/// All lines, the worst first.
pub(super) fn worst_first(verdict: &Verdict) -> Vec<&Line> {
    let mut lines: Vec<&Line> = verdict.lines.iter().collect();
    // Stable, so what got equally worse stays in the order of cells and metrics.
    lines.sort_by(|a, b| {
        let worse = |line: &Line| line.worsening().unwrap_or(0.0);
        b.decision.severity().cmp(&a.decision.severity()).then(worse(b).total_cmp(&worse(a)))
    });
    lines
}

fn push_table(out: &mut String, verdict: &Verdict, names: &Names<'_>) {
    let shown: Vec<&Line> = worst_first(verdict)
        .into_iter()
        .filter(|l| matches!(l.decision, Decision::Fail | Decision::Improved | Decision::Accepted { .. }))
        .collect();
    let answers: Vec<&AnswersLine> = verdict.answers.iter().filter(|a| a.decision != Decision::Pass).collect();
    if shown.is_empty() && answers.is_empty() {
        return;
    }
    out.push_str(
        "\n| | cell | metric | baseline | now | change | could see | limit |\n|---|---|---|--:|--:|--:|--:|--:|\n",
    );
    let of_answers = answers.iter().map(|answers| {
        let sums = |sums: &[String]| {
            let rest = sums.len().saturating_sub(MOST_SUMS);
            let first = sums.iter().take(MOST_SUMS).map(|s| code(&cut(s, SUM)));
            first.chain((rest > 0).then(|| format!("and {rest} more"))).collect::<Vec<_>>().join(" ")
        };
        let (mark, cell) = (mark(&answers.decision), name(names, &answers.cell));
        format!("| {mark} | {cell} | answers | {} | {} | | | |\n", sums(&answers.baseline), sums(&answers.now))
    });
    let of_lines = shown.iter().map(|line| {
        let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
        let (mark, cell, metric) = (mark(&line.decision), name(names, &line.cell), code(line.metric.metric().name));
        let interval = evidence::interval(line).map_or(String::new(), |(ends, _)| format!("<br>({ends})"));
        let seen = line.resolution.map_or(String::new(), evidence::seen);
        format!("| {mark} | {cell} | {metric} | {baseline} | {now} | {change}{interval} | {seen} | {limits} |\n")
    });
    let all = answers.len() + shown.len();
    push_items(out, of_answers.chain(of_lines).take(MOST_ROWS).collect(), all, "more row", TABLE);
}

/// For each cell with a failure, folded: why, what to look at, and where resident memory went.
fn push_details(out: &mut String, verdict: &Verdict, names: &Names<'_>) {
    let mut places: BTreeMap<&Cell, usize> = BTreeMap::new();
    let mut cells: Vec<(&Cell, Vec<&Line>)> = Vec::new();
    for line in worst_first(verdict).into_iter().filter(|l| l.decision == Decision::Fail) {
        let place = *places.entry(&line.cell).or_insert(cells.len());
        if place == cells.len() {
            cells.push((&line.cell, Vec::new()));
        }
        cells[place].1.push(line);
    }
    // More are not shown anyway.
    let all = cells.len();
    cells.truncate(MOST_ROWS);
    let items = cells.into_iter().map(|(cell, failed)| {
        let name = name(names, cell);
        let mut text = format!(
            "\n<details><summary>{name}: {} got worse</summary>\n\n",
            human::counted(failed.len() as u64, "metric")
        );
        for line in &failed {
            let _ = writeln!(text, "- {}: {}", code(line.metric.metric().name), escaped(&cut(&line.reason, TEXT)));
            for advice in line.advice.iter().take(MOST_ADVICE) {
                let _ = writeln!(text, "  - {}", prose(&cut(advice, TEXT)));
            }
        }
        for memory in verdict.memory.iter().filter(|m| m.cell == *cell) {
            push_memory(&mut text, memory);
        }
        text.push_str("\n</details>\n");
        text
    });
    push_items(out, items.collect(), all, "more failing cell", DETAILS);
}

fn push_memory(out: &mut String, memory: &MemoryLine) {
    let bytes = |bytes: f64| human::value(Unit::Bytes, bytes);
    let signed = |bytes: f64| format!("{}{}", if bytes > 0.0 { "+" } else { "" }, human::value(Unit::Bytes, bytes));
    let phase = evidence::phase(memory.phase);
    let _ = writeln!(out, "\n| resident memory at the end of {phase} | baseline | now | change |\n|---|--:|--:|--:|");
    let (mut before, mut now) = (0.0, 0.0);
    for part in &memory.parts {
        before += part.baseline_bytes;
        now += part.now_bytes;
        let change = part.now_bytes - part.baseline_bytes;
        let (was, is) = (bytes(part.baseline_bytes), bytes(part.now_bytes));
        let _ = writeln!(out, "| {} | {was} | {is} | {} |", part.part.name(), signed(change));
    }
    let _ = writeln!(out, "| **together** | {} | {} | {} |", bytes(before), bytes(now), signed(now - before));
}

fn push_undecided(out: &mut String, verdict: &Verdict, names: &Names<'_>) {
    let mut cells: BTreeMap<&Cell, Vec<&Line>> = BTreeMap::new();
    for line in verdict.lines.iter().filter(|l| l.decision == Decision::Inconclusive) {
        cells.entry(&line.cell).or_default().push(line);
    }
    let undecided = cells.iter().flat_map(|(cell, lines)| {
        let said = summary::by_reason(lines.iter().copied()).into_iter();
        said.map(|(reason, lines)| {
            let text = summary::undecided(reason, &lines, false);
            format!("{}: {}", name(names, cell), escaped(&cut(&text, TEXT)))
        })
    });
    push_list(out, "Could not be decided", undecided.collect(), UNDECIDED);
}

fn push_list(out: &mut String, title: &str, items: Vec<String>, budget: usize) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n**{title}**\n");
    let all = items.len();
    push_items(out, items.into_iter().map(|item| format!("- {item}\n")).collect(), all, "more item", budget);
}

/// `text`, or its beginning of so many bytes with an ellipsis.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
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

/// Our own words, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let part = |(index, part): (usize, &str)| if index % 2 == 1 { code(part) } else { escaped(part) };
    text.split('`').enumerate().map(part).collect()
}

/// `text` as code within a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace(['`', '\n', '\r'], " ").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::gate::{Problem, ProblemKind, compare};
    use crate::metric::MetricId;
    use crate::render::tests::with_evidence;
    use crate::report::testing;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_verdict_is_too_large_for_a_comment(
            cells in 1usize..300,
            text in "[<&|`a\u{1f9e0}]{0,9}",
            repeat in 1usize..500,
            few in any::<bool>(),
        ) {
            let (_, template) = with_evidence();
            let report = testing::report(1, 1);
            let mut verdict = compare(&report, &report, &Config::default(), crate::gate::Look::ONLY);
            let long = text.repeat(if few { 1 } else { repeat });
            let failed = template.lines.iter().find(|l| l.interval.is_some()).unwrap();
            for index in 0..cells {
                let mut cell = testing::cell(index);
                cell.variant.push_str(&long);
                for &metric in crate::metric::ALL {
                    let decision = match metric {
                        MetricId::PeakLiveBytes => Decision::Inconclusive,
                        MetricId::LeftBytes => Decision::Accepted { why: long.clone(), until: "2026-12-31".into() },
                        _ => Decision::Fail,
                    };
                    let advice = vec![long.clone(); 5];
                    let line = Line { cell: cell.clone(), metric, decision, reason: long.clone(), advice, ..failed.clone() };
                    verdict.lines.push(line);
                    verdict.tally.failed += 1;
                }
                verdict.memory.push(MemoryLine { cell: cell.clone(), ..template.memory[0].clone() });
                let (baseline, now) = (vec![long.clone(); 3], vec!["1".repeat(99); 99]);
                let reason = long.clone();
                verdict.tally.failed += 1;
                verdict.answers.push(AnswersLine { cell, decision: Decision::Fail, baseline, now, reason });
                verdict.problems.push(Problem { kind: ProblemKind::TrialFailed, place: long.clone(), text: long.clone() });
                verdict.notes.push(long.clone());
            }
            let comment = render(&report, &verdict);
            prop_assert!(comment.len() < LARGEST_COMMENT, "{} bytes", comment.len());
            prop_assert!(comment.starts_with(MARKER));
            let count = |what: &str| comment.matches(what).count();
            prop_assert_eq!(count("<details>"), count("</details>"));
            if cells * 26 > MOST_ROWS {
                prop_assert!(comment.contains(" more rows."), "it says what it left out");
            }
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let items = |n: usize| (0..n).map(|i| format!("- {i}\n")).collect::<Vec<_>>();
        let mut out = String::new();
        push_items(&mut out, items(MOST_ROWS + 1), MOST_ROWS + 1, "more row", 10_000);
        assert!(out.ends_with("- 49\n\n… and 1 more row.\n"), "{out}");
        let mut out = String::new();
        push_items(&mut out, items(20), 30, "more row", 80 + 10);
        assert_eq!(out, "- 0\n- 1\n\n… and 28 more rows.\n");
    }

    #[test]
    fn a_cut_falls_between_characters() {
        assert_eq!(cut("aµb", 2), "a…");
        assert_eq!(cut("aµ", 3), "aµ");
    }

    #[test]
    fn text_from_outside_is_no_markup() {
        assert_eq!(escaped("<img> | *x* @all `y`"), "&lt;img&gt; \\| \\*x\\* &#64;all \\`y\\`");
        assert_eq!(code("a`b|c"), "`a b\\|c`");
        assert_eq!(prose("run `a*b` <now>"), "run `a*b` &lt;now&gt;");
    }
}
