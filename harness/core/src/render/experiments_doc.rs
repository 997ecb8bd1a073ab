//! `docs/experiments.md`: what a real run of the experiments found, as Markdown.

use std::fmt::Write;

use super::experiment::{COST_COLUMNS, arms, cost_row, summary, words};
use super::human;
use super::markdown::escaped;
use crate::experiment::{Cost, Findings};

const INTRODUCTION: &str = "\
# Experiments

<!-- Generated: `heapgate experiment all --markdown docs/experiments.md` writes it, and `docs/experiments.json` beside it, from a real run. -->

Two design documents describe how garbage collection and arenas behave under text processing in Go. Their experiments are repeated
here in Rust, where stalls in the allocator play the part of pauses, and live objects that of heap objects. *Claimed* is what the
source says, of its own language and machines. *Measured* is ours: medians over repetitions in fresh processes, interleaved. *Factor* is Hodges
and Lehmann's estimate of the change with its interval of at least 95 % (Mann–Whitney); without an interval where all repetitions agree
to the digit. A direction *holds* if the whole interval is on the claimed side; the sizes of claim and measurement are not expected to agree.
";

/// The page.
#[must_use]
pub fn render(findings: &Findings) -> String {
    let mut out = INTRODUCTION.to_owned();
    if let Some(first) = findings.experiments.first() {
        let machine = &first.machine;
        let _ = writeln!(
            out,
            "\nMeasured on {} by commit `{}`: {}, {} CPUs, {} GiB, Linux {}, {}.",
            human::date(first.created_unix_s),
            first.commit,
            escaped(&machine.cpu),
            machine.cpus,
            machine.memory_gib,
            machine.kernel,
            machine.libc
        );
    }
    out.push_str("\n| | | |\n|---|---|---|\n");
    for found in &findings.experiments {
        let result = if found.rows.is_empty() { String::new() } else { summary(found) };
        let result = result.split_once(": ").map_or("", |(_, rest)| rest);
        let _ = writeln!(
            out,
            "| [E{}](#e{}) | {} | {} |",
            found.number,
            found.number,
            escaped(&found.title),
            escaped(result)
        );
    }
    for found in &findings.experiments {
        let _ = writeln!(
            out,
            "\n<a id=\"e{}\"></a>\n\n## E{}. {}\n\n{}",
            found.number,
            found.number,
            escaped(&found.title),
            escaped(&found.about)
        );
        if !found.rows.is_empty() {
            out.push_str("\n| | arms | claimed | measured | factor | holds |\n|---|---|---|---|---|---|\n");
            for row in &found.rows {
                let words = words(row);
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} |",
                    escaped(&row.what),
                    escaped(&arms(row)),
                    words.claimed,
                    words.measured,
                    words.factor,
                    words.holds
                );
            }
        }
        push_costs(&mut out, &found.costs);
        for sites in &found.sites {
            let _ = writeln!(out, "\n{}\n\n```text\n{}\n```", escaped(&sites.arm), sites.text.trim_end());
        }
        for problem in &found.problems {
            let _ = writeln!(out, "\nNote: {}", escaped(problem));
        }
    }
    out
}

fn push_costs(out: &mut String, costs: &[Cost]) {
    if costs.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n| {} |\n|---|---|--:|--:|--:|--:|--:|--:|", COST_COLUMNS.join(" | "));
    for cost in costs {
        let _ = writeln!(out, "| {} |", cost_row(cost).map(|cell| escaped(&cell)).join(" | "));
    }
}
