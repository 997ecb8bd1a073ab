//! One cell's part of the page.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::cell::OfCell;
use super::shell::escaped;
use super::{Detail, ProfileLink, Subject, changes, costs, curves, memory, stalls};
use crate::gate::{AnswersLine, Decision};
use crate::render::human;
use crate::report::{CellTrials, Outcome};

/// Cells that are open from the start: what needs attention, or all of few.
const OPEN: usize = 3;

/// The section of `of`.
pub(super) fn section(subject: Subject<'_>, of: &OfCell<'_>, detail: Detail) -> String {
    let open = of.number <= OPEN && (of.needs_attention() || of.number == 1);
    let mut out = format!(
        "<details class=\"cell\" id=\"c{}\"{}><summary><h2>{}</h2> {}</summary>\n",
        of.number,
        if open { " open" } else { "" },
        escaped(&of.label),
        about(of)
    );
    let params: Vec<String> = of.cell.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if !params.is_empty() {
        let _ = writeln!(out, "<p class=\"dim small\">{}</p>", escaped(&params.join(" · ")));
    }
    for answers in of.answers.iter().filter(|a| a.decision != Decision::Pass) {
        push_answers(&mut out, answers);
    }
    let Some(trials) = &of.trials else {
        out.push_str("<p>It was planned, and has no trial.</p>\n</details>\n");
        return out;
    };
    push_failures(&mut out, trials);
    push_profiles(&mut out, subject.profiles.iter().filter(|profile| profile.cell == *of.cell));
    if of.lines.is_empty() {
        changes::measured(&mut out, trials, detail);
    } else {
        changes::compared(&mut out, of, detail);
    }
    if detail == Detail::Full {
        out.push_str(&curves::curves(of));
        out.push_str(&stalls::stalls(of));
        let memory = memory::memory(of);
        if !memory.is_empty() {
            let _ = writeln!(out, "<div class=\"side-by-side\">{memory}</div>");
        }
        out.push_str(&costs::costs(trials));
        push_notes(&mut out, trials);
    }
    out.push_str("</details>\n");
    out
}

/// Where the lines of code behind the figures are.
fn push_profiles<'a>(out: &mut String, profiles: impl Iterator<Item = &'a ProfileLink>) {
    let links: Vec<String> = profiles
        .map(|profile| format!("<a href=\"{}\">{}</a>", escaped(&profile.href), escaped(&profile.title)))
        .collect();
    if !links.is_empty() {
        let _ = writeln!(out, "<p class=\"profiles\">Profiles, by line of code: {}</p>", links.join(", "));
    }
}

/// What can be said of a cell without opening it.
fn about(of: &OfCell<'_>) -> String {
    let count = |wanted: &Decision| {
        let lines = of.lines.iter().filter(|l| l.decision == *wanted).count();
        lines + of.answers.iter().filter(|a| a.decision == *wanted).count()
    };
    let mut parts = Vec::new();
    for (decision, class, what) in [
        (Decision::Fail, "FAIL", "worse"),
        (Decision::Inconclusive, "unsure", "undecided"),
        (Decision::Improved, "better", "better"),
    ] {
        let number = count(&decision);
        if number > 0 {
            parts.push(format!("<span class=\"{class}\">{number} {what}</span>"));
        }
    }
    if parts.is_empty() && !of.lines.is_empty() {
        parts.push("<span class=\"pass\">nothing worse</span>".to_owned());
    }
    if let Some(trials) = &of.trials {
        let (done, all) = (trials.completed().count(), trials.trials.len());
        parts.push(match done == all {
            true => format!("<span class=\"dim\">{}</span>", human::counted(all as u64, "repetition")),
            false => format!("<span class=\"FAIL\">{done} of {all} repetitions completed</span>"),
        });
    }
    parts.join(" · ")
}

fn push_answers(out: &mut String, answers: &AnswersLine) {
    let sums =
        |sums: &[String]| sums.iter().map(|s| format!("<code>{}</code>", escaped(s))).collect::<Vec<_>>().join(" ");
    let (mark, class) = changes::mark(&answers.decision);
    let _ = writeln!(
        out,
        "<p><b class=\"{class}\">{mark}</b> answers {} → {}: {}</p>",
        sums(&answers.baseline),
        sums(&answers.now),
        escaped(&answers.reason)
    );
}

/// How repetitions ended that didn't complete, and the end of what the first of each kind printed.
fn push_failures(out: &mut String, trials: &CellTrials<'_>) {
    /// Of a thousand that died alike these are enough.
    const MOST_NUMBERS: usize = 10;
    let mut failures: Vec<(String, Vec<String>, &str)> = Vec::new();
    for failed in trials.trials.iter().filter(|t| !t.outcome.is_completed()) {
        let outcome = failed.outcome.to_string();
        let rep = human::repetition(failed.rep);
        match failures.iter_mut().find(|f| f.0 == outcome) {
            Some((_, reps, _)) => reps.push(rep),
            None => failures.push((outcome, vec![rep], stderr(&failed.outcome))),
        }
    }
    for (outcome, reps, stderr) in failures {
        let noun = if reps.len() == 1 { "repetition" } else { "repetitions" };
        let more = reps.len().saturating_sub(MOST_NUMBERS);
        let mut which = reps[..reps.len() - more].join(", ");
        if more > 0 {
            which.push_str(&format!(" and {} more", human::count(more as u64)));
        }
        let _ = writeln!(out, "<p><b class=\"FAIL\">FAIL</b> {noun} {which}: {}</p>", escaped(&outcome));
        if !stderr.is_empty() {
            let _ = writeln!(out, "<pre tabindex=\"0\">{}</pre>", escaped(stderr));
        }
    }
}

fn stderr(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { stderr, .. } | Outcome::Killed { stderr, .. } | Outcome::OutOfMemory { stderr, .. } => stderr,
        Outcome::Completed | Outcome::TimedOut { .. } => "",
    }
}

/// How the repetitions were measured, and what they noted.
fn push_notes(out: &mut String, trials: &CellTrials<'_>) {
    /// A workload that notes something else each time is told so far.
    const MOST: usize = 20;
    let mut notes: BTreeMap<String, u64> = BTreeMap::new();
    for trial in &trials.trials {
        let split = (trial.interrupted_split != "available" && trial.ticks_per_second > 0.0)
            .then(|| format!("calls interrupted by the scheduler were not told apart: {}", trial.interrupted_split));
        for note in trial.notes.iter().cloned().chain(split) {
            *notes.entry(note).or_default() += 1;
        }
    }
    let steal = trials.trials.iter().filter_map(|t| t.steal_share).fold(0.0, f64::max);
    let _ = writeln!(
        out,
        "<p class=\"dim small\">Telemetry: {}. Time stolen by a hypervisor: at most {} of a repetition.</p>",
        escaped(trials.level()),
        human::percent((steal * 1e4).round() / 1e4)
    );
    if notes.is_empty() {
        return;
    }
    out.push_str("<ul class=\"small dim\">\n");
    for (note, count) in notes.iter().take(MOST) {
        let times = if *count > 1 { format!(" (×{count})") } else { String::new() };
        let _ = writeln!(out, "<li>{}{times}</li>", escaped(note));
    }
    if let Some(more) = notes.len().checked_sub(MOST).filter(|&more| more > 0) {
        let _ = writeln!(out, "<li>and {}</li>", human::counted(more as u64, "more note"));
    }
    out.push_str("</ul>\n");
}
