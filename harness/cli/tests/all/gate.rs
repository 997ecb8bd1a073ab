//! The gate from end to end: what is planted is found, what is not planted is not, and another machine is never passed
//! over in silence.

use crate::common::{ENOUGH, Place, RECORDED, REPORT, TIMELESS};
use serde_json::Value;

/// Two variants under one allocator, as often as verbs do it by default: about a second.
const SMALL: &str = "tokenize/wordpiece-heap tokenize/wordpiece-slices -a jemalloc --steps 2 --param document=repeated";

/// What planted allocations make worse.
const PLANTED: [&str; 2] = ["allocations_per_unit", "allocated_bytes_per_unit"];

/// A place whose gates depend on no time.
fn timeless() -> Place {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    place
}

/// The same with a baseline of [`SMALL`].
fn recorded() -> Place {
    let place = timeless();
    place.run(&format!("baseline record {SMALL}")).ends_with(0);
    place
}

/// The metrics of which `decision` came out in any cell, as the catalogue has them.
fn decided<'a>(verdict: &'a Value, decision: &str) -> Vec<&'a str> {
    let mut metrics = Vec::new();
    for line in verdict["lines"].as_array().expect("lines").iter().filter(|line| line["decision"]["kind"] == decision) {
        let metric = line["metric"].as_str().expect("a name");
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    metrics
}

#[test]
fn one_allocation_more_per_token_is_failed_and_named() {
    let place = recorded();
    let ran = place.run(&format!("gate {SMALL} --inject extra-allocs=1")).ends_with(3);
    let fails = |line: &str| line.contains("FAIL") && line.contains("allocations_per_unit");
    assert_eq!(ran.stdout.lines().filter(|line| fails(line)).count(), 2, "{}", ran.stdout);
    let verdict = place.run(&format!("gate --report {REPORT} --json")).ends_with(3).json();
    assert_eq!(decided(&verdict, "fail"), PLANTED);
}

#[test]
fn one_allocation_more_in_a_hundred_tokens_is_failed_and_named() {
    let place = recorded();
    let verdict = place.run(&format!("gate {SMALL} --inject extra-allocs=0.01 --json")).ends_with(3).json();
    assert_eq!(decided(&verdict, "fail"), PLANTED);
}

#[test]
fn what_was_not_changed_passes_20_times_of_20() {
    let place = recorded();
    for _ in 0..20 {
        let ran = place.run(&format!("gate {SMALL}")).ends_with(0);
        assert!(ran.stdout.lines().any(|line| line.starts_with("PASS")), "{}", ran.stdout);
    }
}

#[test]
fn fewer_allocations_are_an_improvement_and_pass() {
    let place = timeless();
    place.run(&format!("baseline record {ENOUGH} --inject extra-allocs=1")).ends_with(0);
    let verdict = place.run(&format!("gate {ENOUGH} --json")).ends_with(0).json();
    assert_eq!(decided(&verdict, "improved"), PLANTED);
}

#[test]
fn no_allocation_at_all_is_an_improvement_and_passes() {
    let place = timeless();
    let slices = ENOUGH.replace("heap", "slices");
    place.run(&format!("baseline record {slices} --inject extra-allocs=1")).ends_with(0);
    let verdict = place.run(&format!("gate {slices} --json")).ends_with(0).json();
    assert!(decided(&verdict, "improved").contains(&"allocations_per_unit"));
}

#[test]
fn a_baseline_in_the_folder_of_another_class_is_not_taken() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write("baselines/x86_64-other/tokenize.json", &RECORDED.baseline);
    let verdict = place.run("gate --report report.json --json").ends_with(4).json();
    let said = verdict["problems"][0]["text"].as_str().expect("a text");
    for word in ["x86_64-other/tokenize.json", "it lies in the wrong place", "move it back"] {
        assert!(said.contains(word), "{said}");
    }
}

/// A place with a baseline of a machine with 64 CPUs, and the report of this one. `settings` are heapgate.toml.
fn on_another_machine(settings: &str) -> Place {
    let place = Place::new();
    let mut other: Value = serde_json::from_str(&RECORDED.report).expect("JSON");
    other["fingerprint"]["machine"]["cpus"] = 64.into();
    place.write("other.json", &other.to_string());
    place.write("report.json", &RECORDED.report);
    place.run("baseline record --report other.json").ends_with(0);
    place.write("heapgate.toml", settings);
    place
}

#[test]
fn noisy_metrics_of_another_machine_are_inconclusive_by_default() {
    let place = on_another_machine("");
    let ran = place.run("gate --report report.json").ends_with(4);
    let text = one_line(&ran.stdout);
    assert!(text.contains("the baseline is of another machine class"), "{}", ran.stdout);
    let verdict = place.run("gate --report report.json --json").ends_with(4).json();
    assert_eq!(
        (&verdict["decision"], &verdict["compared_with"][0]["same_class"]),
        (&"inconclusive".into(), &false.into())
    );
    assert_eq!(verdict["tally"]["not_compared"], 0);
}

#[test]
fn noisy_metrics_of_another_machine_can_be_left_out_and_that_is_said() {
    let place = on_another_machine("on_mismatch = \"exact-only\"");
    let ran = place.run("gate --report report.json").ends_with(0);
    let text = one_line(&ran.stdout);
    assert!(text.contains("3 noisy metrics left out: machine class differs: x86_64-"), "{}", ran.stdout);
    assert!(text.contains("-64c-"), "the other class is named:\n{}", ran.stdout);
    let verdict = place.run("gate --report report.json --json").ends_with(0).json();
    assert_eq!(verdict["tally"]["not_compared"], 3);
    let differences = verdict["compared_with"][0]["machine_differences"].as_array().expect("a list");
    assert_eq!((differences.len(), &differences[0]["field"]), (1, &"cpus".into()));
}

#[test]
fn exact_metrics_fail_on_another_machine_too() {
    for settings in ["", "on_mismatch = \"exact-only\""] {
        let place = on_another_machine(settings);
        place.run(&format!("gate {ENOUGH} --inject extra-allocs=1")).ends_with(3);
    }
}

#[test]
fn a_hard_limit_decides_whatever_the_baseline_says() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    place.write("heapgate.toml", "[limits]\npeak_rss_bytes = { hard = \"1 MiB\" }\n");
    let ran = place.run("gate --report report.json").ends_with(3);
    assert!(one_line(&ran.stdout).contains("above the hard limit of 1 MiB"), "{}", ran.stdout);
}

#[test]
fn a_planned_cell_without_a_baseline_is_no_pass() {
    let place = recorded();
    let other = SMALL.replace("--steps 2", "--steps 1");
    let ran = place.run(&format!("gate {other}")).ends_with(4);
    assert!(one_line(&ran.stdout).contains("steps 2, now 1"), "{}", ran.stdout);
}

#[test]
fn a_failed_workload_goes_before_a_regression() {
    let place = recorded();
    place.run(&format!("gate {SMALL} --inject extra-allocs=1 --memory-limit 20MiB")).ends_with(5);
}

#[test]
fn the_verdict_as_markdown_is_written_beside_the_table() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    place.run("gate --report report.json --markdown comment.md").ends_with(0);
    assert!(place.read("comment.md").contains("PASS"), "{}", place.read("comment.md"));
}

#[test]
fn every_format_is_exported_beside_the_table() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    let formats = place.run("list formats --json").ends_with(0).json();
    let names: Vec<&str> = formats["formats"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let flags: Vec<String> = names.iter().map(|name| format!("--export {name}=out.{name}")).collect();
    let ran = place.run(&format!("diff report.json report.json {}", flags.join(" "))).ends_with(0);
    assert!(ran.stdout.contains("PASS"), "{}", ran.stdout);
    for name in names {
        assert!(!place.read(&format!("out.{name}")).is_empty(), "{name}");
    }
    assert_eq!(place.json("out.json")["decision"], "pass");
}

#[test]
fn an_export_that_cannot_be_written_is_told_before_anything_runs() {
    let place = Place::new();
    let ran = place.run(&format!("gate {ENOUGH} --export junit=nowhere/out.xml")).ends_with(1);
    assert!(!place.has(crate::common::REPORT), "nothing was run");
    ran.says(&["nowhere/out.xml"]);
    place.run("gate --export yaml=out").ends_with(2).says(&["'yaml'", "junit", "sarif"]);
    place.run("gate --export junit=same --export sarif=same").ends_with(2).says(&["name two files"]);
}

#[test]
fn the_budget_is_that_of_the_settings_unless_a_flag_says_otherwise() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    place.write("heapgate.toml", "budget = \"0\"\n");
    let looks =
        |flags: &str| place.run(&format!("gate --report report.json --json {flags}")).json()["rule"]["looks"].clone();
    assert_eq!((looks(""), looks("--budget 5m")), (1.into(), 3.into()));
    place.write("heapgate.toml", "budget = \"soon\"\n");
    place.run("gate --report report.json").ends_with(2).says(&["heapgate.toml:1: budget: 'soon' is no time", "5m"]);
}

#[test]
fn an_interleaved_comparison_is_exported_too() {
    let place = Place::new();
    let quick = crate::common::QUICK.replace("-a jemalloc", "--a jemalloc --b system --budget 0");
    place.run(&format!("ab {quick} --export junit=nowhere/out.xml")).ends_with(1).says(&["nowhere/out.xml"]);
    assert!(!place.has(crate::common::REPORT), "nothing was run");
    place.run(&format!("ab {quick} --export junit=out.xml --export json=out.json"));
    assert!(place.read("out.xml").contains("<testsuite"));
    assert_eq!(place.json("out.json")["rule"]["looks"], 1);
}

#[test]
fn a_difference_of_two_reports_is_judged_by_the_same_rules() {
    let place = timeless();
    place.write("before.json", &RECORDED.report);
    place.run("diff before.json before.json").ends_with(0);
    place.run(&format!("run {ENOUGH} --inject extra-allocs=1 -o after.json")).ends_with(0);
    let verdict = place.run("diff before.json after.json --json").ends_with(3).json();
    assert_eq!(decided(&verdict, "fail"), PLANTED);
    place.run("diff after.json before.json").ends_with(0);
}

#[test]
fn recorded_baselines_are_listed_with_their_note() {
    let place = Place::new();
    let none = place.run("baseline list").ends_with(0);
    assert!(none.stdout.contains("no baselines in baselines; `heapgate baseline record` makes one"), "{}", none.stdout);
    place.write("report.json", &RECORDED.report);
    place.run("baseline record --report report.json --note because").ends_with(0);
    let list = place.run("baseline list --json").ends_with(0).json();
    let path = format!(
        "{}/{}.json",
        list[0]["class"].as_str().expect("a class"),
        list[0]["workload"].as_str().expect("a name")
    );
    assert_eq!((path.as_str(), &list[0]["recorded_by"]), (RECORDED.baseline_path.as_str(), &"because".into()));
}

/// Text as it was before lines were broken.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
