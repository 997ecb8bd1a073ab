//! The variants of our own transformer as the registry offers them: parameters, refusals, and the same work every time.

use std::collections::BTreeMap;

use heapgate_bench::{Error, Params, Variant, Work, Workload};
use heapgate_workloads::{decode, operators};

fn set_up(variant: &Variant, given: &[(&str, &str)]) -> Result<Box<dyn Workload>, Error> {
    let given: BTreeMap<String, String> = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    (variant.setup)(&Params::resolve(variant.params, &given)?)
}

fn works(variant: &Variant, given: &[(&str, &str)], steps: usize) -> Vec<Work> {
    let mut workload = set_up(variant, given).expect("valid parameters");
    (0..steps).map(|_| workload.step()).collect()
}

fn refusal(variant: &Variant, given: &[(&str, &str)]) -> String {
    match set_up(variant, given) {
        Ok(_) => panic!("{} takes {given:?}", variant.name),
        Err(error @ Error::Param { .. }) => error.to_string(),
        Err(other) => panic!("{} with {given:?}: {other}", variant.name),
    }
}

const STREAMS: [Variant; 4] = [decode::KV_CONCAT, decode::KV_INPLACE, decode::KV_SLIDING, decode::KV_PAGED];

#[test]
fn contexts_and_chunks_that_do_not_fit_are_refused() {
    for variant in &STREAMS {
        let said = refusal(variant, &[("context", "5000")]);
        assert_eq!(said, "parameter 'context': '5000' is not a number from 1 to 4096");
        let said = refusal(variant, &[("context", "100"), ("chunks", "101")]);
        assert_eq!(said, "parameter 'chunks': '101' is not a number from 1 to 100");
        for nonsense in ["0", "-1", "", "many", "99999999999999999999"] {
            refusal(variant, &[("context", nonsense)]);
            refusal(variant, &[("chunks", nonsense)]);
        }
    }
    assert_eq!(refusal(&decode::KV_PAGED, &[("block", "0")]), "parameter 'block': '0' is not a number from 1 to 512");
    refusal(&decode::KV_SLIDING, &[("window", "0")]);
    refusal(&decode::KV_SLIDING, &[("window", "513")]);
}

#[test]
fn streams_give_the_same_answers_with_every_cache_that_keeps_all() {
    let short = [("context", "40"), ("chunks", "30")];
    let right = works(&decode::KV_CONCAT, &short, 70);
    assert_eq!(works(&decode::KV_INPLACE, &short, 70), right);
    assert_eq!(works(&decode::KV_PAGED, &short, 70), right);
    let sliding = [("context", "40"), ("chunks", "30"), ("window", "40")];
    assert_eq!(works(&decode::KV_SLIDING, &sliding, 70), right);
    // The second stream is the first again.
    assert_eq!(right[..30], right[30..60]);
    assert_ne!(right[..30], right[1..31]);
}

#[test]
fn a_narrow_window_gives_other_answers_once_it_is_full() {
    let short = [("context", "40"), ("chunks", "40"), ("window", "10")];
    let (narrow, right) = (works(&decode::KV_SLIDING, &short, 40), works(&decode::KV_CONCAT, &short[..2], 40));
    assert_eq!(narrow[..10], right[..10]);
    assert!(narrow[10..].iter().zip(&right[10..]).all(|(narrow, right)| narrow != right));
}

#[test]
fn the_smallest_stream_has_one_chunk() {
    for variant in &STREAMS {
        let given: &[(&str, &str)] = match variant.name {
            "kv-sliding" => &[("context", "1"), ("window", "1")],
            "kv-paged" => &[("context", "1"), ("block", "1")],
            _ => &[("context", "1")],
        };
        let given: Vec<_> = given.iter().copied().chain([("chunks", "1")]).collect();
        let works = works(variant, &given, 3);
        assert!(works.iter().all(|work| *work == works[0] && work.units == 1), "{}", variant.name);
    }
}

#[test]
fn operators_take_no_empty_input() {
    for variant in [operators::ALLOCATING, operators::INPLACE] {
        for name in ["rows", "width"] {
            for nonsense in ["0", "-3", "wide", "1000000"] {
                assert!(refusal(&variant, &[(name, nonsense)]).starts_with(&format!("parameter '{name}'")));
            }
        }
        refusal(&variant, &[("op", "conv")]);
        for op in ["matmul", "softmax", "layer_norm", "gelu", "all"] {
            let given = [("op", op), ("rows", "3"), ("width", "5")];
            assert_eq!(works(&variant, &given, 3), works(&variant, &given, 3), "{op}");
        }
    }
}

#[test]
fn batches_and_generations_of_nothing_are_refused() {
    for variant in [decode::EXPIRY, decode::EARLY_RELEASE] {
        let said = refusal(&variant, &[("batch", "0")]);
        assert_eq!(said, "parameter 'batch': '0' is not a number from 1 to 64");
        refusal(&variant, &[("batch", "65")]);
        refusal(&variant, &[("release", "never")]);
    }
    for name in ["positions", "block"] {
        for nonsense in ["0", "200000", "half"] {
            refusal(&decode::EXPIRY, &[(name, nonsense)]);
        }
    }
    refusal(&decode::EARLY_RELEASE, &[("budget_kib", "0")]);
}

#[test]
fn generations_decode_the_same_whenever_their_blocks_go_back() {
    for arrival in ["together", "streaming"] {
        for positions in ["1", "20", "700"] {
            let given = |release| [("release", release), ("arrival", arrival), ("positions", positions)];
            let steps = 2 * positions.parse::<usize>().expect("a number");
            let scoped = works(&decode::EXPIRY, &given("scoped"), steps);
            assert_eq!(scoped, works(&decode::EXPIRY, &given("end"), steps), "{arrival} {positions}");
            assert!(scoped.iter().all(|work| work.units == 4));
        }
    }
}

#[test]
fn the_answer_to_a_sample_does_not_depend_on_when_others_are_dropped() {
    let late = works(&decode::EARLY_RELEASE, &[("release", "end-of-step")], 3);
    assert_eq!(works(&decode::EARLY_RELEASE, &[("release", "early")], 3), late);
    assert_ne!(late[0], late[1]);
}
