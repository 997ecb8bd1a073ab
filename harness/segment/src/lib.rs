//! heapgate-segment.
