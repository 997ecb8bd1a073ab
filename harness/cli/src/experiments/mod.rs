//! The experiments, a file for each group. To add one, define it in a file here and name it in [`ALL`].

use heapgate_core::experiment::{Body, Experiment};

mod embedding;

/// Every experiment, by number.
pub static ALL: &[&Experiment] = &[
    &embedding::E4,
    &embedding::E12,
    &embedding::E19,
    &not_yet(21, "Trace line of a running process"),
    &not_yet(22, "Settings of the allocator changed while it runs"),
    &not_yet(23, "Online A/B of reclaim settings"),
    &not_yet(24, "Roll-out comparison with a verdict"),
    &not_yet(25, "Three-dimensional regression check"),
    &not_yet(26, "Leak detection for arenas"),
    &not_yet(27, "Kernel-level events"),
    &not_yet(28, "Alerts"),
    &not_yet(29, "Memory budgets that agree"),
];

const fn not_yet(number: u32, title: &'static str) -> Experiment {
    Experiment { number, title, about: "", body: Body::NotYet }
}
