//! Where the global allocator is another one, nothing is counted, and that is said.

use heapgate_alloc::{ThreadWatch, WatchError};

#[test]
fn without_the_allocator_a_watch_does_not_begin() {
    let error = ThreadWatch::begin().expect_err("the global allocator is the default one");
    assert!(matches!(error, WatchError::NotInstalled), "{error}");
    assert!(error.to_string().contains("global allocator"), "{error}");
}
