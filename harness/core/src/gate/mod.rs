//! The gate: a report set against baselines gives a verdict. Pure: nothing here measures, reads files or prints.
//!
//! `verdict` holds what comes out, `judge` walks over cells and metrics, `line` decides one metric of one cell: `exact`
//! by the rule for exact metrics, `noisy` by the rule for all others (a trait, so that the statistics behind it can be
//! replaced). `accept` lets known changes pass for a time, `doubt` says what makes a comparison doubtful.

mod accept;
mod doubt;
mod exact;
mod judge;
mod line;
mod noisy;
#[cfg(test)]
mod tests;
mod verdict;

pub use accept::accept;
pub use doubt::{note_doubts, unequal_repetitions};
pub use judge::{Lookup, compare, judge, judge_by};
pub use noisy::{Evidence, Finding, Latencies, MIN_REPETITIONS, MedianRule, NoisyRule};
pub use verdict::*;
