//! `heapgate diff`

use clap::Args;
use heapgate_core::exit;
use heapgate_core::gate::{Look, compare, note_doubts};
use heapgate_core::render::page::Against;

use super::exports::Exports;
use super::{Global, shown::Shown};
use crate::fail::Failure;
use crate::inputs::joined;
use crate::run::unix_s;

/// Compare reports, by the rules of the gate: BEFORE plays the baseline
///
/// Each side is a report, several with commas between them, or a pattern in quotes. Those of one side count as more
/// repetitions of the same cells, so they must be of one machine class and one build, and no run may be among them
/// twice. What heapgate.toml accepts is about the stored baseline, and not looked at here.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Diff {
    /// The earlier report, or reports
    before: String,
    /// The later report, or reports
    after: String,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    exports: Exports,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate diff before.json after.json
  heapgate diff 'main/*.json' 'branch/*.json'      all runs of each side together
  heapgate diff monday.json,tuesday.json today.json";

impl Diff {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        self.exports.check()?;
        let config = global.config()?;
        let (before, after) = (joined(&[self.before])?, joined(&[self.after])?);
        let mut verdict = compare(&before, &after, &config, Look::ONLY);
        note_doubts(&mut verdict, &after, unix_s());
        let exported = self.exports.write(&after, &verdict, &Against::report(&before));
        self.shown.print(&after, &verdict, global)?;
        exported?;
        Ok(exit::exit_code(&verdict, &after))
    }
}
