//! What is to run, in which order.

use std::path::PathBuf;

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
    /// The program that runs it; absent for that of the settings.
    pub program: Option<Program>,
    /// Which side of a comparison it is: 0, or 1 for the other.
    pub side: usize,
}

/// A program that can run trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// The folder it runs in; absent for the present one.
    pub directory: Option<PathBuf>,
}

/// The matrix and the order of its trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The cells.
    pub cells: Vec<Planned>,
    /// Cells that follow each other in this list and are run one right after the other, in an order that changes: 2 where
    /// sides are compared, else 1.
    pub group: usize,
    /// The number of the first repetition: above 0 in later rounds of a run.
    pub first_rep: u32,
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
        // Later rounds go on where the one before ended, but for what it drew.
        let mut random = SplitMix64::new(self.seed.wrapping_add(u64::from(self.first_rep)));
        let all: Vec<usize> = (0..self.cells.len()).collect();
        (self.first_rep..self.first_rep + self.reps)
            .flat_map(|rep| {
                let mut groups: Vec<Vec<usize>> = all.chunks(self.group.max(1)).map(<[usize]>::to_vec).collect();
                shuffle(&mut groups, &mut random);
                groups.iter_mut().for_each(|group| shuffle(group, &mut random));
                groups.into_iter().flatten().map(move |cell| (cell, rep))
            })
            .collect()
    }
}

/// By the method of Fisher and Yates.
fn shuffle<T>(items: &mut [T], random: &mut SplitMix64) {
    for last in (1..items.len()).rev() {
        items.swap(last, (random.next() % (last as u64 + 1)) as usize);
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
            program: None,
            side: 0,
        };
        Plan { group: 1, first_rep: 0, cells: (0..cells).map(cell).collect(), reps, seed }
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
    fn sides_of_a_comparison_run_next_to_each_other_in_either_order() {
        let plan = Plan { group: 2, ..plan(6, 20, 3) };
        let order: Vec<usize> = plan.order().iter().map(|t| t.0).collect();
        assert!(order.chunks(2).all(|pair| pair[0] / 2 == pair[1] / 2));
        let first_goes_first = order.chunks(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((15..=45).contains(&first_goes_first), "{first_goes_first} of 60");
    }

    #[test]
    fn a_later_round_has_numbers_and_an_order_of_its_own() {
        let (first, second) = (plan(9, 1, 1), Plan { first_rep: 1, ..plan(9, 1, 1) });
        assert!(second.order().iter().all(|t| t.1 == 1));
        let cells = |plan: &Plan| plan.order().iter().map(|t| t.0).collect::<Vec<_>>();
        assert_ne!(cells(&first), cells(&second));
    }

    #[test]
    fn a_seed_decides_the_order() {
        assert_eq!(plan(9, 2, 1).order(), plan(9, 2, 1).order());
        assert_ne!(plan(9, 2, 1).order(), plan(9, 2, 2).order());
    }
}
