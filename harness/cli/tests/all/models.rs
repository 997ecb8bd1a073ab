//! Models that are missing or can't do what they are asked for: the message names the file and the way out, and the exit
//! code tells a mistake on the command line (2) from a workload that can't run (5).

use std::fs;
use std::process::{Command, Output};

use heapgate_workloads::models::llama::Llama;

use crate::common::Place;

const NOWHERE: &str = "/no such folder";

fn trial(models: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heapgate"))
        .arg("trial")
        .args(arguments)
        .env("HEAPGATE_MODELS", models)
        .output()
        .expect("it starts")
}

fn assert_ends(arguments: &[&str], code: i32, message: &str) {
    assert_ends_with_models(NOWHERE, arguments, code, message);
}

fn assert_ends_with_models(models: &str, arguments: &[&str], code: i32, message: &str) {
    let output = trial(models, arguments);
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

#[test]
fn a_model_that_is_spoilt_fails_the_workload() {
    let whole = Llama::seeded_file(1).expect("a model");
    let mut mamba = whole.clone();
    let at = mamba.windows(5).position(|window| window == b"llama").expect("it says what it is");
    mamba[at..at + 5].copy_from_slice(b"mamba");
    let place = Place::new();
    let path = place.path("model.gguf");
    let path_text = path.to_str().expect("UTF-8");
    let model = format!("model={path_text}");
    for (bytes, message) in
        [(&whole[..whole.len() / 2], path_text), (&mamba, "the architecture is 'mamba', not 'llama'")]
    {
        fs::write(&path, bytes).expect("written");
        assert_ends(&["decode/smollm2", "--param", &model], 5, message);
        assert_ends(&["decode/smollm2", "--param", &model], 5, "or name another file with --param model=PATH");
    }
}

#[test]
fn a_fetched_file_that_is_not_the_pinned_one_fails_the_workload() {
    let place = Place::new();
    let models = place.path("models");
    for (variant, file) in
        [("decode/smollm2", "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), ("embed/minilm", "minilm/model.safetensors")]
    {
        let path = models.join(file);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
        fs::write(&path, b"another file").expect("written");
        assert_ends_with_models(models.to_str().expect("UTF-8"), &[variant], 5, "SHA-256 is ");
        assert_ends_with_models(models.to_str().expect("UTF-8"), &[variant], 5, file);
    }
}
