//! A report's trials by cell.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, Phase, PhaseKind, Report, Sites, TRACED, Trial};
use crate::metric::MetricId;
use crate::stats::histogram;

/// Times of calls in the measured phase of one repetition, all operations together: pairs of bucket and count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepStalls {
    /// Of calls that ran undisturbed.
    pub clean: Vec<(u32, u64)>,
    /// Of calls that the scheduler interrupted.
    pub interrupted: Vec<(u32, u64)>,
}

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
    /// Whether one of them wrote trace lines.
    #[must_use]
    pub fn are_traced(&self) -> bool {
        self.trials.iter().any(|trial| trial.notes.iter().any(|note| note == TRACED))
    }

    /// The trials whose figures count.
    pub fn completed(&self) -> impl Iterator<Item = &'a Trial> {
        self.trials.iter().copied().filter(|t| t.outcome.is_completed())
    }

    /// The metric's value in each completed repetition that measured it.
    #[must_use]
    pub fn values(&self, metric: MetricId) -> Vec<f64> {
        self.completed().filter_map(|t| t.metrics.get(&metric).copied()).collect()
    }

    /// The first repetition that is not there though a later one is.
    #[must_use]
    pub fn missing_repetition(&self) -> Option<u32> {
        (0u32..).zip(&self.trials).find(|(rep, trial)| trial.rep != *rep).map(|(rep, _)| rep)
    }

    /// The unit of work.
    #[must_use]
    pub fn unit(&self) -> &'a str {
        self.trials.first().map_or("", |t| &t.unit)
    }

    /// Units of work in the measured phase of the first completed repetition; 0 where there was none.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.completed().find_map(measure).map_or(0, |phase| phase.units)
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

    /// The times of calls in the measured phase, of each completed repetition, in order.
    #[must_use]
    pub fn stalls(&self) -> Vec<RepStalls> {
        self.completed()
            .filter_map(measure)
            .map(|p| RepStalls {
                clean: histogram::merged(&p.stalls.clean),
                interrupted: histogram::merged(&p.stalls.interrupted),
            })
            .collect()
    }

    /// The call sites of all completed repetitions together; `None` where stacks were not sampled.
    #[must_use]
    pub fn sites(&self) -> Option<Sites> {
        Sites::merged(self.completed().filter_map(|t| t.sites.as_ref()))
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
    use crate::report::{Outcome, PhaseKind, testing};
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
    fn stalls_are_those_of_each_repetition() {
        let report = testing::report(1, 3);
        let stalls = report.cells()[0].stalls();
        assert_eq!(stalls.len(), 3);
        let of_first = report.trials[0].phases.iter().find(|p| p.kind == PhaseKind::Measure).unwrap();
        assert_eq!(
            histogram::count(&stalls[0].clean),
            of_first.stalls.clean.all().map(histogram::count).iter().sum::<u64>()
        );
    }
}
