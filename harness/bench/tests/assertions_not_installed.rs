//! Without heapgate's allocator an assertion fails, and says what is missing: it never passes in silence.

#[test]
fn an_assertion_that_cannot_count_fails() {
    let panic = std::panic::catch_unwind(|| heapgate_bench::assert_no_allocations!(|| ())).expect_err("it can't count");
    let said = panic.downcast_ref::<String>().expect("a formatted message");
    assert!(said.contains("test_allocator!()"), "{said}");
}
