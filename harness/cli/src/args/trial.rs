//! `heapgate trial`: what a child does.

use clap::Args;
use heapgate_bench::{Error, Injection, Params, Trial as BenchTrial};
use heapgate_core::exit;

use crate::fail::Failure;
use crate::matrix::{find_variant, parse_params};

/// Run one trial in this process
#[derive(Debug, Args)]
pub struct Trial {
    /// Workload and variant, as in tokenize/hf-wordpiece
    variant: String,
    /// Parameter, NAME=VALUE
    #[arg(long = "param")]
    params: Vec<String>,
    /// Measured steps
    #[arg(long)]
    steps: Option<u64>,
    /// A regression to plant
    #[arg(long)]
    inject: Option<Injection>,
}

impl Trial {
    pub fn execute(self) -> Result<u8, Failure> {
        let variant = find_variant(&self.variant)?;
        let params = Params::resolve(variant.params, &parse_params(&self.params)?).map_err(Failure::usage)?;
        let trial = BenchTrial { variant, params, steps: self.steps, injection: self.inject.unwrap_or_default() };
        let work = trial.run().map_err(|error| match error {
            Error::Param { .. } => Failure::usage(error),
            _ => Failure::workload(error),
        })?;
        println!("{} {}s, checksum {:016x}", work.units, trial.variant.unit, work.checksum);
        Ok(exit::PASS)
    }
}
