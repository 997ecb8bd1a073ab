//! Pure functions over numbers: quantiles of samples and of sparse latency histograms, the factor between two samples and
//! whether it is more than chance, many tests at once, seeded randomness. Nothing here measures or does I/O.

pub mod histogram;
pub mod multiple;
pub mod random;
pub mod rank_test;
pub mod sample;
pub mod shape;
pub mod two_samples;
