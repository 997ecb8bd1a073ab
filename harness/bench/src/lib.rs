//! heapgate-bench: the [`Workload`] trait and what runs it in phases under the allocator under test.

mod workload;

pub use workload::{Error, ParamSpec, Params, Steps, Variant, Work, Workload};
