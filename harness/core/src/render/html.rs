//! The verdict as one page that needs nothing but itself, nor a script: the decision, what got worse first with every
//! repetition, where resident memory went, and how long calls to the allocator took.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::experiments_html::escaped;
use super::html_plots::{memory_bars, repetitions, stall_histogram};
use super::label::labels;
use super::markdown::worst_first;
use super::summary::{self, Figures};
use super::{evidence, human};
use crate::gate::{AnswersLine, Decision, Line, MemoryLine, Overall, Verdict};
use crate::metric::Unit;
use crate::report::{Cell, CellTrials, Report};

const STYLE: &str = "\
:root{--ink:#1b2027;--dim:#5d6771;--line:#dde2e7;--paper:#fff;--card:#f6f8fa;--good:#187a3a;--bad:#b3261e;--unsure:#8a6100;--a:#2463b8;--b:#b8562b;--band:#c9d6e8;--p0:#2463b8;--p1:#5aa7d6;--p2:#d98a2b;--p3:#a34bb0;--p4:#9aa4ad;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--dim:#9aa4ad;--line:#30373f;--paper:#14181c;--card:#1b2026;--good:#5cc47f;--bad:#ff8a80;--unsure:#e0b050;--a:#7fb0f5;--b:#f0a070;--band:#34465e;--p0:#7fb0f5;--p1:#4f8fb8;--p2:#e5a455;--p3:#c98ad3;--p4:#6b757f}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:76rem;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.5rem;margin:0 0 .4rem}h2{font-size:1.1rem;margin:2.4rem 0 .5rem}h3{font-size:.95rem;margin:1.4rem 0 .4rem}p{margin:.3rem 0}.dim{color:var(--dim)}.small{font-size:.86em}
.word{display:inline-block;padding:.05em .6em;border-radius:.35em;color:var(--paper);font-weight:700;margin-right:.5em}.word.pass{background:var(--good)}.word.fail{background:var(--bad)}.word.inconclusive{background:var(--unsure)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:600;text-align:left;color:var(--dim);font-size:.86em}td,th{padding:.3rem .8rem .3rem 0;border-top:1px solid var(--line);vertical-align:top}thead th{border-top:0}
.n{text-align:right;white-space:nowrap}td.mark{white-space:nowrap;font-weight:600}table.lines{table-layout:fixed;min-width:62rem}.lines th:nth-child(1){width:5.2rem}.lines th:nth-child(3),.lines th:nth-child(4){width:7.5rem}.lines th:nth-child(5){width:10rem}.lines th:nth-child(6){width:205px}.lines th:nth-child(7){width:5.5rem}.lines th:nth-child(8){width:7rem}
td.why{border-top:0;padding-top:0}td.why ul{margin:.2rem 0 .3rem 1.1rem;padding:0}
.FAIL{color:var(--bad)}.unsure,.accepted{color:var(--unsure)}.better,.pass{color:var(--good)}.left,.no{color:var(--dim)}td.mark.pass,td.mark.no,td.mark.left{font-weight:400}
code{font:.92em ui-monospace,monospace}details{margin:.6rem 0}summary{cursor:pointer;color:var(--dim)}
figure{margin:1rem 0;padding:.8rem 1rem;background:var(--card);border-radius:.5rem}figcaption{margin-bottom:.4rem}svg{display:block}svg text{fill:var(--dim);font:11px system-ui,sans-serif}
.key i{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin:0 .35em 0 1em;vertical-align:-.05em}td i.key{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.5em}";

/// The page.
#[must_use]
pub fn render(report: &Report, verdict: &Verdict) -> String {
    let word = summary::word(verdict.decision);
    let class = match verdict.decision {
        Overall::Pass => "pass",
        Overall::Fail => "fail",
        Overall::Inconclusive => "inconclusive",
    };
    let (build, machine) = (&report.fingerprint.build, &report.fingerprint.machine);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>heapgate: {word}</title><style>{STYLE}</style></head><body>\n<h1><span class=\"word {class}\">{word}</span>heapgate</h1>\n<p>{}.</p>\n",
        escaped(&capitalised(&summary::sentence(verdict)))
    );
    let _ = writeln!(
        out,
        "<p class=\"dim small\">{} UTC · commit {} · {} · {}, {} CPUs, {} GiB, Linux {} · heapgate {}</p>",
        human::date_time(report.created_unix_s).replace('T', " "),
        if build.commit.is_empty() { "unknown".to_owned() } else { escaped(&build.commit) },
        escaped(&build.rustc),
        escaped(&machine.cpu),
        machine.cpus,
        machine.memory_gib,
        escaped(&machine.kernel),
        escaped(&build.heapgate)
    );
    push_problems(&mut out, verdict);
    let trials: BTreeMap<&Cell, CellTrials<'_>> = report.cells().into_iter().map(|c| (c.cell, c)).collect();
    for cell in cells(verdict) {
        push_cell(&mut out, &cell, trials.get(cell.cell));
    }
    push_compared(&mut out, report, verdict);
    out.push_str("</body></html>\n");
    out
}

/// What the verdict says of one cell.
struct OfCell<'a> {
    cell: &'a Cell,
    label: String,
    lines: Vec<&'a Line>,
    answers: Vec<&'a AnswersLine>,
    memory: Vec<&'a MemoryLine>,
}

impl OfCell<'_> {
    fn failed(&self) -> bool {
        let decisions = self.lines.iter().map(|l| &l.decision).chain(self.answers.iter().map(|a| &a.decision));
        decisions.into_iter().any(|d| *d == Decision::Fail)
    }
}

/// The cells, the worst first: wrong answers, then what got worse, then what could not be decided.
fn cells(verdict: &Verdict) -> Vec<OfCell<'_>> {
    let names = labels(verdict.lines.iter().map(|l| &l.cell).chain(verdict.answers.iter().map(|a| &a.cell)));
    let lines = worst_first(verdict);
    let wrong = verdict.answers.iter().filter(|a| a.decision == Decision::Fail).map(|a| &a.cell);
    let rest = lines.iter().map(|l| &l.cell).chain(verdict.answers.iter().map(|a| &a.cell));
    let mut order: Vec<&Cell> = Vec::new();
    for cell in wrong.chain(rest) {
        if !order.contains(&cell) {
            order.push(cell);
        }
    }
    order
        .into_iter()
        .map(|cell| OfCell {
            cell,
            label: names.get(cell).cloned().unwrap_or_default(),
            lines: lines.iter().copied().filter(|l| l.cell == *cell).collect(),
            answers: verdict.answers.iter().filter(|a| a.cell == *cell).collect(),
            memory: verdict.memory.iter().filter(|m| m.cell == *cell).collect(),
        })
        .collect()
}

fn push_problems(out: &mut String, verdict: &Verdict) {
    if verdict.problems.is_empty() {
        return;
    }
    out.push_str("<h2>Problems</h2>\n<ul>\n");
    for problem in &verdict.problems {
        let place = match problem.place.as_str() {
            "" => String::new(),
            place => format!("<code>{}</code>: ", escaped(place)),
        };
        let _ = writeln!(out, "<li>{place}{}</li>", escaped(&problem.text));
    }
    out.push_str("</ul>\n");
}

fn push_cell(out: &mut String, of: &OfCell<'_>, trials: Option<&CellTrials<'_>>) {
    let _ = writeln!(out, "<section>\n<h2>{}</h2>", escaped(&of.label));
    let params: Vec<String> = of.cell.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if !params.is_empty() {
        let _ = writeln!(out, "<p class=\"dim small\">{}</p>", escaped(&params.join(" · ")));
    }
    for answers in of.answers.iter().filter(|a| a.decision != Decision::Pass) {
        let sums =
            |sums: &[String]| sums.iter().map(|s| format!("<code>{}</code>", escaped(s))).collect::<Vec<_>>().join(" ");
        let (mark, class) = mark(&answers.decision);
        let _ = writeln!(
            out,
            "<p><b class=\"{class}\">{mark}</b> answers {} → {}: {}</p>",
            sums(&answers.baseline),
            sums(&answers.now),
            escaped(&answers.reason)
        );
    }
    let quiet = |line: &&&Line| matches!(line.decision, Decision::Pass | Decision::Info | Decision::NotCompared { .. });
    let (folded, shown): (Vec<&Line>, Vec<&Line>) = of.lines.iter().copied().partition(|line| quiet(&line));
    if !shown.is_empty() {
        push_table(out, &shown, trials, true);
    }
    if of.failed() {
        for memory in &of.memory {
            push_memory(out, memory);
        }
        out.push_str(&trials.and_then(stall_histogram).unwrap_or_default());
    }
    if !folded.is_empty() {
        let counts = summary::quiet_counts(folded.iter().map(|l| &l.decision));
        let _ = writeln!(out, "<details><summary>{counts}</summary>");
        push_table(out, &folded, trials, false);
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
}

/// `reasons`: with why it was decided so, and advice, below each line.
fn push_table(out: &mut String, lines: &[&Line], trials: Option<&CellTrials<'_>>, reasons: bool) {
    out.push_str("<div class=\"wide\"><table class=\"lines\"><thead><tr><th></th><th>metric</th><th class=\"n\">baseline</th><th class=\"n\">now</th><th class=\"n\">change</th><th title=\"a dot each; the bar is the baseline's range with its median, the dashed line the limit\">repetitions</th><th class=\"n\" title=\"the smallest change that could have been told from none\">could see</th><th class=\"n\">limit</th></tr></thead>\n<tbody>\n");
    for line in lines {
        let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
        let (mark, class) = mark(&line.decision);
        let metric = line.metric.metric();
        let interval = evidence::interval(line).map_or(String::new(), |(ends, confidence)| {
            format!("<br><span class=\"dim small\" title=\"{confidence} sure\">{}</span>", escaped(&ends))
        });
        let values = trials.map(|t| t.values(line.metric)).unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr><td class=\"mark {class}\">{mark}</td><td title=\"{}\"><code>{}</code></td><td class=\"n\">{baseline}</td><td class=\"n\">{now}</td><td class=\"n\">{change}{interval}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{limits}</td></tr>",
            escaped(metric.help),
            metric.name,
            repetitions(line, &values),
            line.resolution.map_or(String::new(), evidence::seen),
        );
        if reasons {
            let advice: String = line.advice.iter().map(|a| format!("<li>{}</li>", prose(a))).collect();
            let list = if advice.is_empty() { advice } else { format!("<ul>{advice}</ul>") };
            let _ = writeln!(
                out,
                "<tr><td class=\"why\"></td><td class=\"why small dim\" colspan=\"7\">{}{list}</td></tr>",
                escaped(&because(line))
            );
        }
    }
    out.push_str("</tbody></table></div>\n");
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

fn push_memory(out: &mut String, memory: &MemoryLine) {
    let bytes = |bytes: f64| human::value(Unit::Bytes, bytes);
    let signed = |bytes: f64| format!("{}{}", if bytes > 0.0 { "+" } else { "" }, human::value(Unit::Bytes, bytes));
    let _ = writeln!(
        out,
        "<figure><figcaption>Resident memory at the end of {}, taken apart</figcaption>{}<table><thead><tr><th>part</th><th class=\"n\">baseline</th><th class=\"n\">now</th><th class=\"n\">change</th></tr></thead><tbody>",
        evidence::phase(memory.phase),
        memory_bars(memory)
    );
    let (mut before, mut now) = (0.0, 0.0);
    for (index, part) in memory.parts.iter().enumerate() {
        before += part.baseline_bytes;
        now += part.now_bytes;
        let (was, is) = (bytes(part.baseline_bytes), bytes(part.now_bytes));
        let _ = writeln!(
            out,
            "<tr><td><i class=\"key\" style=\"background:var(--p{})\"></i>{}</td><td class=\"n\">{was}</td><td class=\"n\">{is}</td><td class=\"n\">{}</td></tr>",
            index % 5,
            part.part.name(),
            signed(part.now_bytes - part.baseline_bytes)
        );
    }
    let _ = writeln!(
        out,
        "<tr><td><b>together</b></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr></tbody></table></figure>",
        bytes(before),
        bytes(now),
        signed(now - before)
    );
}

fn push_compared(out: &mut String, report: &Report, verdict: &Verdict) {
    let mut notes = vec![format!("this run: {}", report.fingerprint.machine.class())];
    notes.extend(summary::baselines(report, verdict));
    notes.extend(verdict.notes.iter().cloned());
    out.push_str("<h2>What was compared</h2>\n<ul class=\"dim\">\n");
    for note in notes {
        let _ = writeln!(out, "<li>{}</li>", escaped(&note));
    }
    out.push_str("</ul>\n");
}

/// Our own words, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let part = |(index, part): (usize, &str)| {
        if index % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }
    };
    text.split('`').enumerate().map(part).collect()
}

/// A decision's mark and its class.
fn mark(decision: &Decision) -> (&'static str, &'static str) {
    let mark = summary::decided(decision);
    (mark, mark.split(' ').next().unwrap_or_default())
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::compare;
    use crate::metric::MetricId;
    use crate::render::tests::with_evidence;
    use crate::report::testing;

    #[test]
    fn twenty_failing_cells_are_under_a_megabyte() {
        let before = testing::report(20, 25);
        let mut now = before.clone();
        testing::set_all(&mut now, MetricId::PeakRss, 9e8);
        let mut verdict = compare(&before, &now, &Config::default(), crate::gate::Look::ONLY);
        let memory = &with_evidence().1.memory[0];
        verdict.memory = (0..20).map(|i| MemoryLine { cell: testing::cell(i), ..memory.clone() }).collect();
        let page = render(&now, &verdict);
        assert_eq!(page.matches("<figure>").count(), 40, "memory and stalls of each");
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
    }

    #[test]
    fn nothing_from_outside_becomes_markup_and_nothing_is_loaded() {
        let (mut report, mut verdict) = with_evidence();
        report.fingerprint.machine.cpu = "<script>alert(1)</script>".into();
        verdict.notes.push("<img src=x>".into());
        let page = render(&report, &verdict);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("http"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
}
