//! One matrix over several machines: the real program's shards are the whole, and what is no whole is refused.

use std::collections::BTreeSet;

use crate::common::{Place, REPORT, TIMELESS, trials};
use serde_json::Value;

/// Four cells, as often as noisy metrics take to pass: a second.
const SMALL: &str = "tokenize/wordpiece-heap tokenize/wordpiece-slices -a jemalloc -a system -n 4 --steps 2 \
                     --param document=repeated";

/// The cells and repetitions of a report.
fn measured(report: &Value) -> BTreeSet<String> {
    trials(report).iter().map(|t| format!("{} {}", t["cell"], t["rep"])).collect()
}

/// Runs the shards 1 to `of` of [`SMALL`], each to a file of its own.
fn shards(place: &Place, of: u32) {
    for index in 1..=of {
        place.run(&format!("run {SMALL} --shard {index}/{of} -o shards/{index}.json")).ends_with(0);
    }
}

#[test]
fn the_shards_merged_are_the_matrix_and_a_gate_takes_them() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    place.run(&format!("run {SMALL}")).ends_with(0);
    let whole = measured(&place.json(REPORT));
    shards(&place, 3);
    let parts: Vec<BTreeSet<String>> =
        (1..=3).map(|index| measured(&place.json(&format!("shards/{index}.json")))).collect();
    assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), whole.len());

    place.run("merge shards/*.json -o all.json").ends_with(0).says(&["all.json (16 trials of 3 reports)"]);
    let merged = place.json("all.json");
    assert_eq!(measured(&merged), whole);
    assert_eq!((&merged["complete"], merged.get("shard")), (&Value::Bool(true), None));
    place.run("baseline record --report all.json").ends_with(0);
    place.run("gate --report all.json").ends_with(0);
}

#[test]
fn the_order_of_names_does_not_change_a_shard() {
    let place = Place::new();
    let turned = SMALL.replace("-a jemalloc -a system", "-a system -a jemalloc");
    place.run(&format!("run {SMALL} --shard 1/2 -o a.json")).ends_with(0);
    place.run(&format!("run {turned} --shard 1/2 -o b.json")).ends_with(0);
    assert_eq!(measured(&place.json("a.json")), measured(&place.json("b.json")));
    assert_eq!(place.json("a.json")["shard"], place.json("b.json")["shard"]);
}

#[test]
fn a_shard_without_cells_is_a_complete_report_and_says_so() {
    let place = Place::new();
    place
        .run(&format!("run {SMALL} --shard 5/5 -o empty.json"))
        .ends_with(0)
        .says(&["shard 5/5 has none of the 4 cells", "complete"]);
    let report = place.json("empty.json");
    assert_eq!((&report["complete"], trials(&report).len()), (&Value::Bool(true), 0));
    assert_eq!(report["shard"]["planned_cells"], 4);
}

#[test]
fn a_missing_shard_is_named_and_a_part_passes_no_gate() {
    let place = Place::new();
    shards(&place, 3);
    std::fs::remove_file(place.path("shards/2.json")).expect("remove");
    place.run("merge shards/*.json -o all.json").ends_with(2).says(&["missing: shard 2/3", "--partial"]);
    assert!(!place.has("all.json"));
    place.run("merge shards/*.json -o all.json --partial").ends_with(0).says(&["not complete: shards are missing"]);
    assert_eq!(place.json("all.json")["complete"], false);
    place.run("baseline record --report all.json").ends_with(4);
    place.run("gate --report all.json").ends_with(4);
}

#[test]
fn other_machines_and_builds_are_not_one_series() {
    let place = Place::new();
    shards(&place, 2);
    for (pointer, value, words) in [
        ("/fingerprint/machine/cpus", Value::from(64), ["different machine classes", "→ 64"]),
        ("/fingerprint/build/rustc", Value::from("rustc 2.0"), ["different builds", "→ 2.0"]),
    ] {
        let mut other = place.json("shards/2.json");
        *other.pointer_mut(pointer).expect("a field") = value;
        place.write("other.json", &other.to_string());
        let ran = place.run("merge shards/1.json other.json -o all.json").ends_with(4);
        ran.says(&words).says(&["shards/1.json", "other.json"]);
        assert!(!place.has("all.json"));
    }
}

#[test]
fn runs_of_the_same_matrix_are_more_repetitions_only_when_that_is_said() {
    let place = Place::new();
    let twice = crate::common::ENOUGH.replace("-n 5", "-n 2");
    place.run(&format!("run {twice} -o a.json")).ends_with(0);
    place.run(&format!("run {twice} -o b.json")).ends_with(0);
    let refused = place.run("merge a.json b.json -o all.json").ends_with(2);
    refused.says(&["repetition 1 is in a.json and in b.json", "--as-more-repetitions"]);
    place.run("merge a.json b.json -o all.json --as-more-repetitions").ends_with(0);
    let merged = place.json("all.json");
    let reps: Vec<u64> = trials(&merged).iter().map(|t| t["rep"].as_u64().expect("a number")).collect();
    assert_eq!(reps, [0, 1, 2, 3]);
    place
        .run("merge a.json a.json -o all.json --as-more-repetitions")
        .ends_with(2)
        .says(&["are the same measurement", "leave one of the files out"]);
}

#[test]
fn what_is_no_shard_or_no_report_is_told_before_anything_is_written() {
    let place = Place::new();
    for shard in ["0/3", "4/3", "1", "1/0", "x/y"] {
        place.run(&format!("run {SMALL} --shard {shard}")).ends_with(2).says(&["--shard", "as in 1/4"]);
    }
    place.run("merge -o all.json").ends_with(2).says(&["REPORT"]);
    place.run("merge none.json -o all.json").ends_with(2).says(&["none.json", "no such file"]);
    place.run("merge none/*.json -o all.json").ends_with(2).says(&["none/*.json", "no file matches"]);
    place.write("broken.json", "{\"schema_version\": 1,");
    place.run("merge broken.json -o all.json").ends_with(2).says(&["broken.json", "breaks off"]);
    assert!(!place.has("all.json"));
}
