//! The report: what a run measured, as plain data. Nothing here measures, decides or prints.
//!
//! `model` is the schema (version [`SCHEMA_VERSION`]), `file` reads and writes it whole or not at all. The supervisor
//! fills it in; baselines, the gate and the renderers take it as given.

mod cells;
mod check;
pub mod file;
mod memory;
pub mod merge;
mod model;
mod sites;
#[doc(hidden)]
pub mod testing;

pub use cells::{CellTrials, RepStalls};
pub use check::{Fault, LARGEST_COUNT, check, check_trial};
pub(crate) use check::{finite, histogram as check_histogram, measured};
pub use memory::{MemoryAccount, MemoryPart, account};
pub use model::*;
pub use sites::{Site, Sites};
