//! heapgate-bench: the [`Workload`] trait, and what runs it in phases under the allocator under test.
//!
//! A program that is to be measured has [`Allocator`] as its global allocator, and runs a [`Trial`] when it is told to.

mod allocator;
mod inject;
mod jemalloc;
mod switch;
mod trial;
mod workload;

pub use allocator::{AllocatorSpec, Base, SpecError};
pub use inject::Injection;
pub use switch::{ALLOCATOR_VARIABLE, Switch, in_force};
pub use trial::Trial;
pub use workload::{Error, FigureSpec, Figures, ParamSpec, Params, Setup, Steps, Variant, Work, Workload};

/// The allocator under test, chosen at start-up, with telemetry.
pub type Allocator = heapgate_alloc::Telemetry<Switch>;

/// Makes an [`Allocator`]: `#[global_allocator] static ALLOCATOR: Allocator = allocator();`
#[must_use]
pub const fn allocator() -> Allocator {
    heapgate_alloc::Telemetry::new(Switch)
}
