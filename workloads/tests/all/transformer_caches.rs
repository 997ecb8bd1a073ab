//! Every form of KV cache leads to the same logits, in the heap and in an arena, and gives back what it took.

use allocator_api2::alloc::{Allocator, Global};
use bumpalo::Bump;
use heapgate_workloads::random::SplitMix64;
use heapgate_workloads::transformer::cache::{
    BlockPool, BlockShape, Concat, Full, Generation, InPlace, KvCache, Paged, PoolCounts, Release, Run, Sliding, Usage,
    most_attended,
};
use heapgate_workloads::transformer::{Config, Decoder, Weights};
use proptest::prelude::*;

const MODEL: Config = Config { layers: 3, heads: 4, width: 32, hidden: 64, outputs: 24, context: 320 };
const SEED: u64 = 7;

fn decoder_in<A: Allocator + Clone>(allocator: A) -> Decoder<A> {
    Decoder::new(Weights::seeded(MODEL, SEED, allocator.clone()), allocator)
}

fn inputs(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = SplitMix64::new(seed);
    (0..count).map(|_| (0..MODEL.width).map(|_| random.signed()).collect()).collect()
}

fn decode_from<A: Allocator>(
    decoder: &mut Decoder<A>,
    cache: &mut impl KvCache,
    first: usize,
    inputs: &[Vec<f32>],
) -> Vec<Vec<f32>> {
    let step =
        |(at, input): (usize, &Vec<f32>)| decoder.step(cache, first + at, input).expect("there is room").to_vec();
    inputs.iter().enumerate().map(step).collect()
}

/// The logits of every position.
fn decode(cache: &mut impl KvCache, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    decode_from(&mut decoder_in(Global), cache, 0, inputs)
}

fn concat() -> Concat<Global> {
    Concat::new(MODEL.layers, MODEL.width, Global)
}

fn inplace(context: usize) -> InPlace<Global> {
    InPlace::new(MODEL.layers, MODEL.width, context, Global)
}

fn sliding(window: usize) -> Sliding<Global> {
    Sliding::new(MODEL.layers, MODEL.width, window, Global)
}

fn shape(positions: usize) -> BlockShape {
    BlockShape { positions, layers: MODEL.layers, width: MODEL.width }
}

fn paged(positions: usize) -> Paged<Global> {
    Paged::new(BlockPool::new(shape(positions), Global), 0, Global)
}

#[test]
fn all_caches_give_the_same_logits_to_the_last_bit() {
    let inputs = inputs(300, 1);
    let right = decode(&mut concat(), &inputs);
    assert!(right.iter().flatten().all(|logit| logit.is_finite()));
    assert_ne!(right[0], right[299]);
    assert_eq!(decode(&mut inplace(300), &inputs), right, "inplace");
    assert_eq!(decode(&mut sliding(300), &inputs), right, "sliding");
    for block in [1, 7, 16, 512] {
        assert_eq!(decode(&mut paged(block), &inputs), right, "paged by {block}");
    }
}

#[test]
fn a_model_in_an_arena_gives_the_same_logits() {
    let inputs = inputs(100, 2);
    let right = decode(&mut inplace(100), &inputs);
    let arena = Bump::new();
    let mut decoder = decoder_in(&arena);
    let after_model = arena.allocated_bytes();
    assert_eq!(decode_from(&mut decoder, &mut InPlace::new(3, 32, 100, &arena), 0, &inputs), right);
    assert_eq!(decode_from(&mut decoder, &mut Concat::new(3, 32, &arena), 0, &inputs), right);
    let pool = BlockPool::new(shape(16), &arena);
    assert_eq!(decode_from(&mut decoder, &mut Paged::new(pool, 8, &arena), 0, &inputs), right);
    assert!(arena.allocated_bytes() > after_model);
}

#[test]
fn logits_depend_on_every_earlier_position() {
    let right = inputs(40, 3);
    let last = |inputs: &[Vec<f32>]| decode(&mut paged(8), inputs).pop().expect("there are some");
    for changed in [0, 17, 38] {
        let mut wrong = right.clone();
        wrong[changed][5] += 0.5;
        assert_ne!(last(&wrong), last(&right), "position {changed}");
    }
}

/// Keeps everything and attends to the last `window` positions of it: what [`Sliding`] must be equal to.
struct Reference {
    all: Vec<[Vec<f32>; 2]>,
    window: usize,
    positions: usize,
}

impl KvCache for Reference {
    fn grow(&mut self) -> Result<(), Full> {
        self.positions += 1;
        Ok(())
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        self.all[layer][0].extend(key);
        self.all[layer][1].extend(value);
    }

    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>> {
        let [keys, values] = &self.all[layer];
        let rows = keys.chunks(MODEL.width).zip(values.chunks(MODEL.width)).skip(self.positions - self.positions());
        rows.map(|(keys, values)| Run { keys, values })
    }

    fn positions(&self) -> usize {
        self.positions.min(self.window)
    }

    fn clear(&mut self) {}

    fn usage(&self) -> Usage {
        Usage::default()
    }
}

#[test]
fn a_sliding_cache_attends_to_just_the_last_window() {
    let inputs = inputs(250, 4);
    for window in [1, 5, 64, 200] {
        let mut reference = Reference { all: vec![Default::default(); MODEL.layers], window, positions: 0 };
        let right = decode(&mut reference, &inputs);
        assert_eq!(decode(&mut sliding(window), &inputs), right, "window {window}");
        assert_ne!(right.last(), decode(&mut concat(), &inputs).last(), "window {window}");
    }
}

#[test]
fn a_cleared_cache_gives_what_a_new_one_gives() {
    let (first, second) = (inputs(60, 5), inputs(50, 6));
    fn again(mut cache: impl KvCache, first: &[Vec<f32>], second: &[Vec<f32>]) -> Vec<Vec<f32>> {
        decode(&mut cache, first);
        cache.clear();
        assert_eq!((cache.positions(), cache.usage().used_bytes), (0, 0));
        decode(&mut cache, second)
    }
    let right = decode(&mut concat(), &second);
    assert_eq!(again(concat(), &first, &second), right);
    assert_eq!(again(inplace(60), &first, &second), right);
    assert_eq!(again(sliding(60), &first, &second), right);
    assert_eq!(again(paged(16), &first, &second), right);
}

#[test]
fn what_is_beyond_the_context_is_refused() {
    let inputs = inputs(MODEL.context + 1, 8);
    let mut decoder = decoder_in(Global);
    let mut cache = inplace(10);
    decode_from(&mut decoder, &mut cache, 0, &inputs[..10]);
    assert_eq!(decoder.step(&mut cache, 10, &inputs[10]), Err(Full { positions: 10 }));
    let mut cache = paged(16);
    decode_from(&mut decoder, &mut cache, 0, &inputs[..MODEL.context]);
    let refused = decoder.step(&mut cache, MODEL.context, &inputs[MODEL.context]);
    assert_eq!(refused.expect_err("full").to_string(), "the context of 320 positions is full");
}

fn usage_after(mut cache: impl KvCache, inputs: &[Vec<f32>]) -> Usage {
    decode(&mut cache, inputs);
    cache.usage()
}

#[test]
fn usage_counts_what_is_held_for_nothing() {
    let row_bytes = MODEL.layers * 2 * MODEL.width * size_of::<f32>();
    let inputs = inputs(20, 9);
    let usage = |positions| Usage { used_bytes: 20 * row_bytes, held_bytes: positions * row_bytes };
    assert_eq!(usage_after(concat(), &inputs), usage(20));
    assert_eq!(usage_after(inplace(100), &inputs), usage(100));
    assert_eq!(usage_after(paged(16), &inputs), usage(32));
    assert_eq!(usage_after(sliding(40), &inputs), usage(50));
}

/// A generation of scopes of the given lengths, every second one of which ends; its logits and the pool's counts.
fn generate(lengths: &[usize], block: usize, release: Release) -> (Vec<Vec<f32>>, PoolCounts, usize) {
    let mut decoder = decoder_in(Global);
    let mut pool = BlockPool::new(shape(block), Global);
    let mut generation = Generation::new(Global);
    let inputs = inputs(lengths.iter().sum(), 11);
    let (mut at, mut logits) = (0, Vec::new());
    for (index, &length) in lengths.iter().enumerate() {
        generation.begin_scope();
        let part = &inputs[at..at + length];
        logits.extend(decode_from(&mut decoder, &mut generation.attach(&mut pool), at, part));
        at += length;
        if index % 2 == 1 {
            generation.end_scope(&mut pool, release);
        }
    }
    generation.finish(&mut pool);
    (logits, pool.counts(), pool.free())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn releasing_early_changes_no_logit_and_never_takes_more_blocks(
        lengths in prop::collection::vec(1usize..60, 1..8),
        block in 1usize..20,
    ) {
        prop_assert!(most_attended(block) <= MODEL.context);
        let (late, late_counts, late_free) = generate(&lengths, block, Release::End);
        let (early, early_counts, early_free) = generate(&lengths, block, Release::Scoped);
        prop_assert_eq!(late, early);
        prop_assert_eq!(late_counts.taken, early_counts.taken);
        prop_assert_eq!(late_counts.reused, 0);
        prop_assert!(early_counts.allocated <= late_counts.allocated);
        prop_assert_eq!(early_counts.allocated + early_counts.reused, early_counts.taken);
        // All blocks came back.
        prop_assert_eq!((late_free as u64, early_free as u64), (late_counts.allocated, early_counts.allocated));
    }
}

#[test]
fn a_scope_that_is_over_is_attended_to_no_more() {
    let inputs = inputs(40, 12);
    let mut pool = BlockPool::new(shape(16), Global);
    let mut with_scope = Generation::new(Global);
    let mut decoder = decoder_in(Global);
    decode_from(&mut decoder, &mut with_scope.attach(&mut pool), 0, &inputs[..16]);
    with_scope.begin_scope();
    decode_from(&mut decoder, &mut with_scope.attach(&mut pool), 16, &inputs[16..30]);
    with_scope.end_scope(&mut pool, Release::Scoped);
    let after = decode_from(&mut decoder, &mut with_scope.attach(&mut pool), 30, &inputs[30..]);

    let mut without = Generation::new(Global);
    decode_from(&mut decoder, &mut without.attach(&mut pool), 0, &inputs[..16]);
    let never = decode_from(&mut decoder, &mut without.attach(&mut pool), 30, &inputs[30..]);
    assert_eq!(after, never);
}
