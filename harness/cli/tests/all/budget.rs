//! `heapgate budget check`: limits that act in the right order, and those that don't.

use std::process::{Command, Stdio};

use crate::common::Place;

#[test]
fn limits_that_agree_pass_and_those_that_do_not_fail_with_what_would_be_right() {
    let place = Place::new();
    let text = place.run("budget check --process 8GiB --sidecar 10GiB --cgroup 12GiB").ends_with(0).stdout;
    assert!(text.contains("PASS"), "{text}");
    assert!(text.contains("20% below the sidecar limit"), "{text}");
    let answer = place.run("budget check --process 12GiB --sidecar 10GiB --cgroup 8GiB --json").ends_with(3).json();
    assert_eq!((&answer["agree"], answer["faults"].as_array().map(Vec::len)), (&false.into(), Some(2)));
    assert_eq!(answer["faults"][0]["lower"], "process");
    let text = place.run("budget check --process 90% --cgroup 1GiB").ends_with(0).stdout;
    assert!(text.contains("921.6 MiB"), "{text}");
    let text = place.run("budget check --process 95% --cgroup 10GiB").ends_with(3).stdout;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("set it to 9 GiB at most"), "{text}");
}

#[test]
fn limits_come_from_the_settings_and_from_a_running_process() {
    let place = Place::new();
    place.write("heapgate.toml", "[memory]\nprocess = \"8 GiB\"\nsidecar = \"10 GiB\"\ncgroup = \"12 GiB\"\n");
    place.run("budget check").ends_with(0);
    place.run("budget check --sidecar 8GiB").ends_with(3);
    // It ends with its standard input.
    let mut service = Command::new("cat")
        .env("HEAPGATE_SOFT_LIMIT", "11 GiB")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("cat starts");
    let answer = place.run(&format!("budget check --pid {} --json", service.id())).ends_with(3).json();
    assert_eq!(answer["limits"]["process"], 11_u64 << 30, "the running process goes before the settings");
    drop(service.stdin.take());
    service.wait().expect("cat ends");
}

#[test]
fn what_cannot_be_compared_is_no_pass() {
    let place = Place::new();
    for (flags, words) in [
        ("", "no limit is known"),
        ("--process 8GiB", "only the process limit is known"),
        ("--process 80%", "give --cgroup"),
        ("--process 0%", "'0%' is no soft limit"),
        ("--sidecar 5s", "5s"),
        ("--pid 4194305 --sidecar 1GiB", "there is no such process"),
    ] {
        let refused = place.run(&format!("budget check {flags}")).ends_with(2);
        assert!(refused.stderr.contains(words), "{flags}: {}", refused.stderr);
    }
}
