//! What is to run, in which order.

use crate::report::Cell;
use crate::stats::random::SplitMix64;

/// One cell of the matrix and how to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What is measured.
    pub cell: Cell,
    /// Its unit of work, singular.
    pub unit: String,
    /// Names of the workload's own figures, in the order in which it records them.
    pub figures: Vec<String>,
    /// Arguments for the child.
    pub arguments: Vec<String>,
    /// Environment for the child.
    pub environment: Vec<(String, String)>,
}

/// The matrix and the order of its trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The cells.
    pub cells: Vec<Planned>,
    /// Repetitions of each.
    pub reps: u32,
    /// Seed of the order.
    pub seed: u64,
}

impl Plan {
    /// The trials in order, as index of the cell and repetition: every repetition runs all cells, in an order of its
    /// own that `seed` decides. So a machine that grows slower touches all cells alike, and no cell always follows the
    /// same other.
    #[must_use]
    pub fn order(&self) -> Vec<(usize, u32)> {
        let mut random = SplitMix64::new(self.seed);
        (0..self.reps)
            .flat_map(|rep| {
                let mut cells: Vec<usize> = (0..self.cells.len()).collect();
                // Fisher and Yates.
                for last in (1..cells.len()).rev() {
                    cells.swap(last, (random.next() % (last as u64 + 1)) as usize);
                }
                cells.into_iter().map(move |cell| (cell, rep))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn plan(cells: usize, reps: u32, seed: u64) -> Plan {
        let cell = |i: usize| Planned {
            cell: Cell {
                workload: "w".into(),
                variant: i.to_string(),
                allocator: "system".into(),
                params: BTreeMap::new(),
            },
            unit: "token".into(),
            figures: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        Plan { cells: (0..cells).map(cell).collect(), reps, seed }
    }

    #[test]
    fn every_repetition_runs_every_cell_once() {
        let order = plan(7, 3, 42).order();
        for rep in 0..3 {
            let mut cells: Vec<usize> = order[rep * 7..][..7].iter().map(|t| t.0).collect();
            cells.sort_unstable();
            assert_eq!(cells, (0..7).collect::<Vec<_>>());
            assert!(order[rep * 7..][..7].iter().all(|t| t.1 == rep as u32));
        }
    }

    #[test]
    fn a_seed_decides_the_order() {
        assert_eq!(plan(9, 2, 1).order(), plan(9, 2, 1).order());
        assert_ne!(plan(9, 2, 1).order(), plan(9, 2, 2).order());
    }
}
