//! What the gate says. The serialized form is public: see `schemas/verdict-v2.json`, generated from here.

use schemars::JsonSchema;
use serde::Serialize;

use crate::baseline::RecentRuns;
use crate::fingerprint::Difference;
use crate::metric::{Limits, MetricId};
use crate::report::{Cell, MemoryPart, PhaseKind};

/// The version of the verdict's schema. Raised by every change that an older reader would misread.
pub const VERDICT_SCHEMA_VERSION: u32 = 2;

/// The outcome of a comparison: per metric and cell, and in all.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// The version of this schema.
    pub schema_version: u32,
    /// In all.
    pub decision: Overall,
    /// How many lines came out how.
    pub tally: Tally,
    /// One for each cell and metric, sorted by cell, then as in the catalogue.
    pub lines: Vec<Line>,
    /// One for each cell whose answers have a checksum.
    pub answers: Vec<AnswersLine>,
    /// What stands in the way of a pass, beyond single metrics.
    pub problems: Vec<Problem>,
    /// What a reader should know; none changes the decision.
    pub notes: Vec<String>,
    /// The baselines, by workload.
    pub compared_with: Vec<ComparedWith>,
    /// How much error was allowed, and how many metrics were tested against it.
    pub rule: Rule,
    /// Where resident memory went in the cells where it moved: what the change is made of.
    pub memory: Vec<MemoryLine>,
    /// The lines of code behind what failed, where it was profiled at once (`--profile-on-fail`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<super::Culprits>,
}

/// How noisy metrics were decided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Rule {
    /// Largest probability, corrected for all metrics tested, at which one fails.
    pub alpha: f64,
    /// Largest probability at which one passes.
    pub miss: f64,
    /// Looks at the growing run that share the allowed error.
    pub looks: u32,
    /// Metrics that were tested.
    pub tested: usize,
}

/// A decision over everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Everything that is gated was compared, and nothing got worse than it may.
    Pass,
    /// Something got worse than it may, or the answers differ.
    Fail,
    /// Nothing is known to have got worse, but something could not be compared.
    Inconclusive,
}

/// Numbers of lines by decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Tally {
    /// Lines with [`Decision::Pass`].
    pub passed: u64,
    /// Lines with [`Decision::Improved`].
    pub improved: u64,
    /// Lines with [`Decision::Fail`], answers too.
    pub failed: u64,
    /// Lines with [`Decision::Inconclusive`], answers too.
    pub inconclusive: u64,
    /// Lines with [`Decision::NotCompared`].
    pub not_compared: u64,
    /// Lines with [`Decision::Accepted`].
    pub accepted: u64,
    /// Lines with [`Decision::Info`].
    pub info: u64,
}

impl Tally {
    /// Lines that were decided against a limit.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.passed + self.improved + self.failed + self.accepted
    }
}

/// One metric of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    /// The cell.
    pub cell: Cell,
    /// The metric.
    pub metric: MetricId,
    /// What came out.
    pub decision: Decision,
    /// Whether more repetitions could decide what these left open.
    pub undecided: bool,
    /// The baseline's values; absent where it has none.
    pub baseline: Option<Side>,
    /// This run's values; absent where it has none.
    pub now: Option<Side>,
    /// Change of the median as a fraction of the baseline's, signed: 0.15 is 15 % more. Absent without both sides, or
    /// where the baseline is 0.
    pub change: Option<f64>,
    /// Where the true change is, in the form of `change`; absent where repetitions agree (the change is exact) or are too
    /// few to say.
    pub interval: Option<ChangeInterval>,
    /// The smallest change, as a fraction of the baseline, that could have been told from none with these repetitions at
    /// this noise: 0 where repetitions agree, absent where nothing was compared.
    pub resolution: Option<f64>,
    /// The smallest change, as a fraction of the baseline and on top of the limit, that was found in 99 of 100 runs when this
    /// class of machines was calibrated; absent where it wasn't.
    pub detectable: Option<f64>,
    /// Probability of a difference this far beyond the limit where there is none, corrected for the number of metrics
    /// that were tested; absent where nothing was tested.
    pub p_value: Option<f64>,
    /// The limits applied.
    pub limits: Limits,
    /// Why it was decided so, in a few words.
    pub reason: String,
    /// What to look at, where it failed: a hint each.
    pub advice: Vec<String>,
}

/// Where a change is, with some confidence. Signed fractions of the baseline, as [`Line::change`]; infinite ends are
/// absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct ChangeInterval {
    /// Lower end.
    pub low: f64,
    /// Upper end; infinite (in JSON: null) from a baseline of 0.
    pub high: f64,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
}

/// What resident memory was made of on both sides, at the end of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MemoryLine {
    /// The cell.
    pub cell: Cell,
    /// At the end of which phase.
    pub phase: PhaseKind,
    /// The parts: they add up to resident memory. Medians over the repetitions.
    pub parts: Vec<MemoryPartLine>,
}

/// One part of resident memory on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MemoryPartLine {
    /// Which part.
    pub part: MemoryPart,
    /// In the baseline, bytes.
    pub baseline_bytes: f64,
    /// Now, bytes.
    pub now_bytes: f64,
}

impl Line {
    /// How much worse the median got, as a fraction of the baseline's: negative where it got better, infinite where the
    /// baseline was 0. `None` without both sides.
    #[must_use]
    pub fn worsening(&self) -> Option<f64> {
        let (baseline, now) = (self.baseline.as_ref()?, self.now.as_ref()?);
        Some(worsening(self.metric, baseline.median, now.median))
    }
}

/// How much worse `now` is than `baseline`, as a fraction of the baseline: infinite where the baseline is 0 and `now`
/// is worse, 0 where they are the same.
pub(crate) fn worsening(metric: MetricId, baseline: f64, now: f64) -> f64 {
    if crate::stats::sample::same(baseline, now) {
        return 0.0;
    }
    let worse = match metric.metric().better {
        crate::metric::Better::Lower => now - baseline,
        crate::metric::Better::Higher => baseline - now,
    };
    // With a baseline of 0 this is an infinity of the right sign.
    worse / baseline.abs()
}

/// The values of one side, in short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// Median over the repetitions.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Repetitions with a value.
    pub reps: u64,
}

impl Side {
    /// The values in short; `None` where there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: crate::stats::sample::median(values)?,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            reps: values.len() as u64,
        })
    }
}

/// What came out for one metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Decision {
    /// Within its limits.
    Pass,
    /// Better: an exact metric by anything, another by more than its limit.
    Improved,
    /// Worse than a limit allows.
    Fail,
    /// Worse than a limit allows, which `heapgate.toml` accepts for a time.
    Accepted {
        /// Why, as given there.
        why: String,
        /// Until which day, as in 2026-12-31; from the next on it fails again.
        until: String,
    },
    /// It could not be decided, which is no pass.
    Inconclusive,
    /// Left out, as configured.
    NotCompared {
        /// Why.
        why: String,
    },
    /// It has no limit, and is shown only.
    Info,
}

impl Decision {
    /// Worse ones are greater.
    pub(crate) fn severity(&self) -> u8 {
        match self {
            Self::Info => 0,
            Self::Pass => 1,
            Self::Improved => 2,
            Self::NotCompared { .. } => 3,
            Self::Accepted { .. } => 4,
            Self::Inconclusive => 5,
            Self::Fail => 6,
        }
    }
}

/// The answers of one cell: checksums of what the measured phase computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AnswersLine {
    /// The cell.
    pub cell: Cell,
    /// `pass`, `fail` or `inconclusive`.
    pub decision: Decision,
    /// The baseline's checksums.
    pub baseline: Vec<String>,
    /// This run's checksums.
    pub now: Vec<String>,
    /// Why it was decided so, in a few words.
    pub reason: String,
}

/// Something that stands in the way of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// Where: a workload, or a cell and its repetition (from 1); empty where it is about the whole run.
    pub place: String,
    /// What, and what to do.
    pub text: String,
}

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A trial failed, crashed, or ran out of memory or time.
    TrialFailed,
    /// The run was cut off.
    RunIncomplete,
    /// A planned cell has no trial.
    CellNotRun,
    /// A baseline is there and can't be used.
    BaselineUnusable,
    /// There is no baseline of the workload.
    NoBaseline,
    /// The baseline doesn't have the cell.
    CellNotInBaseline,
    /// The cell counts another unit of work than the baseline.
    UnitDiffers,
    /// Not one gated metric could be compared.
    NothingCompared,
}

/// The baseline of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ComparedWith {
    /// The workload.
    pub workload: String,
    /// Class of the machine it was recorded on.
    pub class: String,
    /// Whether that is this machine's class.
    pub same_class: bool,
    /// When it was recorded, seconds since 1970 (UTC).
    pub recorded_unix_s: u64,
    /// Who recorded it, and why.
    pub recorded_by: String,
    /// Commit of the source tree it was measured with; empty where unknown.
    pub commit: String,
    /// How the builds differ.
    pub build_differences: Vec<Difference>,
    /// How the machines differ.
    pub machine_differences: Vec<Difference>,
    /// Which runs, where the last of the history took the baseline's place: what is said above is of the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<RecentCompared>,
}

/// The last runs of the history, in a baseline's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecentCompared {
    /// How many.
    pub runs: u64,
    /// When the first of them began, seconds since 1970 (UTC).
    pub since_unix_s: u64,
    /// Its commit; empty where unknown.
    pub since_commit: String,
}

impl RecentCompared {
    /// What is said of `runs`; `None` of none.
    pub(super) fn of(runs: &RecentRuns) -> Option<Self> {
        let first = runs.runs.first()?;
        let since_commit = first.commit.clone();
        Some(Self { runs: runs.runs.len() as u64, since_unix_s: first.unix_s, since_commit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_is_positive_whichever_way_is_better() {
        assert_eq!(worsening(MetricId::PeakRss, 100.0, 115.0), 0.15);
        assert_eq!(worsening(MetricId::Throughput, 100.0, 85.0), 0.15);
        assert_eq!(worsening(MetricId::PeakRss, 100.0, 50.0), -0.5);
    }

    #[test]
    fn from_zero_every_change_is_infinite_and_none_is_none() {
        assert_eq!(worsening(MetricId::LeftObjects, 0.0, 1.0), f64::INFINITY);
        assert_eq!(worsening(MetricId::LeftObjects, 0.0, -1.0), f64::NEG_INFINITY);
        assert_eq!(worsening(MetricId::LeftObjects, 0.0, 0.0), 0.0);
        assert_eq!(worsening(MetricId::Throughput, 0.0, 5.0), f64::NEG_INFINITY);
    }

    #[test]
    fn below_zero_more_is_still_worse() {
        assert_eq!(worsening(MetricId::LeftBytes, -100.0, -50.0), 0.5);
    }
}
