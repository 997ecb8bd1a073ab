//! What the models allocate: the same every time, on one thread; a seeded model per token and layer what the real one
//! does; an index in an arena nothing.
//!
//! Its own `main`, and in a process with `RAYON_NUM_THREADS=1`, as heapgate starts its trials: with more, the kernels
//! start threads, and a test harness has threads that allocate beside it.

#![allow(unsafe_code, reason = "a global allocator can't be counted without one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicU64, Ordering};

use heapgate_bench::{Error, Params, Variant, Workload};
use heapgate_workloads::models::bert::{Encoder, Size};
use heapgate_workloads::models::llama::Llama;
use heapgate_workloads::variants;

/// The system's allocator, counting calls that allocate: `alloc`, `alloc_zeroed` and `realloc`.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every method hands its arguments, on whose contract it relies, unchanged to `System`, and counts on the side.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc`, which is `System`'s too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from `System`, as all of ours do; the caller upholds the rest.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls that `work` makes.
fn calls<T>(work: impl FnOnce() -> T) -> u64 {
    let before = CALLS.load(Ordering::Relaxed);
    drop(work());
    CALLS.load(Ordering::Relaxed) - before
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
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
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

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none_or(|threads| threads != "1") {
        let this = std::env::current_exe().expect("a program knows its own file");
        let status = Command::new(this).args(std::env::args_os().skip(1)).env("RAYON_NUM_THREADS", "1").status();
        exit(status.expect("it just ran").code().unwrap_or(1));
    }
    let tests: [(&str, fn()); 5] = [
        // First, before anything could have started one.
        ("no_model_starts_a_thread", no_model_starts_a_thread),
        ("work_is_the_same_again", work_is_the_same_again),
        (
            "index_in_an_arena_allocates_nothing_once_its_buffer_is_there",
            index_in_an_arena_allocates_nothing_once_its_buffer_is_there,
        ),
        (
            "seeded_llama_allocates_per_token_and_layer_what_smollm2_does",
            seeded_llama_allocates_per_token_and_layer_what_smollm2_does,
        ),
        ("seeded_bert_allocates_per_layer_what_minilm_does", seeded_bert_allocates_per_layer_what_minilm_does),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
}
