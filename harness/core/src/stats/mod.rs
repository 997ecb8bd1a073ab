//! Pure functions over numbers: quantiles of samples and of sparse latency histograms. Nothing here measures or does
//! I/O.

pub mod histogram;
pub mod sample;
