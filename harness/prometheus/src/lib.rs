//! heapgate-prometheus: a measured process as Prometheus sees it.
//!
//! A service registers [`collector`] in its own registry, one line:
//!
//! ```
//! # fn main() -> prometheus::Result<()> {
//! prometheus::default_registry().register(Box::new(heapgate_prometheus::collector()))
//! # }
//! ```
//!
//! An agent, which looks at many processes from outside, makes [`Figures`] of each [`Reader`](heapgate_segment::reader::Reader)
//! and writes them with [`text::write`].
//!
//! | module | what |
//! | --- | --- |
//! | [`catalogue`] | every live metric: name, type, unit, help, labels, where it comes from |
//! | [`figures`](Figures) | the values of one process at one moment |
//! | [`stalls`] | histograms of stalls with fixed bounds |
//! | [`process`](ProcessReader) | what the kernel says |
//! | [`families`], [`text`] | the two forms of an exposition: for a registry, and written as it comes |
//! | [`collector`] | this process, for its own registry |
//!
//! A look takes some microseconds for each thread that has allocated, and nothing while nobody asks.

pub mod catalogue;
#[cfg(feature = "jemalloc")]
pub mod jemalloc;
pub mod stalls;
pub mod text;

#[cfg(test)]
mod bpftrace;
mod collector;
#[cfg(test)]
mod doc;
mod families;
mod figures;
mod gauges;
mod groups;
mod labels;
mod observation;
mod process;
#[cfg(test)]
mod testing;

pub use catalogue::MetricId;
pub use collector::{HeapgateCollector, collector};
pub use families::{families, merge};
pub use figures::Figures;
pub use heapgate_segment::limit::memory_limit_bytes;
pub use labels::Labels;
pub use process::{ProcessFigures, ProcessReader};
pub use stalls::{BOUNDS_S, Scale, Stalls};
