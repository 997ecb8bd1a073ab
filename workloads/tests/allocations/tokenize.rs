//! What the tokenize variants allocate: `wordpiece-slices` nothing, from the first step on, and each the same every
//! time.

use std::collections::BTreeMap;

use heapgate_bench::{Params, Variant, Workload};
use heapgate_workloads::{tokenize, variants};

use super::counting::{taken, threads};
use super::{Tests, tests};

/// All that need not be fetched.
const DOCUMENTS: [&str; 5] = ["sentence", "verse", "book", "corpus", "repeated"];

fn set_up(variant: &Variant, document: &str) -> Box<dyn Workload> {
    let given = BTreeMap::from([("document".to_owned(), document.to_owned())]);
    let params = Params::resolve(variant.params, &given).expect("a document that it takes");
    (variant.setup)(&params).expect("embedded data")
}

/// Allocating calls and tokens of the measured steps, after those of warm-up if `warm`.
fn measure(variant: &Variant, document: &str, warm: bool) -> (u64, u64) {
    let mut workload = set_up(variant, document);
    let steps = workload.steps();
    if warm {
        for _ in 0..steps.warmup {
            workload.step();
        }
    }
    let (taken, tokens) = taken(|| (0..steps.measure).map(|_| workload.step().units).sum());
    (taken.calls, tokens)
}

fn tokenizers() -> impl Iterator<Item = &'static Variant> {
    variants().iter().filter(|variant| variant.workload == "tokenize")
}

fn slices_allocates_nothing() {
    for document in DOCUMENTS {
        let (calls, tokens) = measure(&tokenize::WORDPIECE_SLICES, document, false);
        assert!(tokens > 0, "{document}: no tokens");
        assert_eq!(calls, 0, "{document}: {calls} allocations");
    }
}

fn every_variant_allocates_the_same_again() {
    for variant in tokenizers() {
        let (first, second) = (measure(variant, "verse", true), measure(variant, "verse", true));
        assert_eq!(first, second, "{}", variant.name);
    }
}

fn no_variant_starts_a_thread() {
    // An allocator that is merely linked has a thread of its own from the start on. Threads of a pool that a variant
    // had started would still be there.
    let before = threads();
    for variant in tokenizers() {
        measure(variant, "verse", false);
    }
    assert_eq!(threads(), before);
}

pub const TESTS: Tests = tests![
    // First, before anything could have started one.
    no_variant_starts_a_thread,
    slices_allocates_nothing,
    every_variant_allocates_the_same_again,
];

pub fn print() {
    for document in DOCUMENTS {
        for variant in tokenizers() {
            let (calls, tokens) = measure(variant, document, true);
            let per_token = calls as f64 / tokens as f64;
            println!("{document:8} {:16} {calls:9} calls {tokens:8} tokens {per_token:8.3} a token", variant.name);
        }
    }
}
