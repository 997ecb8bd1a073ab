//! Reads verses as JSON documents, in two ways that allocate differently.

use serde_json::{Result, Value};

/// The first chapters of Genesis, a verse a line: from the King James Bible in `workloads/data`.
const TEXT: &str = include_str!("../data/genesis.txt");

/// Each verse as a document: `{"verse":1,"words":["In","the",…]}`.
#[must_use]
pub fn documents() -> Vec<String> {
    let words = |verse: &str| verse.split(' ').map(Value::from).collect::<Vec<_>>();
    let document = |(index, verse): (usize, &str)| serde_json::json!({"verse": index + 1, "words": words(verse)});
    TEXT.lines().enumerate().map(document).map(|document| document.to_string()).collect()
}

/// Words of a document that is read as a tree: a `String` for each.
///
/// # Errors
/// If it is no such document.
pub fn words_of_tree(document: &str) -> Result<usize> {
    let tree: Value = serde_json::from_str(document)?;
    Ok(tree["words"].as_array().map_or(0, Vec::len))
}

/// Words of a document's list of words, of which each stays a slice of the text.
///
/// # Errors
/// If it is no list of texts without escapes.
pub fn words_of_slices(list: &str) -> Result<usize> {
    let words: Vec<&str> = serde_json::from_str(list)?;
    Ok(words.len())
}

/// The part of a document that [`words_of_slices`] reads.
#[must_use]
pub fn list_of(document: &str) -> &str {
    match (document.find('['), document.rfind(']')) {
        (Some(begin), Some(end)) => &document[begin..=end],
        _ => "[]",
    }
}
