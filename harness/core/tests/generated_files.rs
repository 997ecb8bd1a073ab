//! Files in the repository that are generated from the code must be as the code makes them. With `HEAPGATE_BLESS=1` the
//! tests write them anew instead.

use std::path::{Path, PathBuf};

use heapgate_core::{render, schema};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn held_to(path: &Path, expected: &str) {
    if std::env::var_os("HEAPGATE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the code generates; run `HEAPGATE_BLESS=1 cargo test -p heapgate-core` and commit it",
        path.display()
    );
}

#[test]
fn schemas_are_those_of_the_types() {
    for schema in schema::all() {
        held_to(&repository().join("schemas").join(&schema.file), &schema.text());
    }
}

#[test]
fn docs_metrics_is_that_of_the_catalogue() {
    held_to(&repository().join("docs/metrics.md"), &render::metrics_doc::render());
}
