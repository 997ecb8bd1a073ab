//! Models that are missing or can't do what they are asked for: the message names the file and the way out, and the exit
//! code tells a mistake on the command line (2) from a workload that can't run (5).

use std::process::{Command, Output};

fn trial(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heapgate"))
        .arg("trial")
        .args(arguments)
        .env("HEAPGATE_MODELS", "/no such folder")
        .output()
        .expect("it starts")
}

fn assert_ends(arguments: &[&str], code: i32, message: &str) {
    let output = trial(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(told.contains(message), "{arguments:?}: {told}");
}

#[test]
fn a_model_that_was_not_fetched_fails_the_workload_with_a_way_out() {
    for (variant, file) in [("embed/minilm", "minilm/model.safetensors"), ("decode/smollm2", "smollm2/")] {
        assert_ends(&[variant], 5, &format!("/no such folder/{file}"));
        assert_ends(&[variant], 5, "run ci/fetch-models");
    }
}

#[test]
fn what_a_model_cannot_do_is_a_mistake_on_the_command_line() {
    assert_ends(
        &["embed/seeded-bert", "--param", "batch=0"],
        2,
        "parameter 'batch': '0' is not a number from 1 to 4096",
    );
    assert_ends(&["decode/seeded-llama", "--param", "tokens=5000"], 2, "more than the model's context of 2048");
}
