//! A comparison of a running service with itself: sides (groups of threads, groups of processes, versions) whose windows are
//! paired and tested as they come. Pure: who looks at processes is the command line.
//!
//! [`window`] makes a side's figures of a window from counters of two looks; [`compare`] pairs and tests them, and says what is
//! known. The method, and what it can't tell: docs/live-ab.md.

pub mod compare;
pub mod rollout_rule;
pub mod window;

pub use compare::{Answer, Comparison, Finding, Rollout, Standing};
pub use window::{Counts, Figures, LiveMetric, Observed, ProcessKey, Windows};
