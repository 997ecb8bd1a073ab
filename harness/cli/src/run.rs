//! Runs a plan and keeps its report.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use heapgate_core::exit;
use heapgate_core::plan::Plan;
use heapgate_core::report::{Build, Cell, Fingerprint, Machine, Report, SCHEMA_VERSION, Shard};
use heapgate_core::supervisor::{self, Event, Finish, Settings};

use crate::fail::Failure;
use crate::progress::Progress;
use crate::signals;
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
    /// The other sides, where some are compared: what each was built from, and where its report is written.
    pub others: Vec<(Build, PathBuf)>,
}

/// What a run gave.
#[derive(Debug)]
pub struct Ran {
    pub report: Report,
    /// Of the other sides, where some were compared.
    pub others: Vec<Report>,
    pub end: End,
}

/// More repetitions of some cells.
#[derive(Debug, PartialEq, Eq)]
pub struct More {
    /// Of all sides, where some are compared.
    pub cells: BTreeSet<Cell>,
    pub reps: u32,
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
        self.run_in_rounds(|_| None)
    }

    /// Runs all trials, then as many rounds more as `more` asks for when it sees the reports so far, one of each side.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_in_rounds(self, mut more: impl FnMut(&[&Report]) -> Option<More>) -> Result<Ran, Failure> {
        let stop = signals::stop_flag()?;
        let mut recordings = vec![Recording::new(self.build, self.output, self.plan.seed, self.shard)?];
        for (build, output) in self.others {
            recordings.push(Recording::new(build, output, self.plan.seed, None)?);
        }
        let mut round = self.plan.clone();
        let finish = loop {
            match run_round(&round, &self.settings, &stop, &mut recordings) {
                Ok(Finish::Complete) => {}
                ended => break ended,
            }
            let so_far: Vec<&Report> = recordings.iter().map(|r| &r.report).collect();
            match more(&so_far) {
                Some(more) => round = next(&self.plan, &round, &more),
                None => break Ok(Finish::Complete),
            }
        };
        let finish = finish.and_then(|finish| {
            if finish == Finish::Complete {
                for recording in &mut recordings {
                    recording.report.complete = true;
                    recording.store.finish(&recording.report)?;
                }
            }
            Ok(finish)
        });
        let end = match finish {
            Ok(Finish::Complete) => {
                for recording in &recordings {
                    eprintln!("report: {}", recording.store.output().display());
                }
                End::Complete
            }
            Ok(Finish::Stopped) => {
                eprintln!("interrupted; {}", leave(&mut recordings));
                End::Interrupted
            }
            Err(failure) if recordings.iter().all(|r| r.report.trials.is_empty()) => return Err(failure),
            Err(failure) => {
                let left = leave(&mut recordings);
                let error = anyhow::anyhow!("{}; the run was stopped, {left}", failure.error);
                End::Failed(Failure { error, code: failure.code })
            }
        };
        let mut reports = recordings.into_iter().map(|recording| recording.report);
        let report = reports.next().expect("one side is always recorded");
        Ok(Ran { report, others: reports.collect(), end })
    }
}

/// One side's report and its files.
struct Recording {
    report: Report,
    store: Store,
}

impl Recording {
    fn new(build: Build, output: PathBuf, seed: u64, shard: Option<Shard>) -> Result<Self, Failure> {
        let report = Report {
            schema_version: SCHEMA_VERSION,
            created_unix_s: unix_s(),
            seed,
            complete: false,
            shard,
            fingerprint: Fingerprint { build, machine: Machine::detect() },
            trials: Vec::new(),
        };
        Ok(Self { report, store: Store::new(output)? })
    }
}

fn run_round(
    plan: &Plan,
    settings: &Settings,
    stop: &AtomicBool,
    recordings: &mut [Recording],
) -> Result<Finish, Failure> {
    let mut progress = Progress::new(plan.order().len());
    let mut side = 0;
    let finish = supervisor::run(plan, settings, stop, |event| -> Result<(), Failure> {
        match event {
            Event::Started { index, planned, rep, .. } => {
                side = planned.side;
                progress.started(index, &planned.cell, rep);
            }
            Event::Ended(trial) => {
                progress.ended(&trial);
                let recording = &mut recordings[side];
                recording.report.trials.push(*trial);
                recording.store.keep(&recording.report)?;
            }
        }
        Ok(())
    });
    progress.finish();
    finish
}

/// The round after `round`: some of all that was planned.
fn next(planned: &Plan, round: &Plan, more: &More) -> Plan {
    let cells = planned.cells.iter().filter(|p| more.cells.contains(&p.cell)).cloned().collect();
    Plan { cells, first_rep: round.first_rep + round.reps, reps: more.reps, ..planned.clone() }
}

/// Leaves what was measured on disk, and says where.
fn leave(recordings: &mut [Recording]) -> String {
    let left: Vec<String> = recordings.iter_mut().map(|recording| recording.store.leave(&recording.report)).collect();
    left.join(", ")
}

/// Seconds since 1970; 0 on a clock before that.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
