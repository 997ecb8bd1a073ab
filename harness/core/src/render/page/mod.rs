//! The page: a report, with or without a verdict over it, as one file of HTML that loads nothing.
//!
//! `render` puts it together within [`MOST_BYTES`]. `cell` gathers what is known of a cell; `overview` is the table of all,
//! `section` one cell's part of the page: `changes` (with `marks`, the plots in its rows), `curves` over time, `stalls`,
//! `memory`, `costs`. `environment` says what ran where. `chart` makes a plot that is drawn (as SVG) and can be pointed at
//! (by `assets/page.js`, from the same numbers); `thin` and `axis` serve it. `shell` is what all pages share.

mod axis;
mod cell;
mod changes;
mod chart;
mod costs;
mod curves;
mod environment;
mod marks;
mod memory;
mod overview;
mod section;
pub mod shell;
mod stalls;
#[cfg(test)]
mod tests;
mod thin;

use std::borrow::Cow;
use std::fmt::Write;

pub(super) use axis::ticks;
use cell::{OfCell, cells};
use shell::{capitalised, escaped};

use super::{human, summary};
use crate::baseline::{Baseline, BaselineCell};
use crate::gate::{Lookup, Overall, Verdict};
use crate::report::{Cell, Report};

/// Largest page. What a mail, a chat or an artifact's preview takes, and a phone opens at once.
pub const MOST_BYTES: usize = 2_000_000;

/// What a report was compared with, beyond what the verdict says of it.
#[derive(Debug, Clone, Default)]
pub struct Against<'a> {
    /// The baselines.
    baselines: Vec<Cow<'a, Baseline>>,
    /// The report that was the baseline, where one was: it has what happened over time, which stored baselines have not.
    report: Option<&'a Report>,
}

impl<'a> Against<'a> {
    /// What was looked up; a baseline that can't be read shows nothing, and is a problem of the verdict.
    #[must_use]
    pub fn lookups(lookups: &'a [Lookup]) -> Self {
        let found = lookups.iter().filter_map(|l| l.found.as_ref().ok()?.baseline());
        Self { baselines: found.map(Cow::Borrowed).collect(), report: None }
    }

    /// Another report.
    #[must_use]
    pub fn report(report: &'a Report) -> Self {
        let baselines = Baseline::in_memory(report).into_iter().map(Cow::Owned).collect();
        Self { baselines, report: Some(report) }
    }

    fn cell(&self, cell: &Cell) -> Option<&BaselineCell> {
        self.baselines.iter().find(|b| b.workload == cell.workload)?.cell(cell)
    }
}

/// A page of profiles of a cell, in a file beside this one.
#[derive(Debug, Clone)]
pub struct ProfileLink {
    /// Of what.
    pub cell: Cell,
    /// What it shows.
    pub title: String,
    /// Where it lies from this page's folder: a relative reference (RFC 3986).
    pub href: String,
}

/// What a page shows.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What was measured.
    pub report: &'a Report,
    /// What came of comparing it, if it was compared.
    pub verdict: Option<&'a Verdict>,
    /// What it was compared with.
    pub against: &'a Against<'a>,
    /// Profiles, as far as there are any.
    pub profiles: &'a [ProfileLink],
}

/// How much of a cell is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// All there is.
    Full,
    /// Figures that have a limit, without plots.
    Brief,
}

/// The page, at most [`MOST_BYTES`] long: the cells that need attention are shown in full, and of the others as much as
/// there is room for, which is said.
#[must_use]
pub fn render(subject: Subject<'_>) -> String {
    let cells = cells(subject);
    let start = shell::start(&title(subject), true) + &header(subject);
    let end = environment::environment(subject) + &about() + "</main>\n" + &shell::end(true);
    let overview = overview::overview(subject, &cells, MOST_BYTES / 3);
    let room = MOST_BYTES.saturating_sub(start.len() + overview.len() + end.len());
    let sections = sections(subject, &cells, room);
    let mut out = start + &overview;
    sections.iter().for_each(|section| out.push_str(section));
    out + &end
}

/// The sections of the cells, in all at most `room` bytes.
fn sections(subject: Subject<'_>, cells: &[OfCell<'_>], room: usize) -> Vec<String> {
    /// Less is left for one more cell in full than any takes.
    const LEAST_ROOM: usize = 8_000;
    /// For the note that says what was left out.
    const NOTE: usize = 700;
    /// For the place that a link to a cell leads to, which has no section.
    const PLACE: usize = 24;
    let mut left = room.saturating_sub(NOTE + cells.len() * PLACE);
    let mut sections: Vec<String> = Vec::new();
    for cell in cells {
        let brief = section::section(subject, cell, Detail::Brief);
        if brief.len() > left {
            break;
        }
        left -= brief.len();
        sections.push(brief);
    }
    let mut in_full = 0;
    for (cell, section) in cells.iter().zip(&mut sections) {
        if left < LEAST_ROOM {
            break;
        }
        let full = section::section(subject, cell, Detail::Full);
        let more = full.len().saturating_sub(section.len());
        if more > left {
            break;
        }
        left -= more;
        *section = full;
        in_full += 1;
    }
    let shown = sections.len();
    if in_full < cells.len() {
        let rest = match cells.len() - shown {
            0 => String::new(),
            n => format!(" {} are in the table above only.", human::counted(n as u64, "more cell")),
        };
        let places: String = (shown + 1..=cells.len()).map(|number| format!("<i id=\"c{number}\"></i>")).collect();
        sections.push(format!(
            "{places}<p class=\"note\" id=\"left-out\">So that this page stays below {} MB, {} of {} are shown with plots, and {} with the figures that have a limit, without plots.{rest} The report has everything; <code>heapgate report</code> of one that was run with fewer cells shows them in full.</p>\n",
            MOST_BYTES / 1_000_000,
            in_full,
            human::counted(cells.len() as u64, "cell"),
            shown - in_full,
        ));
    }
    sections
}

fn title(subject: Subject<'_>) -> String {
    match subject.verdict {
        Some(verdict) => format!("heapgate: {}", summary::word(verdict.decision)),
        None => "heapgate: report".to_owned(),
    }
}

/// The decision, or what is shown where nothing was decided; then what stands in the way.
fn header(subject: Subject<'_>) -> String {
    let report = subject.report;
    let (word, class, sentence) = match subject.verdict {
        Some(verdict) => {
            let class = match verdict.decision {
                Overall::Pass => "pass",
                Overall::Fail => "fail",
                Overall::Inconclusive => "inconclusive",
            };
            (summary::word(verdict.decision), class, capitalised(&summary::sentence(verdict)))
        }
        None => ("REPORT", "report", format!("{}; compared with nothing", measured(report))),
    };
    let (build, machine) = (&report.fingerprint.build, &report.fingerprint.machine);
    let mut out = format!(
        "<a class=\"skip\" href=\"#main\">To the figures</a>\n<header><h1><span class=\"word {class}\">{word}</span>heapgate</h1>\n<p class=\"lead\">{}.</p>\n",
        escaped(&sentence)
    );
    let _ = writeln!(
        out,
        "<p class=\"dim small\">{} UTC · commit {} · {} · {}, {} CPUs, {} GiB, Linux {} · heapgate {}</p></header>\n<main id=\"main\" tabindex=\"-1\">",
        human::date_time(report.created_unix_s).replace('T', " "),
        if build.commit.is_empty() { "unknown".to_owned() } else { escaped(&build.commit) },
        escaped(&build.rustc),
        escaped(&machine.cpu),
        machine.cpus,
        machine.memory_gib,
        escaped(&machine.kernel),
        escaped(&build.heapgate)
    );
    if let Some(verdict) = subject.verdict {
        push_problems(&mut out, verdict);
    }
    out
}

/// `4 cells, 40 trials, 2 of them did not complete`.
fn measured(report: &Report) -> String {
    let failed = report.trials.iter().filter(|t| !t.outcome.is_completed()).count();
    let mut text = format!(
        "{} in {}",
        human::counted(report.trials.len() as u64, "trial"),
        human::counted(report.cells().len() as u64, "cell")
    );
    if failed > 0 {
        text.push_str(&format!(", {} of them did not complete", human::count(failed as u64)));
    }
    if !report.complete {
        text.push_str(", and the run was cut off before all its trials ended");
    }
    text
}

fn push_problems(out: &mut String, verdict: &Verdict) {
    /// More are in the verdict's JSON.
    const MOST: usize = 200;
    if verdict.problems.is_empty() {
        return;
    }
    out.push_str("<h2>Problems</h2>\n<ul class=\"problems\">\n");
    for problem in verdict.problems.iter().take(MOST) {
        let place = match problem.place.as_str() {
            "" => String::new(),
            place => format!("<code>{}</code>: ", escaped(place)),
        };
        let _ = writeln!(out, "<li>{place}{}</li>", escaped(&problem.text));
    }
    if let Some(more) = verdict.problems.len().checked_sub(MOST).filter(|&more| more > 0) {
        let _ = writeln!(out, "<li>and {}</li>", human::counted(more as u64, "more problem"));
    }
    out.push_str("</ul>\n");
}

/// How to read the page.
fn about() -> String {
    format!(
        "<details class=\"about\"><summary><h2>How to read this page</h2></summary>\n<ul>\n\
<li>Figures are medians over the completed repetitions. A change is marked where it lies against its limit: the dot is the change, the bar where the true change is with the confidence that is said, the dashed line the limit.</li>\n\
<li>In the column of repetitions each dot is one; of more than {dots} as many are drawn, evenly taken by rank. The bar is the baseline's range with its median.</li>\n\
<li>Curves over time are of the repetitions with the lowest, the median and the highest peak. Of more than {points} samples each equal part of time keeps its lowest and its highest, so that no peak is lost.</li>\n\
<li>Histograms of stalls have {bars} bars in each decade of time, and count calls per repetition, so that sides with more repetitions are not taller. An interrupted call is one in which the scheduler took the thread off its CPU.</li>\n\
<li>Drag over a chart to zoom. By keyboard: Tab to it, then the arrow keys read its values, <kbd>+</kbd> and <kbd>-</kbd> zoom, <kbd>0</kbd> shows all.</li>\n\
<li>Charts are drawn by uPlot (MIT licence, Leon Sorokin), which is part of this file. The page loads nothing.</li>\n</ul></details>\n",
        dots = marks::MOST_DOTS,
        points = curves::MOST_POINTS,
        bars = stalls::BARS_PER_DECADE,
    )
}
