//! Profiles: which lines of code the CPU's time, the memory, the allocations and the stalls come from.
//!
//! The child only leaves raw addresses with values (`cpu`, `heap`, `stacks` read them); `resolve` makes the [`Profile`] of
//! them, with names and lines, in the supervisor. `view` is what pictures are made of: stacks without the frames that
//! tell nothing, sites, folded lines. `pprof`, `flame` and `firefox` are the forms that other tools read, `folder`
//! writes them all. `diff` tells what changed between two profiles and what of it is more than chance (`align` finds the same
//! site in both), `diff_flame` draws it. Called by the command line.

mod align;
pub mod cpu;
pub mod diff;
pub mod diff_flame;
pub mod file;
pub mod firefox;
pub mod flame;
pub mod folder;
pub mod heap;
mod model;
pub mod pprof;
mod resolve;
pub mod stacks;
#[cfg(test)]
pub(crate) mod testing;
pub mod view;

pub use model::{
    Aggregate, Frame, Kind, Location, Measured, Module, Origin, PROFILE_SCHEMA_VERSION, Profile, Sample, Sampling,
    Value, ValueUnit,
};
pub use resolve::{Gathered, RawSample, Subject, resolve};
