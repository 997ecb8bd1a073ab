//! The variants of `cache` and `prompt` as the registry offers them: equal answers, and refusals.

use std::collections::BTreeMap;

use heapgate_bench::{Error, Params, Variant, Work};
use heapgate_workloads::variants;

fn variant(name: &str) -> &'static Variant {
    variants().iter().find(|v| format!("{}/{}", v.workload, v.name) == name).unwrap_or_else(|| panic!("no {name}"))
}

fn params(variant: &Variant, given: &[(&str, &str)]) -> Params {
    let given: BTreeMap<_, _> = given.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Params::resolve(variant.params, &given).expect("parameters that it takes")
}

fn first_steps(name: &str, given: &[(&str, &str)], steps: usize) -> Vec<Work> {
    let variant = variant(name);
    let mut workload = (variant.setup)(&params(variant, given)).expect("embedded data");
    (0..steps).map(|_| workload.step()).collect()
}

#[track_caller]
fn agree(names: &[&str], given: &[(&str, &str)], steps: usize) {
    let first = first_steps(names[0], given, steps);
    assert!(first.iter().any(|work| work.units > 0));
    for name in &names[1..] {
        assert_eq!(first_steps(name, given, steps), first, "{name}");
    }
}

#[test]
fn variants_of_one_job_do_equal_work_in_every_step() {
    agree(&["prompt/format", "prompt/join", "prompt/template"], &[], 50);
    agree(&["cache/slab-heap", "cache/slab-pool", "cache/slab-hybrid"], &[], 100);
    agree(&["cache/buffer-heap", "cache/buffer-arena"], &[("batch", "100")], 20);
    agree(&["cache/lru-safe", "cache/lru-raw"], &[("delay_ms", "20")], 400);
    agree(&["cache/intern-hashmap", "cache/intern-pool", "cache/intern-lasso"], &[("lookups", "100")], 1);
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    for (name, param, value) in [
        ("prompt/join", "passages", "65"),
        ("prompt/join", "turns", "many"),
        ("cache/slab-heap", "hold_ticks", "0"),
        ("cache/slab-pool", "idle_slabs", "-1"),
        ("cache/buffer-arena", "batch", "0"),
        ("cache/lru-raw", "delay_ms", "1001"),
        ("cache/intern-lasso", "threads", "0"),
        ("cache/intern-lasso", "lookups", "0"),
    ] {
        let variant = variant(name);
        let refused = (variant.setup)(&params(variant, &[(param, value)])).err().expect("it is out of range");
        assert!(matches!(&refused, Error::Param { name, .. } if name == param), "{name}: {refused}");
        assert!(refused.to_string().contains(value), "{refused}");
    }
}
