//! Times the queries of a history that holds a million points, or as many as are asked for.
//!
//! `cargo run --release -p heapgate-store --example million -- STORE [POINTS]`, with a SQLite file that isn't there yet
//! or the URL of an empty PostgreSQL database.
//! The aim is less than a second for each.

use std::path::Path;
use std::time::Instant;

use heapgate_core::history::Place;
use heapgate_core::metric::MetricId;
use heapgate_core::render::{self, Options};
use heapgate_core::report::{Report, testing};
use heapgate_store::history::{LastRuns, Mode, Purpose, Run, SeriesQuery, Store};

/// Cells and repetitions of each run: about what the default matrix has.
const CELLS: usize = 24;
const REPS: u32 = 5;
/// Runs in one transaction.
const BATCH: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = Place::parse(&arguments.next().ok_or("name a store")?, Path::new(""))?;
    let wanted: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let mut store = Store::open(&place, Mode::Append)?;
    let first = report(0);
    let points_a_run: usize = first.trials.iter().map(|trial| trial.metrics.len()).sum();
    let runs = wanted.div_ceil(points_a_run);
    let start = Instant::now();
    for batch in (0..runs).collect::<Vec<_>>().chunks(BATCH) {
        let batch = batch.iter().map(|&number| Run::new(&report(number), Purpose::Run, None));
        store.append_all(&batch.collect::<Result<Vec<_>, _>>()?)?;
    }
    let points = runs * points_a_run;
    println!("{points} points of {runs} runs written in {:.1} s", start.elapsed().as_secs_f64());
    drop(store);

    let timed = |what: &str, work: &mut dyn FnMut() -> Result<usize, Box<dyn std::error::Error>>| {
        // Opened anew, as each command does.
        let start = Instant::now();
        let count = work()?;
        println!("{what:<52} {count:>7} in {:>6.1} ms", start.elapsed().as_secs_f64() * 1e3);
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    let all = SeriesQuery::all(MetricId::PeakRss);
    let one = SeriesQuery { workload: Some("tokenize".into()), variant: Some("hf-wordpiece".into()), ..all.clone() };
    let last = SeriesQuery { last: Some(50), ..all.clone() };
    for (what, query) in [
        ("history METRIC: medians of all cells", &all),
        ("history METRIC WORKLOAD/VARIANT: medians of one", &one),
        ("history METRIC --last 50: medians", &last),
    ] {
        timed(what, &mut || {
            let series = Store::open(&place, Mode::Read)?.series(query)?;
            Ok(series.iter().map(|s| s.points.len()).sum())
        })?;
    }
    timed("history METRIC with its page: bytes", &mut || {
        let series = Store::open(&place, Mode::Read)?.series(&all)?;
        let text = render::history::render(all.metric, &series, Options::default());
        Ok(text.len() + render::history_html::render(all.metric, &series).len())
    })?;
    let now = report(runs);
    for count in [20, 200] {
        timed(&format!("gate --from-history {count}: medians of all metrics"), &mut || {
            let history = Store::open(&place, Mode::Read)?.last_runs(&LastRuns::before(&now, count))?;
            Ok(history.cells.values().flat_map(|metrics| metrics.values()).map(Vec::len).sum())
        })?;
    }
    timed("append one more run: its number", &mut || {
        let run = Run::new(&now, Purpose::Run, None)?;
        Store::open(&place, Mode::Append)?.append(&run)?;
        Ok(runs + 1)
    })?;
    Ok(())
}

fn report(number: usize) -> Report {
    let mut report = testing::report(CELLS, REPS);
    report.created_unix_s += number as u64 * 3_600;
    report.fingerprint.build.commit = format!("{number:07x}");
    report
}
