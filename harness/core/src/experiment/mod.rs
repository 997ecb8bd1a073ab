//! Experiments: what others claim of ways to use memory, held against runs of ours.
//!
//! `model` says what an experiment is: arms that are run, rows that compare two of them, and what was claimed of each.
//! The definitions themselves are the command line's, since they name workloads. Nothing here runs anything.

mod model;

pub use model::{Arm, Body, Claim, Experiment, Read, Row, rss_at};
