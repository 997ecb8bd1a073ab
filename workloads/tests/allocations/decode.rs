//! What the workloads on our own transformer allocate: caches that are there from the start and operators in place
//! nothing at all, and each the same every time. `--print` shows the calls and bytes of all.
//!
//! Its own `main`: with a test harness there are threads that allocate beside it.

#![allow(unsafe_code, reason = "a global allocator can't be counted without one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use heapgate_bench::{Params, Variant, Workload};
use heapgate_workloads::{decode, operators};

/// The system's allocator, counting calls that allocate, live bytes, and the most of those at one time.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every method hands its arguments, on whose contract it relies, unchanged to `System`, and counts on the side.
// The inherited `realloc` and `alloc_zeroed` go through these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`, which is `System`'s too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `block` came from `System`, as all of ours do; the caller upholds the rest.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What some steps took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    calls: usize,
    /// The most bytes at one time, beyond those that were live before.
    peak_bytes: usize,
    units: u64,
}

/// Takes the variant's own steps, or as many as `steps`, and counts those that are measured.
fn measure(variant: &Variant, given: &[(&str, &str)], steps: Option<u64>) -> Taken {
    let given: BTreeMap<String, String> = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let params = Params::resolve(variant.params, &given).expect("parameters that it takes");
    let mut workload: Box<dyn Workload> = (variant.setup)(&params).expect("valid parameters");
    for _ in 0..workload.steps().warmup {
        workload.step();
    }
    let (calls, live) = (CALLS.load(Ordering::Relaxed), LIVE.load(Ordering::Relaxed));
    PEAK.store(live, Ordering::Relaxed);
    let units = (0..steps.unwrap_or(workload.steps().measure)).map(|_| workload.step().units).sum();
    Taken { calls: CALLS.load(Ordering::Relaxed) - calls, peak_bytes: PEAK.load(Ordering::Relaxed) - live, units }
}

fn caches_made_at_the_start_allocate_nothing_in_any_step() {
    let nothing = |taken: Taken| (taken.calls, taken.peak_bytes) == (0, 0) && taken.units == 1_024;
    for variant in [decode::KV_INPLACE, decode::KV_PAGED, decode::KV_SLIDING] {
        let taken = measure(&variant, &[], None);
        assert!(nothing(taken), "{}: {taken:?}", variant.name);
    }
    for block in ["1", "7", "512"] {
        let taken = measure(&decode::KV_PAGED, &[("block", block)], None);
        assert!(nothing(taken), "blocks of {block}: {taken:?}");
    }
}

fn concatenation_allocates_every_tensor_on_every_step() {
    let taken = measure(&decode::KV_CONCAT, &[("chunks", "100")], None);
    // Keys and values of four layers.
    assert_eq!((taken.calls, taken.units), (200 * 8, 200));
}

fn operators_in_place_allocate_nothing_once_the_pool_is_filled() {
    for op in ["matmul", "softmax", "layer_norm", "gelu", "all"] {
        let given = [("op", op), ("rows", "64"), ("width", "32")];
        let (fresh, pooled) =
            [operators::ALLOCATING, operators::INPLACE].map(|variant| measure(&variant, &given, None)).into();
        assert_eq!((pooled.calls, pooled.peak_bytes), (0, 0), "{op}");
        let tensors = fresh.peak_bytes / (64 * 32 * size_of::<f32>());
        assert!(fresh.calls as u64 >= 4 * fresh.units && tensors >= 3, "{op}: {fresh:?}");
    }
}

fn early_release_lowers_the_peak_of_activations_to_those_of_sure_samples() {
    const SAMPLE_BYTES: usize = 64 * 64 * 4 * size_of::<f32>();
    let peak = |release| measure(&decode::EARLY_RELEASE, &[("release", release), ("batch", "16")], Some(4)).peak_bytes;
    let (early, late) = (peak("early"), peak("end-of-step"));
    let whole = late / SAMPLE_BYTES;
    assert!(whole == 16 && late - 16 * SAMPLE_BYTES < 16 << 10, "{late}");
    assert!(early < late - 2 * SAMPLE_BYTES, "{early} {late}");
}

fn scoped_expiry_lowers_the_peak() {
    let peak = |release| measure(&decode::EXPIRY, &[("release", release), ("positions", "2048")], None).peak_bytes;
    let (scoped, late) = (peak("scoped"), peak("end"));
    assert!(late > 2_048 * 4 * 2 * 16 * size_of::<f32>(), "{late}");
    assert!(scoped < late * 3 / 4, "{scoped} {late}");
}

/// Variants with parameters that make them quick.
const QUICK: [(Variant, &[(&str, &str)]); 8] = [
    (decode::KV_CONCAT, &[("chunks", "50")]),
    (decode::KV_INPLACE, &[("chunks", "50")]),
    (decode::KV_SLIDING, &[("chunks", "50")]),
    (decode::KV_PAGED, &[("chunks", "50")]),
    (decode::EXPIRY, &[("positions", "1000")]),
    (decode::EARLY_RELEASE, &[("batch", "40")]),
    (operators::ALLOCATING, &[("rows", "64")]),
    (operators::INPLACE, &[("rows", "64")]),
];

fn every_variant_allocates_the_same_again() {
    for (variant, given) in QUICK {
        assert_eq!(measure(&variant, given, None), measure(&variant, given, None), "{}", variant.name);
    }
}

fn main() {
    let tests: [(&str, fn()); 6] = [
        (
            "caches_made_at_the_start_allocate_nothing_in_any_step",
            caches_made_at_the_start_allocate_nothing_in_any_step,
        ),
        ("concatenation_allocates_every_tensor_on_every_step", concatenation_allocates_every_tensor_on_every_step),
        (
            "operators_in_place_allocate_nothing_once_the_pool_is_filled",
            operators_in_place_allocate_nothing_once_the_pool_is_filled,
        ),
        (
            "early_release_lowers_the_peak_of_activations_to_those_of_sure_samples",
            early_release_lowers_the_peak_of_activations_to_those_of_sure_samples,
        ),
        ("scoped_expiry_lowers_the_peak", scoped_expiry_lowers_the_peak),
        ("every_variant_allocates_the_same_again", every_variant_allocates_the_same_again),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
    if std::env::args().any(|arg| arg == "--print") {
        for (variant, given) in QUICK {
            println!("{}/{} {given:?}: {:?}", variant.workload, variant.name, measure(&variant, given, None));
        }
    }
}
