//! `docs/experiments.md` is what its data says.

use heapgate_core::experiment::Findings;
use heapgate_core::render::experiments_doc;

#[test]
fn the_page_is_rendered_from_the_findings_beside_it() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/experiments");
    let read = |extension: &str| std::fs::read_to_string(format!("{docs}.{extension}")).expect("in the repository");
    let findings: Findings = serde_json::from_str(&read("json")).expect("written by heapgate experiment --markdown");
    assert!(
        experiments_doc::render(&findings) == read("md"),
        "write it again: heapgate experiment all --stored --markdown docs/experiments.md"
    );
}
