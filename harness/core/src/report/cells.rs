//! A report's trials by cell.

use std::collections::BTreeMap;

use super::{ByOperation, Cell, Phase, PhaseKind, Report, Trial};
use crate::metric::MetricId;
use crate::stats::histogram;

/// The repetitions of one cell, in order.
#[derive(Debug, Clone)]
pub struct CellTrials<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Its trials, at least one, by repetition.
    pub trials: Vec<&'a Trial>,
}

impl Report {
    /// The trials by cell, sorted by cell.
    #[must_use]
    pub fn cells(&self) -> Vec<CellTrials<'_>> {
        let mut cells: BTreeMap<&Cell, Vec<&Trial>> = BTreeMap::new();
        for trial in &self.trials {
            cells.entry(&trial.cell).or_default().push(trial);
        }
        cells
            .into_iter()
            .map(|(cell, mut trials)| {
                trials.sort_by_key(|t| t.rep);
                CellTrials { cell, trials }
            })
            .collect()
    }
}

impl<'a> CellTrials<'a> {
    /// The trials whose figures count.
    pub fn completed(&self) -> impl Iterator<Item = &'a Trial> {
        self.trials.iter().copied().filter(|t| t.outcome.is_completed())
    }

    /// The metric's value in each completed repetition that measured it.
    #[must_use]
    pub fn values(&self, metric: MetricId) -> Vec<f64> {
        self.completed().filter_map(|t| t.metrics.get(&metric).copied()).collect()
    }

    /// The unit of work.
    #[must_use]
    pub fn unit(&self) -> &'a str {
        self.trials.first().map_or("", |t| &t.unit)
    }

    /// The level of telemetry.
    #[must_use]
    pub fn level(&self) -> &'a str {
        self.trials.first().map_or("", |t| &t.level)
    }

    /// The different checksums of the completed repetitions' measured phases, sorted. More than one means that the
    /// answers differ from run to run.
    #[must_use]
    pub fn checksums(&self) -> Vec<&'a str> {
        let mut sums: Vec<&str> = self.completed().filter_map(measure).map(|p| p.checksum.as_str()).collect();
        sums.sort_unstable();
        sums.dedup();
        sums
    }

    /// The uninterrupted calls of the measured phase, of all completed repetitions together.
    #[must_use]
    pub fn clean_stalls(&self) -> ByOperation {
        let all: Vec<&ByOperation> = self.completed().filter_map(measure).map(|p| &p.stalls.clean).collect();
        let total = |of: fn(&ByOperation) -> &Vec<(u32, u64)>| histogram::total(all.iter().map(|s| of(s).as_slice()));
        ByOperation {
            alloc: total(|s| &s.alloc),
            alloc_zeroed: total(|s| &s.alloc_zeroed),
            realloc: total(|s| &s.realloc),
            dealloc: total(|s| &s.dealloc),
        }
    }

    /// Ticks per second of the stall histograms. Repetitions on one machine calibrate the same clock, so the first
    /// one's stands for all; 0 where no call was timed.
    #[must_use]
    pub fn ticks_per_second(&self) -> f64 {
        self.completed().map(|t| t.ticks_per_second).find(|&ticks| ticks > 0.0).unwrap_or(0.0)
    }
}

fn measure(trial: &Trial) -> Option<&Phase> {
    trial.phases.iter().find(|p| p.kind == PhaseKind::Measure && p.ended)
}

#[cfg(test)]
mod tests {
    use crate::metric::MetricId;
    use crate::report::{Outcome, testing};
    use crate::stats::histogram;

    #[test]
    fn trials_are_found_by_cell_whatever_the_order_they_ran_in() {
        let mut report = testing::report(3, 2);
        let expected: Vec<_> = report.cells().iter().map(|c| (c.cell.clone(), c.trials.len())).collect();
        report.trials.reverse();
        let reversed: Vec<_> = report.cells().iter().map(|c| (c.cell.clone(), c.trials.len())).collect();
        assert_eq!(expected, reversed);
        assert!(report.cells().iter().all(|c| c.trials.is_sorted_by_key(|t| t.rep)));
        assert_eq!(expected.len(), 3);
    }

    #[test]
    fn only_completed_trials_count() {
        let mut report = testing::report(1, 3);
        report.trials[1].outcome = Outcome::TimedOut { after_s: 1 };
        assert_eq!(report.cells()[0].values(MetricId::PeakRss).len(), 2);
    }

    #[test]
    fn stalls_of_all_repetitions_are_added_up() {
        let one = testing::report(1, 1);
        let three = testing::report(1, 3);
        let calls = |r: &crate::report::Report| histogram::count(&r.cells()[0].clean_stalls().alloc);
        assert_eq!(calls(&three), 3 * calls(&one));
    }
}
