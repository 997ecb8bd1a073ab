//! What every store does, whatever the database. Each function begins with a store that is empty.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod address;
pub mod server;

use heapgate_core::history::Place;
use heapgate_core::metric::MetricId;
use heapgate_core::report::{Outcome, Report, testing};
use heapgate_store::history::{Appended, LastRuns, Mode, Purpose, Run, SeriesQuery, Store, StoreError};

/// The tests of what every store does: each hands its behaviour to `$on`, which makes an empty store.
macro_rules! behaviours {
    ($on:ident) => {
        $crate::common::behaviours! { $on:
            what_was_appended_is_found
            every_figure_comes_back_as_it_was
            the_same_report_twice_is_one_run
            a_clock_that_jumps_back_reorders_nothing
            queries_leave_out_what_they_should
            last_runs_are_of_the_same_class_cell_and_level
            failed_trials_leave_no_figures
            appends_at_the_same_time_all_succeed
        }
    };
    ($on:ident: $($name:ident)*) => {$(
        #[test]
        fn $name() {
            $on($crate::common::$name);
        }
    )*};
}
pub(crate) use behaviours;

/// A report of `cells` cells, 3 repetitions each, that began `number` days after all others.
pub fn report(number: u64, cells: usize) -> Report {
    let mut report = testing::report(cells, 3);
    report.created_unix_s += number * 86_400;
    report.fingerprint.build.commit = format!("{number:07x}");
    report
}

pub fn run(report: &Report) -> Run {
    Run::new(report, Purpose::Run, None).expect("a run")
}

pub fn open(place: &Place) -> Store {
    Store::open(place, Mode::Append).expect("a store")
}

/// The medians of each series of peak RSS.
pub fn peaks(store: &mut Store) -> Vec<Vec<f64>> {
    let series = store.series(&SeriesQuery::all(MetricId::PeakRss)).expect("series");
    series.iter().map(heapgate_core::history::Series::medians).collect()
}

pub fn what_was_appended_is_found(place: &Place) {
    let mut store = open(place);
    let mut reports: Vec<Report> = (0..4).map(|number| report(number, 3)).collect();
    for (number, report) in reports.iter_mut().enumerate() {
        testing::set_all(report, MetricId::PeakRss, 40e6 + number as f64);
        // A repetition that stands out: the median doesn't move, the range does.
        testing::set(&mut report.trials[0], MetricId::PeakRss, 90e6);
        assert_eq!(store.append(&run(report)).expect("append"), Appended::New(number as u64 + 1));
    }
    let mut store = Store::open(place, Mode::Read).expect("open again");
    let series = store.series(&SeriesQuery::all(MetricId::PeakRss)).expect("series");
    assert_eq!(series.len(), 3);
    assert!(series.iter().all(|s| s.medians() == [40e6, 40e6 + 1.0, 40e6 + 2.0, 40e6 + 3.0]));
    let of_first = series.iter().find(|s| s.cell == testing::cell(0)).expect("the cell");
    let point = &of_first.points[1];
    assert_eq!((point.run.sequence, point.run.commit.as_str(), point.reps), (2, "0000001", 3));
    assert_eq!((point.run.unix_s, point.min, point.max), (reports[1].created_unix_s, 40e6 + 1.0, 90e6));
    assert_eq!((of_first.level.as_str(), of_first.unit.as_str()), ("exact", "token"));
    assert_eq!(of_first.class, reports[0].fingerprint.machine.class());
}

pub fn every_figure_comes_back_as_it_was(place: &Place) {
    let mut report = report(0, 1);
    // Values that text of few digits or 32 bits would change.
    for (trial, value) in report.trials.iter_mut().zip([0.1 + 0.2, 1.0 / 3.0, 1e300]) {
        trial.metrics.insert(MetricId::CpuPerUnit, value);
    }
    open(place).append(&run(&report)).expect("append");
    let query = LastRuns { except: String::new(), ..LastRuns::before(&report, 1) };
    let history = open(place).last_runs(&query).expect("history");
    assert_eq!(history.repetitions[&testing::cell(0)][&MetricId::CpuPerUnit], [[0.1 + 0.2, 1.0 / 3.0, 1e300]]);
}

pub fn the_same_report_twice_is_one_run(place: &Place) {
    let mut store = open(place);
    let (first, second) = (run(&report(0, 2)), run(&report(1, 2)));
    assert_eq!(
        store.append_all([&first, &second, &first]).expect("append"),
        [Appended::New(1), Appended::New(2), Appended::Already(1)]
    );
    assert_eq!(open(place).append(&second).expect("append"), Appended::Already(2));
    assert!(peaks(&mut store).iter().all(|s| s.len() == 2));
}

pub fn a_clock_that_jumps_back_reorders_nothing(place: &Place) {
    let mut store = open(place);
    for (number, value) in [(9, 1e6), (3, 2e6), (12, 3e6), (0, 4e6)] {
        let mut report = report(number, 1);
        testing::set_all(&mut report, MetricId::PeakRss, value);
        store.append(&run(&report)).expect("append");
    }
    assert_eq!(peaks(&mut store), [[1e6, 2e6, 3e6, 4e6]]);
    let series = store.series(&SeriesQuery::all(MetricId::PeakRss)).expect("series");
    assert_eq!(series[0].clock_jumps(), [1, 3]);
    let now = report(20, 1);
    let history = store.last_runs(&LastRuns::before(&now, 2)).expect("history");
    assert_eq!(history.cells[&testing::cell(0)][&MetricId::PeakRss], [3e6, 4e6], "the last appended");
}

pub fn queries_leave_out_what_they_should(place: &Place) {
    let mut store = open(place);
    for number in 0..6 {
        let mut report = report(number, 6);
        report.fingerprint.machine.cpus = if number % 2 == 0 { 2 } else { 64 };
        store.append(&run(&report)).expect("append");
    }
    let all = SeriesQuery::all(MetricId::PeakRss);
    let count = |query: SeriesQuery, store: &mut Store| {
        let series = store.series(&query).expect("series");
        (series.len(), series.iter().map(|s| s.points.len()).sum::<usize>())
    };
    let two = report(0, 1).fingerprint.machine.class();
    assert_eq!(count(all.clone(), &mut store), (12, 36), "classes are never mixed");
    assert_eq!(count(SeriesQuery { class: Some(two), ..all.clone() }, &mut store), (6, 18));
    assert_eq!(count(SeriesQuery { workload: Some("decode".into()), ..all.clone() }, &mut store), (4, 12));
    let variant = Some("json-owned".to_owned());
    assert_eq!(count(SeriesQuery { variant, ..all.clone() }, &mut store), (2, 6));
    assert_eq!(count(SeriesQuery { allocator: Some("system".into()), ..all.clone() }, &mut store), (0, 0));
    assert_eq!(count(SeriesQuery { last: Some(2), ..all.clone() }, &mut store), (12, 24));
    let since_unix_s = Some(report(4, 1).created_unix_s);
    assert_eq!(count(SeriesQuery { since_unix_s, ..all }, &mut store), (12, 12));
    let classes = store.classes().expect("classes");
    assert_eq!(classes.iter().map(|c| c.runs).collect::<Vec<_>>(), [3, 3]);
}

pub fn last_runs_are_of_the_same_class_cell_and_level(place: &Place) {
    let mut store = open(place);
    let value = |number: u64| 40e6 + number as f64;
    for number in 0..12 {
        let mut report = report(number, 2);
        testing::set_all(&mut report, MetricId::PeakRss, value(number));
        let mut decision = Some("pass");
        match number {
            5 => report.fingerprint.machine.cpus = 64,
            6 => report.complete = false,
            7 => decision = Some("fail"),
            8 => report.trials.iter_mut().for_each(|t| t.level = "count".into()),
            9 => report.trials.retain(|t| t.cell == testing::cell(1)),
            10 => report.trials.iter_mut().for_each(|t| drop(t.cell.params.insert("batch".into(), "64".into()))),
            _ => {}
        }
        store.append(&Run::new(&report, Purpose::Gate, decision).expect("a run")).expect("append");
    }
    // The last one is there already: it is not compared with itself.
    let mut now = report(11, 2);
    testing::set_all(&mut now, MetricId::PeakRss, value(11));
    let history = store.last_runs(&LastRuns::before(&now, 3)).expect("history");
    let of = |cell: usize| history.cells[&testing::cell(cell)][&MetricId::PeakRss].clone();
    assert_eq!(of(0), [value(2), value(3), value(4)]);
    assert_eq!(of(1), [value(3), value(4), value(9)], "run 9 had this cell");
    assert_eq!(history.runs.iter().map(|r| r.sequence).collect::<Vec<_>>(), [3, 4, 5, 10]);
    let repetitions = &history.repetitions[&testing::cell(0)][&MetricId::PeakRss];
    assert!(repetitions.len() == 3 && repetitions.iter().all(|r| r.len() == 3), "{repetitions:?}");
    let other = LastRuns { class: "another".into(), ..LastRuns::before(&now, 3) };
    assert_eq!(store.last_runs(&other).expect("history"), heapgate_core::history::History::default());
}

pub fn failed_trials_leave_no_figures(place: &Place) {
    let mut report = report(0, 2);
    for trial in &mut report.trials {
        if trial.cell == testing::cell(1) || trial.rep == 0 {
            trial.outcome = Outcome::Killed { signal: 9, name: "SIGKILL".into(), stderr: String::new() };
        }
    }
    let mut store = open(place);
    store.append(&run(&report)).expect("append");
    let series = store.series(&SeriesQuery::all(MetricId::PeakRss)).expect("series");
    assert_eq!(series.iter().map(|s| s.points[0].reps).collect::<Vec<_>>(), [2]);
}

/// `raise` sets the version of the tables to the one it is given.
pub fn other_versions_are_refused_with_both(place: &Place, raise: impl Fn(i64)) {
    open(place).append(&run(&report(0, 1))).expect("append");
    for mode in [Mode::Read, Mode::Append] {
        raise(7);
        let error = Store::open(place, mode).expect_err("newer");
        assert!(matches!(error, StoreError::Newer { found: 7, .. }) && error.is_usage(), "{error}");
        let said = error.to_string();
        assert!(said.contains("version 7") && said.contains("version 1") && said.contains("--store"), "{said}");
        raise(0);
        let error = Store::open(place, mode).expect_err("older");
        assert!(matches!(error, StoreError::Older { found: 0, .. }), "{error}");
    }
    raise(1);
    assert_eq!(peaks(&mut open(place)), [[heapgate_peak()]], "nothing was touched");
}

fn heapgate_peak() -> f64 {
    let report = report(0, 1);
    heapgate_core::stats::sample::median(&report.cells()[0].values(MetricId::PeakRss)).expect("measured")
}

/// Many at once, each with a connection of its own, from a store that isn't there yet. Few appends each: who waits for all others on
/// a slow disk must not wait longer than a store does.
pub fn appends_at_the_same_time_all_succeed(place: &Place) {
    std::thread::scope(|scope| {
        for writer in 0..8 {
            scope.spawn(move || {
                for number in 0..2 {
                    open(place).append(&run(&report(writer * 2 + number, 2))).expect("append");
                }
            });
        }
    });
    let mut store = open(place);
    let series = store.series(&SeriesQuery::all(MetricId::PeakRss)).expect("series");
    for of_cell in &series {
        let numbers: Vec<u64> = of_cell.points.iter().map(|p| p.run.sequence).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<u64>>());
    }
}
