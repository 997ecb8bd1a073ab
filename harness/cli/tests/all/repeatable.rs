//! Exact metrics are exact: two fresh processes that do the same work count the same.

use crate::common::{Place, REPORT, trials};
use serde_json::Value;

#[test]
fn exact_metrics_of_every_variant_under_every_default_allocator_are_the_same_twice() {
    let place = Place::new();
    let list = place.run("list metrics --json").ends_with(0).json();
    let metrics = list["metrics"].as_array().expect("a list").iter();
    let exact: Vec<&str> = metrics
        .filter(|metric| metric["kind"] == "Exact")
        .map(|metric| metric["name"].as_str().expect("a name"))
        .collect();
    assert!(exact.len() > 5, "{exact:?}");

    // Verses: prose and poetry, of many words.
    place.run("run -n 2 --steps 8 --param document=verse").ends_with(0);
    let report = place.json(REPORT);
    let (first, second): (Vec<&Value>, Vec<&Value>) = trials(&report).iter().partition(|trial| trial["rep"] == 0);
    let cells = first.len();
    assert!(cells >= 10 && cells == second.len(), "{cells} cells");
    let mut different = Vec::new();
    for one in first {
        let other = second.iter().find(|other| other["cell"] == one["cell"]).expect("each cell ran twice");
        assert!(one["metrics"].get("allocations_per_unit").is_some(), "{}", one["cell"]);
        for &metric in &exact {
            let values = (&one["metrics"][metric], &other["metrics"][metric]);
            if values.0 != values.1 {
                different.push(format!("{} {metric}: {} and {}", one["cell"], values.0, values.1));
            }
        }
        for (phase, again) in
            one["phases"].as_array().expect("phases").iter().zip(other["phases"].as_array().expect("phases"))
        {
            if (&phase["counts"], &phase["checksum"]) != (&again["counts"], &again["checksum"]) {
                different.push(format!("{} {}: counts or answers", one["cell"], phase["kind"]));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_peak_of_a_life_is_no_less_than_those_of_its_phases() {
    let place = Place::new();
    place.run(&format!("run {}", crate::common::QUICK)).ends_with(0);
    for trial in trials(&place.json(REPORT)) {
        let phases = trial["phases"].as_array().expect("phases").iter();
        let highest = phases.filter_map(|phase| phase["process"]["peak_rss_bytes"].as_u64()).max();
        assert!(highest > Some(1_000_000), "{highest:?}");
        assert!(trial["lifetime_peak_rss_bytes"].as_u64() >= highest);
    }
}

#[test]
fn every_level_gives_a_report_that_can_be_read_again() {
    for level in ["off", "count", "sampled", "exact-alloc", "exact"] {
        readable_at(level);
    }
}

fn readable_at(level: &str) {
    let place = Place::new();
    place.run(&format!("run {} --level {level}", crate::common::QUICK)).ends_with(0);
    assert_eq!(trials(&place.json(REPORT))[0]["level"], level);
    place.run(&format!("baseline record --report {REPORT}")).ends_with(0);
}
