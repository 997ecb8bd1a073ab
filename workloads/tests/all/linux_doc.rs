//! The fetched document: found where `HEAPGATE_DATA` says, and missed with a way out.
//!
//! Each case runs in a child, since the variable is of a whole process.

use std::path::Path;

use heapgate_bench::Error;
use heapgate_workloads::corpus::read_fetched;

use super::run_child;

#[test]
fn a_document_that_was_not_fetched_is_missed_with_a_way_out() {
    run_child("linux_doc::child_misses_the_document", "HEAPGATE_DATA", Path::new("no such folder"));
}

#[test]
#[ignore = "run by the test above, in its environment"]
fn child_misses_the_document() {
    let error = read_fetched("linux-doc.txt").expect_err("there is no such folder");
    assert!(matches!(error, Error::Missing { .. }));
    assert_eq!(error.to_string(), "no such folder/linux-doc.txt: not found; run ci/fetch-data");
}

#[test]
fn a_document_that_is_not_text_is_corrupt() {
    // Any binary file will do: the folder of this very test has one, namely this test.
    let this = std::env::current_exe().expect("a test knows its own file");
    run_child("linux_doc::child_finds_no_text", "HEAPGATE_DATA", this.parent().expect("it is in a folder"));
}

#[test]
#[ignore = "run by the test above, in its environment"]
fn child_finds_no_text() {
    let this = std::env::current_exe().expect("a test knows its own file");
    let name = this.file_name().and_then(|name| name.to_str()).expect("cargo names it in ASCII");
    assert!(matches!(read_fetched(name), Err(Error::Corrupt { .. })));
}
