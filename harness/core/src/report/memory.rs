//! Resident memory taken apart: which bytes the program asked for, which the allocator added, and what else is mapped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CellTrials, Phase, PhaseKind};
use crate::stats::sample;

/// A part of resident memory. Together they are all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPart {
    /// Bytes that the program asked for and holds.
    Live,
    /// What size classes add to them: usable less requested.
    Rounding,
    /// Holes in pages that hold live bytes: active less usable.
    Fragmentation,
    /// Free pages that the allocator has not given back, and its own data: resident less active.
    Retained,
    /// All else: the program's code and data, stacks, files, telemetry; and under an allocator that keeps no account, its
    /// overheads.
    Mappings,
}

impl MemoryPart {
    /// All, in the order in which tables show them.
    pub const ALL: [Self; 5] = [Self::Live, Self::Rounding, Self::Fragmentation, Self::Retained, Self::Mappings];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live data",
            Self::Rounding => "size classes",
            Self::Fragmentation => "fragmentation",
            Self::Retained => "retained by the allocator",
            Self::Mappings => "other mappings",
        }
    }
}

/// Resident memory at the end of a phase by part, bytes, in the order of [`MemoryPart::ALL`]. A part may be negative: pages
/// of live bytes that were never touched are not resident.
pub type MemoryAccount = [f64; MemoryPart::ALL.len()];

/// Takes apart the resident memory at the end of `phase`; `None` where the process wasn't seen or nothing was counted.
#[must_use]
pub fn account(phase: &Phase, counted: bool) -> Option<MemoryAccount> {
    let rss = phase.process.filter(|_| counted)?.rss_bytes as f64;
    let live = phase.live.bytes as f64;
    Some(match phase.allocator {
        Some(stats) => {
            let [usable, active, resident] =
                [stats.allocated_bytes, stats.active_bytes, stats.resident_bytes].map(|bytes| bytes as f64);
            [live, usable - live, active - usable, resident - active, rss - resident]
        }
        None => [live, 0.0, 0.0, 0.0, rss - live],
    })
}

impl CellTrials<'_> {
    /// What resident memory was made of at the end of the phase `kind`: medians over the completed repetitions, part by
    /// part.
    #[must_use]
    pub fn memory(&self, kind: PhaseKind) -> Option<MemoryAccount> {
        let accounts: Vec<MemoryAccount> = self
            .completed()
            .filter_map(|t| account(t.phases.iter().find(|p| p.kind == kind && p.ended)?, t.level != "off"))
            .collect();
        let mut medians = MemoryAccount::default();
        for (part, median) in medians.iter_mut().enumerate() {
            *median = sample::median(&accounts.iter().map(|a| a[part]).collect::<Vec<_>>())?;
        }
        Some(medians)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn the_parts_are_all_of_resident_memory() {
        let report = testing::report(2, 1);
        for trial in &report.trials {
            for phase in trial.phases.iter().filter(|p| p.ended && p.process.is_some()) {
                let parts = account(phase, true).unwrap();
                let rss = phase.process.unwrap().rss_bytes as f64;
                assert!((parts.iter().sum::<f64>() - rss).abs() < 1.0, "{parts:?}");
            }
        }
    }

    #[test]
    fn nothing_is_made_up_where_nothing_was_counted() {
        let report = testing::report(1, 1);
        assert_eq!(account(&report.trials[0].phases[0], false), None);
    }
}
