//! What the workloads on our own transformer allocate: caches that are there from the start and operators in place
//! nothing at all, and each the same every time.

use std::collections::BTreeMap;

use heapgate_bench::{Params, Variant, Workload};
use heapgate_workloads::{decode, operators};

use super::counting::{Taken, taken};
use super::{Tests, tests};

/// Takes the variant's own steps, or as many as `steps`; what those that are measured took, and their units.
fn measure(variant: &Variant, given: &[(&str, &str)], steps: Option<u64>) -> (Taken, u64) {
    let given: BTreeMap<String, String> = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let params = Params::resolve(variant.params, &given).expect("parameters that it takes");
    let mut workload: Box<dyn Workload> = (variant.setup)(&params).expect("valid parameters");
    for _ in 0..workload.steps().warmup {
        workload.step();
    }
    let steps = steps.unwrap_or(workload.steps().measure);
    taken(|| (0..steps).map(|_| workload.step().units).sum())
}

fn caches_made_at_the_start_allocate_nothing_in_any_step() {
    let nothing = (Taken { calls: 0, peak_bytes: 0 }, 1_024);
    for variant in [decode::KV_INPLACE, decode::KV_PAGED, decode::KV_SLIDING] {
        let taken = measure(&variant, &[], None);
        assert_eq!(taken, nothing, "{}", variant.name);
    }
    for block in ["1", "7", "512"] {
        let taken = measure(&decode::KV_PAGED, &[("block", block)], None);
        assert_eq!(taken, nothing, "blocks of {block}");
    }
}

fn concatenation_allocates_every_tensor_on_every_step() {
    let (taken, units) = measure(&decode::KV_CONCAT, &[("chunks", "100")], None);
    // Keys and values of four layers.
    assert_eq!((taken.calls, units), (200 * 8, 200));
}

fn operators_in_place_allocate_nothing_once_the_pool_is_filled() {
    for op in ["matmul", "softmax", "layer_norm", "gelu", "all"] {
        let given = [("op", op), ("rows", "64"), ("width", "32")];
        let (fresh, units) = measure(&operators::ALLOCATING, &given, None);
        let (pooled, _) = measure(&operators::INPLACE, &given, None);
        assert_eq!((pooled.calls, pooled.peak_bytes), (0, 0), "{op}");
        let tensors = fresh.peak_bytes / (64 * 32 * size_of::<f32>());
        assert!(fresh.calls >= 4 * units && tensors >= 3, "{op}: {fresh:?}");
    }
}

fn early_release_lowers_the_peak_of_activations_to_those_of_sure_samples() {
    const SAMPLE_BYTES: usize = 64 * 64 * 4 * size_of::<f32>();
    let peak =
        |release| measure(&decode::EARLY_RELEASE, &[("release", release), ("batch", "16")], Some(4)).0.peak_bytes;
    let (early, late) = (peak("early"), peak("end-of-step"));
    let whole = late / SAMPLE_BYTES;
    assert!(whole == 16 && late - 16 * SAMPLE_BYTES < 16 << 10, "{late}");
    assert!(early < late - 2 * SAMPLE_BYTES, "{early} {late}");
}

fn scoped_expiry_lowers_the_peak() {
    let peak = |release| measure(&decode::EXPIRY, &[("release", release), ("positions", "2048")], None).0.peak_bytes;
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

pub const TESTS: Tests = tests![
    caches_made_at_the_start_allocate_nothing_in_any_step,
    concatenation_allocates_every_tensor_on_every_step,
    operators_in_place_allocate_nothing_once_the_pool_is_filled,
    early_release_lowers_the_peak_of_activations_to_those_of_sure_samples,
    scoped_expiry_lowers_the_peak,
    every_variant_allocates_the_same_again,
];

pub fn print() {
    for (variant, given) in QUICK {
        println!("{}/{} {given:?}: {:?}", variant.workload, variant.name, measure(&variant, given, None));
    }
}
