//! The gate: a report set against baselines gives a verdict. Pure: nothing here measures, reads files or prints.
//!
//! `verdict` holds what comes out, `judge` walks over cells and metrics, `line` compares one metric of one cell: `exact` by
//! the rule for exact metrics, `noisy` by the rule for all others, with the error that `look` allows. `memory` says where
//! resident memory went, `advice` what to look at. `accept`
//! lets known changes pass for a time, `doubt` says what makes a comparison doubtful,
//! `detectable` how small a change it finds, `simulated` lends its rule to simulations.

mod accept;
mod advice;
mod detectable;
mod doubt;
mod exact;
mod judge;
mod line;
mod look;
mod memory;
mod noisy;
mod simulated;
#[cfg(test)]
mod tests;
mod verdict;

pub use accept::accept;
pub use detectable::{POWER, detectable};
pub use doubt::{note_doubts, unequal_repetitions};
pub use judge::{Lookup, compare, judge};
pub use look::{FALSE_ALARM, Look, MISS, MOST_LOOKS};
pub use simulated::{RULE, rule};
pub use verdict::*;
