//! `heapgate diff`

use std::path::{Path, PathBuf};

use clap::Args;
use heapgate_core::gate::{Look, compare, note_doubts};
use heapgate_core::render::page::Against;
use heapgate_core::{exit, files};

use super::exports::Exports;
use super::{Global, print, shown::Shown};
use crate::fail::Failure;
use crate::inputs::joined;
use crate::profile_diff;
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
    /// Compare two profiles of one kind instead, each a folder of `heapgate profile` or its profile.json: the sites that
    /// changed by more than chance, and a flame graph, red where it grew
    #[arg(long)]
    profile: bool,
    /// With --profile: where the flame graphs are written
    #[arg(short, long, value_name = "FOLDER", requires = "profile", default_value = profile_diff::FOLDER)]
    output: PathBuf,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    exports: Exports,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate diff before.json after.json
  heapgate diff 'main/*.json' 'branch/*.json'      all runs of each side together
  heapgate diff monday.json,tuesday.json today.json
  heapgate diff --profile before/ after/           which lines allocate more, or take more time";

impl Diff {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        if self.profile {
            return self.profiles(global);
        }
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

    fn profiles(self, global: &Global) -> Result<u8, Failure> {
        if self.exports.any() {
            return Err(Failure::usage(
                "--profile: there is no verdict to export; --json prints what changed, --output is for flame graphs",
            ));
        }
        files::make_folder(&self.output)?;
        let options = global.options(self.shown.verbose());
        let (before, after) = (Path::new(&self.before), Path::new(&self.after));
        let (text, drawn) = profile_diff::between(before, after, &self.output, self.shown.json(), options)?;
        print(&text)?;
        drawn?;
        Ok(exit::PASS)
    }
}
