//! What one run gives to the history.

use std::collections::BTreeMap;

use heapgate_core::metric::MetricId;
use heapgate_core::report::{Build, Cell, CellTrials, Machine, Report};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::StoreError;

/// What a run was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// `heapgate run`.
    Run,
    /// `heapgate gate`.
    Gate,
    /// `heapgate baseline record`.
    Baseline,
    /// `heapgate merge`.
    Merge,
    /// A report that was brought in later.
    Import,
}

impl Purpose {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Gate => "gate",
            Self::Baseline => "baseline",
            Self::Merge => "merge",
            Self::Import => "import",
        }
    }
}

/// The figures of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// A hash of what the report says: the same report is always the same run.
    pub id: String,
    /// When it began by the clock of its machine, seconds since 1970.
    pub unix_s: u64,
    /// What was built.
    pub build: Build,
    /// Where it ran.
    pub machine: Machine,
    /// What it was made for.
    pub purpose: Purpose,
    /// What the gate decided: `pass`, `fail` or `inconclusive`; absent where none was asked.
    pub decision: Option<String>,
    /// Whether all planned trials ended.
    pub complete: bool,
    /// By cell: those with at least one completed trial.
    pub cells: Vec<RunCell>,
}

/// The figures of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCell {
    /// The cell.
    pub cell: Cell,
    /// How much the telemetry recorded.
    pub level: String,
    /// The unit of work.
    pub unit: String,
    /// Pairs of repetition and value.
    pub metrics: BTreeMap<MetricId, Vec<(u32, f64)>>,
}

impl Run {
    /// The figures of the completed trials of `report`.
    ///
    /// # Errors
    /// If one of them is no number: a database would take it for something else.
    pub fn new(report: &Report, purpose: Purpose, decision: Option<&str>) -> Result<Self, StoreError> {
        let mut cells = Vec::new();
        for trials in report.cells() {
            cells.extend(run_cell(&trials)?);
        }
        Ok(Self {
            id: id_of(report),
            unix_s: report.created_unix_s,
            build: report.fingerprint.build.clone(),
            machine: report.fingerprint.machine.clone(),
            purpose,
            decision: decision.map(str::to_owned),
            complete: report.complete,
            cells,
        })
    }
}

/// `None` where no trial completed.
fn run_cell(trials: &CellTrials<'_>) -> Result<Option<RunCell>, StoreError> {
    let mut metrics: BTreeMap<MetricId, Vec<(u32, f64)>> = BTreeMap::new();
    for trial in trials.completed() {
        for (&metric, &value) in &trial.metrics {
            if !value.is_finite() {
                let cell = trial.cell.to_string();
                return Err(StoreError::NotFinite { metric, cell, rep: trial.rep, value });
            }
            metrics.entry(metric).or_default().push((trial.rep, value));
        }
    }
    let (level, unit) = (trials.level().to_owned(), trials.unit().to_owned());
    Ok((!metrics.is_empty()).then(|| RunCell { cell: trials.cell.clone(), level, unit, metrics }))
}

/// What `report` is known by: 128 bits of the SHA-256 of what it says of time, machine, build, trials and figures. Not
/// of its text, which another heapgate may write differently.
pub(super) fn id_of(report: &Report) -> String {
    let mut hash = Sha256::new();
    let build = &report.fingerprint.build;
    let texts = [
        report.created_unix_s.to_string(),
        report.seed.to_string(),
        report.complete.to_string(),
        report.fingerprint.machine.class(),
        build.commit.clone(),
        build.rustc.clone(),
        build.lock_hash.clone(),
        build.profile.clone(),
    ];
    for text in &texts {
        put(&mut hash, text);
    }
    for trial in &report.trials {
        put(&mut hash, &cell_key(&trial.cell, &trial.level, &trial.unit));
        put(&mut hash, &trial.rep.to_string());
        put(&mut hash, &trial.outcome.to_string());
        hash.update(trial.wall_s.to_bits().to_le_bytes());
        for (metric, value) in &trial.metrics {
            put(&mut hash, metric.metric().name);
            hash.update(value.to_bits().to_le_bytes());
        }
    }
    short(hash)
}

/// What a cell at a level is known by: short, where the cell itself may hold paths of any length.
pub(super) fn cell_key(cell: &Cell, level: &str, unit: &str) -> String {
    let mut hash = Sha256::new();
    for text in [&cell.workload, &cell.variant, &cell.allocator, level, unit] {
        put(&mut hash, text);
    }
    for (name, value) in &cell.params {
        put(&mut hash, name);
        put(&mut hash, value);
    }
    short(hash)
}

/// With its length, so that no two lists of texts are one.
fn put(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use heapgate_core::report::{Outcome, testing};

    use super::*;

    #[test]
    fn a_report_that_was_written_and_read_is_the_same_run() {
        let report = testing::report(3, 2);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(id_of(&serde_json::from_str(&text).unwrap()), id_of(&report));
    }

    #[test]
    fn another_time_figure_or_commit_is_another_run() {
        let report = testing::report(2, 2);
        let changes: [fn(&mut Report); 4] = [
            |r| r.created_unix_s += 1,
            |r| r.fingerprint.build.commit.push('+'),
            |r| testing::set(&mut r.trials[3], MetricId::PeakRss, 1e6),
            |r| drop(r.trials.pop()),
        ];
        let mut ids: Vec<String> = changes
            .iter()
            .map(|change| {
                let mut other = report.clone();
                change(&mut other);
                id_of(&other)
            })
            .collect();
        ids.push(id_of(&report));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn only_completed_trials_give_figures() {
        let mut report = testing::report(2, 3);
        for trial in &mut report.trials {
            if trial.cell == testing::cell(1) || trial.rep == 1 {
                trial.outcome = Outcome::TimedOut { after_s: 1 };
            }
        }
        let run = Run::new(&report, Purpose::Run, None).unwrap();
        assert_eq!(run.cells.len(), 1);
        let reps: Vec<u32> = run.cells[0].metrics[&MetricId::PeakRss].iter().map(|p| p.0).collect();
        assert_eq!(reps, [0, 2]);
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_place() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut report = testing::report(1, 2);
            report.trials[1].metrics.insert(MetricId::PeakRss, bad);
            let error = Run::new(&report, Purpose::Run, None).unwrap_err().to_string();
            assert!(error.contains("peak_rss_bytes of tokenize/hf-wordpiece jemalloc, repetition 1"), "{error}");
        }
    }
}
