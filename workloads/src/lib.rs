//! heapgate-workloads.
