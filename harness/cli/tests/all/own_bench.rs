//! Benches of people's own: built by cargo, described by themselves, and gated like heapgate's own workloads.

use std::process::Command;

use crate::common::{EXACT, Place, REPORT, Ran, TIMELESS, trials};
use serde_json::Value;

/// The package whose benches are run here.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/Cargo.toml");

/// Arguments for its bench `name`.
fn bench(name: &str) -> String {
    format!("--bench {name} --manifest-path {MANIFEST}")
}

/// A package of its own, without dependencies, with one bench that cargo builds in a second.
fn package(bench: &str) -> Place {
    let place = Place::new();
    place.write(
        "Cargo.toml",
        "[package]\nname = \"small\"\nedition = \"2024\"\n[[bench]]\nname = \"plain\"\nharness = false\n",
    );
    place.write("benches/plain.rs", bench);
    place.write("src/lib.rs", "");
    place
}

/// The same from this folder, whatever folder the tests' own cargo builds into.
fn in_package(place: &Place, arguments: &str) -> Ran {
    Ran::of(place.command(arguments).env_remove("CARGO_TARGET_DIR"))
}

#[test]
fn a_baseline_of_a_bench_passes_what_is_the_same_and_fails_what_is_planted() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    let words = bench("words");
    let record = place.run(&format!("baseline record {words} words/owned")).ends_with(0);
    assert!(record.stdout.contains("words.json"), "{}", record.stdout);
    let same = place.run(&format!("gate {words} words/owned --json"));
    // Noisy figures of trials this short may be inconclusive; exact ones may not.
    assert!(same.code == Some(0) || same.code == Some(4), "{}{}", same.stdout, same.stderr);
    let failed = |verdict: &Value| {
        let lines = verdict["lines"].as_array().expect("lines").clone();
        lines.iter().filter(|line| line["decision"]["kind"] == "fail").count()
    };
    assert_eq!(failed(&same.json()), 0);
    let planted = place.run(&format!("gate {words} words/owned --inject extra-allocs=1")).ends_with(3);
    assert!(planted.stdout.contains("allocations_per_unit"), "{}", planted.stdout);
}

#[test]
fn a_leak_of_a_bench_is_named_and_a_bench_without_one_names_none() {
    let place = Place::new();
    let leaks = format!("leaks {} words/owned --steps 48 --exact --json", bench("words"));
    let clean = place.run(&leaks).ends_with(0).json();
    assert_eq!(clean[0]["growing"], serde_json::json!([]), "{clean:#}");
    let found = place.run(&format!("{leaks} --inject leak=10%")).ends_with(3).json();
    let line = found[0]["growing"][0]["place"].as_str().expect("a line");
    assert!(line.contains("inject/plant.rs:"), "{found:#}");
}

#[test]
fn a_report_has_the_parameters_figures_and_build_of_the_bench() {
    let place = Place::new();
    place.run(&format!("run {} words/slices -a system -n 1 -p copies=7", bench("words"))).ends_with(0);
    let report = place.json(REPORT);
    let trial = &trials(&report)[0];
    assert_eq!(trial["cell"]["allocator"], "system");
    assert_eq!(trial["cell"]["params"]["copies"], "7");
    assert!(trial["figures"]["list_bytes"].as_f64().is_some_and(|bytes| bytes > 0.0), "{}", trial["figures"]);
    let build = &report["fingerprint"]["build"];
    assert_eq!(build["profile"], "bench");
    assert!(build["rustc"].as_str().is_some_and(|rustc| rustc.starts_with("rustc 1.")), "{build}");
    assert_eq!(build["lock_hash"].as_str().map(str::len), Some(16), "{build}");
}

#[test]
fn cargo_bench_alone_counts_what_heapgate_counts() {
    let place = Place::new();
    place.run(&format!("run {} words/owned -a system -n 1", bench("words"))).ends_with(0);
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let alone = Ran::of(
        Command::new(cargo)
            .args(["bench", "--quiet", "--manifest-path", MANIFEST, "--bench", "words"])
            .args(["--", "--json", "-n", "2", "-a", "system", "owned"]),
    )
    .ends_with(0);
    let (alone, report) = (alone.json(), place.json(REPORT));
    let (alone, metrics) = (&alone[0], &trials(&report)[0]["metrics"]);
    assert_eq!(alone["disagreements"], Value::Array(Vec::new()));
    for exact in EXACT {
        assert_eq!(alone["figures"][exact].as_f64(), metrics[exact].as_f64(), "{exact}");
    }
    assert!(alone["figures"]["stall_p99_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{alone}");
}

#[test]
fn without_a_workload_those_by_default_are_run() {
    let place = Place::new();
    place.run(&format!("run {} -a system -n 1", bench("words"))).ends_with(0);
    let report = place.json(REPORT);
    let mut variants: Vec<&str> = trials(&report).iter().filter_map(|t| t["cell"]["variant"].as_str()).collect();
    variants.sort_unstable();
    assert_eq!(variants, ["owned", "slices"]);
}

#[test]
fn an_allocator_of_the_users_own_is_called_own() {
    let place = Place::new();
    let own = bench("own_allocator");
    place.run(&format!("run {own} -n 1")).ends_with(0);
    assert_eq!(trials(&place.json(REPORT))[0]["cell"]["allocator"], "own");
    place.run(&format!("run {own} -n 1 -a system")).ends_with(2).says(&["allocator of its own"]);
    place.run(&format!("run {} -n 1 -a own", bench("words"))).ends_with(2).says(&["--allocator own"]);
    place.run("run -n 1 -a own").ends_with(2).says(&["--allocator own"]);
}

#[test]
fn a_workload_that_fails_is_an_outcome() {
    let place = Place::new();
    let ran = place.run(&format!("run {} words/broken -p fail=true -a system -n 1", bench("words"))).ends_with(5);
    assert!(ran.stdout.contains("planted failure") || ran.stderr.contains("planted failure"), "{ran:?}");
}

#[test]
fn names_that_are_not_there_are_answered_with_those_that_are() {
    let place = Place::new();
    let words = bench("words");
    place.run(&format!("run {words} words/all")).ends_with(2).says(&["in bench 'words'", "words/owned, words/slices"]);
    place.run(&format!("run {words} -p copy=1")).ends_with(2).says(&["there are: copies"]);
    let nothing = place.run(&format!("gate {}", bench("sentences"))).ends_with(2);
    nothing.says(&["no bench 'sentences'", "words (in heapgate-bench)"]);
    place.run(&format!("run {words} --package other")).ends_with(2).says(&["no package 'other'", "heapgate-bench"]);
}

#[test]
fn limits_for_another_benchs_workload_are_mentioned() {
    let place = Place::new();
    place.write("heapgate.toml", "[workload.sentences.limits]\npeak_rss_bytes = { soft = \"3%\" }\n");
    let ran = place.run(&format!("run {} words/slices -a system -n 1", bench("words"))).ends_with(0);
    ran.says(&["heapgate.toml:1", "'sentences'", "not looked at"]);
}

#[test]
fn a_bench_that_is_not_heapgates_is_refused() {
    let place = package("fn main() { println!(\"running 0 tests\"); }");
    in_package(&place, "run --bench plain").ends_with(2).says(&["heapgate_bench::main!", "docs/own-workloads.md"]);
}

#[test]
fn a_bench_that_does_not_compile_is_a_failed_workload_and_cargo_says_why() {
    let place = package("fn main() { there_is_no_such_function() }");
    in_package(&place, "gate --bench plain").ends_with(5).says(&["there_is_no_such_function", "could not be built"]);
}

#[test]
fn a_bench_of_another_version_is_refused_with_what_to_update() {
    let description = r#"{\"heapgate_bench\":\"9.0.0\",\"protocol\":1,\"segment_abi\":99}"#;
    let place = package(&format!("fn main() {{ println!(\"{{}}\", \"{description}\"); }}"));
    in_package(&place, "run --bench plain").ends_with(2).says(&["heapgate-bench 9.0.0", "99", "update heapgate"]);
}

#[test]
fn outside_a_package_that_is_said() {
    Place::new().run("run --bench words").ends_with(2).says(&["--bench", "Cargo.toml"]);
}
