//! A report in short: each cell's figures over its repetitions. What `heapgate report --json` prints.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::gate::{Side, Verdict};
use crate::metric::{ALL, MetricId};
use crate::report::{Cell, CellTrials, Fingerprint, Report};

/// The version of the figures' schema. Raised by every change that an older reader would misread.
pub const FIGURES_SCHEMA_VERSION: u32 = 1;

/// The figures of a report.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    /// The version of this schema.
    pub schema_version: u32,
    /// When the run began, seconds since 1970 (UTC).
    pub created_unix_s: u64,
    /// Whether every planned trial has ended.
    pub complete: bool,
    /// What was built and where it ran.
    pub fingerprint: Fingerprint,
    /// The cells, sorted.
    pub cells: Vec<CellFigures>,
    /// What comparing it with baselines gave; absent where it was compared with nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// The figures of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CellFigures {
    /// The cell.
    pub cell: Cell,
    /// The unit of work, singular.
    pub unit: String,
    /// How much the telemetry recorded.
    pub level: String,
    /// Repetitions that ended, in whatever way.
    pub repetitions: u64,
    /// Those whose figures count.
    pub completed: u64,
    /// The catalogue's metrics.
    pub metrics: BTreeMap<MetricId, Side>,
    /// The workload's own figures.
    pub figures: BTreeMap<String, Side>,
    /// The different checksums of the answers, sorted.
    pub checksums: Vec<String>,
}

impl Figures {
    /// The figures of `report`, with the verdict over it if there is one.
    #[must_use]
    pub fn of(report: &Report, verdict: Option<Verdict>) -> Self {
        Self {
            schema_version: FIGURES_SCHEMA_VERSION,
            created_unix_s: report.created_unix_s,
            complete: report.complete,
            fingerprint: report.fingerprint.clone(),
            cells: report.cells().iter().map(CellFigures::of).collect(),
            verdict,
        }
    }
}

impl CellFigures {
    fn of(trials: &CellTrials<'_>) -> Self {
        let mut own: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, value) in trials.completed().flat_map(|trial| &trial.figures) {
            own.entry(name.clone()).or_default().push(*value);
        }
        Self {
            cell: trials.cell.clone(),
            unit: trials.unit().to_owned(),
            level: trials.level().to_owned(),
            repetitions: trials.trials.len() as u64,
            completed: trials.completed().count() as u64,
            metrics: ALL.iter().filter_map(|&metric| Some((metric, Side::of(&trials.values(metric))?))).collect(),
            figures: own.into_iter().filter_map(|(name, values)| Some((name, Side::of(&values)?))).collect(),
            checksums: trials.checksums().into_iter().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcome, testing};

    #[test]
    fn only_completed_repetitions_are_in_the_figures() {
        let mut report = testing::report(2, 3);
        report.trials[0].outcome = Outcome::TimedOut { after_s: 1 };
        let figures = Figures::of(&report, None);
        let counts: Vec<_> = figures.cells.iter().map(|c| (c.repetitions, c.completed)).collect();
        assert!(counts.contains(&(3, 2)) && counts.contains(&(3, 3)), "{counts:?}");
        let cell = figures.cells.iter().find(|c| c.completed == 2).unwrap();
        assert_eq!(cell.metrics[&MetricId::PeakRss].reps, 2);
    }
}
