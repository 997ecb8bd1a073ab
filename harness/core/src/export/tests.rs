use std::collections::BTreeSet;

use super::*;
use crate::config::Config;
use crate::gate::{Look, compare};
use crate::metric::Unit;
use crate::report::{Outcome, testing};

const ORIGIN: Origin<'_> = Origin { verb: "gate", branch: Some("main") };

/// A report with a regression and a trial that died, and what the gate says of it.
fn failing() -> (Report, Verdict) {
    let before = testing::report(2, 10);
    let mut now = before.clone();
    testing::set_cell(&mut now, 0, MetricId::AllocationsPerUnit, 21.0);
    now.trials[1].outcome = Outcome::TimedOut { after_s: 60 };
    let verdict = compare(&before, &now, &Config::default(), Look::ONLY);
    (now, verdict)
}

/// The names of families with samples, and all samples.
fn parsed(text: &str) -> (BTreeSet<&str>, Vec<(&str, f64)>) {
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")).collect();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    (
        names,
        samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(id, value)| (id, value.parse().unwrap())).collect(),
    )
}

#[test]
fn a_run_and_its_verdict_are_families_of_gauges() {
    let (report, verdict) = failing();
    insta::assert_snapshot!(prometheus(&report, Some(&verdict), ORIGIN));
}

#[test]
fn a_run_that_was_not_judged_has_no_verdict() {
    let text = prometheus(&testing::report(1, 3), None, Origin { verb: "run", branch: None });
    assert!(!text.contains("_verdict") && !text.contains("_limit") && !text.contains("branch="), "{text}");
    assert!(text.contains("heapgate_run_peak_rss_bytes{verb=\"run\""), "{text}");
}

#[test]
fn every_name_is_known_and_no_series_is_there_twice() {
    let (report, verdict) = failing();
    let text = prometheus(&report, Some(&verdict), ORIGIN);
    let known: BTreeSet<&str> = measured_names().chain(RUN_FAMILIES.iter().map(|family| family.name)).collect();
    assert_eq!(known.len(), ALL.len() + RUN_FAMILIES.len(), "no name is used twice");
    let (names, samples) = parsed(&text);
    assert!(names.is_subset(&known), "{:?}", names.difference(&known));
    let ids: BTreeSet<&str> = samples.iter().map(|sample| sample.0).collect();
    assert_eq!(ids.len(), samples.len());
    // A time would make both readers refuse it.
    assert!(samples.iter().all(|(id, _)| id.ends_with('}')), "{text}");
}

#[test]
fn names_follow_the_conventions() {
    for metric in ALL.iter().map(|id| id.metric()) {
        let name = metric.prometheus;
        assert!(name.starts_with("heapgate_run_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(!name.ends_with("_total") && !name.contains("_ns"), "{name}: a gauge, in base units");
        let unit = match metric.unit {
            Unit::Bytes => "_bytes",
            Unit::Nanos => "_seconds",
            Unit::Share => "_ratio",
            Unit::PerSecond => "_per_second",
            Unit::Count => "",
        };
        assert!(name.ends_with(unit) || name.contains(&format!("{unit}_per_")), "{name} is in {unit}");
    }
    for family in RUN_FAMILIES {
        assert!(family.name.starts_with("heapgate_run_") && family.help.ends_with('.'), "{family:?}");
    }
}

#[test]
fn times_are_seconds() {
    let mut report = testing::report(1, 1);
    report.trials[0].metrics.insert(MetricId::StallMax, 9_100_000.0);
    let text = prometheus(&report, None, ORIGIN);
    let line = text.lines().find(|line| line.starts_with("heapgate_run_stall_max_seconds{")).unwrap();
    assert!(line.ends_with("} 0.0091"), "{line}");
}

#[test]
fn labels_are_bounded_and_stay_different() {
    let mut report = testing::report(2, 1);
    for (trial, end) in report.trials.iter_mut().zip(["a", "b"]) {
        trial.cell = testing::cell(0);
        trial.cell.params.insert("text".into(), format!("{}{end}", "ü".repeat(4_000)));
    }
    let text = prometheus(&report, None, ORIGIN);
    let values: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("heapgate_run_peak_rss_bytes{")?.split_once("parameters=\"")?.1))
        .map(|rest| rest.split_once('"').unwrap().0)
        .collect();
    assert_eq!(values.len(), 2);
    assert!(values.iter().all(|value| value.len() <= LONGEST_LABEL), "{values:?}");
}

#[test]
fn a_run_takes_the_place_of_its_like_only() {
    let report = testing::report(2, 2);
    let mut later = report.clone();
    later.fingerprint.build.commit = "another".into();
    later.created_unix_s += 1;
    assert_eq!(grouping(&report, ORIGIN), grouping(&later, ORIGIN));
    let other_cells = testing::report(3, 2);
    let mut other_machine = report.clone();
    other_machine.fingerprint.machine.cpus = 64;
    for other in [
        grouping(&other_cells, ORIGIN),
        grouping(&other_machine, ORIGIN),
        grouping(&report, Origin { verb: "ab", ..ORIGIN }),
        grouping(&report, Origin { branch: None, ..ORIGIN }),
    ] {
        assert_ne!(grouping(&report, ORIGIN), other);
    }
}
