//! What was measured where, what it was compared with, and what differed.

use std::fmt::Write;

use super::Subject;
use super::shell::{capitalised, escaped};
use crate::fingerprint::{build_fields, machine_fields};
use crate::gate::{ComparedWith, Verdict};
use crate::render::{human, summary};

/// The part of the page.
pub(super) fn environment(subject: Subject<'_>) -> String {
    let report = subject.report;
    let mut out = String::from("<section id=\"environment\">\n<h2>Where it ran, and what differed</h2>\n");
    push_fields(&mut out, subject);
    if let Some(verdict) = subject.verdict {
        push_compared(&mut out, subject, verdict);
    }
    let levels: std::collections::BTreeSet<&str> = report.trials.iter().map(|t| t.level.as_str()).collect();
    let _ = writeln!(
        out,
        "<p class=\"dim small\">Machine class {}. Trials ran in an order by seed {}{}.{}</p>\n</section>",
        escaped(&report.fingerprint.machine.class()),
        report.seed,
        if levels.is_empty() {
            String::new()
        } else {
            format!(", telemetry {}", escaped(&levels.into_iter().collect::<Vec<_>>().join(", ")))
        },
        report.shard.as_ref().map_or(String::new(), |shard| format!(" This is {shard} of a matrix.")),
    );
    out
}

fn push_fields(out: &mut String, subject: Subject<'_>) {
    let (build, machine) = (&subject.report.fingerprint.build, &subject.report.fingerprint.machine);
    let compared: &[ComparedWith] = subject.verdict.map_or(&[], |v| &v.compared_with);
    let baseline = if compared.is_empty() { "" } else { "<th scope=\"col\">baseline</th>" };
    let _ = writeln!(
        out,
        "<div class=\"wide\" role=\"region\" aria-label=\"environment\" tabindex=\"0\"><table class=\"small environment\"><thead><tr><th scope=\"col\"></th><th scope=\"col\">this run</th>{baseline}</tr></thead><tbody>"
    );
    for (field, value) in build_fields(build).into_iter().chain(machine_fields(machine)) {
        let was = was(compared, field);
        let (class, cell) = match (compared.is_empty(), was.as_str()) {
            (true, _) => ("", String::new()),
            (false, "") => ("", "<td class=\"dim\">the same</td>".to_owned()),
            (false, was) => (" class=\"differs\"", format!("<td>{}</td>", escaped(was))),
        };
        let value = if value.is_empty() { "unknown" } else { &value };
        let _ = writeln!(out, "<tr{class}><th scope=\"row\">{field}</th><td>{}</td>{cell}</tr>", escaped(value));
    }
    out.push_str("</tbody></table></div>\n");
}

/// What `field` was in the baselines that differ in it; empty where none does.
fn was(compared: &[ComparedWith], field: &str) -> String {
    let mut values: Vec<(&str, Vec<&str>)> = Vec::new();
    for with in compared {
        let differences = with.machine_differences.iter().chain(&with.build_differences);
        for difference in differences.filter(|d| d.field == field) {
            match values.iter_mut().find(|v| v.0 == difference.baseline) {
                Some((_, workloads)) => workloads.push(&with.workload),
                None => values.push((&difference.baseline, vec![&with.workload])),
            }
        }
    }
    // Of which workloads, where not all differ alike.
    let said = |(value, workloads): &(&str, Vec<&str>)| {
        let value = if value.is_empty() { "unknown" } else { *value };
        if workloads.len() == compared.len() { value.to_owned() } else { format!("{value} ({})", workloads.join(", ")) }
    };
    values.iter().map(said).collect::<Vec<_>>().join("; ")
}

fn push_compared(out: &mut String, subject: Subject<'_>, verdict: &Verdict) {
    let mut notes = summary::baselines(subject.report, verdict);
    notes.extend(summary::rule(verdict).map(|rule| capitalised(&rule.replace("`sees`", "“could see”"))));
    notes.extend(verdict.notes.iter().cloned());
    if notes.is_empty() {
        return;
    }
    out.push_str("<h3>What was compared</h3>\n<ul class=\"dim\">\n");
    for note in notes {
        let _ = writeln!(out, "<li>{}</li>", escaped(&note));
    }
    let _ = writeln!(
        out,
        "</ul>\n<p class=\"dim small\">{} compared.</p>",
        human::counted(verdict.tally.compared(), "figure")
    );
}
