//! `--duration`: a flag for the parameter of that name, with the time that the trial then needs.

use crate::common::{Place, REPORT, outcomes, trials};

const STREAM: &str = "run residency/stream -a jemalloc -n 1";

#[test]
fn a_duration_that_is_none_is_a_usage_error() {
    let place = Place::new();
    for duration in ["0", "-1", "1.5", "86401", "soon"] {
        let ran = place.run(&format!("{STREAM} --duration={duration}")).ends_with(2);
        ran.says(&[duration, "--duration"]);
    }
    assert!(!place.has(".heapgate"));
}

#[test]
fn a_duration_goes_with_no_parameter_of_that_name() {
    let ran = Place::new().run(&format!("{STREAM} --duration 1 --param duration=2")).ends_with(2);
    ran.says(&["--duration", "give one of them"]);
}

#[test]
fn a_duration_is_for_workloads_that_run_on_a_schedule() {
    let ran = Place::new().run("run tokenize --duration 1 -n 1").ends_with(2);
    ran.says(&["'duration'", "there is no such parameter"]);
}

#[test]
fn steps_follow_from_the_duration_and_take_that_long() {
    let place = Place::new();
    place.run(&format!("{STREAM} --duration 1")).ends_with(0);
    let report = place.json(REPORT);
    assert_eq!(outcomes(&report), ["completed"]);
    let trial = &trials(&report)[0];
    assert_eq!(trial["cell"]["params"]["duration"], "1");
    let phases = trial["phases"].as_array().expect("phases");
    let measured = phases.iter().find(|phase| phase["kind"] == "measure").expect("it was measured");
    // The last of 50 steps is due after 49 of 20 ms.
    assert!(measured["wall_s"].as_f64().expect("a number") >= 0.98);
}

#[test]
fn a_time_out_that_was_given_stands() {
    let place = Place::new();
    place.run(&format!("{STREAM} --duration 60 --timeout 1")).ends_with(5);
    assert_eq!(outcomes(&place.json(REPORT)), ["timed-out"]);
}
