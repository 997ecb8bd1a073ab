//! Runs steps of a workload without any telemetry and prints how long they took: what `cargo bench --bench overhead`
//! compares with.
//!
//! `unmeasured WORKLOAD/VARIANT DOCUMENT STEPS`; the allocator is named in the environment, as for trials.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: heapgate_bench::Switch = heapgate_bench::Switch;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [variant, document, steps] = &arguments[..] else {
        eprintln!("usage: unmeasured WORKLOAD/VARIANT DOCUMENT STEPS");
        return ExitCode::from(2);
    };
    match heapgate_workloads::stopwatch::run(variant, document, steps) {
        Ok(ns) => {
            println!("{ns}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
