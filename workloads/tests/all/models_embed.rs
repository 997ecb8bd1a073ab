//! The embed workloads as the registry offers them: the same answers however they are come by.

use std::collections::BTreeMap;

use heapgate_bench::{Params, Variant, Work};
use heapgate_workloads::variants;

fn variant(name: &str) -> &'static Variant {
    variants().iter().find(|v| v.workload == "embed" && v.name == name).expect("it is registered")
}

/// What the steps of a whole run came to, without warm-up.
fn run(name: &str, given: &[(&str, &str)]) -> Vec<Work> {
    let variant = variant(name);
    let given: BTreeMap<_, _> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let params = Params::resolve(variant.params, &given).expect("parameters that it takes");
    let mut workload = (variant.setup)(&params).expect("all of it is embedded or drawn");
    let steps = workload.steps();
    for _ in 0..steps.warmup {
        workload.step();
    }
    (0..steps.measure).map(|_| workload.step()).collect()
}

const SMALL: [(&str, &str); 2] = [("chunks", "96"), ("batch", "32")];

#[test]
fn every_chunk_is_embedded_once() {
    let units = |batch| run("seeded-bert", &[("chunks", "100"), ("batch", batch)]).iter().map(|w| w.units).collect();
    let (batches, singles): (Vec<u64>, Vec<u64>) = (units("32"), units("1"));
    assert_eq!(batches, [32, 32, 32, 4]);
    assert_eq!(singles, [1; 100]);
}

#[test]
fn embedding_gives_the_same_again() {
    assert_eq!(run("seeded-bert", &SMALL), run("seeded-bert", &SMALL));
}

#[test]
fn other_chunks_have_other_vectors() {
    let works = run("seeded-bert", &SMALL);
    assert_ne!(works[0].checksum, works[1].checksum);
}

#[test]
fn index_on_the_heap_and_in_an_arena_find_the_same() {
    let works = run("index-heap", &[("vectors", "64")]);
    assert_eq!(works, run("index-arena", &[("vectors", "64")]));
    assert!(works.windows(2).any(|pair| pair[0].checksum != pair[1].checksum), "every index found the same");
}

#[test]
fn server_gives_equal_answers_with_and_without_batches_and_cache() {
    let answers = |batching, cache| {
        let load = [("requests", "120"), ("texts", "40"), ("rate", "20000"), ("bar", "1")];
        run("server-seeded", &[&load[..], &[("batching", batching), ("cache", cache)]].concat())
    };
    let first = answers("fixed-1", "off");
    assert_eq!(first[0].units, 120);
    for (batching, cache) in [("dynamic", "off"), ("fixed-1", "on"), ("dynamic", "on")] {
        assert_eq!(answers(batching, cache), first, "batching {batching}, cache {cache}");
    }
}

#[test]
fn server_answers_at_a_rate_below_one_batch() {
    let works = run("server-seeded", &[("requests", "5"), ("rate", "100")]);
    assert_eq!(works[0].units, 5);
}
