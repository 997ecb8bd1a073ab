//! Assertions on allocations count the thread that makes them, pass and fail where they should, and say what was seen.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

use heapgate_bench::{assert_allocations, assert_no_allocations, assert_peak_live, watch};

heapgate_bench::test_allocator!();

/// What the assertion in `work` panics with.
fn message(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("the assertion fails");
    panic.downcast_ref::<String>().expect("a formatted message").clone()
}

#[expect(clippy::vec_box, reason = "each number is to be an object of its own")]
fn boxes(count: usize) -> Vec<Box<u64>> {
    (0..count as u64).map(|number| black_box(Box::new(number))).collect()
}

#[test]
fn the_value_of_the_closure_is_returned() {
    assert_eq!(assert_allocations!(<= 4, || boxes(3)).len(), 3);
    assert_eq!(assert_no_allocations!(|| 7), 7);
    assert_eq!(assert_peak_live!(< 1 KiB, || boxes(2).len()), 2);
}

#[test]
fn limits_are_exact() {
    assert_allocations!(== 4, || boxes(3));
    assert_allocations!(< 5, || boxes(3));
    // Three of 8 bytes, and a list of three pointers.
    assert_peak_live!(<= 48, || boxes(3));
    assert_peak_live!(== 48, || boxes(3));
    assert_peak_live!(< 49, || boxes(3));
    assert_peak_live!(<= 2 KiB, || drop(black_box(vec![1u8; 2048])));
    let limit: usize = 3 * 16;
    assert_peak_live!(<= limit, || boxes(3));
}

#[test]
fn a_failure_says_what_was_counted_the_limit_and_the_expression() {
    let said = message(|| drop(assert_allocations!(<= 3, || boxes(3))));
    assert_eq!(said, "4 allocations (0 of them reallocations, 48 bytes in all), and there should be <= 3: || boxes(3)");
    let said = message(|| drop(assert_no_allocations!(|| boxes(1))));
    assert!(said.contains("2 allocations") && said.contains("== 0"), "{said}");
    let said = message(|| drop(assert_peak_live!(< 1 KiB, || vec![1u8; 1024])));
    assert_eq!(
        said,
        "1024 bytes alive at one time (in at most 1 objects), and there should be < 1 KiB: || vec![1u8; 1024]"
    );
    let said = message(|| drop(assert_peak_live!(< 100, || vec![1u8; 1024])));
    assert!(said.contains("< 100 bytes"), "{said}");
}

#[test]
fn assertions_nest() {
    assert_allocations!(== 7, || {
        let outer = boxes(2);
        assert_allocations!(== 4, || boxes(3));
        assert_no_allocations!(|| drop(outer));
        assert_peak_live!(== 0, || ());
    });
}

#[test]
fn after_a_failed_assertion_others_count_right() {
    assert_peak_live!(<= 20 KiB, || {
        let failed = catch_unwind(|| std::panic::resume_unwind(Box::new(boxes(100).len())));
        assert!(failed.is_err());
    });
    assert_allocations!(== 2, || boxes(1));
}

#[test]
fn what_other_threads_do_is_not_counted() {
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel::<()>(0);
        let busy = scope.spawn(move || {
            while receive.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                black_box(boxes(100));
            }
        });
        for _ in 0..1000 {
            assert_allocations!(== 11, || boxes(10));
        }
        drop(send);
        busy.join().expect("it ends");
    });
}

#[test]
fn what_is_freed_is_told_from_what_stays() {
    let before = boxes(3);
    let (kept, watched) = watch(|| {
        drop(before);
        boxes(1)
    });
    assert_eq!((watched.deallocations, watched.left_objects, watched.peak_live_bytes), (4, -2, 0));
    drop(kept);
}
