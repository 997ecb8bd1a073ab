//! Runs a plan and keeps its report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use heapgate_core::files;
use heapgate_core::plan::Plan;
use heapgate_core::report::{Fingerprint, Machine, Report, SCHEMA_VERSION};
use heapgate_core::supervisor::{self, Event, Finish, Settings};

use crate::build;
use crate::fail::Failure;
use crate::progress::Progress;

/// Everything that a run needs.
#[derive(Debug)]
pub struct Session {
    pub plan: Plan,
    pub settings: Settings,
    pub output: PathBuf,
}

/// What a run gave.
#[derive(Debug)]
pub struct Ran {
    pub report: Report,
    pub interrupted: bool,
}

impl Session {
    /// Runs all trials; the report is on disk after each of them.
    ///
    /// # Errors
    /// If trials can't be started or the report can't be written. What a workload does is not an error.
    pub fn run(self) -> Result<Ran, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second one ends us at once.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                heapgate_core::exit::INTERRUPTED.into(),
                Arc::clone(&stop),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let mut report = Report {
            schema_version: SCHEMA_VERSION,
            created_unix_s: unix_s(),
            seed: self.plan.seed,
            complete: false,
            fingerprint: Fingerprint { build: build::this(), machine: Machine::detect() },
            trials: Vec::new(),
        };
        if let Some(folder) = self.output.parent().filter(|f| !f.as_os_str().is_empty()) {
            files::make_folder(folder)?;
        }
        // Before anything is measured: a report that can't be written is known now, not after the last trial.
        report.save(&self.output)?;

        let mut progress = Progress::new(self.plan.order().len());
        let finish = supervisor::run(&self.plan, &self.settings, &stop, |event| -> Result<(), Failure> {
            match event {
                Event::Started { index, planned, rep, .. } => progress.started(index, &planned.cell, rep),
                Event::Ended(trial) => {
                    progress.ended(&trial);
                    report.trials.push(*trial);
                    report.save(&self.output)?;
                }
            }
            Ok(())
        })?;
        progress.finish();
        let interrupted = finish == Finish::Stopped;
        if interrupted {
            eprintln!("interrupted; {} finished trials are in {}", report.trials.len(), self.output.display());
        } else {
            report.complete = true;
            report.save(&self.output)?;
            eprintln!("report: {}", self.output.display());
        }
        Ok(Ran { report, interrupted })
    }
}

/// Seconds since 1970; 0 on a clock before that.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
