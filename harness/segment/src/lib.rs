//! heapgate-segment.
pub mod histogram;
