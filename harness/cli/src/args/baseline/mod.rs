//! `heapgate baseline`: one file a verb. `known` says which cells can still be run.

mod check;
mod known;
mod list;
mod promote;
mod prune;
mod record;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use heapgate_core::baseline::Lock;

use super::Global;
use crate::fail::Failure;

// As for verbs: help is on the structs.
#[derive(Debug, Subcommand)]
pub enum Baseline {
    Record(Box<record::Record>),
    Promote(promote::Promote),
    List(list::List),
    Check(check::Check),
    Prune(prune::Prune),
}

impl Baseline {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        match self {
            Self::Record(verb) => verb.execute(global),
            Self::Promote(verb) => verb.execute(global),
            Self::List(verb) => verb.execute(global),
            Self::Check(verb) => verb.execute(global),
            Self::Prune(verb) => verb.execute(global),
        }
    }
}

/// Where the baselines are.
#[derive(Debug, Args)]
struct Folder {
    /// Folder of the baselines [default: baselines]
    #[arg(long, value_name = "FOLDER")]
    baselines: Option<PathBuf>,
}

impl Folder {
    fn path(&self, global: &Global) -> Result<PathBuf, Failure> {
        self.baselines.clone().map_or_else(|| global.config().map(|config| config.baselines), Ok)
    }
}

/// How writers of one folder stay out of each other's way.
#[derive(Debug, Args)]
struct Writing {
    /// How long to wait, s, while another process writes baselines in the same folder
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

impl Writing {
    /// The right to write in `folder`, waited for.
    fn lock(&self, folder: &Path) -> Result<Lock, Failure> {
        let longest = Duration::from_secs(self.wait);
        Ok(Lock::take(folder, longest, |holder| {
            eprintln!(
                "heapgate: {holder} is writing baselines in {}; waiting for it, up to {} s",
                folder.display(),
                self.wait
            );
        })?)
    }
}
