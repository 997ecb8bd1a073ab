//! What the tokenize variants allocate: `wordpiece-slices` nothing, from the first step on, and each the same every
//! time. `--print` shows the calls per token of all.
//!
//! Its own `main`: with a test harness there are threads that allocate beside it.

#![allow(unsafe_code, reason = "a global allocator can't be counted without one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use heapgate_bench::{Params, Variant, Workload};
use heapgate_workloads::{tokenize, variants};

/// All that need not be fetched.
const DOCUMENTS: [&str; 5] = ["sentence", "verse", "book", "corpus", "repeated"];

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
    let before = CALLS.load(Ordering::Relaxed);
    let tokens = (0..steps.measure).map(|_| workload.step().units).sum();
    (CALLS.load(Ordering::Relaxed) - before, tokens)
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

/// How many threads this process has, where the system tells.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

fn main() {
    let tests: [(&str, fn()); 3] = [
        // First, before anything could have started one.
        ("no_variant_starts_a_thread", no_variant_starts_a_thread),
        ("slices_allocates_nothing", slices_allocates_nothing),
        ("every_variant_allocates_the_same_again", every_variant_allocates_the_same_again),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
    if std::env::args().any(|arg| arg == "--print") {
        for document in DOCUMENTS {
            for variant in tokenizers() {
                let (calls, tokens) = measure(variant, document, true);
                let per_token = calls as f64 / tokens as f64;
                println!("{document:8} {:16} {calls:9} calls {tokens:8} tokens {per_token:8.3} a token", variant.name);
            }
        }
    }
}
