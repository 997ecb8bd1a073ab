//! The tokenize variants as the registry offers them: parameters, refusals, and work that is the same every time.

use std::collections::BTreeMap;

use heapgate_bench::{Error, Params, Variant, Work};
use heapgate_workloads::variants;

fn tokenizers() -> impl Iterator<Item = &'static Variant> {
    variants().iter().filter(|variant| variant.workload == "tokenize")
}

fn given(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

fn first_steps(variant: &Variant, document: &str, steps: usize) -> Vec<Work> {
    let params = Params::resolve(variant.params, &given("document", document)).expect("a document that it takes");
    let mut workload = (variant.setup)(&params).expect("embedded data");
    (0..steps).map(|_| workload.step()).collect()
}

#[test]
fn unknown_parameters_and_values_are_refused() {
    for variant in tokenizers() {
        let unknown = Params::resolve(variant.params, &given("colour", "red"));
        assert!(matches!(unknown, Err(Error::Param { name, .. }) if name == "colour"));
        let value = Params::resolve(variant.params, &given("document", "psalm")).expect_err("no such document");
        assert_eq!(
            value.to_string(),
            "parameter 'document': 'psalm' is not one of: sentence, verse, book, corpus, repeated, linux-doc, file"
        );
    }
}

#[test]
fn book_is_the_default() {
    for variant in tokenizers() {
        let params = Params::resolve(variant.params, &BTreeMap::new()).expect("defaults");
        assert_eq!(params.get("document"), "book");
    }
}

#[test]
fn all_but_byte_pairs_do_equal_work_in_every_step() {
    for document in ["sentence", "verse", "book"] {
        let mut works = tokenizers().filter(|v| v.name != "tiktoken-cl100k").map(|v| first_steps(v, document, 4));
        let first = works.next().expect("there are such variants");
        assert!(first.iter().all(|work| work.units > 0));
        works.for_each(|work| assert_eq!(work, first, "{document}"));
    }
}

#[test]
fn steps_give_the_same_again_after_another_set_up() {
    for variant in tokenizers() {
        assert_eq!(first_steps(variant, "verse", 8), first_steps(variant, "verse", 8), "{}", variant.name);
    }
}
