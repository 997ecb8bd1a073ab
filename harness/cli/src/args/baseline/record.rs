//! `heapgate baseline record`

use std::path::PathBuf;

use clap::Args;
use heapgate_core::baseline::{Baseline, RECORD_REPETITIONS, Recording};
use heapgate_core::exit;
use heapgate_core::gate::unequal_repetitions;
use heapgate_core::render;
use heapgate_core::report::Report;
use heapgate_store::history::Purpose;

use super::{Folder, Writing};
use crate::args::{Global, print, selection::Selection};
use crate::fail::Failure;
use crate::history::StoreArgs;
use crate::run::{End, unix_s};
use crate::who::recorder;

/// Run workloads, and store their figures as the baseline of this machine's class
///
/// The baseline of a workload is replaced; `promote` puts the cells of a report into the one there is. Refuses when a
/// repetition failed, or when exact metrics differ between repetitions. Say in the commit what changed.
#[derive(Debug, Args)]
pub struct Record {
    #[command(flatten)]
    selection: Selection,
    /// Take this report instead of running anything
    #[arg(long, value_name = "FILE", conflicts_with = "Selection")]
    report: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
    /// Why: kept in the file, after who git says you are
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
    /// Also take exact metrics that differ between repetitions; they are then treated as noisy
    #[arg(long)]
    accept_disagreement: bool,
    #[command(flatten)]
    writing: Writing,
    #[command(flatten)]
    store: StoreArgs,
}

impl Record {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let config = global.config()?;
        let folder = self.folder.path(global)?;
        let store = self.store.place(&config)?;
        let report = match &self.report {
            Some(path) => Report::load(path)?,
            None => {
                let selection = self.selection.or_reps(RECORD_REPETITIONS);
                let ran = selection.session(&config)?.run()?;
                if let End::Failed(_) = ran.end {
                    // What could not be written is at least shown.
                    print(&render::run::render(&ran.report, global.options(false)))?;
                }
                if !matches!(ran.end, End::Complete) {
                    return ran.end.code(exit::PASS);
                }
                selection.append(&store, &ran.report, Purpose::Baseline, None);
                ran.report
            }
        };
        let recording =
            Recording { by: recorder(&self.note), unix_s: unix_s(), accept_disagreement: self.accept_disagreement };
        let baselines = baselines_of(&report, &recording)?;
        let _lock = self.writing.lock(&folder)?;
        for baseline in baselines {
            let path = baseline.save(&folder)?;
            print(&format!("recorded {} cells in {}", baseline.cells.len(), path.display()))?;
        }
        Ok(exit::PASS)
    }
}

/// The baselines that `report` gives. All or none: a baseline of which half is new compares with nothing.
pub fn baselines_of(report: &Report, recording: &Recording) -> Result<Vec<Baseline>, Failure> {
    let mut workloads: Vec<String> = report.cells().iter().map(|c| c.cell.workload.clone()).collect();
    workloads.dedup();
    if workloads.is_empty() {
        return Err(Failure::inconclusive("the report has no trial; run something first, for instance `heapgate run`"));
    }
    let baselines = workloads
        .iter()
        .map(|workload| Ok(Baseline::from_report(report, workload, recording.clone())?))
        .collect::<Result<_, Failure>>()?;
    if let Some(note) = unequal_repetitions(report) {
        eprintln!("heapgate: {note}");
    }
    Ok(baselines)
}
