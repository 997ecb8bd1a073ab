//! Runs a plan and keeps its report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use heapgate_core::exit;
use heapgate_core::plan::Plan;
use heapgate_core::report::{Build, Fingerprint, Machine, Report, SCHEMA_VERSION, Shard};
use heapgate_core::supervisor::{self, Event, Finish, Settings};

use crate::fail::Failure;
use crate::progress::Progress;
use crate::store::Store;

/// Everything that a run needs.
#[derive(Debug)]
pub struct Session {
    pub plan: Plan,
    pub settings: Settings,
    /// What the program that runs trials was built from.
    pub build: Build,
    /// Which part of a matrix the plan is, if it is one.
    pub shard: Option<Shard>,
    pub output: PathBuf,
}

/// What a run gave.
#[derive(Debug)]
pub struct Ran {
    pub report: Report,
    pub end: End,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    Complete,
    /// By the user.
    Interrupted,
    /// A trial could not be started, or those that had ended could not be written.
    Failed(Failure),
}

impl End {
    /// The exit code, once what was measured has been shown: `complete` for a complete run.
    ///
    /// # Errors
    /// What the run failed of.
    pub fn code(self, complete: u8) -> Result<u8, Failure> {
        match self {
            Self::Complete => Ok(complete),
            Self::Interrupted => Ok(exit::INTERRUPTED),
            Self::Failed(failure) => Err(failure),
        }
    }
}

impl Session {
    /// Runs all trials; those that have ended are on disk after each, and the report of the run before is replaced
    /// after the last.
    ///
    /// # Errors
    /// If not even one trial was run: the report couldn't be written, or no process started. What a workload does is
    /// not an error, and what goes wrong later is the run's [`End`].
    pub fn run(self) -> Result<Ran, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second one ends us at once.
            signal_hook::flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let mut report = Report {
            schema_version: SCHEMA_VERSION,
            created_unix_s: unix_s(),
            seed: self.plan.seed,
            complete: false,
            shard: self.shard,
            fingerprint: Fingerprint { build: self.build, machine: Machine::detect() },
            trials: Vec::new(),
        };
        let mut store = Store::new(self.output)?;
        let mut progress = Progress::new(self.plan.order().len());
        let finish = supervisor::run(&self.plan, &self.settings, &stop, |event| -> Result<(), Failure> {
            match event {
                Event::Started { index, planned, rep, .. } => progress.started(index, &planned.cell, rep),
                Event::Ended(trial) => {
                    progress.ended(&trial);
                    report.trials.push(*trial);
                    store.keep(&report)?;
                }
            }
            Ok(())
        });
        progress.finish();
        let finish = finish.and_then(|finish| {
            if finish == Finish::Complete {
                report.complete = true;
                store.finish(&report)?;
            }
            Ok(finish)
        });
        let end = match finish {
            Ok(Finish::Complete) => {
                eprintln!("report: {}", store.output().display());
                End::Complete
            }
            Ok(Finish::Stopped) => {
                eprintln!("interrupted; {}", store.leave(&report));
                End::Interrupted
            }
            Err(failure) if report.trials.is_empty() => return Err(failure),
            Err(failure) => {
                let left = store.leave(&report);
                let error = anyhow::anyhow!("{}; the run was stopped, {left}", failure.error);
                End::Failed(Failure { error, code: failure.code })
            }
        };
        Ok(Ran { report, end })
    }
}

/// Seconds since 1970; 0 on a clock before that.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
