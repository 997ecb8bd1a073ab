//! What changed between two profiles, and the lines behind a verdict that fails, on the real binary.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::common::processes::{Running, children_of, cpu_ticks, send, wait_for};
use crate::common::{HEAPGATE, Place, Ran, TIMELESS};
use serde_json::Value;

/// A workload of a few tenths of a second.
const QUICK: &str = "tokenize/wordpiece-heap -a jemalloc --steps 2 --param document=repeated";
/// Twice the work.
const TWICE: &str = "tokenize/wordpiece-heap -a jemalloc --steps 4 --param document=repeated";
/// Where `--inject extra-allocs` makes its objects.
const INJECTED: (&str, &str) = ("inject::plant::object", "harness/bench/src/inject/plant.rs");

fn lines_are_short(text: &str) {
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn two_profiles_of_one_program_have_no_news_and_two_kinds_are_refused() {
    let place = Place::new();
    place.run(&format!("profile alloc {QUICK} --exact -o a")).ends_with(0);
    let again = place.run(&format!("profile alloc {QUICK} --every 3 -o b --diff a")).ends_with(0);
    assert!(again.stdout.contains("not compared") && again.stdout.contains("bytes"), "{}", again.stdout);
    assert!(again.stdout.contains("No site changed by more than chance"), "{}", again.stdout);
    lines_are_short(&again.stdout);
    assert!(place.read("b/calls.diff.svg").contains("</svg>"));

    let compared = place.run("diff --profile a b/profile.json -o graphs --json").ends_with(0).json();
    assert_eq!((compared["changed_sites"].as_u64(), compared["kind"].as_str()), (Some(0), Some("alloc")));
    assert!(place.has("graphs/bytes.diff.svg"));

    // Twice the work is scaled, which is said.
    let longer = place.run(&format!("profile alloc {TWICE} --every 3 -o c --diff a --json")).ends_with(0).json();
    let difference = &longer["difference"];
    assert!((difference["scaled_by"]["calls"].as_f64().unwrap() - 2.0).abs() < 0.01, "{difference:#}");

    place.run(&format!("profile heap {QUICK} -o d")).ends_with(0);
    for wrong in ["diff --profile a d", &format!("profile heap {QUICK} -o e --diff a")] {
        place.run(wrong).ends_with(2).says(&["alloc", "heap", "one kind"]);
    }
    assert!(!place.has("e/profile.json"), "a base of no use is told before anything runs");
    place.run("diff --profile a missing").ends_with(2).says(&["missing"]);
    place.run("diff --profile a b --markdown x.md").ends_with(2).says(&["--profile"]);
}

fn culprit(verdict: &Value) -> &Value {
    let all = verdict["culprits"].as_array().expect("it was profiled");
    &all.iter().find(|culprits| culprits["profile"] == "alloc").expect("by its allocations")["sites"][0]
}

#[test]
fn a_failing_gate_names_the_function_that_newly_allocates_everywhere() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    place.run(&format!("baseline record {QUICK}")).ends_with(0);
    let fine = place.run(&format!("gate {QUICK} --profile-on-fail --json"));
    assert_eq!(fine.json().get("culprits"), None, "nothing is profiled without a failure");
    let gate = format!("gate {QUICK} --inject extra-allocs=40 --profile-on-fail");
    let ran = place.run(&format!("{gate} --markdown out.md --export sarif=out.sarif --export json=out.json"));
    let ran = ran.ends_with(3).says(&["profiling what failed"]);
    let verdict = place.json("out.json");
    let site = culprit(&verdict);
    assert!(site["function"].as_str().unwrap().ends_with(INJECTED.0), "{site:#}");
    assert_eq!(site["file"], INJECTED.1);
    assert!(ran.stdout.replace(char::is_whitespace, "").contains(INJECTED.1), "{}", ran.stdout);
    assert!(place.read("out.md").contains(INJECTED.1), "{}", place.read("out.md"));
    let results = place.json("out.sarif")["runs"][0]["results"].clone();
    let of_allocations = results.as_array().unwrap().iter().find(|r| r["ruleId"] == "allocations_per_unit").unwrap();
    let location = &of_allocations["locations"][0]["physicalLocation"];
    assert_eq!(
        (&location["artifactLocation"]["uri"], &location["region"]["startLine"]),
        (&site["file"], &site["line"])
    );
    // Code scanning shows a line only of a file that is in the repository.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let uris = results
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|result| result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str());
    let uris: Vec<&str> = uris.collect();
    assert!(!uris.is_empty() && uris.iter().all(|uri| root.join(uri).is_file()), "{uris:?}");
    lines_are_short(&ran.stdout);
    let folder = verdict["culprits"][0]["folder"].as_str().expect("kept");
    assert!(place.has(&format!("{folder}/profile.json")), "{folder}");
}

#[test]
fn of_two_programs_both_are_profiled_and_what_one_has_more_is_first() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    let program = "#!/bin/sh\ncase $1 in *trial*) exec \"$heapgate\" \"$@\" --inject extra-allocs=0.2;; esac\nexec \"$heapgate\" \"$@\"\n";
    place.write("b", program);
    std::fs::set_permissions(place.path("b"), std::fs::Permissions::from_mode(0o755)).expect("permit");
    let ran = place.run(&format!("ab {QUICK} -n 5 --budget 0 --a {HEAPGATE} --b ./b --profile-on-fail --json"));
    let verdict = ran.ends_with(3).says(&["profiling the other side"]).json();
    let site = culprit(&verdict);
    // A few among many: only the difference shows them.
    assert!(site["function"].as_str().unwrap().ends_with(INJECTED.0), "{site:#}");
    assert_eq!(site["before"].as_f64(), Some(0.0));
    assert_eq!(verdict["culprits"][0]["compared"], true);
}

#[test]
fn a_profile_that_fails_changes_no_verdict_and_is_said() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    // The side that is judged ends at once where its stacks are asked for.
    let program = "#!/bin/sh\n[ -z \"$HEAPGATE_STACKS\" ] || exit 7\ncase $1 in *trial*) exec \"$heapgate\" \"$@\" --inject extra-allocs=1;; esac\nexec \"$heapgate\" \"$@\"\n";
    place.write("b", program);
    std::fs::set_permissions(place.path("b"), std::fs::Permissions::from_mode(0o755)).expect("permit");
    let ran = place.run(&format!("ab {QUICK} -n 5 --budget 0 --a {HEAPGATE} --b ./b --profile-on-fail"));
    let ran = ran.ends_with(3);
    assert!(ran.stdout.contains("no profile could be taken"), "{}", ran.stdout);
    place.run("gate --report x.json --profile-on-fail").ends_with(2).says(&["--profile-on-fail"]);
}

#[test]
fn an_interrupted_profile_of_a_failure_keeps_the_verdict_and_what_was_gathered() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    // Where its stacks are asked for, the side that is judged works on until it is stopped.
    let program = "#!/bin/sh\n[ -z \"$HEAPGATE_STACKS\" ] || { for a; do shift; [ \"$a\" != 2 ] || a=1000000; set -- \"$@\" \"$a\"; done; }\n\
                   case $1 in *trial*) exec \"$heapgate\" \"$@\" --inject extra-allocs=1;; esac\nexec \"$heapgate\" \"$@\"\n";
    place.write("b", program);
    std::fs::set_permissions(place.path("b"), std::fs::Permissions::from_mode(0o755)).expect("permit");
    let mut command =
        place.command(&format!("ab {QUICK} -n 5 --budget 0 --a {HEAPGATE} --b ./b --profile-on-fail --json"));
    let child = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started"));
    // Of all its children only this one works for so long.
    wait_for("a profile under way", || children_of(child.pid()).into_iter().find(|&pid| cpu_ticks(pid) > 300));
    send(child.pid(), libc::SIGINT);
    let verdict = Ran::from(child.output()).ends_with(3).says(&["profiling what failed"]).json();
    assert_eq!(verdict["decision"], "fail");
    let culprits = &verdict["culprits"][0];
    assert!(culprits["notes"][0].as_str().is_some_and(|note| note.contains("interrupted")), "{culprits:#}");
    let folder = culprits["folder"].as_str().expect("kept");
    assert_eq!(place.json(&format!("{folder}/profile.json"))["complete"], false);
    assert!(culprits["sites"].as_array().is_some_and(|sites| !sites.is_empty()), "{culprits:#}");
    // What else failed is not begun.
    let others = verdict["culprits"].as_array().expect("a list")[1..].iter();
    assert!(others.clone().all(|other| other["folder"] == ""), "{:#}", verdict["culprits"]);
}
