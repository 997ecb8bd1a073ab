//! heapgate-core.
