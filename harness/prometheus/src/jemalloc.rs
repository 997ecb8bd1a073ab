//! jemalloc's figures, of this process.

pub use heapgate_alloc::gauges::jemalloc as gauges;
