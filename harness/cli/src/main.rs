//! heapgate: memory telemetry and regression gates for Rust services that tokenize, decode and embed text.

mod args;
mod base;
mod branch;
mod build;
mod cargo;
mod experiments;
mod fail;
mod history;
mod inputs;
mod leaks;
mod live;
mod matrix;
mod named;
mod neighbours;
mod on_fail;
mod own_bench;
mod profile;
mod profile_diff;
mod profile_links;
mod profile_live;
mod progress;
mod rounds;
mod run;
mod sides;
mod signals;
mod source;
mod store;
mod top;
mod trace_line;
mod who;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;

/// The allocator under test in the children that run trials; in the supervisor itself, inert over jemalloc.
#[global_allocator]
static ALLOCATOR: heapgate_bench::Allocator = heapgate_bench::allocator();

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("heapgate: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
