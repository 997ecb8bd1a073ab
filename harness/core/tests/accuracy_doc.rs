//! `docs/accuracy.md` is what its data says. With `HEAPGATE_BLESS=1` it is written anew.

use std::collections::BTreeMap;
use std::path::Path;

use heapgate_core::accuracy::{Accuracy, Simulation};
use heapgate_core::calibration::{CALIBRATION_SCHEMA_VERSION, Calibration, Control, Counted, Sensitivity};
use heapgate_core::document::LoadFault;
use heapgate_core::gate::rule;
use heapgate_core::metric::MetricId;
use heapgate_core::render::accuracy_doc;
use heapgate_core::report::testing;
use heapgate_core::stats::simulate::{Order, Rule, Series, Source, table};

#[test]
fn the_page_is_rendered_from_the_data_beside_it() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let accuracy = Accuracy::load(&docs.join("accuracy.json")).expect("in the repository");
    let (page, expected) = (docs.join("accuracy.md"), accuracy_doc::render(&accuracy));
    if std::env::var_os("HEAPGATE_BLESS").is_some() {
        std::fs::write(page, expected).unwrap();
        return;
    }
    assert!(
        std::fs::read_to_string(page).unwrap_or_default() == expected,
        "write it again: HEAPGATE_BLESS=1 cargo test -p heapgate-core --test accuracy_doc"
    );
}

fn sensitivity(cell: &str, deviation: f64, detectable: f64) -> Sensitivity {
    Sensitivity { cell: cell.into(), values: 40, deviation, detectable: Some(detectable) }
}

/// An idle machine on which everything was reached.
fn good() -> Calibration {
    let caught =
        |planted, caught| Control { planted, caught, by_metric: BTreeMap::from([(MetricId::PeakRss, caught)]) };
    let found =
        |size: f64| vec![sensitivity("tokenize/a glibc", size / 2.0, size), sensitivity("b", size / 4.0, size / 2.0)];
    Calibration {
        schema_version: CALIBRATION_SCHEMA_VERSION,
        created_unix_s: 1_760_000_000,
        machine: testing::fingerprint().machine,
        commit: "0123abc".into(),
        busy_neighbours: 0,
        reps: 5,
        budget_s: 120.0,
        cells: vec!["tokenize/a glibc".into(), "b".into()],
        null: Counted { runs: 1_000, metrics: 50_000, tested_metrics: 20_000, ..Counted::default() },
        controls: BTreeMap::from([
            ("extra-allocs=0.01".to_owned(), caught(200, 200)),
            ("leak=1%".to_owned(), caught(200, 199)),
            ("stall=50us@0.0001".to_owned(), caught(200, 198)),
        ]),
        metrics: BTreeMap::from([
            (MetricId::PeakRss, found(0.01)),
            (MetricId::MinorFaults, found(0.002)),
            (MetricId::Throughput, found(0.03)),
            (MetricId::StallP999, found(0.25)),
        ]),
    }
}

fn page(calibrations: Vec<Calibration>) -> String {
    let accuracy = calibrations.into_iter().fold(Accuracy::default(), Accuracy::with_calibration);
    accuracy_doc::render(&accuracy)
}

/// The row of the table of targets that begins with `wanted`, at `place`, with single spaces.
fn row(page: &str, wanted: &str, place: &str) -> String {
    let mut rows = page.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    rows.find(|row| row.starts_with(&format!("| {wanted}")) && row.ends_with(&format!("| {place} |")))
        .unwrap_or_else(|| panic!("no row of {wanted} at {place} in\n{page}"))
}

#[test]
fn without_a_calibration_that_is_said_and_nothing_is_claimed() {
    let page = page(Vec::new());
    assert!(page.contains("No calibration on a real machine is in this page yet"), "{page}");
    assert_eq!(page.matches("| not tried |").count(), 9);
    assert!(!page.contains("yes:") && page.contains("No series were simulated"), "{page}");
}

#[test]
fn what_was_reached_is_told_with_its_interval() {
    let page = page(vec![good()]);
    // Clopper and Pearson's bound of none in 1,000 is 1 − 0.025^(1/1000).
    let runs = row(&page, "at most 0.1% false alarms in 1,000 whole runs", "idle");
    assert!(runs.contains("| yes: 0 of 1,000 [0%, 0.37%] |"), "{runs}");
    let metrics = row(&page, "at most 0.1% false alarms in 1,000 metrics", "idle");
    assert!(metrics.contains("| yes: 0 of 20,000 [0%, 0.018%] |"), "{metrics}");
    // R: binom.test(199, 200).
    assert!(row(&page, "99% caught: a leak", "idle").contains("yes: 199 of 200 [97.2%, 99.99%]"), "{page}");
    assert!(row(&page, "99% caught: 50 µs stalls", "idle").contains("yes: 198 of 200"), "{page}");
    assert!(row(&page, "a change of 1% in peak RSS", "idle").contains("yes: median cell 0.75%"), "{page}");
    assert!(row(&page, "a change of 1% in peak RSS", "2 busy neighbours").contains("not tried"), "{page}");
    let start = page.split("\n## ").next().unwrap().replace('\n', " ");
    assert!(start.contains("asked 1,000 times whether something is worse than itself and said so never"), "{start}");
    assert!(start.contains("Of 600 planted regressions it caught 597."), "{start}");
    assert!(start.contains("Of 18 targets set for it, 9 were reached."), "{start}");
}

#[test]
fn what_fell_short_is_told_with_by_how_much_and_why() {
    let mut busy = Calibration { busy_neighbours: 2, ..good() };
    busy.null = Counted { runs: 200, failed_runs: 2, tested_metrics: 4_000, failed_metrics: 8, ..busy.null };
    busy.controls.get_mut("leak=1%").unwrap().caught = 190;
    busy.controls.remove("extra-allocs=0.01");
    busy.metrics.insert(MetricId::PeakRss, vec![sensitivity("a", 0.003, 0.008), sensitivity("b", 0.02, 0.04)]);
    busy.metrics.get_mut(&MetricId::MinorFaults).unwrap()[0].detectable = None;
    busy.metrics.remove(&MetricId::StallP999);
    let page = page(vec![good(), busy]);
    let at = |wanted| row(&page, wanted, "2 busy neighbours");
    let runs = at("at most 0.1% false alarms in 1,000 whole runs");
    assert!(runs.contains("**short**: 0.9 points too many, 800 whole runs too few to say: 2 of 200"), "{runs}");
    let metrics = at("at most 0.1% false alarms in 1,000 metrics");
    assert!(metrics.contains("**short**: 0.1 points too many: 8 of 4,000 ["), "{metrics}");
    assert!(at("99% caught: a leak").contains("**short**: 4 points short: 190 of 200"), "{page}");
    assert!(at("99% caught: +1 allocation").contains("| not tried |"), "{page}");
    let rss = at("a change of 1% in peak RSS");
    assert!(rss.contains("in 1 of 2 cells; median 2.4%, worst 4%: 3 points too much"), "{rss}");
    assert!(
        at("a change of 0.2% in page faults").contains("in 1 of 2 cells; median not known, of 1 not known"),
        "{page}"
    );
    assert!(at("a change of 25% in P99.9 stall").contains("| not tried |"), "{page}");
    let text = page.replace("\n  ", " ");
    let why = "peak RSS of `b` has a standard deviation of 2% from run to run, and a change shows from 2.0 of these; to see \
               1% it would have to be 0.5%";
    assert!(text.contains(why), "{text}");
}

#[test]
fn calibrations_are_added_up_by_place_and_made_again_they_replace() {
    let other_cells = Calibration { cells: vec!["c".into()], ..good() };
    let again = Calibration { null: Counted { runs: 500, ..good().null }, ..good() };
    let page = page(vec![good(), other_cells, again]);
    assert!(row(&page, "at most 0.1% false alarms in 1,000 whole runs", "idle").contains("0 of 1,500"), "{page}");
}

#[test]
fn machine_classes_are_told_apart() {
    let mut other = good();
    other.machine.cpus = 64;
    let class = other.machine.class();
    let page = page(vec![good(), other]);
    assert!(row(&page, "a change of 1% in peak RSS", &format!("idle, {class}")).contains("yes"), "{page}");
}

#[test]
fn the_tables_of_simulated_series_fit_80_columns_and_hold_each_rule() {
    let sources = [Series::Normal, Series::Autocorrelated { phi: 0.6 }].map(|series| Source {
        series,
        order: Order::Interleaved,
        sd: 0.03,
    });
    let rules = [Rule::mann_whitney(0.05), rule(0.0, 3, 60, Order::Interleaved)];
    let rows = table(&rules, &sources, &[0.0, 0.3], 20, 50, 1);
    let accuracy = Accuracy { simulated: Some(Simulation { seed: 1, rows }), ..Accuracy::default() };
    let page = accuracy_doc::render(&accuracy);
    let section = page.split("## On simulated series").nth(1).unwrap();
    assert!(section.lines().filter(|line| line.starts_with('|')).all(|line| line.chars().count() <= 80), "{section}");
    assert!(section.contains("| heapgate, 1 of 60      |   100% |    100% |"), "{section}");
    assert!(section.contains("| … left open            |") && section.contains("| phi 0.6 |"), "{section}");
}

#[test]
fn it_comes_back_as_it_was_stored_and_a_newer_calibration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accuracy.json");
    assert_eq!(Accuracy::load(&path).unwrap(), Accuracy::default());
    let accuracy = Accuracy::default().with_calibration(good());
    accuracy.save(&path).unwrap();
    assert_eq!(Accuracy::load(&path).unwrap(), accuracy);
    let newer = Calibration { schema_version: CALIBRATION_SCHEMA_VERSION + 1, ..good() };
    Accuracy::default().with_calibration(newer).save(&path).unwrap();
    assert!(matches!(Accuracy::load(&path).unwrap_err().fault, LoadFault::Newer { .. }));
}
