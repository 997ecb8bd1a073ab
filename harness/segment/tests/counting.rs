//! What is counted is what is read back.
#![cfg(not(loom))]

mod common;

use common::Segment;
use heapgate_segment::histogram::{BUCKETS, bucket_bounds, bucket_of};
use heapgate_segment::layout::Operation;
use heapgate_segment::size_class::{SIZE_CLASSES, size_class_of};
use proptest::prelude::*;

#[test]
fn every_operation_is_read_back_as_it_was_counted() {
    let segment = Segment::attached(1);
    let thread = segment.thread(1);
    thread.alloc(100);
    thread.alloc(28);
    thread.alloc_zeroed(1000);
    thread.realloc(100, 250);
    thread.realloc(1000, 10);
    thread.dealloc(28);
    thread.fail();
    let totals = segment.reader().totals();
    assert_eq!((totals.alloc_calls(), totals.alloc_bytes()), (2, 128));
    assert_eq!((totals.alloc_zeroed_calls(), totals.alloc_zeroed_bytes()), (1, 1000));
    assert_eq!((totals.realloc_calls(), totals.realloc_old_bytes(), totals.realloc_new_bytes()), (2, 1100, 260));
    assert_eq!((totals.dealloc_calls(), totals.dealloc_bytes()), (1, 28));
    assert_eq!((totals.failed_calls(), totals.allocation_calls()), (1, 5));
    assert_eq!((totals.live_objects(), totals.live_bytes()), (2, 260));
}

#[test]
fn a_fresh_segment_has_counted_nothing() {
    let reader = Segment::new(2).reader();
    assert_eq!(reader.totals(), heapgate_segment::reader::Totals::default());
    assert_eq!((reader.slots_used(), reader.threads(), reader.pid()), (0, (0, 0), None));
    assert_eq!(reader.ticks_per_second(None), None, "no clock before a process has attached");
}

#[test]
fn objects_of_no_bytes_are_objects() {
    let segment = Segment::attached(1);
    segment.thread(1).alloc(0);
    let totals = segment.reader().totals();
    assert_eq!((totals.live_objects(), totals.live_bytes(), totals.size_class(0)), (1, 0, (1, 0)));
}

#[test]
fn a_timed_call_counts_for_as_many_as_it_stands_for() {
    let segment = Segment::attached(1);
    let thread = segment.thread(1);
    thread.record(Operation::Alloc, 1000, false, 1);
    thread.record(Operation::Alloc, 1000, false, 64);
    thread.record(Operation::Dealloc, 7, false, 3);
    thread.record(Operation::Realloc, u64::MAX, true, 5);
    let totals = segment.reader().totals();
    assert_eq!(totals.clean(Operation::Alloc).nth(bucket_of(1000)), Some(65));
    assert_eq!(totals.clean(Operation::Dealloc).nth(7), Some(3));
    assert_eq!(totals.interrupted(Operation::Realloc).nth(BUCKETS - 1), Some(5));
    assert_eq!(totals.timed_calls(), [(65, 0), (0, 0), (0, 5), (3, 0)]);
}

fn operation() -> impl Strategy<Value = Operation> {
    prop::sample::select(vec![Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc])
}

/// A call to file: operation, ticks, whether it was interrupted, weight.
type Call = (Operation, u64, bool, u64);

fn call() -> impl Strategy<Value = Call> {
    let ticks = (0..BUCKETS).prop_map(|bucket| bucket_bounds(bucket).0);
    // As heavy as 16 of them fit in half a word.
    (operation(), ticks, any::<bool>(), 1u64..1 << 28)
}

/// Sizes small and large, and those by which a thread's changes go over a batch.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..512, 2 => 512u64..70_000, 1 => 70_000u64..10_000_000, 1 => Just(1 << 40)]
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Alloc { zeroed: bool, bytes: u64 },
    Realloc { object: prop::sample::Index, bytes: u64 },
    Dealloc { object: prop::sample::Index },
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), size()).prop_map(|(zeroed, bytes)| Step::Alloc { zeroed, bytes }),
        2 => (any::<prop::sample::Index>(), size()).prop_map(|(object, bytes)| Step::Realloc { object, bytes }),
        3 => any::<prop::sample::Index>().prop_map(|object| Step::Dealloc { object }),
        1 => Just(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
    fn interrupted_counts_do_not_bleed_into_their_neighbours(calls in prop::collection::vec(call(), 1..16), own in any::<bool>()) {
        let segment = Segment::attached(1);
        let first = segment.thread(1);
        // The second thread finds no slot.
        let thread = if own { first } else { segment.thread(2) };
        let mut model = vec![[[0u64; 2]; BUCKETS]; 4];
        for &(operation, ticks, interrupted, weight) in &calls {
            thread.record(operation, ticks, interrupted, weight);
            model[operation as usize][bucket_of(ticks)][usize::from(interrupted)] += weight;
        }
        let totals = segment.reader().totals();
        for operation in [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc] {
            let read: Vec<_> = totals.clean(operation).zip(totals.interrupted(operation)).map(|(c, i)| [c, i]).collect();
            prop_assert_eq!(&read[..], &model[operation as usize][..]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads so many words that it takes Miri minutes")]
    fn what_is_live_in_a_size_class_is_what_was_allocated_less_what_was_freed(steps in prop::collection::vec(step(), 0..300)) {
        let segment = Segment::attached(1);
        let thread = segment.thread(1);
        let mut live: Vec<u64> = Vec::new();
        let mut failed = 0;
        for &step in &steps {
            match step {
                Step::Alloc { zeroed, bytes } => {
                    if zeroed { thread.alloc_zeroed(bytes) } else { thread.alloc(bytes) }
                    live.push(bytes);
                }
                Step::Realloc { object, bytes } if !live.is_empty() => {
                    let object = object.get_mut(&mut live);
                    thread.realloc(*object, bytes);
                    *object = bytes;
                }
                Step::Dealloc { object } if !live.is_empty() => thread.dealloc(live.swap_remove(object.index(live.len()))),
                Step::Fail => {
                    thread.fail();
                    failed += 1;
                }
                Step::Realloc { .. } | Step::Dealloc { .. } => {}
            }
        }
        let totals = segment.reader().totals();
        prop_assert_eq!(totals.live_objects(), live.len() as i64);
        prop_assert_eq!(totals.live_bytes(), live.iter().sum::<u64>() as i64);
        prop_assert_eq!(totals.failed_calls(), failed);
        let mut by_class = vec![0; SIZE_CLASSES];
        for &bytes in &live {
            by_class[size_class_of(bytes)] += 1;
        }
        for (class, &objects) in by_class.iter().enumerate() {
            let (allocated, freed) = totals.size_class(class);
            prop_assert_eq!(allocated - freed, objects, "class {}", class);
        }
    }
}
