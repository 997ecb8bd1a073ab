//! heapgate-core: the engine. It plans and runs trials, samples them from outside, keeps the catalogue of metrics, and turns
//! measurements into a report, a comparison with a baseline, a verdict, and its pictures. No unsafe code outside `sys`.

pub mod metric;
pub mod report;
pub mod stats;
