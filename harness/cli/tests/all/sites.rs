//! `heapgate run --sites` on the real binary: which sites, named how, and counted right.

use crate::common::{Place, QUICK, REPORT};
use serde_json::Value;

/// The sites of the only trial in the report.
fn sites(place: &Place) -> Value {
    let report = place.json(REPORT);
    assert_eq!(report["trials"].as_array().map(Vec::len), Some(1));
    report["trials"][0]["sites"].clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn at_period_1_every_allocation_of_the_measured_phase_has_its_site() {
    let place = Place::new();
    let ran = place.run(&format!("run --sites=1 {QUICK}")).ends_with(0);
    let sites = sites(&place);
    assert_eq!(number(&sites["samples"]), number(&sites["allocation_calls"]));
    assert_eq!(number(&sites["sampled_bytes"]), number(&sites["allocated_bytes"]));
    assert_eq!(number(&sites["lost_samples"]), 0);
    let all = sites["sites"].as_array().unwrap();
    // The workload's own code, by function and file; none of the allocator's or the standard library's.
    let ours = all.iter().filter(|site| site["file"] == "workloads/src/tokenize/heap.rs").count();
    assert!(ours > 0 && ran.stdout.contains("workloads/src/tokenize/heap.rs:"), "{sites:#}\n{}", ran.stdout);
    for site in all {
        let function = site["function"].as_str().unwrap();
        let foreign = ["heapgate_alloc", "alloc::", "core::", "std::", "__rust"];
        assert!(!foreign.iter().any(|start| function.starts_with(start)), "{site}");
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
}

#[test]
fn a_sample_tells_the_same_as_all() {
    let share = |period: u32| {
        let place = Place::new();
        place.run(&format!("run --sites={period} {QUICK}")).ends_with(0);
        let sites = sites(&place);
        let top = &sites["sites"][0];
        let place = format!("{}:{}", top["file"].as_str().unwrap(), top["line"]);
        (place, number(&top["samples"]) as f64 / number(&sites["samples"]) as f64, number(&sites["samples"]) as f64)
    };
    let (all, sampled) = (share(1), share(16));
    let error = 5.0 * (all.1 * (1.0 - all.1) / sampled.2).sqrt();
    assert!((all.1 - sampled.1).abs() <= error.max(1e-9), "{all:?} {sampled:?}");
}

#[test]
fn without_the_flag_there_are_no_sites_and_counts_are_the_same() {
    let counts = |flag: &str| {
        let place = Place::new();
        place.run(&format!("run {flag} {QUICK}")).ends_with(0);
        let trial = place.json(REPORT)["trials"][0].clone();
        (trial["phases"][2]["counts"].clone(), trial["phases"][3]["live"].clone(), trial.get("sites").is_some())
    };
    let (without, with) = (counts(""), counts("--sites=1"));
    assert_eq!((&without.0, &without.1), (&with.0, &with.1));
    assert_eq!((without.2, with.2), (false, true));
}

#[test]
fn sites_need_a_level_that_counts_and_a_period() {
    let place = Place::new();
    place.run(&format!("run --sites --level off {QUICK}")).ends_with(2).says(&["--sites", "--level off"]);
    place.run(&format!("run --sites=0 {QUICK}")).ends_with(2).says(&["--sites"]);
}
