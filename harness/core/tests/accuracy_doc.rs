//! `docs/accuracy.md` is what its data says. With `HEAPGATE_BLESS=1` it is written anew.

use std::path::Path;

use heapgate_core::accuracy::Accuracy;
use heapgate_core::render::accuracy_doc;

#[test]
fn the_page_is_rendered_from_the_data_beside_it() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let accuracy = Accuracy::load(&docs.join("accuracy.json")).expect("in the repository");
    let (page, expected) = (docs.join("accuracy.md"), accuracy_doc::render(&accuracy));
    if std::env::var_os("HEAPGATE_BLESS").is_some() {
        std::fs::write(page, expected).unwrap();
        return;
    }
    assert!(
        std::fs::read_to_string(page).unwrap_or_default() == expected,
        "write it again: HEAPGATE_BLESS=1 cargo test -p heapgate-core --test accuracy_doc"
    );
}
