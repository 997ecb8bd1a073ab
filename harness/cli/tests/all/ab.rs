//! `heapgate ab` and `heapgate calibrate`, with the real program: sides run interleaved, are compared, and what is planted on
//! one of them is found.

use crate::common::{HEAPGATE, Place, TIMELESS};

/// Trials of a tenth of a second.
const QUICK: &str = "tokenize/wordpiece-heap --steps 2 --param document=repeated";

/// A place in which no comparison depends on time.
fn timeless() -> Place {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    place
}

fn ab(place: &Place, flags: &str) -> crate::common::Ran {
    place.run(&format!("ab {QUICK} {flags}"))
}

#[test]
fn a_side_against_itself_fails_nothing() {
    let place = timeless();
    let ran = ab(&place, "--a jemalloc --b jemalloc -n 5 --json");
    // On a busy machine something may stay open, but nothing may fail.
    assert!([Some(0), Some(4)].contains(&ran.code), "{:?}: {}", ran.code, ran.stderr);
    let verdict: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(verdict["tally"]["failed"], 0);
    assert_eq!(verdict["answers"][0]["decision"]["kind"], "pass");
    // Both reports are kept, and both ran as often.
    let trials = |name: &str| place.json(name)["trials"].as_array().expect("trials").len();
    assert_eq!(trials(".heapgate/report.json"), trials(".heapgate/report.a.json"));
}

#[test]
fn sides_run_one_right_after_the_other() {
    let place = Place::new();
    let ran = ab(&place, "--a jemalloc --b system -n 6 --budget 0");
    let allocators: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with('['))
        .map(|line| if line.contains(" system ") { "system" } else { "jemalloc" })
        .collect();
    assert_eq!(allocators.len(), 12, "{}", ran.stderr);
    assert!(allocators.chunks(2).all(|pair| pair[0] != pair[1]), "{allocators:?}");
}

#[test]
fn settings_are_compared_under_one_name_and_said() {
    let place = Place::new();
    let ran = ab(&place, "--a jemalloc --b jemalloc:dirty_decay_ms=0 -n 5 --budget 0 -v");
    assert!(ran.stdout.contains("jemalloc → jemalloc:dirty_decay_ms=0"), "{}", ran.stdout);
    assert!(ran.stdout.contains("interleaved"), "{}", ran.stdout);
    assert!(ran.stdout.contains("allocations_per_unit"), "{}", ran.stdout);
}

#[test]
fn two_programs_are_compared_by_what_they_describe() {
    let place = timeless();
    let ran = ab(&place, &format!("--a {HEAPGATE} --b {HEAPGATE} -n 5 -a jemalloc --json"));
    assert!([Some(0), Some(4)].contains(&ran.code), "{:?}: {}", ran.code, ran.stderr);
    let verdict: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(verdict["tally"]["failed"], 0);
    assert!(verdict["tally"]["passed"].as_u64() > Some(5), "{}", ran.stdout);
}

#[test]
fn wrong_sides_are_told_with_the_way_out() {
    let place = Place::new();
    for (flags, said) in [
        ("--a jemalloc", "--b"),
        ("--a jemalloc --b /no/such/program", "there is no such file"),
        ("--a nomalloc --b jemalloc", "nomalloc"),
        ("--a jemalloc --b system -a region", "leave it out"),
        ("--base HEAD --a jemalloc --b system", "cannot be used with"),
        ("--base HEAD", "git"),
        ("--a jemalloc --b jemalloc --budget soon", "90s"),
    ] {
        let ran = ab(&place, flags);
        assert_eq!(ran.code, Some(2), "{flags}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{flags}: {}", ran.stderr);
    }
    place.write("plain", "not a program");
    let ran = ab(&place, "--a plain --b jemalloc");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn what_is_planted_is_found_and_nothing_else() {
    let place = timeless();
    let ran = place.run(&format!(
        "calibrate {QUICK} -a jemalloc --runs 1 --control extra-allocs=1 --control leak=5% --check --json --budget 5m"
    ));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let calibration: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(calibration["null"]["failed_metrics"], 0);
    for control in ["extra-allocs=1", "leak=0.05"] {
        assert_eq!(calibration["controls"][control]["caught"], 1, "{control}: {}", ran.stdout);
    }
    assert!(calibration["metrics"]["peak_rss_bytes"][0]["deviation"].as_f64() >= Some(0.0));
    assert!(!place.has("baselines"), "a check keeps nothing");
}

#[test]
fn a_control_that_is_not_found_fails_the_check() {
    let place = timeless();
    // One allocation in a hundred million units: less than one in a trial.
    let ran =
        place.run(&format!("calibrate {QUICK} -a jemalloc --runs 1 --control extra-allocs=1e-8 --check --budget 0"));
    assert_eq!(ran.code, Some(3), "{}", ran.stdout);
    assert!(ran.stdout.contains("0 of 1"), "{}", ran.stdout);
}

#[test]
fn a_calibration_is_kept_by_machine_class_and_shown_with_verdicts() {
    let place = Place::new();
    let kept = place.run(&format!("calibrate {QUICK} -a jemalloc --runs 1 --budget 0"));
    assert_eq!(kept.code, Some(0), "{}", kept.stderr);
    assert!(kept.stderr.contains(".calibration.json"), "{}", kept.stderr);
    assert_eq!(place.run(&format!("baseline record {QUICK} -a jemalloc")).code, Some(0));
    let ran = place.run(&format!("gate {QUICK} -a jemalloc --json"));
    let verdict: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let lines = verdict["lines"].as_array().expect("lines");
    assert!(lines.iter().any(|line| line["detectable"].as_f64() > Some(0.0)), "{}", ran.stdout);
    let notes = verdict["notes"].to_string();
    assert!(notes.contains("calibrated on"), "{notes}");
}
