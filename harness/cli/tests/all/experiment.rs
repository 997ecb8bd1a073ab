//! `heapgate experiment`: runs, evaluates, keeps what it measured, and refuses what isn't there.

use crate::common::Place;

/// One of the shortest experiments, as short as it gets.
const SHORT: &str = "E14 -n 2 --steps 2";

#[test]
fn an_experiment_prints_claims_beside_measurements() {
    let place = Place::new();
    let ran = place.run(&format!("experiment {SHORT}")).ends_with(0);
    for word in ["E14", "claimed", "measured", "holds", "→"] {
        assert!(ran.stdout.contains(word), "'{word}' is not in: {}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "colours in a pipe: {}", ran.stdout);
}

#[test]
fn what_was_kept_is_evaluated_alike_later() {
    let place = Place::new();
    let first = place.run(&format!("experiment {SHORT} --json")).ends_with(0).json();
    let again = place.run("experiment E14 --stored --json").ends_with(0).json();
    assert_eq!(first, again);
    assert_eq!(first["schema_version"], 1);
    assert_eq!(first["experiments"][0]["number"], 14);
    assert_eq!(first["experiments"][0]["reps"], 2);
}

#[test]
fn findings_are_written_as_a_page_and_as_markdown() {
    let place = Place::new();
    place.run(&format!("experiment {SHORT} --html page.html --markdown findings.md")).ends_with(0);
    assert!(place.read("page.html").contains("<h2 id=\"e14\">"));
    assert!(place.read("findings.md").contains("## E14."));
    let json: serde_json::Value = serde_json::from_str(&place.read("findings.json")).expect("JSON beside it");
    assert_eq!(json["experiments"][0]["number"], 14);
}

#[test]
fn an_unknown_experiment_is_a_usage_error_that_names_the_way_out() {
    let place = Place::new();
    for (name, words) in [("E31", "experiment list"), ("14", "experiment list"), ("E28", "ci/check-dashboards")] {
        let ran = place.run(&format!("experiment {name}")).ends_with(2);
        assert!(ran.stderr.contains(words), "{name}: {}", ran.stderr);
    }
}

#[test]
fn a_parameter_that_no_arm_has_is_refused() {
    let ran = Place::new().run("experiment E14 --param no-such-thing=1").ends_with(2);
    assert!(ran.stderr.contains("no arm has it"), "{}", ran.stderr);
}

#[test]
fn nothing_stored_is_told_with_the_file() {
    let ran = Place::new().run("experiment E14 --stored").ends_with(2);
    assert!(ran.stderr.contains(".heapgate/experiments/E14.json"), "{}", ran.stderr);
}
