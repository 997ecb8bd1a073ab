//! The types that an experiment is defined with.

use super::scenario::{Scene, Stage};
use crate::metric::{MetricId, Unit};
use crate::report::{PhaseKind, Trial};

/// One experiment, by its number in the catalogue of experiments.
#[derive(Debug)]
pub struct Experiment {
    /// Its number: 3 for E3.
    pub number: u32,
    /// A few words.
    pub title: &'static str,
    /// What is run here, and how that stands for what the source ran. One short paragraph.
    pub about: &'static str,
    /// What it does.
    pub body: Body,
}

/// What an experiment does.
#[derive(Debug)]
pub enum Body {
    /// Runs arms, interleaved, and compares them two by two.
    Compare {
        /// What is run.
        arms: &'static [Arm],
        /// What is compared.
        rows: &'static [Row],
    },
    /// Names the call sites that allocate most.
    Sites {
        /// What is run, each arm once.
        arms: &'static [Arm],
        /// What the source found: `(site, share, mean bytes)`.
        claims: &'static [(&'static str, f64, f64)],
    },
    /// What a unit of work costs, for these arms.
    UnitCosts {
        /// Gives what is run: every workload that is registered.
        arms: fn() -> Vec<Arm>,
    },
    /// Gives some commands and looks at what comes of them.
    Scenario {
        /// Does so.
        run: fn(&Stage) -> Result<Scene, String>,
    },
    /// Another command shows it.
    Elsewhere(&'static str),
}

impl Body {
    /// What is run.
    #[must_use]
    pub fn arms(&self) -> Vec<Arm> {
        match self {
            Self::Compare { arms, .. } | Self::Sites { arms, .. } => arms.to_vec(),
            Self::UnitCosts { arms } => arms(),
            Self::Scenario { .. } | Self::Elsewhere(_) => Vec::new(),
        }
    }
}

/// One thing that is run.
#[derive(Debug, Clone, Copy)]
pub struct Arm {
    /// What rows call it.
    pub name: &'static str,
    /// The variant, as in `decode/paged`.
    pub variant: &'static str,
    /// The allocator with its settings, as on the command line.
    pub allocator: &'static str,
    /// Parameters that differ from their defaults.
    pub params: &'static [(&'static str, &'static str)],
}

/// One figure of two arms.
#[derive(Debug)]
pub struct Row {
    /// What the figure is.
    pub what: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Where it is read.
    pub read: Read,
    /// The arm it is compared with.
    pub base: &'static str,
    /// The arm that is compared.
    pub other: &'static str,
    /// What was claimed; absent where the source says nothing and the row is ours.
    pub claim: Option<Claim>,
}

/// Where a row's figure is read off a trial.
#[derive(Debug, Clone, Copy)]
pub enum Read {
    /// A metric of the catalogue.
    Metric(MetricId),
    /// One of the workload's own figures.
    Figure(&'static str),
    /// Anything else.
    Of(fn(&Trial) -> Option<f64>),
}

/// A claimed change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Claim {
    /// From this value to that, in the row's unit.
    FromTo(f64, f64),
    /// Times this factor.
    Factor(f64),
    /// This value for the arm that is compared, in the row's unit; nothing of a change.
    At(f64),
}

impl Claim {
    /// What the figure is claimed to be multiplied by; 1 where nothing changes, infinite from 0, `None` where no change
    /// is claimed.
    #[must_use]
    pub fn factor(self) -> Option<f64> {
        match self {
            Self::FromTo(from, to) if from == to => Some(1.0),
            Self::FromTo(from, to) => Some(to / from),
            Self::Factor(factor) => Some(factor),
            Self::At(_) => None,
        }
    }
}

impl Read {
    /// The figure, if the trial has it.
    #[must_use]
    pub fn of(self, trial: &Trial) -> Option<f64> {
        match self {
            Self::Metric(id) => (id.metric().read)(trial),
            Self::Figure(name) => trial.figures.get(name).copied(),
            Self::Of(read) => read(trial),
        }
    }
}

/// Resident memory at `share` (0 to 1) of the measured phase, bytes.
#[must_use]
pub fn rss_at(trial: &Trial, share: f64) -> Option<f64> {
    let phase = trial.phases.iter().find(|p| p.kind == PhaseKind::Measure && p.ended)?;
    let at_ms = (phase.start_s + phase.wall_s * share) * 1e3;
    let sample = trial.rss_series.iter().min_by(|a, b| (a.0 - at_ms).abs().total_cmp(&(b.0 - at_ms).abs()))?;
    Some(sample.1 as f64)
}
