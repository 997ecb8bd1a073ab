//! How a verdict is printed: the flags of every verb that comes to one.

use clap::Args;
use heapgate_core::gate::Verdict;
use heapgate_core::render;
use heapgate_core::report::Report;

use super::{Global, print};
use crate::fail::Failure;

/// What goes to standard output.
#[derive(Debug, Args)]
pub struct Shown {
    /// Show every comparison, also what passed
    #[arg(short, long)]
    verbose: bool,
    /// Print the verdict as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Shown {
    pub fn print(&self, report: &Report, verdict: &Verdict, global: &Global) -> Result<(), Failure> {
        if self.json {
            print(&render::json::render(verdict)?)
        } else {
            print(&render::terminal::render(report, verdict, global.options(self.verbose)))
        }
    }

    /// Whether everything is to be shown.
    pub fn verbose(&self) -> bool {
        self.verbose
    }

    /// Whether JSON is to be printed.
    pub fn json(&self) -> bool {
        self.json
    }
}
