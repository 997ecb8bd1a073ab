//! `heapgate gate`

use std::path::PathBuf;

use clap::Args;
use heapgate_core::baseline::{self, FEWEST_RUNS};
use heapgate_core::config::{Config, Date};
use heapgate_core::exit;
use heapgate_core::gate::{Lookup, accept, calibrate, from_history, judge, note_clocks, note_doubts};
use heapgate_core::history::Place;
use heapgate_core::render::page::Against;
use heapgate_core::report::{Cell, Report};
use heapgate_store::history::{Mode, Purpose, Store, StoreError};

use super::exports::Exports;
use super::figures::{Figures, Measured};
use super::{Global, selection::Selection, shown::Shown};
use crate::fail::Failure;
use crate::history::{self, StoreArgs};
use crate::on_fail::{Again, OnFail};
use crate::rounds::{Budget, Rounds};
use crate::run::{End, unix_s};

/// Run workloads, compare with the stored baseline, and say pass, fail or inconclusive
///
/// Exact metrics (allocations, bytes, live objects) are compared on any machine; noisy ones (RSS, time) only with a
/// baseline of the same machine class. With --from-history no baseline is stored: what was normal lately is normal. A run
/// that failed is no part of it, so a change for the worse that is meant goes into heapgate.toml ([[accept]]), or is
/// measured a few times by `heapgate run`.
#[derive(Debug, Args)]
pub struct Gate {
    #[command(flatten)]
    selection: Selection,
    /// Judge this report instead of running anything
    #[arg(long, value_name = "FILE", conflicts_with_all = ["Selection", "OnFail"])]
    report: Option<PathBuf>,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    on_fail: OnFail,
    /// Folder of the baselines [default: baselines]
    #[arg(long, value_name = "FOLDER")]
    baselines: Option<PathBuf>,
    /// Compare with the last N runs in the history instead, on this machine's class: their medians are the baseline,
    /// their differences the noise. 5 are needed, 20 or more are good
    #[arg(long, value_name = "N", conflicts_with_all = ["baselines", "budget"], value_parser = clap::value_parser!(u32).range(FEWEST_RUNS as i64..))]
    from_history: Option<u32>,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    exports: Exports,
    #[command(flatten)]
    figures: Figures,
}

impl Gate {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        self.exports.check()?;
        let destinations = self.figures.destinations("gate")?;
        let mut config = global.config()?;
        if let Some(folder) = &self.baselines {
            config.baselines.clone_from(folder);
        }
        let store = self.store.place(&config)?;
        // More repetitions would say nothing of the noise between runs.
        let mut rounds = if self.from_history.is_some() { Rounds::one() } else { self.budget.rounds(&config) };
        if self.from_history.is_some() {
            check_history(&store)?;
        }
        let mut again = None;
        let (report, planned, end) = match &self.report {
            Some(path) => {
                let report = Report::load(path)?;
                let planned = report.cells().iter().map(|c| c.cell.clone()).collect();
                (report, planned, End::Complete)
            }
            None => {
                let session = self.selection.session(&config)?;
                again = Some(Again::of(&session));
                let planned: Vec<Cell> = session.plan.cells.iter().map(|p| p.cell.clone()).collect();
                let ran = session.run_in_rounds(|reports| {
                    if self.from_history.is_some() {
                        return None;
                    }
                    let report = reports[0];
                    let verdict = judge(report, &planned, &look_up(&config, report, &planned), &config, rounds.look());
                    rounds.more(&[&verdict], reports, |cell| vec![cell.clone()])
                })?;
                (ran.report, planned, ran.end)
            }
        };
        let lookups = match self.from_history {
            Some(count) => history::last_runs(&store, &report, count).map(|runs| from_history(&runs, &report)),
            None => Ok(look_up(&config, &report, &planned)),
        };
        let lookups = match lookups {
            Ok(lookups) => lookups,
            Err(failure) => {
                // It was measured all the same, and waits if the history is still away.
                if self.report.is_none() {
                    self.selection.append(&store, &report, Purpose::Gate, None);
                }
                return Err(failure);
            }
        };
        let mut verdict = judge(&report, &planned, &lookups, &config, rounds.look());
        accept(&mut verdict, &config, Date::today());
        // Rounds make repetitions unequal, which is no doubt about a run of our own.
        let note = if self.report.is_some() { note_doubts } else { note_clocks };
        note(&mut verdict, &report, unix_s());
        calibrate(&mut verdict, &config.baselines, &report.fingerprint.machine.class());
        self.on_fail.explain(&mut verdict, &report, &end, again.as_ref(), |cell| vec![cell.clone()]);
        // What a full disk refuses must not hide the verdict, nor why the run was stopped.
        let exported = self.exports.write(&report, &verdict, &Against::lookups(&lookups));
        let measured = Measured { report: &report, verdict: Some(&verdict), planted: self.selection.is_planted() };
        let textfile = destinations.write(measured);
        let printed = self.shown.print(&report, &verdict, global);
        // Nobody waits for the verdict while a server is asked.
        if self.report.is_none() {
            self.selection.append(&store, &report, Purpose::Gate, Some(verdict.decision));
        }
        destinations.push(measured);
        printed?;
        let code = end.code(exit::exit_code(&verdict, &report))?;
        exported?;
        textfile?;
        Ok(code)
    }
}

/// Finds out before a run of minutes whether the history could be asked.
fn check_history(place: &Place) -> Result<(), Failure> {
    match Store::open(place, Mode::Read) {
        Ok(_) | Err(StoreError::Missing { .. }) => Ok(()),
        Err(StoreError::Off) => Err(Failure::usage(
            "--from-history: the history is switched off (--store none); name a store, or compare with stored baselines",
        )),
        Err(error) => Err(error.into()),
    }
}

/// The baseline of each workload that was to be run.
pub(super) fn look_up(config: &Config, report: &Report, planned: &[Cell]) -> Vec<Lookup> {
    let class = report.fingerprint.machine.class();
    let mut workloads: Vec<&str> = planned.iter().map(|c| c.workload.as_str()).collect();
    workloads.sort_unstable();
    workloads.dedup();
    let lookup = |workload: &str| Lookup {
        workload: workload.to_owned(),
        found: baseline::find(&config.baselines, &class, workload),
    };
    workloads.into_iter().map(lookup).collect()
}
