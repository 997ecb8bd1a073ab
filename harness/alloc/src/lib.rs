//! heapgate-alloc: a global allocator that records every allocation call in shared memory.
//!
//! ```
//! use heapgate_alloc::Telemetry;
//! use std::alloc::System;
//!
//! #[global_allocator]
//! static ALLOCATOR: Telemetry<System> = Telemetry::new(System);
//!
//! fn main() {
//!     println!("{} bytes", String::from("counted, if somebody watches").len());
//! }
//! ```
//!
//! A process that is started with a segment in its environment ([`SEGMENT_VARIABLE`]) counts into it from before
//! `main`; so does one that publishes its segment, for an agent to find ([`publish`]: a line of code, or
//! `HEAPGATE_PUBLISH=NAME` in the environment), or that writes trace lines (`HEAPGATE_TRACE=1`, docs/trace.md). Any other
//! process pays one predictable branch a call. Nothing here allocates, locks, or runs a destructor on
//! the path of a call.
//!
//! What it does not see: memory that bypasses the global allocator (`mmap`, C libraries' `malloc`), and frees of what
//! was allocated while the level was `off`. A process made by a raw `clone` that skips the C library's fork handlers
//! goes on counting into its parent's slot.

mod agent;
mod attach;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "profile-cpu")]
pub mod cpu;
pub mod gauges;
#[cfg(feature = "groups")]
pub mod groups;
mod publish;
mod remembered;
mod requests;
mod rseq;
mod stacks;
mod stalls;
mod telemetry;
mod thread;
mod trace;
mod watch;

pub use attach::{AttachError, SEGMENT_VARIABLE, Session, attach, session};
pub use heapgate_segment as segment;
pub use publish::{
    GROUP_VARIABLE, LEVEL_VARIABLE, PUBLISH_VARIABLE, Publication, PublishError, SAMPLE_PERIOD_VARIABLE,
    VERSION_VARIABLE, every, publish, publish_as,
};
pub use requests::request_finished;
pub use stacks::{mark, marks, takes_slow_calls};
pub use stalls::ThreadStalls;
pub use telemetry::Telemetry;
pub use watch::{ThreadWatch, WatchError, Watched};
