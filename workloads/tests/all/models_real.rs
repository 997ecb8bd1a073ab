//! The real models, if `ci/fetch-models` has fetched them: what they say makes sense. Without them these tests say so
//! and pass, unless `HEAPGATE_REQUIRE_MODELS` is set, as `ci/test` sets it.

use std::collections::BTreeMap;
use std::env;

use heapgate_bench::{Error, Params, Variant};
use heapgate_workloads::models::bert::{Encoder, cosine};
use heapgate_workloads::models::llama::Llama;
use heapgate_workloads::variants;

fn params(workload: &str, name: &str) -> Params {
    let variant = variants().iter().find(|v: &&Variant| v.workload == workload && v.name == name);
    Params::resolve(variant.expect("it is registered").params, &BTreeMap::new()).expect("defaults")
}

/// The model, or nothing if it was not fetched and need not have been.
fn fetched<T>(model: Result<T, Error>) -> Option<T> {
    match model {
        Err(Error::Missing { path, .. }) if env::var_os("HEAPGATE_REQUIRE_MODELS").is_none() => {
            eprintln!("!! LOUDLY SKIPPED: {} was not fetched (ci/fetch-models)", path.display());
            None
        }
        model => Some(model.unwrap_or_else(|error| panic!("{error}"))),
    }
}

#[test]
fn minilm_sees_what_is_alike() {
    let Some(encoder) = fetched(Encoder::minilm(&params("embed", "minilm"))) else { return };
    let texts = ["A man is eating food.", "A man is eating a piece of bread.", "A monkey is playing drums."];
    let vectors = encoder.embed(&texts).expect("short texts").vectors;
    let (alike, unlike) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    println!("bread and food {alike:.3}, bread and drums {unlike:.3}");
    assert_eq!(vectors[0].len(), 384);
    // Measured here. The 0.637 and 0.039 that this model is said to give are of other sentences (two on bread and food, one
    // on something else), which are not told.
    for (cosine, measured) in [(alike, 0.755), (unlike, 0.048)] {
        assert!((cosine - measured).abs() < 0.005, "bread and food {alike}, bread and drums {unlike}");
    }
}

#[test]
fn minilm_gives_a_text_the_same_vector_in_any_batch() {
    let Some(encoder) = fetched(Encoder::minilm(&params("embed", "minilm"))) else { return };
    let alone = encoder.embed(&["Jesus wept."]).expect("short");
    let beside = encoder.embed(&["In the beginning God created the heaven and the earth.", "Jesus wept."]);
    assert!(cosine(&alone.vectors[0], &beside.expect("short").vectors[1]) > 0.9999);
}

#[test]
fn smollm2_knows_the_capital_of_france() {
    let Some(llama) = fetched(Llama::smollm2(&params("decode", "smollm2"))) else { return };
    let answer = llama.answer("What is the capital of France?", 16).expect("a short question");
    assert_eq!(answer, "The capital of France is Paris.");
}
