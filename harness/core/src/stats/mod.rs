//! Pure functions over numbers: quantiles of samples and of sparse latency histograms, the factor between two samples or
//! pairs, dependence within a series, change points and prediction of a history, rates, seeded randomness, and what rules
//! do on simulated series. Nothing here measures or does I/O.

pub mod binomial;
pub mod change_points;
pub mod histogram;
pub mod prediction;
pub mod random;
pub mod ranks;
pub mod sample;
pub mod serial;
pub mod signed_rank;
pub mod simulate;
pub mod two_samples;
