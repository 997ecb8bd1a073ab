//! Runs steps of a workload without any telemetry and prints how long they took: what `cargo bench --bench overhead` and
//! `ci/compare-profilers` compare with.
//!
//! `unmeasured WORKLOAD/VARIANT DOCUMENT STEPS`; the allocator is named in the environment, as for trials.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: heapgate_bench::Switch = heapgate_bench::Switch;

fn main() -> ExitCode {
    heapgate_workloads::stopwatch::main()
}
