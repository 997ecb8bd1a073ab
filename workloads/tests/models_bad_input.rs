//! Models that are missing, spoilt, or asked for what they can't do: refused at set-up, with what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use heapgate_bench::{Error, Params, Variant};
use heapgate_workloads::models::llama::Llama;
use heapgate_workloads::variants;

fn set_up(name: &str, given: &[(&str, &str)]) -> Result<(), Error> {
    let found = variants().iter().find(|v: &&Variant| format!("{}/{}", v.workload, v.name) == name);
    let variant = found.expect("it is registered");
    let given: BTreeMap<_, _> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let params = Params::resolve(variant.params, &given)?;
    (variant.setup)(&params).map(drop)
}

fn refusal(name: &str, given: &[(&str, &str)]) -> Error {
    set_up(name, given).expect_err("it should be refused")
}

/// A file of this test alone, with `bytes` in it.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).expect("the folder is there to be written to");
    path
}

fn seeded_gguf() -> Vec<u8> {
    Llama::seeded_file(1).expect("a model")
}

#[test]
fn a_model_that_is_not_there_is_missing_with_a_way_out() {
    for name in ["decode/smollm2", "embed/minilm", "embed/server-minilm"] {
        let error = refusal(name, &[("model", "/no such folder/model")]);
        assert!(matches!(error, Error::Missing { .. }), "{name}: {error}");
        assert_eq!(
            error.to_string(),
            "/no such folder/model: not found; run ci/fetch-models, or name another file with --param model=PATH"
        );
    }
}

#[test]
fn a_folder_is_no_model() {
    let error = refusal("decode/smollm2", &[("model", env!("CARGO_TARGET_TMPDIR"))]);
    assert!(matches!(&error, Error::Corrupt { reason, .. } if reason == "is no file"), "{error}");
}

#[test]
fn another_gguf_file_is_taken() {
    let path = file("seeded.gguf", &seeded_gguf());
    set_up("decode/smollm2", &[("model", path.to_str().expect("UTF-8"))]).expect("a whole model");
}

#[test]
fn a_truncated_model_is_corrupt() {
    let whole = seeded_gguf();
    for (i, length) in [0, 3, 100, whole.len() / 2, whole.len() - 1000].into_iter().enumerate() {
        let path = file(&format!("truncated-{i}.gguf"), &whole[..length]);
        let error = refusal("decode/smollm2", &[("model", path.to_str().expect("UTF-8"))]);
        assert!(matches!(&error, Error::Corrupt { path: told, .. } if *told == path), "{length} bytes: {error}");
    }
}

#[test]
fn a_model_of_another_architecture_is_corrupt() {
    let mut bytes = seeded_gguf();
    let at = bytes.windows(5).position(|window| window == b"llama").expect("it says what it is");
    bytes[at..at + 5].copy_from_slice(b"mamba");
    let path = file("mamba.gguf", &bytes);
    let error = refusal("decode/smollm2", &[("model", path.to_str().expect("UTF-8"))]);
    assert!(error.to_string().contains("the architecture is 'mamba', not 'llama'"), "{error}");
}

#[test]
fn weights_without_their_configuration_are_refused() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bert");
    fs::create_dir_all(&folder).expect("the folder is there to be written to");
    let weights = folder.join("model.safetensors");
    fs::write(&weights, b"not safetensors").expect("written");
    let given = [("model", weights.to_str().expect("UTF-8"))];
    let _ = fs::remove_file(folder.join("config.json"));
    assert!(matches!(refusal("embed/minilm", &given), Error::Missing { path, .. } if path.ends_with("config.json")));

    fs::write(folder.join("config.json"), br#"{"model_type": "t5"}"#).expect("written");
    let error = refusal("embed/minilm", &given);
    assert!(error.to_string().contains("the architecture is 't5', not 'bert'"), "{error}");
}

#[test]
fn more_tokens_than_the_context_has_room_for_are_refused() {
    let error = refusal("decode/seeded-llama", &[("tokens", "2048")]);
    let Error::Param { name, reason } = error else { panic!("{error}") };
    assert_eq!(name, "tokens");
    assert!(reason.ends_with("is more than the model's context of 2048"), "{reason}");
}

#[test]
fn chunks_beyond_the_models_positions_are_refused() {
    let error = refusal("embed/seeded-bert", &[("words", "500"), ("chunks", "10")]);
    assert!(
        matches!(&error, Error::Param { name, reason } if name == "words" && reason.contains("takes 512")),
        "{error}"
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    let cases = [
        ("embed/seeded-bert", "batch", "0"),
        ("embed/seeded-bert", "batch", "-1"),
        ("embed/seeded-bert", "batch", "many"),
        ("embed/seeded-bert", "chunks", "0"),
        ("embed/seeded-bert", "chunks", "999999"),
        ("embed/seeded-bert", "dim", "0"),
        ("embed/seeded-bert", "hidden", "100"),
        ("embed/seeded-bert", "layers", "25"),
        ("embed/index-heap", "vectors", "0"),
        ("embed/index-arena", "vectors", "4097"),
        ("embed/server-seeded", "rate", "0"),
        ("embed/server-seeded", "rate", "NaN"),
        ("embed/server-seeded", "bar", "1.5"),
        ("embed/server-seeded", "texts", "1289"),
        ("embed/server-seeded", "batching", "fixed-2"),
        ("decode/seeded-llama", "requests", "0"),
        ("decode/seeded-llama", "requests", "65"),
        ("decode/seeded-llama", "tokens", "0"),
    ];
    for (variant, name, value) in cases {
        let error = refusal(variant, &[(name, value)]);
        assert!(matches!(&error, Error::Param { name: told, .. } if told == name), "{variant} {name}={value}: {error}");
    }
}

/// In a process of its own, since the variable is of a whole process.
#[test]
fn a_fetched_model_with_another_hash_is_corrupt() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    fs::create_dir_all(folder.join("smollm2")).expect("the folder is there to be written to");
    fs::write(folder.join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), seeded_gguf()).expect("written");
    for child in ["child_finds_another_hash", "child_misses_the_model"] {
        let status = Command::new(env::current_exe().expect("a test knows its own file"))
            .args(["--exact", child, "--ignored", "--quiet"])
            .env("HEAPGATE_MODELS", &folder)
            .status()
            .expect("it just ran");
        assert!(status.success(), "{child}");
    }
}

#[test]
#[ignore = "run by the test above, in its environment"]
fn child_finds_another_hash() {
    let error = refusal("decode/smollm2", &[]);
    assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.starts_with("SHA-256 is ")), "{error}");
}

#[test]
#[ignore = "run by the test above, in its environment"]
fn child_misses_the_model() {
    assert!(matches!(refusal("embed/minilm", &[]), Error::Missing { .. }));
}
