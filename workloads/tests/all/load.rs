//! The workloads `residency`, `threads` and `mixed`: parameters, refusals, and answers that do not depend on how the
//! work was divided.

use std::collections::BTreeMap;

use heapgate_bench::{Error, Params, Variant, Work, Workload};
use heapgate_workloads::{mixed, residency, threads};

fn set_up(variant: &Variant, given: &[(&str, &str)]) -> Result<Box<dyn Workload>, Error> {
    let given: BTreeMap<String, String> = given.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    (variant.setup)(&Params::resolve(variant.params, &given)?)
}

fn first_steps(variant: &Variant, given: &[(&str, &str)], count: usize) -> Vec<Work> {
    let mut workload = set_up(variant, given).expect("values that it takes");
    (0..count).map(|_| workload.step()).collect()
}

#[track_caller]
fn refused(variant: &Variant, name: &str, values: &[&str]) {
    for value in values {
        match set_up(variant, &[(name, value)]) {
            Err(Error::Param { name: named, reason }) => assert!(named == name && reason.contains(value), "{reason}"),
            Err(error) => panic!("{name}={value}: {error}"),
            Ok(_) => panic!("{name}={value} was taken"),
        }
    }
}

#[test]
fn absurd_parameters_are_refused_with_the_value() {
    refused(&residency::STREAM, "duration", &["0", "86401", "-1", "1.5", "", "long"]);
    for variant in [&threads::CHUNKS, &threads::ARENA_SHARED, &threads::ARENA_LOCAL] {
        refused(variant, "threads", &["0", "65", "-1", "4294967300", "many"]);
    }
    refused(&threads::ARENA_LOCAL, "placement", &["moon"]);
    refused(&mixed::SIDE_BY_SIDE, "part", &["neither"]);
    refused(&mixed::SIDE_BY_SIDE, "mib", &["0", "7", "4097", "-8", "64MiB"]);
}

#[test]
fn duration_says_how_many_steps_there_are_and_not_when_they_end() {
    for (duration, steps) in [("1", 50), ("20", 1_000), ("3600", 180_000)] {
        let workload = set_up(&residency::STREAM, &[("duration", duration)]).expect("a duration");
        assert_eq!((workload.steps().warmup, workload.steps().measure), (100, steps));
    }
}

#[test]
fn a_cycle_of_residency_does_the_same_work_in_every_run() {
    let steps = || first_steps(&residency::STREAM, &[], residency::stream::CYCLE as usize);
    let (first, second) = (steps(), steps());
    assert_eq!(first, second);
    let tokens: Vec<u64> = first.iter().map(|work| work.units).collect();
    let (burst, rest) = (tokens[..10].iter().sum::<u64>(), tokens[10..].iter().sum::<u64>());
    assert!(burst > 30_000, "tens of thousands of tokens come in a burst: {burst}");
    assert!(rest < burst, "{rest}");
}

#[test]
fn answers_of_threads_do_not_depend_on_how_many_there_are() {
    for variant in [&threads::CHUNKS, &threads::ARENA_SHARED, &threads::ARENA_LOCAL] {
        let works = |count| first_steps(variant, &[("threads", count)], 3);
        let one = works("1");
        assert!(one.iter().all(|work| work.units == threads::BATCH as u64));
        for count in ["2", "5", "64"] {
            assert_eq!(works(count), one, "{} with {count} threads", variant.name);
        }
    }
}

#[test]
fn arenas_and_owned_words_have_equal_answers() {
    let works = |variant| first_steps(variant, &[("threads", "3")], 3);
    let owned = works(&threads::CHUNKS);
    assert_eq!(works(&threads::ARENA_SHARED), owned);
    assert_eq!(works(&threads::ARENA_LOCAL), owned);
}

#[test]
fn threads_bound_to_nodes_give_the_same_answers() {
    let works = |placement| first_steps(&threads::ARENA_LOCAL, &[("placement", placement)], 2);
    assert_eq!(works("node"), works("any"));
}

#[test]
fn mixed_reads_the_same_in_every_run() {
    for part in ["arena", "malloc", "both"] {
        let works = || first_steps(&mixed::SIDE_BY_SIDE, &[("part", part), ("mib", "8")], 3);
        let first = works();
        assert_eq!(works(), first, "{part}");
        assert!(first[0].units > 0 && first[0] != first[1] && first[1] != first[2], "{part}: {first:?}");
    }
}
