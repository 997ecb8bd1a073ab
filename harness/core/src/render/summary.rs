//! Words that more than one picture of a verdict uses.

use std::collections::BTreeSet;

use super::human;
use super::human::{counted, date};
use crate::gate::{ComparedWith, Decision, FALSE_ALARM, Line, MemoryLine, Overall, Verdict};
use crate::metric::Unit;
use crate::report::{Cell, PhaseKind, Report};

/// The decision in one word.
pub(super) fn word(decision: Overall) -> &'static str {
    match decision {
        Overall::Pass => "PASS",
        Overall::Fail => "FAIL",
        Overall::Inconclusive => "INCONCLUSIVE",
    }
}

/// One line's decision in a word or two.
pub(super) fn decided(decision: &Decision) -> &'static str {
    match decision {
        Decision::Pass => "pass",
        Decision::Improved => "better",
        Decision::Fail => "FAIL",
        Decision::Inconclusive => "unsure",
        Decision::NotCompared { .. } => "left out",
        Decision::Accepted { .. } => "accepted",
        Decision::Info => "no limit",
    }
}

/// The verdict in one sentence, without its word.
pub(super) fn sentence(verdict: &Verdict) -> String {
    let tally = verdict.tally;
    let cells: BTreeSet<&Cell> = verdict.lines.iter().map(|l| &l.cell).collect();
    let within = |wanted: &Decision| {
        let of: BTreeSet<&Cell> = lines_with(verdict, wanted).collect();
        format!("in {} of {}", of.len(), counted(cells.len() as u64, "cell"))
    };
    let metrics = |wanted: &Decision| verdict.lines.iter().filter(|l| l.decision == *wanted).count() as u64;
    let answers = |wanted: &Decision| verdict.answers.iter().filter(|a| a.decision == *wanted).count() as u64;
    let mut parts: Vec<String> = Vec::new();
    let failed = metrics(&Decision::Fail);
    let unsure = metrics(&Decision::Inconclusive);
    if failed > 0 {
        parts.push(format!("{} got worse {}", counted(failed, "metric"), within(&Decision::Fail)));
    }
    if answers(&Decision::Fail) > 0 {
        parts.push(format!("answers differ in {}", counted(answers(&Decision::Fail), "cell")));
    }
    if verdict.decision == Overall::Inconclusive {
        parts.push("nothing is known to have got worse".to_owned());
    }
    if unsure > 0 {
        parts.push(format!("{} could not be decided", counted(unsure, "metric")));
    }
    if !verdict.problems.is_empty() {
        parts.push(counted(verdict.problems.len() as u64, "problem"));
    }
    if verdict.decision == Overall::Pass {
        parts.push(format!(
            "{} compared in {}",
            counted(tally.compared(), "metric"),
            counted(cells.len() as u64, "cell")
        ));
    } else {
        parts.push(format!("{} compared", counted(tally.compared() - answers(&Decision::Fail), "metric")));
    }
    if tally.improved > 0 {
        parts.push(format!("{} improved", tally.improved));
    }
    if tally.not_compared > 0 {
        parts.push(format!("{} left out", tally.not_compared));
    }
    parts.join(", ")
}

fn lines_with<'a>(verdict: &'a Verdict, wanted: &'a Decision) -> impl Iterator<Item = &'a Cell> {
    verdict.lines.iter().filter(move |l| l.decision == *wanted).map(|l| &l.cell)
}

/// The numbers of what needs no attention in a cell: `9 passed, 2 improved, 12 without limit`.
pub(super) fn quiet_counts<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> String {
    let (mut passed, mut improved, mut left_out, mut info) = (0, 0, 0, 0);
    for decision in decisions {
        match decision {
            Decision::Pass => passed += 1,
            Decision::Improved => improved += 1,
            Decision::NotCompared { .. } => left_out += 1,
            Decision::Info => info += 1,
            Decision::Fail | Decision::Inconclusive | Decision::Accepted { .. } => {}
        }
    }
    let parts = [(passed, "passed"), (improved, "improved"), (left_out, "left out"), (info, "without limit")];
    let shown: Vec<String> = parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
    shown.join(", ")
}

/// A line's figures.
pub(super) struct Figures {
    pub baseline: String,
    pub now: String,
    pub change: String,
    /// The smallest change that could have been seen.
    pub resolution: String,
    pub limits: String,
}

/// The figures of `line`; `-` where there are none.
pub(super) fn figures(line: &Line) -> Figures {
    let unit = line.metric.metric().unit;
    let (baseline, now) = match (&line.baseline, &line.now) {
        (Some(b), Some(n)) => human::pair(unit, b.median, n.median),
        (b, n) => {
            let value =
                |side: &Option<crate::gate::Side>| side.map_or("-".to_owned(), |s| human::value(unit, s.median));
            (value(b), value(n))
        }
    };
    let change = match (line.change, line.worsening()) {
        (Some(change), _) => human::change(change),
        (None, Some(_)) => "from 0".to_owned(),
        (None, None) => "-".to_owned(),
    };
    // What is promised, or this run's noise where that is larger.
    let sees = line.resolution.map(|here| line.detectable.map_or(here, |promised| here.max(promised)));
    let resolution = sees.map_or(String::new(), |share| match line.interval {
        None => "exact".to_owned(),
        Some(_) => human::change(share).trim_start_matches('+').to_owned(),
    });
    Figures { baseline, now, change, resolution, limits: human::limits(unit, line.limits) }
}

/// How noisy metrics were decided, where some were.
pub(super) fn rule(verdict: &Verdict) -> Option<String> {
    let rule = verdict.rule;
    (rule.tested > 0).then(|| {
        let of_runs = verdict.compared_with.iter().any(|compared| compared.history.is_some());
        let by = if of_runs { "the noise between runs" } else { "rank tests" };
        let looks = if rule.looks > 1 { format!(", over up to {} looks", rule.looks) } else { String::new() };
        format!(
            "{} by {by}: at most {} of such runs fail without cause{looks}; `sees` is the smallest change that could \
             have been told from none",
            counted(rule.tested as u64, "noisy metric"),
            human::percent(FALSE_ALARM),
        )
    })
}

/// What the change of resident memory is made of, in one line: the parts that moved, most first.
pub(super) fn memory(line: &MemoryLine) -> String {
    /// Parts that moved by less than this share of the largest move are left out.
    const WORTH_TELLING: f64 = 0.05;
    let mut parts: Vec<(&str, f64)> = line.parts.iter().map(|p| (p.part.name(), p.change_bytes())).collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let largest = parts.first().map_or(0.0, |p| p.1.abs());
    let moved = |bytes: f64| {
        let sign = if bytes < 0.0 { '-' } else { '+' };
        format!("{sign}{}", human::value(Unit::Bytes, bytes.abs()))
    };
    let whole: f64 = parts.iter().map(|p| p.1).sum();
    let shown: Vec<String> = parts
        .iter()
        .filter(|(_, bytes)| bytes.abs() > 0.0 && bytes.abs() >= largest * WORTH_TELLING)
        .map(|&(name, bytes)| format!("{name} {}", moved(bytes)))
        .collect();
    let phase = match line.phase {
        PhaseKind::Drain => "after everything was dropped",
        _ => "at the end of measuring",
    };
    if shown.is_empty() {
        return format!("resident memory {phase} is as it was: the peak alone moved");
    }
    format!("resident memory {phase}: {} in all: {}", moved(whole), shown.join(", "))
}

/// How many metrics are named one by one.
const MOST_NAMES: usize = 3;

/// Lines that could not be decided for one reason: `9 metrics: it has no baseline`.
pub(super) fn undecided(reason: &str, lines: &[&Line], all_names: bool) -> String {
    let names: Vec<&str> = lines.iter().map(|l| l.metric.metric().name).collect();
    let metrics =
        if all_names || names.len() <= MOST_NAMES { names.join(", ") } else { counted(names.len() as u64, "metric") };
    format!("{metrics}: {reason}")
}

/// The lines that could not be decided, by reason, in the order they come.
pub(super) fn by_reason<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Vec<(&'a str, Vec<&'a Line>)> {
    let mut reasons: Vec<(&str, Vec<&Line>)> = Vec::new();
    for line in lines.into_iter().filter(|l| l.decision == Decision::Inconclusive) {
        match reasons.iter_mut().find(|r| r.0 == line.reason) {
            Some((_, lines)) => lines.push(line),
            None => reasons.push((&line.reason, vec![line])),
        }
    }
    reasons
}

const SECONDS_PER_DAY: u64 = 86_400;
/// A short commit and the mark of changes; a full one fills half a line.
const LONGEST_COMMIT: usize = 13;

/// What was compared with what, one line for all workloads of which the same is to be said.
pub(super) fn baselines(report: &Report, verdict: &Verdict) -> Vec<String> {
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for compared in &verdict.compared_with {
        let text = baseline(report, compared);
        match said.iter_mut().find(|s| s.0 == text) {
            Some((_, workloads)) => workloads.push(&compared.workload),
            None => said.push((text, vec![&compared.workload])),
        }
    }
    said.into_iter().map(|(text, workloads)| format!("{}: {text}", workloads.join(", "))).collect()
}

fn baseline(report: &Report, compared: &ComparedWith) -> String {
    let mut text = match &compared.history {
        Some(history) => super::evidence::runs(history),
        None => format!("baseline of {}", date(compared.recorded_unix_s)),
    };
    if !compared.recorded_by.is_empty() {
        text.push_str(&format!(" ({})", compared.recorded_by));
    }
    let days = report.created_unix_s.saturating_sub(compared.recorded_unix_s) / SECONDS_PER_DAY;
    if days > 0 && compared.history.is_none() {
        text.push_str(&format!(", {} old", counted(days, "day")));
    }
    // One that is not the same is among the differences.
    let same_commit = compared.build_differences.iter().all(|d| d.field != "commit");
    if compared.history.is_none() && same_commit && (1..=LONGEST_COMMIT).contains(&compared.commit.len()) {
        text.push_str(&format!(", at {}", compared.commit));
    }
    let differences =
        |d: &[crate::fingerprint::Difference]| d.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if compared.same_class {
        text.push_str(", same machine class");
    } else {
        text.push_str(&format!(", another machine class: {}", differences(&compared.machine_differences)));
    }
    if !compared.build_differences.is_empty() {
        text.push_str(&format!("; another build: {}", differences(&compared.build_differences)));
    }
    text
}
