//! heapgate.
fn main() {}
