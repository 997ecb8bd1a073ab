//! Names of cells that tell them apart.

use std::collections::BTreeMap;

use super::table::clean;
use crate::report::Cell;

/// A name for each of `cells`: workload, variant and allocator, and of the parameters those that differ among cells
/// that would else have one name.
pub(super) fn labels<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> BTreeMap<&'a Cell, String> {
    let mut by_name: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
    let mut labels: BTreeMap<&Cell, String> = cells.into_iter().map(|cell| (cell, clean(&cell.to_string()))).collect();
    for (cell, name) in &labels {
        by_name.entry(name.clone()).or_default().push(cell);
    }
    for (cell, label) in &mut labels {
        let namesakes = by_name.get(label).map_or(&[][..], Vec::as_slice);
        let differing = cell
            .params
            .iter()
            .filter(|(name, value)| namesakes.iter().any(|other| other.params.get(*name) != Some(value)));
        let parameters: Vec<String> = differing.map(|(name, value)| format!(" {name}={value}")).collect();
        label.push_str(&clean(&parameters.concat()));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn only_parameters_that_differ_are_shown() {
        let mut cells = vec![testing::cell(0), testing::cell(0), testing::cell(1)];
        cells[0].params.insert("threads".into(), "1".into());
        cells[1].params.insert("threads".into(), "2".into());
        let labels = labels(&cells);
        assert_eq!(labels[&cells[0]], "tokenize/hf-wordpiece jemalloc threads=1");
        assert_eq!(labels[&cells[1]], "tokenize/hf-wordpiece jemalloc threads=2");
        assert_eq!(labels[&cells[2]], "decode/json-owned jemalloc");
    }
}
