//! A region as the program's own allocator: unmodified collections, threads and panics inside scopes.

use heapgate_region::{Region, is_ours, scope};
use std::alloc::System;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

#[global_allocator]
static ALLOCATOR: Region<System> = Region::new(System);

#[test]
fn collections_work_in_a_scope_and_their_results_outlive_it() {
    let words = "the last block of a chunk frees and grows in place the last of all";
    let (counts, longest) = scope(|| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for word in words.split(' ') {
            *counts.entry(word.to_string()).or_default() += 1;
        }
        let sorted: BTreeMap<_, _> = counts.iter().map(|(word, count)| (word.len(), (word.clone(), *count))).collect();
        let longest = sorted.into_values().next_back().unwrap().0;
        (counts, longest)
    });
    assert!(is_ours(longest.as_ptr()));
    assert_eq!((counts["the"], counts["last"], longest.len()), (2, 2, 5));
}

#[test]
fn a_vector_that_grows_in_a_scope_is_not_copied() {
    scope(|| {
        let mut numbers: Vec<u64> = vec![0];
        let start = numbers.as_ptr();
        numbers.extend(1..1000);
        assert_eq!(numbers.as_ptr(), start);
        assert!(numbers.iter().enumerate().all(|(i, number)| i as u64 == *number));
    });
}

#[test]
fn a_thread_started_in_a_scope_is_not_in_it() {
    let (made_inside, made_by_thread) = scope(|| {
        let thread = std::thread::spawn(|| vec![1u8; 100]);
        (vec![2u8; 100], thread.join().unwrap())
    });
    assert!(is_ours(made_inside.as_ptr()));
    assert!(!is_ours(made_by_thread.as_ptr()));
}

#[test]
fn a_panic_carries_its_message_out_of_the_scope() {
    let panic = std::panic::catch_unwind(|| scope(|| std::panic::panic_any(format!("at {}", 42)))).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "at 42");
    assert!(!is_ours(vec![0u8; 10].as_ptr()));
}

#[test]
fn destructors_of_thread_locals_may_allocate_in_scopes() {
    struct Late(Vec<String>);
    impl Drop for Late {
        fn drop(&mut self) {
            let copy = scope(|| self.0.iter().map(|text| format!("{text}{text}")).collect::<Vec<_>>());
            assert_eq!(copy, ["abab"]);
        }
    }
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    let thread = || LATE.with_borrow_mut(|late| *late = Some(Late(scope(|| vec!["ab".to_string()]))));
    std::thread::spawn(thread).join().unwrap();
}
