//! What the models allocate: the same every time, on one thread; a seeded model per token and layer what the real one
//! does; an index in an arena nothing.

use std::collections::BTreeMap;

use heapgate_bench::{Error, Params, Variant, Workload};
use heapgate_workloads::models::bert::{Encoder, Size};
use heapgate_workloads::models::llama::Llama;
use heapgate_workloads::variants;

use super::counting::{taken, threads};
use super::{Tests, tests};

/// Calls that `work` makes.
fn calls<T>(work: impl FnOnce() -> T) -> u64 {
    taken(work).0.calls
}

fn params(name: &str, given: &[(&str, &str)]) -> (&'static Variant, Params) {
    let found = variants().iter().find(|v: &&Variant| format!("{}/{}", v.workload, v.name) == name);
    let variant = found.expect("it is registered");
    let given: BTreeMap<_, _> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    (variant, Params::resolve(variant.params, &given).expect("parameters that it takes"))
}

/// Calls, units and checksums of the measured steps.
fn measure(name: &str, given: &[(&str, &str)]) -> (u64, u64, Vec<u64>) {
    let (variant, params) = params(name, given);
    let mut workload: Box<dyn Workload> = (variant.setup)(&params).expect("all of it is embedded or drawn");
    let steps = workload.steps();
    for _ in 0..steps.warmup {
        workload.step();
    }
    for _ in 0..steps.prefill {
        workload.prefill();
    }
    let mut works = Vec::with_capacity(steps.measure as usize);
    let calls = calls(|| works.extend((0..steps.measure).map(|_| workload.step())));
    (calls, works.iter().map(|work| work.units).sum(), works.iter().map(|work| work.checksum).collect())
}

fn work_is_the_same_again() {
    let small = [("chunks", "64"), ("batch", "16")];
    for (name, given) in
        [("decode/seeded-llama", &[("tokens", "8")][..]), ("embed/seeded-bert", &small), ("embed/index-heap", &[])]
    {
        let first = measure(name, given);
        println!("  {name}: {:.1} allocations a unit", first.0 as f64 / first.1 as f64);
        assert_eq!(first, measure(name, given), "{name}");
    }
}

fn no_model_starts_a_thread() {
    let before = threads();
    measure("decode/seeded-llama", &[("tokens", "2")]);
    measure("embed/seeded-bert", &[("chunks", "64")]);
    assert_eq!(threads(), before);
}

fn index_in_an_arena_allocates_nothing_once_its_buffer_is_there() {
    assert_eq!(measure("embed/index-arena", &[]).0, 0);
    assert!(measure("embed/index-heap", &[]).0 > 0);
}

/// The model, or nothing if it was not fetched and need not have been.
fn fetched<T>(model: Result<T, Error>) -> Option<T> {
    match model {
        Err(Error::Missing { path, .. }) if std::env::var_os("HEAPGATE_REQUIRE_MODELS").is_none() => {
            println!("!! LOUDLY SKIPPED: {} was not fetched (ci/fetch-models)", path.display());
            None
        }
        model => Some(model.unwrap_or_else(|error| panic!("{error}"))),
    }
}

/// Allocations of the tenth token after a prompt of twenty, per layer.
fn per_token_and_layer(llama: &Llama) -> f64 {
    let mut conversation = llama.converse();
    let mut token = conversation.feed(&[5; 20]).expect("short");
    for _ in 0..9 {
        token = conversation.feed(&[token]).expect("short");
    }
    let calls = calls(|| conversation.feed(&[token]));
    calls as f64 / llama.shape().layers as f64
}

fn seeded_llama_allocates_per_token_and_layer_what_smollm2_does() {
    let seeded = per_token_and_layer(&Llama::seeded(1).expect("a model"));
    let Some(real) = fetched(Llama::smollm2(&params("decode/smollm2", &[]).1)) else { return };
    let real = per_token_and_layer(&real);
    println!("  seeded {seeded:.2}, SmolLM2 {real:.2} allocations a token and layer");
    assert_eq!(seeded, real);
}

/// Allocations of a batch of one text.
fn per_batch(encoder: &Encoder) -> f64 {
    const TEXT: [&str; 1] = ["In the beginning God created the heaven and the earth."];
    encoder.embed(&TEXT).expect("short");
    calls(|| encoder.embed(&TEXT)) as f64
}

fn seeded_bert_allocates_per_layer_what_minilm_does() {
    let seeded = |layers| Encoder::seeded(Size { layers, hidden: 64, dim: 64 }, 1).expect("a model");
    let (two, six) = (per_batch(&seeded(2)), per_batch(&seeded(6)));
    let Some(real) = fetched(Encoder::minilm(&params("embed/minilm", &[]).1)) else { return };
    let real = per_batch(&real);
    println!("  a batch: seeded with 2 layers {two}, with 6 layers {six}; MiniLM {real} allocations");
    // Matrices of MiniLM's width take a packing buffer that narrow ones do without: 24 of 2463 calls here.
    assert!((six / real - 1.0).abs() < 0.02, "seeded {six}, real {real}");
}

pub const TESTS: Tests = tests![
    // First, before anything could have started one.
    no_model_starts_a_thread,
    work_is_the_same_again,
    index_in_an_arena_allocates_nothing_once_its_buffer_is_there,
    seeded_llama_allocates_per_token_and_layer_what_smollm2_does,
    seeded_bert_allocates_per_layer_what_minilm_does,
];
