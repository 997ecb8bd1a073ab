//! `heapgate run`

use clap::Args;
use heapgate_core::exit;
use heapgate_core::render;

use super::{Global, print, selection::Selection};
use crate::fail::Failure;

/// Run workloads and record what they do with memory
///
/// Each trial is a fresh process, sampled from outside; trials are kept as they end, so that nothing measured is lost.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    selection: Selection,
    /// Print the report as JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Run {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let ran = self.selection.session(&global.config()?)?.run()?;
        let text = if self.json {
            serde_json::to_string_pretty(&ran.report)?
        } else {
            render::run::render(&ran.report, global.options(false))
        };
        print(&text)?;
        let completed = ran.report.trials.iter().all(|t| t.outcome.is_completed());
        ran.end.code(if completed { exit::PASS } else { exit::WORKLOAD_FAILED })
    }
}
