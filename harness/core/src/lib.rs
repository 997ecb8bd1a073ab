//! heapgate-core: the engine. It plans and runs trials, samples them from outside, keeps the catalogue of metrics, and
//! turns measurements into a report, a comparison with a baseline, a verdict, and its pictures. No unsafe code outside
//! `sys`.

#![deny(unsafe_code)]

pub mod accuracy;
pub mod baseline;
pub mod budget;
pub mod calibration;
pub mod config;
pub mod document;
pub mod exit;
pub mod experiment;
pub mod export;
pub mod figures;
pub mod files;
pub mod fingerprint;
pub mod gate;
pub mod hash;
pub mod history;
pub mod leaks;
pub mod live;
pub mod machine;
pub mod metric;
pub mod plan;
pub mod profile;
pub mod render;
pub mod report;
pub mod sampler;
pub mod schema;
pub mod shard;
pub mod sites;
pub mod stats;
pub mod supervisor;
#[allow(unsafe_code, reason = "the only place: see its head")]
mod sys;
pub mod uri;
