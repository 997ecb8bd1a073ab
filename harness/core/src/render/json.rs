//! The verdict as JSON, for programs: see `schemas/verdict-v2.json`.

use crate::gate::Verdict;

/// Members down to a line of the verdict stand on their own line; one metric of one cell is one line.
const LINES_TO_DEPTH: usize = 2;

/// `verdict` as JSON.
///
/// # Errors
/// None is known: all its parts have a JSON form.
pub fn render(verdict: &Verdict) -> Result<String, serde_json::Error> {
    crate::document::to_json(verdict, LINES_TO_DEPTH)
}
