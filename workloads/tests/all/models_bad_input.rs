//! Models that are missing, spoilt, or asked for what they can't do: refused at set-up, with what to do.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use heapgate_bench::{Error, Params, Variant};
use heapgate_workloads::models::llama::Llama;
use heapgate_workloads::variants;

use super::run_child;

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

/// Pieces of the small BERT's table.
const PIECES: usize = 8;
const VOCABULARY: &str = r###"{"[PAD]": 0, "[UNK]": 1, "a": 2, "##a": 3}"###;

/// A folder of this test alone, with a BERT of 32 hidden units and no layer that has `positions`; gives its weights.
fn bert(name: &str, positions: usize, vocabulary: &str) -> PathBuf {
    const HIDDEN: usize = 32;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the folder is there to be written to");
    let config = format!(
        r#"{{"model_type": "bert", "vocab_size": {PIECES}, "hidden_size": {HIDDEN}, "num_hidden_layers": 0,
            "num_attention_heads": 1, "intermediate_size": 64, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            "max_position_embeddings": {positions}, "type_vocab_size": 2, "initializer_range": 0.02,
            "layer_norm_eps": 1e-12, "pad_token_id": 0}}"#
    );
    fs::write(folder.join("config.json"), config).expect("written");
    let tokenizer = format!(
        r###"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "decoder": null,
            "normalizer": {{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true}},
            "pre_tokenizer": {{"type": "BertPreTokenizer"}}, "post_processor": null,
            "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {vocabulary}}}}}"###
    );
    fs::write(folder.join("tokenizer.json"), tokenizer).expect("written");

    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a small tensor");
    let tensors: HashMap<&str, Tensor> = HashMap::from([
        ("embeddings.word_embeddings.weight", ones(&[PIECES, HIDDEN])),
        ("embeddings.position_embeddings.weight", ones(&[positions, HIDDEN])),
        ("embeddings.token_type_embeddings.weight", ones(&[2, HIDDEN])),
        ("embeddings.LayerNorm.weight", ones(&[HIDDEN])),
        ("embeddings.LayerNorm.bias", ones(&[HIDDEN])),
    ]);
    let weights = folder.join("model.safetensors");
    candle_core::safetensors::save(&tensors, &weights).expect("written");
    weights
}

const BERT_VARIANTS: [&str; 2] = ["embed/minilm", "embed/server-minilm"];

#[test]
fn another_bert_is_taken() {
    let weights = bert("bert-whole", 512, VOCABULARY);
    for name in BERT_VARIANTS {
        set_up(name, &[("model", weights.to_str().expect("UTF-8"))]).expect("a whole model");
    }
}

#[test]
fn spoilt_weights_are_corrupt() {
    let weights = bert("bert-spoilt", 512, VOCABULARY);
    let whole = fs::read(&weights).expect("just written");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    let spoilt: [(&str, &[u8]); 5] = [
        ("empty", &[]),
        ("garbage", b"not safetensors, but long enough for the length of a header"),
        ("a truncated header", &whole[..header / 2]),
        ("a header alone", &whole[..header]),
        ("truncated numbers", &whole[..whole.len() - 100]),
    ];
    for (what, bytes) in spoilt {
        fs::write(&weights, bytes).expect("written");
        for name in BERT_VARIANTS {
            let error = refusal(name, &[("model", weights.to_str().expect("UTF-8"))]);
            assert!(matches!(&error, Error::Corrupt { path, .. } if *path == weights), "{what}: {error}");
        }
    }
}

#[test]
fn a_model_with_few_positions_is_refused_by_what_a_text_needs() {
    let weights = bert("bert-short", 4, VOCABULARY);
    for (variant, refused) in [("embed/server-minilm", "model"), ("embed/minilm", "words")] {
        let error = refusal(variant, &[("model", weights.to_str().expect("UTF-8"))]);
        let Error::Param { name, reason } = error else { panic!("{variant}: {error}") };
        assert_eq!(name, refused);
        assert!(reason.contains(" tokens; the model takes 4"), "{variant}: {reason}");
    }
}

#[test]
fn a_tokenizer_that_some_text_makes_fail_is_corrupt() {
    let weights = bert("bert-no-unknown", 512, r###"{"[PAD]": 0, "a": 1}"###);
    let error = refusal("embed/minilm", &[("model", weights.to_str().expect("UTF-8"))]);
    assert!(matches!(&error, Error::Corrupt { path, .. } if path.ends_with("tokenizer.json")), "{error}");
    assert!(error.to_string().contains("it refuses what its vocabulary doesn't have"), "{error}");
}

#[test]
fn a_tokenizer_with_an_id_beyond_the_models_table_is_corrupt() {
    for (vocabulary, told) in [
        (r#"{"[PAD]": 0, "[UNK]": 1, "a": 5000}"#, "its largest id is 5000, and the model has a table of 8 pieces"),
        (r#"{"[PAD]": 0, "[UNK]": 1, "a": 8}"#, "its largest id is 8, "),
    ] {
        let weights = bert("bert-sparse", 512, vocabulary);
        let error = refusal("embed/server-minilm", &[("model", weights.to_str().expect("UTF-8"))]);
        assert!(matches!(&error, Error::Corrupt { path, .. } if path.ends_with("tokenizer.json")), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn weights_without_their_configuration_or_with_anothers_are_refused() {
    let weights = bert("bert-configuration", 512, VOCABULARY);
    let given = [("model", weights.to_str().expect("UTF-8"))];
    let config = weights.with_file_name("config.json");
    fs::remove_file(&config).expect("just written");
    assert!(matches!(refusal("embed/minilm", &given), Error::Missing { path, .. } if path == config));

    fs::write(&config, br#"{"model_type": "t5"}"#).expect("written");
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
        run_child(&format!("models_bad_input::{child}"), "HEAPGATE_MODELS", &folder);
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
