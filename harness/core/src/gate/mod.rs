//! The gate: a report set against baselines gives a verdict. Pure: nothing here measures, reads files or prints.
//!
//! `verdict` holds what comes out, `judge` walks over cells and metrics, `line` compares one metric of one cell: `exact` by
//! the rule for exact metrics, `noisy` by the rule for all others, with the error that `look` allows; `recent` makes a
//! baseline of the last runs. `memory` says where resident memory went, `advice` what to look at, `culprits` which lines a
//! profile of what failed names; `accept` lets known changes
//! pass for a time, `doubt` says what makes a comparison doubtful. `detectable` says how small a change is found, `calibrated`
//! puts that beside a verdict, `simulated` lends the rule to simulations.

mod accept;
mod advice;
mod calibrated;
mod culprits;
mod detectable;
mod doubt;
mod exact;
mod judge;
mod line;
mod look;
mod memory;
mod noisy;
mod recent;
mod simulated;
#[cfg(test)]
mod tests;
mod verdict;

pub use accept::accept;
pub use calibrated::{calibrate, note_calibration};
pub use culprits::{Culprit, Culprits, Wanted, accuse, wanted};
pub use detectable::{POWER, detectable};
pub use doubt::{note_clocks, note_doubts, unequal_repetitions};
pub use judge::{Lookup, compare, judge};
pub use look::{FALSE_ALARM, GROWTH, Look, MISS, MOST_LOOKS, repetitions};
pub use recent::from_history;
pub use simulated::{RULE, rule};
pub use verdict::*;
