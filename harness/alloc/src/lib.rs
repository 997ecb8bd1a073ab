//! heapgate-alloc.
