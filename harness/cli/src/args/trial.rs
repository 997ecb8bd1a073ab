//! `heapgate trial`: what a child does.

use clap::Args;
use heapgate_bench::{TrialError, run_trial};
use heapgate_core::exit;
use heapgate_workloads::variants;

use super::print;
use crate::fail::Failure;

/// Run one trial in this process
#[derive(Debug, Args)]
pub struct Trial {
    /// Workload and variant, as in tokenize/hf-wordpiece; then --param NAME=VALUE, --steps N, --inject WHAT=HOW
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Trial {
    pub fn execute(self) -> Result<u8, Failure> {
        let done = run_trial(variants(), &self.arguments).map_err(|error| match error {
            TrialError::Usage(_) => Failure::usage(error),
            TrialError::Workload(_) => Failure::workload(error),
        })?;
        print(&done)?;
        Ok(exit::PASS)
    }
}
