//! The report: what a run measured, as plain data. Nothing here measures, decides or prints.
//!
//! `model` is the schema (version [`SCHEMA_VERSION`]), `file` reads and writes it whole or not at all. The supervisor fills
//! it in; baselines, the gate and the renderers take it as given.

mod model;

pub use model::*;
