//! `heapgate diff`

use std::path::PathBuf;

use clap::Args;
use heapgate_core::exit;
use heapgate_core::gate::{Look, compare};
use heapgate_core::render;
use heapgate_core::report::Report;

use super::exports::Exports;
use super::{Global, print};
use crate::fail::Failure;

/// Compare two reports, by the rules of the gate: BEFORE plays the baseline
#[derive(Debug, Args)]
pub struct Diff {
    /// The earlier report
    before: PathBuf,
    /// The later report
    after: PathBuf,
    /// Show every comparison, also what passed
    #[arg(short, long)]
    verbose: bool,
    /// Print the verdict as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    exports: Exports,
}

impl Diff {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        self.exports.check()?;
        let config = global.config()?;
        let (before, after) = (Report::load(&self.before)?, Report::load(&self.after)?);
        let verdict = compare(&before, &after, &config, Look::ONLY);
        let exported = self.exports.write(&after, &verdict);
        if self.json {
            print(&render::json::render(&verdict)?)?;
        } else {
            print(&render::terminal::render(&after, &verdict, global.options(self.verbose)))?;
        }
        exported?;
        Ok(exit::exit_code(&verdict, &after))
    }
}
