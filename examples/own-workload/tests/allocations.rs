//! What reading a verse allocates is part of what this crate promises.

use heapgate_bench::{assert_allocations, assert_no_allocations, assert_peak_live};
use own_workload::{documents, list_of, words_of_slices, words_of_tree};

heapgate_bench::test_allocator!();

#[test]
fn slices_need_a_list_and_nothing_else() {
    for document in documents() {
        let list = assert_no_allocations!(|| list_of(&document));
        // The list grows by doubling: from 4 to 128 words at most.
        let words = assert_allocations!(<= 6, || words_of_slices(list)).expect("a list");
        assert!(words > 0);
    }
}

#[test]
fn a_tree_has_a_string_for_each_word() {
    let document = &documents()[0];
    let words = words_of_slices(list_of(document)).expect("a list");
    assert_eq!(words, 10);
    assert_allocations!(> 10, || words_of_tree(document)).expect("a document");
    assert_peak_live!(< 4 KiB, || words_of_tree(document)).expect("a document");
}
