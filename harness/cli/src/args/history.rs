//! `heapgate history`

use std::path::PathBuf;

use clap::Args;
use heapgate_core::exit;
use heapgate_core::files;
use heapgate_core::history::{Place, Series};
use heapgate_core::metric::MetricId;
use heapgate_core::render;
use heapgate_core::render::human::{counted, date};
use heapgate_core::report::{Machine, Report};
use heapgate_core::stats::change_points::change_points;
use heapgate_store::history::{self, Appended, ClassInfo, Mode, Purpose, Run, SeriesQuery, Spool, Store};

use super::{Global, print};
use crate::fail::Failure;
use crate::history::{StoreArgs, say_sent};

/// Show a metric over all runs, and where it changed
///
/// Every complete run, gate and recorded baseline is appended to the history. Runs are shown in the order in which they
/// were appended; machine classes are never mixed in one series. Without a metric, says what the history holds.
#[derive(Debug, Args)]
pub struct History {
    /// The metric; `heapgate list metrics` shows them
    #[arg(value_name = "METRIC")]
    metric: Option<String>,
    /// Only this workload (`tokenize`) or variant (`tokenize/hf-wordpiece`)
    #[arg(value_name = "WORKLOAD")]
    workload: Option<String>,
    /// Only under this allocator, as in jemalloc:dirty_decay_ms=0
    #[arg(short, long, value_name = "SPEC")]
    allocator: Option<String>,
    /// Runs on this class of machines [default: this machine's]
    #[arg(long, value_name = "CLASS", conflicts_with = "all_classes")]
    class: Option<String>,
    /// Runs on all classes of machines, each a series of its own
    #[arg(long)]
    all_classes: bool,
    /// Only the last N runs of each series
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// Only runs that began on this day (UTC) or later
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    since: Option<u64>,
    /// Print as JSON instead of plots
    #[arg(long)]
    json: bool,
    /// Also write a page with the plots, which needs nothing but itself
    #[arg(long, value_name = "FILE", requires = "metric")]
    html: Option<PathBuf>,
    /// Append these reports first, in this order; those that are there already stay as they are
    #[arg(long, value_name = "REPORT", num_args = 1..)]
    import: Vec<PathBuf>,
    /// Send the runs first that wait because the store could not be reached
    #[arg(long)]
    send: bool,
    #[command(flatten)]
    store: StoreArgs,
}

impl History {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let place = self.store.place(&global.config()?)?;
        // Names are looked at before anything is changed.
        let metric = self.metric.as_deref().map(|name| name.parse::<MetricId>().map_err(Failure::usage)).transpose()?;
        if !self.import.is_empty() {
            self.import(&place)?;
        }
        if self.send {
            self.send(&place)?;
        }
        match metric {
            Some(metric) => self.show(metric, &place, global),
            None if self.import.is_empty() && !self.send => self.overview(&place),
            None => Ok(exit::PASS),
        }
    }

    fn import(&self, place: &Place) -> Result<(), Failure> {
        // All are read before one is appended: a mistake in the last leaves no half done work.
        let mut runs = Vec::new();
        for path in &self.import {
            let report = Report::load(path)?;
            runs.push(Run::new(&report, Purpose::Import, None)?);
        }
        let appended = Store::open(place, Mode::Append)?.append_all(&runs)?;
        let new = appended.iter().filter(|a| matches!(a, Appended::New(_))).count();
        let already = match appended.len() - new {
            0 => String::new(),
            n => format!(", {n} there already"),
        };
        eprintln!("history: {} appended to {place}{already}", counted(new as u64, "report"));
        Ok(())
    }

    fn send(&self, place: &Place) -> Result<(), Failure> {
        let spool = Spool::default();
        let (sent, mut problems) = history::send(place, &spool)?;
        say_sent(place, sent, &problems);
        let waiting = spool.files()?.len();
        if waiting > problems.len() {
            let others = counted((waiting - problems.len()) as u64, "run");
            eprintln!("history: {others} in {} for another store", spool.0.display());
        } else if sent == 0 && problems.is_empty() {
            eprintln!("history: no run waits to be sent");
        }
        // The rest is said; one decides how this ends.
        problems.pop().map_or(Ok(()), |problem| Err(problem.into()))
    }

    fn show(&self, metric: MetricId, place: &Place, global: &Global) -> Result<u8, Failure> {
        let class = match (&self.class, self.all_classes) {
            (Some(class), _) => Some(class.clone()),
            (None, true) => None,
            (None, false) => Some(Machine::detect().class()),
        };
        let (workload, variant) = match self.workload.as_deref().map(|name| name.split_once('/').ok_or(name)) {
            None => (None, None),
            Some(Ok((workload, variant))) => (Some(workload.to_owned()), Some(variant.to_owned())),
            Some(Err(workload)) => (Some(workload.to_owned()), None),
        };
        let query = SeriesQuery {
            metric,
            workload,
            variant,
            allocator: self.allocator.clone(),
            class,
            since_unix_s: self.since,
            last: self.last.map(|n| n as usize),
        };
        let mut store = Store::open(place, Mode::Read)?;
        let mut series = store.series(&query)?;
        if series.is_empty() {
            return Err(Failure::usage(nothing(&query, place, &store.classes()?)));
        }
        series.iter_mut().for_each(mark_changes);
        let written = self
            .html
            .as_deref()
            .map_or(Ok(()), |path| files::atomic_write(path, render::history_html::render(metric, &series).as_bytes()));
        if self.json {
            print(&render::history::json(metric, &series)?)?;
        } else {
            print(&render::history::render(metric, &series, global.options(false)))?;
        }
        written?;
        Ok(exit::PASS)
    }

    fn overview(&self, place: &Place) -> Result<u8, Failure> {
        let classes = Store::open(place, Mode::Read)?.classes()?;
        let waiting = Spool::default().files()?.len();
        if self.json {
            let of_class = |c: &ClassInfo| serde_json::json!({"class": c.class, "runs": c.runs, "first_unix_s": c.first_unix_s, "last_unix_s": c.last_unix_s});
            let all: Vec<_> = classes.iter().map(of_class).collect();
            print(&serde_json::to_string_pretty(
                &serde_json::json!({"store": place.to_string(), "classes": all, "waiting": waiting}),
            )?)?;
            return Ok(exit::PASS);
        }
        let mut text = format!("{place}\n");
        for of_class in &classes {
            text.push_str(&format!("  {}\n", described(of_class)));
        }
        if waiting > 0 {
            let runs = counted(waiting as u64, "run");
            text.push_str(&format!("{runs} to be sent; `heapgate history --send` sends them\n"));
        }
        text.push_str("`heapgate history METRIC` shows a metric over the runs\n");
        print(&text)?;
        Ok(exit::PASS)
    }
}

/// Runs of a series, the last ones, in which changes are looked for: a tenth of a second of work, where 10,000 take seconds, and
/// a picture may have a series for each of 40 cells.
const SEARCHED: usize = 2_000;

/// Marks where `series` changed its level.
fn mark_changes(series: &mut Series) {
    let medians = series.medians();
    let skipped = medians.len().saturating_sub(SEARCHED);
    if skipped > 0 {
        eprintln!("history: {}: changes are looked for in the last {SEARCHED} runs only", series.cell);
    }
    let firsts: Vec<usize> = change_points(&medians[skipped..]).iter().map(|change| skipped + change.index).collect();
    series.mark(&firsts);
}

fn described(class: &ClassInfo) -> String {
    let runs = counted(class.runs, "run");
    format!("{}: {runs}, {} to {}", class.class, date(class.first_unix_s), date(class.last_unix_s))
}

/// Why there is nothing to show, and what there is.
fn nothing(query: &SeriesQuery, place: &Place, classes: &[ClassInfo]) -> String {
    let mut wanted = vec![query.metric.to_string()];
    wanted.extend(query.workload.as_ref().map(|workload| match &query.variant {
        Some(variant) => format!("of {workload}/{variant}"),
        None => format!("of {workload}"),
    }));
    wanted.extend(query.allocator.as_ref().map(|allocator| format!("under {allocator}")));
    wanted.extend(query.class.as_ref().map(|class| format!("on {class}")));
    wanted.extend(query.since_unix_s.map(|since| format!("since {}", date(since))));
    let there = match classes {
        [] => "there are no runs at all".to_owned(),
        classes => {
            let elsewhere = query.class.as_ref().is_some_and(|class| classes.iter().all(|c| c.class != *class));
            let classes: Vec<String> = classes.iter().map(described).collect();
            let way_out = if elsewhere { "; --all-classes takes them all" } else { "" };
            format!("there are runs on {}{way_out}", classes.join("; "))
        }
    };
    format!("{place}: the history has no {}; {there}", wanted.join(" "))
}

/// Seconds since 1970 of the beginning of a day.
fn day(text: &str) -> Result<u64, String> {
    let wrong = || "a day such as 2026-01-31, from 1970 on".to_owned();
    let parts: Vec<u64> = text.split('-').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    let [year @ 1970..=9999, month @ 1..=12, day @ 1..=31] = parts[..] else { return Err(wrong()) };
    // Days from civil date, after Howard Hinnant's "chrono-compatible low-level date algorithms", as the way back is in
    // the core.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400;
    // A day that its month doesn't have is one of the next.
    if date(seconds) == text { Ok(seconds) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, seconds) in [("1970-01-01", 0), ("2000-02-29", 951_782_400), ("2100-03-01", 4_107_542_400)] {
            assert_eq!(day(text), Ok(seconds));
        }
        for wrong in ["2026-02-30", "2026-13-01", "2026-1-1", "1969-12-31", "yesterday", "2026-01-01-01", ""] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
    }
}
