//! Baselines: what figures were, recorded on purpose and kept in the repository, one file by machine class and
//! workload.
//!
//! This file is the model and how it is made from a report; `file` stores and loads it, `find` chooses one, `merge` puts
//! new figures into one, `audit` says what is wrong with those there are, `prune` removes what is of no use any more, `recent` makes one of the last runs, and
//! `lock` lets one writer in at a time. The gate takes baselines as given.

mod audit;
mod content_hash;
mod file;
mod find;
mod lock;
mod merge;
mod prune;
mod recent;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use audit::{Concern, ConcernKind, Demands, Known, Standing, audit, audit_class};
pub use file::BaselineSaveError;
pub use find::{Found, find, list};
pub use lock::{Lock, LockError};
pub use merge::{CellChange, ChangeKind, MetricChange};
pub use prune::{PruneError, Removal, remove};
pub use recent::{FEWEST_RUNS, Level, Levels, RecentRuns};

use crate::metric::{Kind, MetricId};
use crate::render::human;
use crate::report::{Build, Cell, CellTrials, Fingerprint, MemoryAccount, PhaseKind, RepStalls, Report, Sites};
use crate::stats::sample;

/// The version of the baseline's schema. Raised by every change that an older reader would misread.
pub const BASELINE_SCHEMA_VERSION: u32 = 2;

/// Repetitions of each cell of a baseline, where nobody says: as evidence of a failure among hundreds of metrics a rank
/// test needs them. Of 10 against 10, the most extreme order has a one-sided probability of 1 in 184,756 (5e-6); of 5
/// against 5 it is 1 in 252, which hundreds of metrics reach by chance.
pub const RECORD_REPETITIONS: u32 = 10;

/// The phases at whose ends resident memory is taken apart.
pub(crate) const MEMORY_PHASES: [PhaseKind; 2] = [PhaseKind::Measure, PhaseKind::Drain];

/// The figures of one workload on one class of machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The version of this schema.
    pub schema_version: u32,
    /// When it was recorded, seconds since 1970 (UTC).
    pub recorded_unix_s: u64,
    /// Who recorded it, and why: as given.
    pub recorded_by: String,
    /// The workload.
    pub workload: String,
    /// What was built and where it ran.
    pub fingerprint: Fingerprint,
    /// The cells, sorted.
    pub cells: Vec<BaselineCell>,
    /// Hash of all above (FNV-1a, 64 bits, of the text without spaces between tokens), so that an edit is noticed.
    pub content_hash: String,
}

/// The figures of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineCell {
    /// The cell.
    pub cell: Cell,
    /// The unit of work, singular.
    pub unit: String,
    /// How much the telemetry recorded: `off`, `count`, `sampled`, `exact-alloc` or `exact`.
    pub level: String,
    /// Whether the trials wrote trace lines (`HEAPGATE_TRACE=1`), which takes CPU time. Absent where they did not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub traced: bool,
    /// The different checksums of the answers, sorted: one, where the workload is right.
    pub checksums: Vec<String>,
    /// Each metric's value in every repetition that measured it.
    pub metrics: BTreeMap<MetricId, Vec<f64>>,
    /// Ticks per second of `stalls`; 0 where no call was timed.
    pub ticks_per_second: f64,
    /// Times of calls in the measured phase, of each repetition.
    pub stalls: Vec<RepStalls>,
    /// What resident memory was made of at the end of a phase, bytes: live data, size classes, fragmentation, retained by
    /// the allocator, other mappings.
    pub memory: BTreeMap<PhaseKind, MemoryAccount>,
    /// The call sites that allocated most; absent where stacks were not sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Sites>,
    /// Where these figures are from, if they are older than the rest of the file: what `baseline promote` kept. Absent
    /// where they were recorded with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<Origin>>,
}

/// Where figures are from that are older than the rest of their file. The machine class is the file's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// When they were recorded, seconds since 1970 (UTC).
    pub recorded_unix_s: u64,
    /// Who recorded them, and why.
    pub recorded_by: String,
    /// What was built.
    pub build: Build,
}

/// How a baseline is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// Who records it, and why.
    pub by: String,
    /// When, seconds since 1970 (UTC).
    pub unix_s: u64,
    /// Also take exact metrics that differ between repetitions (a workload with threads that race). The gate then
    /// treats such a metric as noisy. Answers must always agree.
    pub accept_disagreement: bool,
}

/// Why a report makes no baseline.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum NotABaseline {
    #[error("the report has no trial of workload '{workload}'; run it first, for instance `heapgate run {workload}`")]
    NoTrials { workload: String },
    #[error("'{workload}' can't be the name of a file; name the workload with letters, digits, '-', '_' and '.' only")]
    Name { workload: String },
    #[error("the run was cut off before all its trials ended; run it again")]
    Incomplete,
    #[error(
        "{cell} repetition {} {outcome}; a baseline needs every repetition, so mend the workload and run it again",
        human::repetition(*rep)
    )]
    NotCompleted { cell: Cell, rep: u32, outcome: String },
    #[error(
        "{cell}: repetition {} is not in the report, though a later one is; take the report as it was written, or run it again",
        human::repetition(*rep)
    )]
    RepetitionMissing { cell: Cell, rep: u32 },
    #[error(
        "{cell}: {metric} is exact, but its repetitions disagree ({values}); find out what differs from run to run, or accept it with --accept-disagreement"
    )]
    MetricDisagrees { cell: Cell, metric: MetricId, values: String },
    #[error(
        "{cell}: the answers' checksums differ between repetitions ({checksums}); the workload is wrong, or depends on something that changes"
    )]
    AnswersDisagree { cell: Cell, checksums: String },
}

impl Baseline {
    /// The baseline of `workload` that `report` gives. Every repetition must have completed and all must agree on the
    /// answers and, unless `recording` accepts it, on exact metrics: what disagrees with itself can't tell whether
    /// something else changed.
    ///
    /// # Errors
    /// Naming the cell, the metric and the values.
    pub fn from_report(report: &Report, workload: &str, recording: Recording) -> Result<Self, NotABaseline> {
        if !find::is_plain_name(workload) {
            return Err(NotABaseline::Name { workload: workload.to_owned() });
        }
        if !report.complete {
            return Err(NotABaseline::Incomplete);
        }
        let cells: Vec<CellTrials<'_>> = report.cells().into_iter().filter(|c| c.cell.workload == workload).collect();
        if cells.is_empty() {
            return Err(NotABaseline::NoTrials { workload: workload.to_owned() });
        }
        for cell in &cells {
            check_completed(cell)?;
            if let Some(rep) = cell.missing_repetition() {
                return Err(NotABaseline::RepetitionMissing { cell: cell.cell.clone(), rep });
            }
            check_answers(cell)?;
            if !recording.accept_disagreement {
                check_agreement(cell)?;
            }
        }
        let mut baseline = Self::of_cells(report, workload, &cells);
        baseline.recorded_by = recording.by;
        baseline.recorded_unix_s = recording.unix_s;
        baseline.content_hash = baseline.computed_hash();
        Ok(baseline)
    }

    /// The baselines that `report` would give, one for each workload, as far as its trials completed and whether they
    /// agree or not: the first of two reports to be compared. They are not meant to be stored.
    #[must_use]
    pub fn in_memory(report: &Report) -> Vec<Self> {
        let cells = report.cells();
        let mut workloads: Vec<&str> = cells.iter().map(|c| c.cell.workload.as_str()).collect();
        workloads.dedup();
        workloads
            .into_iter()
            .map(|workload| {
                let of_workload =
                    cells.iter().filter(|c| c.cell.workload == workload && c.completed().next().is_some());
                Self::of_cells(report, workload, &of_workload.cloned().collect::<Vec<_>>())
            })
            .collect()
    }

    fn of_cells(report: &Report, workload: &str, cells: &[CellTrials<'_>]) -> Self {
        Self {
            schema_version: BASELINE_SCHEMA_VERSION,
            recorded_unix_s: report.created_unix_s,
            recorded_by: String::new(),
            workload: workload.to_owned(),
            fingerprint: report.fingerprint.clone(),
            cells: cells.iter().map(BaselineCell::new).collect(),
            content_hash: String::new(),
        }
    }

    /// The class of machines it was recorded on.
    #[must_use]
    pub fn class(&self) -> String {
        self.fingerprint.machine.class()
    }

    /// The figures of `cell`.
    #[must_use]
    pub fn cell(&self, cell: &Cell) -> Option<&BaselineCell> {
        self.cells.iter().find(|c| c.cell == *cell)
    }
}

impl BaselineCell {
    fn new(trials: &CellTrials<'_>) -> Self {
        let values = crate::metric::ALL.iter().map(|&metric| (metric, trials.values(metric)));
        Self {
            cell: trials.cell.clone(),
            unit: trials.unit().to_owned(),
            level: trials.level().to_owned(),
            traced: trials.are_traced(),
            checksums: trials.checksums().into_iter().map(str::to_owned).collect(),
            metrics: values.filter(|(_, values)| !values.is_empty()).collect(),
            ticks_per_second: trials.ticks_per_second(),
            stalls: trials.stalls(),
            memory: MEMORY_PHASES.iter().filter_map(|&kind| Some((kind, trials.memory(kind)?))).collect(),
            sites: trials.sites(),
            origin: None,
        }
    }
}

fn check_completed(cell: &CellTrials<'_>) -> Result<(), NotABaseline> {
    cell.trials.iter().find(|t| !t.outcome.is_completed()).map_or(Ok(()), |trial| {
        Err(NotABaseline::NotCompleted { cell: trial.cell.clone(), rep: trial.rep, outcome: trial.outcome.to_string() })
    })
}

fn check_answers(cell: &CellTrials<'_>) -> Result<(), NotABaseline> {
    let checksums = cell.checksums();
    if checksums.len() <= 1 {
        return Ok(());
    }
    Err(NotABaseline::AnswersDisagree { cell: cell.cell.clone(), checksums: checksums.join(", ") })
}

fn check_agreement(cell: &CellTrials<'_>) -> Result<(), NotABaseline> {
    for &metric in crate::metric::ALL.iter().filter(|m| m.metric().kind == Kind::Exact) {
        let values = cell.values(metric);
        if !agree(&values) {
            let values = values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
            return Err(NotABaseline::MetricDisagrees { cell: cell.cell.clone(), metric, values });
        }
    }
    Ok(())
}

/// Whether all values are the same.
#[must_use]
pub(crate) fn agree(values: &[f64]) -> bool {
    values.iter().all(|&value| sample::same(value, values[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcome, PhaseKind, testing};

    fn refused(change: impl FnOnce(&mut Report)) -> NotABaseline {
        let mut report = testing::report(3, 3);
        change(&mut report);
        Baseline::from_report(&report, "tokenize", Recording::default()).unwrap_err()
    }

    #[test]
    fn every_repetition_is_kept() {
        let report = testing::report(3, 3);
        let baseline = Baseline::from_report(&report, "tokenize", Recording::default()).unwrap();
        assert_eq!(baseline.cells.len(), 1);
        assert!(baseline.cells[0].metrics.values().all(|values| values.len() == 3));
        assert_eq!(baseline.cells[0].metrics.len(), report.trials[0].metrics.len());
    }

    #[test]
    fn a_repetition_that_did_not_complete_is_refused() {
        let error = refused(|r| r.trials[0].outcome = Outcome::Failed { code: 1, stderr: String::new() });
        assert_eq!(
            error.to_string(),
            "tokenize/hf-wordpiece jemalloc repetition 1 failed with exit code 1; a baseline needs every repetition, so mend the workload and run it again"
        );
    }

    #[test]
    fn a_repetition_that_is_missing_is_refused() {
        let error = refused(|r| r.trials.retain(|t| t.rep != 1));
        assert_eq!(error, NotABaseline::RepetitionMissing { cell: testing::cell(0), rep: 1 });
        assert!(error.to_string().contains("repetition 2 is not in the report"), "{error}");
    }

    #[test]
    fn repetitions_that_disagree_are_refused_with_their_values() {
        let error = refused(|r| testing::set(&mut r.trials[0], MetricId::AllocationsPerUnit, 21.0));
        assert!(error.to_string().contains("allocations_per_unit"), "{error}");
        assert!(error.to_string().contains("21, 20, 20"), "{error}");
        let error = refused(|r| {
            r.trials[3].phases.iter_mut().find(|p| p.kind == PhaseKind::Measure).unwrap().checksum = "other".into();
        });
        assert!(matches!(error, NotABaseline::AnswersDisagree { .. }), "{error}");
    }

    #[test]
    fn a_disagreement_can_be_accepted() {
        let mut report = testing::report(1, 3);
        testing::set(&mut report.trials[0], MetricId::AllocationsPerUnit, 21.0);
        let recording = Recording { accept_disagreement: true, ..Recording::default() };
        let baseline = Baseline::from_report(&report, "tokenize", recording).unwrap();
        assert_eq!(baseline.cells[0].metrics[&MetricId::AllocationsPerUnit], [21.0, 20.0, 20.0]);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert_eq!(refused(|r| r.complete = false), NotABaseline::Incomplete);
        assert!(matches!(refused(|r| r.trials.clear()), NotABaseline::NoTrials { .. }));
        let report = testing::report(1, 1);
        let error = Baseline::from_report(&report, "../tokenize", Recording::default()).unwrap_err();
        assert!(matches!(error, NotABaseline::Name { .. }), "{error}");
    }

    #[test]
    fn in_memory_every_workload_has_one() {
        let workloads: Vec<String> =
            Baseline::in_memory(&testing::report(5, 1)).into_iter().map(|b| b.workload).collect();
        assert_eq!(workloads, ["decode", "embed", "tokenize"]);
    }
}
