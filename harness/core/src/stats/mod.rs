//! Pure functions over numbers: quantiles of samples and of sparse latency histograms, the factor between two samples and
//! whether it is more than chance, many tests at once, seeded randomness. Nothing here measures or does I/O.

pub mod binomial;
pub mod blocks;
pub mod change_points;
pub mod histogram;
pub mod mann_kendall;
pub mod multiple;
pub mod prediction;
pub mod random;
pub mod rank_test;
pub mod ranks;
pub mod sample;
pub mod sequential;
pub mod serial;
pub mod shape;
pub mod signed_rank;
pub mod simulate;
pub mod trend;
pub mod two_samples;
