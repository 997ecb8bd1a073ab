//! Which cells of baselines can still be run.

use heapgate_bench::{Injection, Under};
use heapgate_core::baseline::Standing;
use heapgate_core::report::Cell;

use crate::fail::Failure;
use crate::matrix::{Matrix, STEPS};
use crate::source::Source;

/// The cells that run by default.
pub fn default_cells(source: &Source) -> Result<Vec<Cell>, Failure> {
    let matrix = Matrix {
        workloads: &[],
        allocators: &[],
        params: &[],
        steps: None,
        inject: Injection::default(),
        reps: 1,
        seed: 0,
    };
    Ok(matrix.plan(source)?.cells.into_iter().map(|planned| planned.cell).collect())
}

/// Whether `cell` can be run by `source`: its variant is there, takes these parameters and values, and its allocator
/// can be had. Those of a workload that `source` doesn't have may be of a bench of the user's.
pub fn standing(source: &Source, cell: &Cell) -> Standing {
    if !source.has(&cell.workload) {
        return Standing::Unknown;
    }
    let name = format!("{}/{}", cell.workload, cell.variant);
    let Some(variant) = source.variants.iter().find(|variant| variant.name() == name) else {
        return Standing::Gone("there is no such variant any more".to_owned());
    };
    if cell.allocator.parse::<Under>().is_err() {
        return Standing::Gone(format!("there is no allocator '{}' any more", cell.allocator));
    }
    let params = cell.params.iter().filter(|(name, _)| *name != STEPS);
    for (name, value) in params.clone() {
        let Some(known) = variant.params.iter().find(|param| param.name == *name) else {
            return Standing::Gone(format!("it has no parameter '{name}' any more"));
        };
        if !known.choices.is_empty() && !known.choices.contains(value) {
            return Standing::Gone(format!("{name}={value} is no choice any more"));
        }
    }
    // One that is empty by default stands for none, and is not in cells.
    let mut in_cells = variant.params.iter().filter(|param| !param.default.is_empty());
    match in_cells.find(|param| !cell.params.contains_key(&param.name)) {
        Some(param) => Standing::Gone(format!("it has a parameter '{}' now", param.name)),
        None => Standing::There,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> (Source, Cell) {
        let source = Source::built_in().expect("this executable");
        let cells = default_cells(&source).expect("a plan");
        let cell = cells.into_iter().find(|cell| cell.workload == "tokenize").expect("one");
        (source, cell)
    }

    #[test]
    fn every_cell_of_the_default_matrix_is_there() {
        let (source, _) = first();
        for cell in default_cells(&source).expect("a plan") {
            assert_eq!(standing(&source, &cell), Standing::There, "{cell}");
        }
    }

    #[test]
    fn what_was_taken_away_is_gone_and_says_why() {
        let (source, cell) = first();
        let why = |change: &dyn Fn(&mut Cell)| {
            let mut cell = cell.clone();
            change(&mut cell);
            match standing(&source, &cell) {
                Standing::Gone(why) => why,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(why(&|c| c.variant.push_str("-old")), "there is no such variant any more");
        assert_eq!(why(&|c| c.allocator = "mimalloc".into()), "there is no allocator 'mimalloc' any more");
        assert_eq!(
            why(&|c| drop(c.params.insert("colour".into(), "red".into()))),
            "it has no parameter 'colour' any more"
        );
        assert_eq!(
            why(&|c| drop(c.params.insert("document".into(), "page".into()))),
            "document=page is no choice any more"
        );
        assert_eq!(why(&|c| drop(c.params.remove("document"))), "it has a parameter 'document' now");
        let mut steps = cell.clone();
        steps.params.insert(STEPS.into(), "2".into());
        assert_eq!(standing(&source, &steps), Standing::There);
        assert_eq!(standing(&source, &Cell { workload: "words".into(), ..cell.clone() }), Standing::Unknown);
    }
}
