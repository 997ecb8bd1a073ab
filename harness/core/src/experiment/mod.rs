//! Experiments: what others claim of ways to use memory, held against runs of ours.
//!
//! `model` says what an experiment is: arms that are run, rows that compare two of them, and what was claimed of each.
//! The definitions themselves are the command line's, since they name workloads. `evaluate` reads the arms' trials and
//! says of each claim whether it held. `scenario` is for what is no comparison of arms. Nothing here runs anything.

mod evaluate;
mod model;
mod scenario;

pub use evaluate::{
    Claimed, Compared, Cost, Curve, Evaluation, FINDINGS_SCHEMA_VERSION, FactorInterval, Findings, Holds, Measured,
    STEP, SiteTable, evaluate, evaluate_scene,
};
pub use model::{Arm, Body, Claim, Experiment, Read, Row, rss_at};
pub use scenario::{Scene, Stage};
