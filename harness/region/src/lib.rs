//! heapgate-region.
