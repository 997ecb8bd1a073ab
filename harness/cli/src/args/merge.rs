//! `heapgate merge`

use std::path::PathBuf;

use clap::Args;
use heapgate_core::exit;
use heapgate_core::render;
use heapgate_core::render::human::counted;
use heapgate_core::report::merge::{Options, merge};
use heapgate_store::history::Purpose;

use super::{Global, print};
use crate::fail::Failure;
use crate::history::{self, StoreArgs};
use crate::inputs;
use crate::store::Store;

/// Make one report of several: the shards of a matrix, or more repetitions of it
///
/// All must be of one machine class and one build, as their figures become one series. A shard that is missing, a run
/// that did not end and a trial that is there twice are errors: nothing is left out in silence. What shards make together is
/// appended to the history, as one run; runs that were whole are in it by themselves.
#[derive(Debug, Args)]
pub struct Merge {
    /// The reports, in the order in which repetitions are to be numbered: files, globs ('shards/*.json'), or URLs of
    /// an object, a folder (s3://bucket/run7/) or a glob in one (file://, s3://, gs://, az://)
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<String>,
    /// Where the report of all is written
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Take repetitions that are there already as more of them, and number them anew: for runs of the same matrix
    #[arg(long)]
    as_more_repetitions: bool,
    /// Join what there is though shards are missing; the report is then not complete, and no gate passes it
    #[arg(long)]
    partial: bool,
    /// Print the report of all as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

impl Merge {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let place = self.store.place(&global.config()?)?;
        let inputs = inputs::load(&self.reports)?;
        let options = Options { more_repetitions: self.as_more_repetitions, partial: self.partial };
        let merged = merge(&inputs, options)?;
        let mut store = Store::new(self.output)?;
        store.finish(&merged.report)?;
        for note in &merged.notes {
            eprintln!("heapgate: {note}");
        }
        let report = merged.report;
        eprintln!(
            "report: {} ({} of {}{})",
            store.output().display(),
            counted(report.trials.len() as u64, "trial"),
            counted(inputs.len() as u64, "report"),
            if report.complete { "" } else { ", not complete: shards are missing" }
        );
        let printed = if self.json {
            print(&serde_json::to_string_pretty(&report)?)
        } else {
            print(&render::run::render(&report, global.options(false)))
        };
        // A run that is no shard was appended when it ended: once more, its repetitions would count twice.
        if inputs.iter().any(|input| input.report.shard.is_some()) {
            history::append(&place, &report, Purpose::Merge, None);
        }
        printed?;
        Ok(exit::PASS)
    }
}
