//! heapgate-bench: the [`Workload`] trait, and what runs it in phases under the allocator under test.
//!
//! A bench of your own takes ten lines: [`main!`] with closures ([`bench!`]) or with types that implement [`Workload`]. It
//! runs under `cargo bench` alone, and `heapgate gate --bench NAME` holds it to a baseline. Tests can assert what a thread
//! allocates: [`assert_allocations!`], [`assert_no_allocations!`], [`assert_peak_live!`].

mod allocator;
mod assert;
mod child;
mod closure;
mod inject;
mod jemalloc;
mod jemalloc_hooks;
mod json;
mod profile;
mod suite;
mod switch;
mod trial;
mod workload;

pub use allocator::{AllocatorSpec, Base, SpecError, Under};
#[doc(hidden)]
pub use assert::limit;
pub use assert::{bytes, watch};
pub use child::{TrialError, parse_param, run_trial, steer};
pub use closure::CLOSURE_STEPS;
#[doc(hidden)]
pub use closure::set_up_closure;
pub use heapgate_alloc::control::ControlError;
pub use heapgate_alloc::{Telemetry, ThreadStalls, Watched};
pub use inject::{Injection, Stall};
pub use suite::{DESCRIBE, PROBE, PROTOCOL, Suite, TRIAL};
pub use switch::{ALLOCATOR_VARIABLE, Switch, in_force, in_use};
pub use trial::Trial;
pub use workload::{Error, FigureSpec, Figures, ParamSpec, Params, Setup, Steps, Variant, Work, Workload};

/// The allocator under test, chosen at start-up, with telemetry.
pub type Allocator = Telemetry<Switch>;

/// Makes an [`Allocator`]: `#[global_allocator] static ALLOCATOR: Allocator = allocator();`
#[must_use]
pub const fn allocator() -> Allocator {
    Telemetry::new(Switch)
}
