//! JUnit XML: a test suite for each workload, a test case for each metric of each cell and for its answers. What got worse
//! is a failure; what could not be decided, and what stands in the way of a pass, is an error; what was left out, has no
//! limit or is accepted for a time is skipped, with the reason.
//!
//! There is no standard, so this keeps to what the strictest known schema demands (windyroad's of Ant's output: every
//! attribute, and within a suite properties, test cases, system-out and system-err in this order), which Jenkins' allows
//! too. Neither knows properties of a test case, so the figures of all are properties of the suite.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::label::labels;
use super::summary::{self, Figures};
use super::{evidence, human};
use crate::gate::{AnswersLine, Decision, Line, Problem, Verdict};
use crate::report::{Cell, Report};

/// The suite of problems that are no single workload's.
const WHOLE_RUN: &str = "heapgate";

#[derive(Default)]
struct Suite {
    properties: Vec<(String, String)>,
    cases: Vec<Case>,
    wall_s: f64,
}

struct Case {
    classname: String,
    name: String,
    result: Outcome,
}

/// How a case came out; the message in short, then whole.
enum Outcome {
    Passed,
    Failure { kind: &'static str, message: String, text: String },
    Error { kind: &'static str, message: String, text: String },
    Skipped { message: String },
}

/// The verdict over `report` as JUnit XML.
#[must_use]
pub fn render(report: &Report, verdict: &Verdict) -> String {
    let suites = suites(report, verdict);
    let count = |of: fn(&Outcome) -> bool| suites.values().flat_map(|s| &s.cases).filter(|c| of(&c.result)).count();
    let wall_s: f64 = suites.values().map(|s| s.wall_s).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"heapgate\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{wall_s:.3}\">",
        count(|_| true),
        count(is_failure),
        count(is_error)
    );
    for (id, (name, suite)) in suites.iter().enumerate() {
        push_suite(&mut out, id, name, suite, report, verdict);
    }
    out.push_str("</testsuites>\n");
    out
}

fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failure { .. })
}

fn is_error(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Error { .. })
}

fn suites<'a>(report: &'a Report, verdict: &'a Verdict) -> BTreeMap<&'a str, Suite> {
    let cells = verdict.lines.iter().map(|l| &l.cell).chain(verdict.answers.iter().map(|a| &a.cell));
    let names = labels(cells);
    let mut suites: BTreeMap<&str, Suite> = BTreeMap::new();
    for line in &verdict.lines {
        let suite = suites.entry(&line.cell.workload).or_default();
        let (classname, rest) = (classname(&line.cell), allocator(&line.cell, &names));
        suite.properties.push((format!("{classname} {} @ {rest}", line.metric), evidence::figures(line)));
        suite.cases.push(Case { classname, name: format!("{} @ {rest}", line.metric), result: of_line(line) });
    }
    for answers in &verdict.answers {
        suites.entry(&answers.cell.workload).or_default().cases.push(Case {
            classname: classname(&answers.cell),
            name: format!("answers @ {}", allocator(&answers.cell, &names)),
            result: of_answers(answers),
        });
    }
    for trial in &report.trials {
        suites.entry(&trial.cell.workload).or_default().wall_s += trial.wall_s;
    }
    let workloads: Vec<&str> = suites.keys().copied().collect();
    for problem in &verdict.problems {
        let of = |w: &&&str| problem.place.strip_prefix(**w).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let workload = workloads.iter().find(of).copied().unwrap_or(WHOLE_RUN);
        let suite = suites.entry(workload).or_default();
        suite.cases.push(of_problem(problem, workload));
    }
    suites
}

fn classname(cell: &Cell) -> String {
    format!("{}.{}", cell.workload, cell.variant)
}

/// The allocator, and the parameters that tell the cell from others of its name.
fn allocator(cell: &Cell, names: &BTreeMap<&Cell, String>) -> String {
    let label = names.get(cell).map_or("", String::as_str);
    label.strip_prefix(&format!("{}/{} ", cell.workload, cell.variant)).unwrap_or(&cell.allocator).to_owned()
}

fn of_line(line: &Line) -> Outcome {
    match &line.decision {
        Decision::Pass | Decision::Improved => Outcome::Passed,
        Decision::Fail => {
            let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
            let message = format!("{baseline} → {now}, {change}, limit {limits}: {}", line.reason);
            Outcome::Failure { kind: "regression", message, text: long(line) }
        }
        Decision::Inconclusive => {
            Outcome::Error { kind: "inconclusive", message: line.reason.clone(), text: long(line) }
        }
        Decision::NotCompared { why } => Outcome::Skipped { message: format!("left out: {why}") },
        Decision::Accepted { why, until } => Outcome::Skipped { message: format!("accepted until {until}: {why}") },
        Decision::Info => Outcome::Skipped { message: "no limit".to_owned() },
    }
}

/// All that a line says, a line of text each.
fn long(line: &Line) -> String {
    let mut text = format!("{}\n{}\n{}", line.metric.metric().help, evidence::figures(line), line.reason);
    for advice in &line.advice {
        text.push_str(&format!("\n- {advice}"));
    }
    text
}

fn of_answers(answers: &AnswersLine) -> Outcome {
    let text = format!("baseline: {}\nnow: {}", answers.baseline.join(" "), answers.now.join(" "));
    match answers.decision {
        Decision::Fail => Outcome::Failure { kind: "answers", message: answers.reason.clone(), text },
        Decision::Inconclusive => Outcome::Error { kind: "inconclusive", message: answers.reason.clone(), text },
        _ => Outcome::Passed,
    }
}

fn of_problem(problem: &Problem, workload: &str) -> Case {
    let kind = problem.kind.name();
    let place = if problem.place.is_empty() { "whole run" } else { &problem.place };
    Case {
        classname: format!("{workload}.problems"),
        name: format!("{kind} @ {place}"),
        result: Outcome::Error { kind, message: problem.text.clone(), text: problem.text.clone() },
    }
}

fn push_suite(out: &mut String, id: usize, name: &str, suite: &Suite, report: &Report, verdict: &Verdict) {
    let count = |of: fn(&Outcome) -> bool| suite.cases.iter().filter(|c| of(&c.result)).count();
    // The machine's own name is in no report, and none is needed: its class is among the properties.
    let _ = writeln!(
        out,
        "  <testsuite id=\"{id}\" name=\"{0}\" package=\"heapgate\" hostname=\"localhost\" timestamp=\"{1}\" tests=\"{2}\" failures=\"{3}\" errors=\"{4}\" skipped=\"{5}\" time=\"{6:.3}\">",
        escaped(name),
        human::date_time(report.created_unix_s),
        suite.cases.len(),
        count(is_failure),
        count(is_error),
        count(|o| matches!(o, Outcome::Skipped { .. })),
        suite.wall_s
    );
    let whole = [
        ("decision", summary::word(verdict.decision).to_owned()),
        ("commit", report.fingerprint.build.commit.clone()),
        ("machine", report.fingerprint.machine.class()),
    ];
    out.push_str("    <properties>\n");
    for (name, value) in whole.iter().map(|(n, v)| (*n, v)).chain(suite.properties.iter().map(|(n, v)| (n.as_str(), v)))
    {
        let _ = writeln!(out, "      <property name=\"{}\" value=\"{}\"/>", escaped(name), escaped(value));
    }
    out.push_str("    </properties>\n");
    for case in &suite.cases {
        push_case(out, case);
    }
    let of_suite = |c: &&crate::gate::ComparedWith| c.workload == name;
    let compared: Vec<String> = verdict.compared_with.iter().filter(of_suite).map(evidence::baseline).collect();
    let _ = writeln!(out, "    <system-out>{}</system-out>", escaped(&compared.join("\n")));
    out.push_str("    <system-err></system-err>\n  </testsuite>\n");
}

fn push_case(out: &mut String, case: &Case) {
    // A metric takes no time of its own: that of the trials is the suite's.
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"0\"",
        escaped(&case.classname),
        escaped(&case.name)
    );
    let (element, kind, message, text) = match &case.result {
        Outcome::Passed => {
            out.push_str("/>\n");
            return;
        }
        Outcome::Skipped { message } => {
            let _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", escaped(message));
            return;
        }
        Outcome::Failure { kind, message, text } => ("failure", kind, message, text),
        Outcome::Error { kind, message, text } => ("error", kind, message, text),
    };
    let (message, text) = (escaped(message), escaped(text));
    let _ = writeln!(out, "><{element} type=\"{kind}\" message=\"{message}\">{text}</{element}></testcase>");
}

/// `text` as XML, without what XML 1.0 forbids even in escaped form: control characters and non-characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(escaped("a<b & \"c\"\x1b[1m\u{ffff}\n"), "a&lt;b &amp; &quot;c&quot;\u{fffd}[1m\u{fffd}\n");
    }
}
