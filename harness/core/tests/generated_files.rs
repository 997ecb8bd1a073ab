//! Files in the repository that are generated from the code must be as the code makes them. With `HEAPGATE_BLESS=1` the
//! tests write them anew instead.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heapgate_core::{render, schema};
use sha2::{Digest, Sha256};

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

/// Where the files are that pages are made with.
fn assets() -> PathBuf {
    repository().join("harness/core/src/render/page/assets")
}

#[test]
fn pages_run_the_scripts_that_are_theirs_and_no_others() {
    let hash = |script: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script)));
    let hashes = render::page::shell::scripts().map(hash).join(" ");
    held_to(&assets().join("scripts.sha256"), &format!("{hashes}\n"));
}

#[test]
fn vendored_files_are_as_they_were_published() {
    let folder = assets().join("uplot");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let row = |line: &str| {
        let mut columns = line.trim_matches('|').split('|').map(|column| column.trim().trim_matches('`').to_owned());
        Some((columns.next()?, columns.next_back()?)).filter(|(_, hash)| hash.len() == 64)
    };
    let rows: Vec<(String, String)> = readme.lines().filter_map(row).collect();
    assert_eq!(rows.len(), 3, "the script, the style and the licence: {readme}");
    for (file, hash) in rows {
        let found: String = Sha256::digest(std::fs::read(folder.join(&file)).unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, hash, "{file} was changed: take it from the package again, or say so in README.md");
    }
}
