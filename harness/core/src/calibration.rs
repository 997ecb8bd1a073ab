//! What the gate is worth on a class of machines: how often it alarms where nothing was changed, what it finds of what was
//! planted, and the smallest change it can see. Counted from real runs by `heapgate calibrate`, kept beside the baselines,
//! shown with verdicts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{self, Document, LoadError, LoadFault};
use crate::files::{self, WriteError};
use crate::gate::{Decision, Overall, Verdict, detectable};
use crate::metric::{Kind, MetricId};
use crate::report::{Machine, Report};

/// The version of the calibration's schema. Raised by every change that an older reader would misread.
pub const CALIBRATION_SCHEMA_VERSION: u32 = 1;

/// Down to here a calibration has one member a line.
const LINES_TO_DEPTH: usize = 3;

/// What was counted on one machine under one condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The version of this schema.
    pub schema_version: u32,
    /// When, seconds since 1970 (UTC).
    pub created_unix_s: u64,
    /// Where.
    pub machine: Machine,
    /// The commit that was built; empty where there is no git.
    pub commit: String,
    /// Processes that kept CPUs busy meanwhile.
    pub busy_neighbours: u32,
    /// Repetitions of each side in the first round.
    pub reps: u32,
    /// Time for more rounds, s.
    pub budget_s: f64,
    /// Names of the cells that were run.
    pub cells: Vec<String>,
    /// Comparisons of a side with itself.
    pub null: Counted,
    /// Comparisons with something planted on one side, by what was planted.
    pub controls: BTreeMap<String, Control>,
    /// How much each noisy metric varies and how small a change is found, by cell.
    pub metrics: BTreeMap<MetricId, Vec<Sensitivity>>,
}

/// Verdicts, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Whole verdicts.
    pub runs: u64,
    /// Of them failed.
    pub failed_runs: u64,
    /// Of them inconclusive.
    pub inconclusive_runs: u64,
    /// Metrics that were compared with a limit.
    pub metrics: u64,
    /// Of them noisy ones or distributions, which a test decided.
    pub tested_metrics: u64,
    /// Metrics that failed.
    pub failed_metrics: u64,
    /// Metrics that could not be decided.
    pub inconclusive_metrics: u64,
}

/// What became of what was planted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Cells in which it was planted, in all runs together.
    pub planted: u64,
    /// Those in which the gate failed a metric.
    pub caught: u64,
    /// By which metrics, and in how many cells.
    pub by_metric: BTreeMap<MetricId, u64>,
}

/// How one metric of one cell behaves while nothing is changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sensitivity {
    /// The cell's name.
    pub cell: String,
    /// Values that this rests on.
    pub values: u64,
    /// Standard deviation over the mean.
    pub deviation: f64,
    /// The smallest change that is found in 99 of 100 runs, as a fraction, on top of the limit; absent where it can't be
    /// said.
    pub detectable: Option<f64>,
}

impl Counted {
    /// Counts one verdict in.
    pub fn add(&mut self, verdict: &Verdict) {
        self.runs += 1;
        self.failed_runs += u64::from(verdict.decision == Overall::Fail);
        self.inconclusive_runs += u64::from(verdict.decision == Overall::Inconclusive);
        self.tested_metrics += verdict.rule.tested as u64;
        for line in &verdict.lines {
            match line.decision {
                Decision::Pass | Decision::Improved => self.metrics += 1,
                Decision::Fail | Decision::Accepted { .. } => {
                    self.metrics += 1;
                    self.failed_metrics += 1;
                }
                Decision::Inconclusive => {
                    self.metrics += 1;
                    self.inconclusive_metrics += 1;
                }
                Decision::NotCompared { .. } | Decision::Info => {}
            }
        }
    }
}

impl Control {
    /// Counts one verdict in, over a run in which something was planted in every cell.
    pub fn add(&mut self, verdict: &Verdict) {
        let mut cells: BTreeMap<_, bool> = BTreeMap::new();
        for line in &verdict.lines {
            let caught = cells.entry(&line.cell).or_default();
            if line.decision == Decision::Fail {
                *caught = true;
                *self.by_metric.entry(line.metric).or_default() += 1;
            }
        }
        self.planted += cells.len() as u64;
        self.caught += cells.values().filter(|caught| **caught).count() as u64;
    }
}

/// How each noisy metric of each cell of `reports`, in which nothing was changed, behaves: `reps` repetitions in a first
/// round, among `family` metrics that are tested together.
#[must_use]
pub fn sensitivities(reports: &[Report], reps: u32, family: usize) -> BTreeMap<MetricId, Vec<Sensitivity>> {
    let mut values: BTreeMap<(MetricId, String), Vec<f64>> = BTreeMap::new();
    for report in reports {
        for cell in report.cells() {
            for &metric in crate::metric::ALL.iter().filter(|m| m.metric().kind != Kind::Exact) {
                values.entry((metric, cell.cell.to_string())).or_default().extend(cell.values(metric));
            }
        }
    }
    let mut all: BTreeMap<MetricId, Vec<Sensitivity>> = BTreeMap::new();
    for ((metric, cell), values) in values.into_iter().filter(|(_, values)| values.len() > 1) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
        let deviation = if mean == 0.0 { 0.0 } else { variance.sqrt() / mean.abs() };
        let detectable = detectable(metric, &values, reps, family);
        all.entry(metric).or_default().push(Sensitivity { cell, values: values.len() as u64, deviation, detectable });
    }
    all
}

impl Calibration {
    /// Whether nothing failed that wasn't changed, and all that was planted was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.null.failed_metrics == 0
            && self.null.failed_runs == 0
            && self.controls.values().all(|c| c.caught == c.planted)
    }

    /// Where the calibration of a machine class is kept under the baselines' `folder`.
    #[must_use]
    pub fn path(folder: &Path, class: &str) -> PathBuf {
        folder.join(format!("{class}.calibration.json"))
    }

    /// The smallest change of `metric` that is found in the cell called `cell`, as a fraction.
    #[must_use]
    pub fn detectable(&self, metric: MetricId, cell: &str) -> Option<f64> {
        self.metrics.get(&metric)?.iter().find(|s| s.cell == cell)?.detectable
    }

    /// Stores it, whole or not at all.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        // Plain structs with string keys always have a JSON form.
        files::atomic_write(path, document::to_json(self, LINES_TO_DEPTH).unwrap_or_default().as_bytes())
    }

    /// Loads the one of `class` under the baselines' `folder`; `None` where there is none.
    ///
    /// # Errors
    /// If it is there and can't be read.
    pub fn find(folder: &Path, class: &str) -> Result<Option<Self>, LoadError> {
        let path = Self::path(folder, class);
        let loaded = document::read(&path).and_then(|bytes| document::parse(&bytes, CALIBRATION_SCHEMA_VERSION));
        match loaded {
            Ok(calibration) => Ok(Some(calibration)),
            Err(LoadFault::Missing) => Ok(None),
            Err(fault) => Err(LoadError { document: Document::Calibration, path, fault }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::{Look, compare};
    use crate::report::testing;

    fn verdict(change: impl FnOnce(&mut Report)) -> Verdict {
        let before = testing::report(2, 10);
        let mut now = before.clone();
        change(&mut now);
        compare(&before, &now, &Config::default(), Look::ONLY)
    }

    #[test]
    fn verdicts_are_counted() {
        let mut counted = Counted::default();
        counted.add(&verdict(|_| {}));
        counted.add(&verdict(|now| testing::set_cell(now, 0, MetricId::AllocationsPerUnit, 30.0)));
        assert_eq!((counted.runs, counted.failed_runs, counted.failed_metrics), (2, 1, 1));
        assert_eq!(counted.metrics, 44);
        assert!(counted.tested_metrics > 0 && counted.tested_metrics < counted.metrics);
    }

    #[test]
    fn what_was_planted_is_caught_cell_by_cell() {
        let mut control = Control::default();
        control.add(&verdict(|now| testing::set_cell(now, 0, MetricId::AllocationsPerUnit, 30.0)));
        assert_eq!((control.planted, control.caught), (2, 1));
        assert_eq!(control.by_metric, BTreeMap::from([(MetricId::AllocationsPerUnit, 1)]));
    }

    #[test]
    fn a_calibration_comes_back_as_it_was_stored_and_none_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Calibration::find(folder.path(), "mine").unwrap(), None);
        let report = testing::report(2, 12);
        let calibration = Calibration {
            schema_version: CALIBRATION_SCHEMA_VERSION,
            created_unix_s: 1,
            machine: report.fingerprint.machine.clone(),
            commit: "abc".into(),
            busy_neighbours: 2,
            reps: 5,
            budget_s: 60.0,
            cells: vec!["a".into()],
            null: Counted { runs: 3, ..Counted::default() },
            controls: BTreeMap::from([("leak=0.01".to_owned(), Control::default())]),
            metrics: sensitivities(&[report], 5, 12),
        };
        calibration.save(&Calibration::path(folder.path(), "mine")).unwrap();
        assert_eq!(Calibration::find(folder.path(), "mine").unwrap(), Some(calibration.clone()));
        let cell = testing::cell(0).to_string();
        assert!(calibration.detectable(MetricId::PeakRss, &cell).is_some_and(|d| d < 0.02), "{calibration:?}");
        std::fs::write(Calibration::path(folder.path(), "mine"), "{").unwrap();
        assert!(Calibration::find(folder.path(), "mine").is_err());
    }
}
