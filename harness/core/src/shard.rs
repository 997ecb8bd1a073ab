//! One matrix over several machines: which cells each of them runs.
//!
//! The cells are sorted by a hash of their own and dealt in turn, like cards. So a shard depends on the matrix alone,
//! not on the machine nor on the order of names on the command line; no two shards differ by more than one cell; and
//! the order has nothing to do with names, so that no shard gets all cells of one slow workload or one allocator (as it
//! would if every second cell were jemalloc's and there were two shards). Dealing by the hash modulo the number of
//! shards, or by rendezvous hashing, would keep a cell in its shard when another is added, but the shards would differ
//! by several cells, and the slowest shard is what everyone waits for. Nothing is gained by keeping cells in place:
//! nothing that a machine keeps is of use to the cell's next run. All repetitions of a cell run on one machine, since
//! they are compared with each other.

use std::fmt;
use std::str::FromStr;

use crate::hash::fnv1a;
use crate::plan::Plan;
use crate::report::{Cell, Shard};
use crate::stats::random::SplitMix64;

/// Far more machines than any matrix has cells, and few enough to list those that are missing.
pub const MAX_SHARDS: u32 = 10_000;

/// A shard as it is asked for: `2/4` is the second of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: u32,
    of: u32,
}

/// Why a text names no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a shard is I/N, as in 1/4, with I from 1 to N and N at most {MAX_SHARDS}")]
pub struct NotAShard;

impl Part {
    /// A name for its report, under which those of one matrix are sorted by their numbers: `shard-02-of-12.json`.
    #[must_use]
    pub fn file_name(self) -> String {
        let Self { index, of } = self;
        let digits = of.to_string().len();
        format!("shard-{index:0digits$}-of-{of}.json")
    }
}

impl FromStr for Part {
    type Err = NotAShard;

    fn from_str(text: &str) -> Result<Self, NotAShard> {
        let number = |text: &str| {
            // `parse` takes a sign.
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().ok_or(NotAShard)
        };
        let (index, of) = text.split_once('/').ok_or(NotAShard)?;
        let part = Self { index: number(index)?, of: number(of)? };
        if (1..=part.of).contains(&part.index) && part.of <= MAX_SHARDS { Ok(part) } else { Err(NotAShard) }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl Plan {
    /// The cells that `part` is dealt, in the order of this plan, and what its report says of it.
    #[must_use]
    pub fn shard(&self, part: Part) -> (Self, Shard) {
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        order.sort_by_key(|&i| (hash(&self.cells[i].cell), &self.cells[i].cell));
        let dealt = order.into_iter().skip(part.index as usize - 1).step_by(part.of as usize);
        let mut mine: Vec<usize> = dealt.collect();
        mine.sort_unstable();
        let cells = mine.into_iter().map(|i| self.cells[i].clone()).collect();
        let shard = Shard {
            index: part.index,
            of: part.of,
            planned_cells: self.cells.len() as u64,
            planned_reps: self.reps,
            matrix: matrix_hash(self.cells.iter().map(|p| &p.cell)),
        };
        (Self { cells, ..self.clone() }, shard)
    }
}

impl Shard {
    /// Cells that it is dealt.
    #[must_use]
    pub fn cells(&self) -> u64 {
        (self.planned_cells + u64::from(self.of)).saturating_sub(u64::from(self.index)) / u64::from(self.of).max(1)
    }
}

/// A hash of all cells of a matrix, whatever their order.
#[must_use]
pub fn matrix_hash<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> String {
    let mut hashes: Vec<u64> = cells.into_iter().map(hash).collect();
    hashes.sort_unstable();
    format!("{:016x}", fnv1a(hashes.into_iter().flat_map(u64::to_le_bytes)))
}

/// The same on every machine and in every version: machines that run shards of one matrix must agree on it.
fn hash(cell: &Cell) -> u64 {
    let Cell { workload, variant, allocator, params } = cell;
    let names = [workload, variant, allocator].into_iter();
    // Arguments of a process hold no NUL, so different cells are different texts.
    let text = names.chain(params.iter().flat_map(|(name, value)| [name, value])).flat_map(|t| t.bytes().chain([0]));
    // FNV's high bits hardly know the last bytes: cells that differ in their last parameter would stay side by side.
    SplitMix64::new(fnv1a(text)).next()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::plan::Planned;

    /// `allocators` of each of `variants` variants.
    fn plan(variants: usize, allocators: usize) -> Plan {
        let cell = |variant: usize, allocator: usize| Planned {
            cell: Cell {
                workload: ["tokenize", "decode", "embed"][variant % 3].into(),
                variant: format!("v{variant}"),
                allocator: format!("jemalloc:dirty_decay_ms={allocator}"),
                params: BTreeMap::from([("steps".to_owned(), "3".to_owned())]),
            },
            unit: "token".into(),
            figures: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            program: None,
            side: 0,
        };
        let cells = (0..variants).flat_map(|v| (0..allocators).map(move |a| cell(v, a))).collect();
        Plan { cells, group: 1, first_rep: 0, reps: 5, seed: 0 }
    }

    fn cells(plan: &Plan) -> Vec<&Cell> {
        plan.cells.iter().map(|p| &p.cell).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn shards_are_the_whole_matrix_and_have_nothing_in_common(
            variants in 0usize..12, allocators in 1usize..4, of in 1u32..40, turned in 0usize..40,
        ) {
            let whole = plan(variants, allocators);
            let mut turned_whole = whole.clone();
            if !whole.cells.is_empty() {
                turned_whole.cells.rotate_left(turned % whole.cells.len());
            }
            let mut seen: BTreeSet<Cell> = BTreeSet::new();
            for index in 1..=of {
                let (part, shard) = whole.shard(Part { index, of });
                prop_assert_eq!(part.cells.len() as u64, shard.cells());
                prop_assert!(part.cells.len().abs_diff(whole.cells.len() / of as usize) <= 1);
                prop_assert_eq!((part.reps, part.seed), (whole.reps, whole.seed));
                let (of_turned, same) = turned_whole.shard(Part { index, of });
                prop_assert_eq!(&same, &shard);
                let set = |plan: &Plan| cells(plan).into_iter().cloned().collect::<BTreeSet<_>>();
                prop_assert_eq!(set(&of_turned), set(&part));
                for cell in cells(&part) {
                    prop_assert!(seen.insert(cell.clone()), "{} is in two shards", cell);
                }
            }
            prop_assert_eq!(seen.len(), whole.cells.len());
        }
    }

    #[test]
    fn a_cell_is_in_the_same_shard_on_every_machine_and_in_every_version() {
        let (part, shard) = plan(4, 2).shard("2/3".parse().unwrap());
        let names: Vec<String> = cells(&part).into_iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "tokenize/v0 jemalloc:dirty_decay_ms=0",
                "decode/v1 jemalloc:dirty_decay_ms=0",
                "tokenize/v3 jemalloc:dirty_decay_ms=1"
            ]
        );
        assert_eq!(shard.matrix, "35eecbedcac7844c");
    }

    #[test]
    fn two_shards_of_two_allocators_are_not_one_allocator_each() {
        let whole = plan(8, 2);
        let (part, _) = whole.shard("1/2".parse().unwrap());
        let allocators: BTreeSet<&str> = part.cells.iter().map(|p| p.cell.allocator.as_str()).collect();
        assert_eq!(allocators.len(), 2);
    }

    #[test]
    fn another_matrix_has_another_hash() {
        let hash = |plan: &Plan| plan.shard("1/1".parse().unwrap()).1.matrix;
        let whole = plan(4, 2);
        assert_ne!(hash(&whole), hash(&plan(4, 1)));
        let mut other = whole.clone();
        other.cells[0].cell.params.clear();
        assert_ne!(hash(&whole), hash(&other));
    }

    #[test]
    fn what_names_no_shard_is_refused() {
        for text in ["", "1", "/", "0/4", "5/4", "1/0", "-1/4", "+1/4", "1/4/2", "1/10001", "a/b", " 1/4"] {
            assert_eq!(text.parse::<Part>(), Err(NotAShard), "{text}");
        }
        assert_eq!("4/4".parse::<Part>().unwrap().to_string(), "4/4");
        assert_eq!("2/12".parse::<Part>().unwrap().file_name(), "shard-02-of-12.json");
    }
}
