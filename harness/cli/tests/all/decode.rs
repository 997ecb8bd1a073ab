//! Decoding under the real telemetry: caches that are there from the start allocate nothing, and variants report their
//! own figures.

use crate::common::{Place, REPORT, trials};
use serde_json::Value;

/// The only trial of a run of `arguments`.
fn trial(arguments: &str) -> Value {
    let place = Place::new();
    place.run(&format!("run {arguments} -n 1")).ends_with(0);
    let report = place.json(REPORT);
    assert_eq!(trials(&report).len(), 1);
    trials(&report)[0].clone()
}

fn figure(trial: &Value, name: &str) -> f64 {
    trial["figures"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {}", trial["figures"]))
}

fn checksum(trial: &Value) -> &Value {
    let phases = trial["phases"].as_array().expect("phases");
    let measured = phases.iter().find(|phase| phase["kind"] == "measure").expect("a measured phase");
    assert_ne!(measured["checksum"], "");
    &measured["checksum"]
}

#[test]
fn steady_caches_allocate_nothing_per_chunk() {
    let concat = trial("decode/kv-concat -a jemalloc");
    // Keys and values of four layers.
    assert_eq!(concat["metrics"]["allocations_per_unit"], 8.0);
    for variant in ["kv-inplace", "kv-paged"] {
        let steady = trial(&format!("decode/{variant} -a jemalloc"));
        assert_eq!(steady["metrics"]["allocations_per_unit"], 0.0, "{variant}");
        assert_eq!(checksum(&steady), checksum(&concat), "{variant}");
    }
}

#[test]
fn a_stream_reports_its_latency_and_its_cache() {
    let paged = trial("decode/kv-paged -a jemalloc --param block=8");
    assert!(figure(&paged, "step_p95_ns") >= figure(&paged, "cache_p95_ns"));
    assert!(figure(&paged, "step_mean_ns") > figure(&paged, "cache_mean_ns"));
    // 512 positions of 4 layers of keys and values, 128 wide.
    assert_eq!(figure(&paged, "kv_peak_bytes"), f64::from(512 * 4 * 2 * 128 * 4));
    // A block is as often begun as it is full.
    let unused = figure(&paged, "kv_fragmentation_share");
    assert!(unused > 0.0 && unused < 0.1, "{unused}");
    // Room for all positions from the start is empty for half of the time, on average.
    let inplace = trial("decode/kv-inplace -a jemalloc --param chunks=512 --param context=512");
    assert!((figure(&inplace, "kv_fragmentation_share") - 0.5).abs() < 0.01);
}

#[test]
fn stalls_are_summed_over_each_step_where_every_call_is_timed() {
    let concat = trial("decode/kv-concat -a jemalloc");
    let p95 = figure(&concat, "stall_step_p95_ns");
    assert!(p95 > 0.0 && p95 <= figure(&concat, "cache_p95_ns") * 1.1, "{p95} of {}", concat["figures"]);
    assert_eq!(figure(&trial("decode/kv-inplace -a jemalloc"), "stall_step_p95_ns"), 0.0, "it calls no allocator");
    let counted = trial("decode/kv-concat -a jemalloc --level count");
    assert_eq!(counted["figures"].get("stall_step_p95_ns"), None);
}

#[test]
fn scoped_expiry_reuses_more_blocks_and_needs_fewer() {
    let [end, scoped] = ["end", "scoped"]
        .map(|release| trial(&format!("decode/expiry -a jemalloc --param positions=2048 --param release={release}")));
    assert_eq!(checksum(&end), checksum(&scoped));
    // The second of two generations has the blocks of the first.
    assert!((figure(&end, "block_reuse_share") - 0.5).abs() < 0.05);
    assert!(figure(&scoped, "block_reuse_share") > 0.6);
    assert!(figure(&scoped, "kv_peak_bytes") < 0.8 * figure(&end, "kv_peak_bytes"));
}

#[test]
fn early_release_makes_a_larger_batch_feasible() {
    let [end, early] = ["end-of-step", "early"]
        .map(|release| trial(&format!("decode/early-release -a jemalloc --steps 2 --param release={release}")));
    assert_eq!(checksum(&end), checksum(&early));
    assert_eq!(figure(&end, "feasible_batch"), 16.0);
    assert!(figure(&early, "feasible_batch") > 16.0);
    assert_eq!(figure(&end, "activation_peak_bytes"), f64::from(16 << 16));
    assert!(figure(&early, "activation_peak_bytes") < f64::from(16 << 16));
}
