//! Runs steps of a workload under dhat-rs and prints how long they took: for `ci/compare-profilers`.
//!
//! `dhat WORKLOAD/VARIANT DOCUMENT STEPS`, as the program `unmeasured`; what dhat-rs found goes to the file that is named in
//! the environment. A bench target, and not a program: nothing else needs dhat-rs, nor is it built with the tests.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The environment variable that names the file.
const FILE: &str = "HEAPGATE_DHAT_FILE";

fn main() -> ExitCode {
    let Some(file) = std::env::var_os(FILE) else {
        // As `cargo bench` runs it, beside all others.
        println!("dhat: nothing to do without {FILE}; ci/compare-profilers runs it");
        return ExitCode::SUCCESS;
    };
    let _profiler = dhat::Profiler::builder().file_name(file).build();
    heapgate_workloads::stopwatch::main()
}
