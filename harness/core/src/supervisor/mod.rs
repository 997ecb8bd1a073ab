//! Runs a plan: each trial in a fresh child, watched from outside.
//!
//! `child` starts one child and stays with it to its end; `reading` turns the segment it leaves into a report's phases;
//! `stacks` is the memory for call stacks, where they are sampled; `messages` is what a child prints; `profile` runs one child
//! with what a profile needs, `growth` one that holds still between its steps;
//! this file goes through the plan. Called by the command line. Whatever happens to a child is an
//! [`Outcome`](crate::report::Outcome), never an error here.

mod child;
mod death;
mod growth;
mod messages;
mod profile;
mod reading;
mod stacks;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use heapgate_segment::layout::{DEFAULT_SLOTS, Level};

use crate::plan::{Plan, Planned};
use crate::report::Trial;
use crate::sites::Symbols;
pub use growth::{Asked, Slice, Watched, watch};
pub use profile::{Probe, Profiled, Traces, profile};

pub use crate::sys::spawn::{Confinement, ConfinementError};

/// How trials are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program that runs a trial.
    pub program: PathBuf,
    /// The folder it runs in; absent for this process's own.
    pub directory: Option<PathBuf>,
    /// How much the telemetry records.
    pub level: Level,
    /// At the sampled levels, one call in how many is timed.
    pub sample_period: u64,
    /// Threads that can have counters of their own.
    pub slots: usize,
    /// How long a trial may take.
    pub timeout: Duration,
    /// What the kernel is to hold trials to.
    pub confinement: Confinement,
    /// Whether call stacks of the measured phase's allocations are sampled: one allocation in how many, on average; 1
    /// for all. It costs time, which the trial's stalls don't contain and its throughput does.
    pub sites: Option<u64>,
}

impl Settings {
    /// Settings that record everything.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            directory: None,
            level: Level::Exact,
            sample_period: DEFAULT_SAMPLE_PERIOD,
            slots: DEFAULT_SLOTS,
            timeout: DEFAULT_TIMEOUT,
            confinement: Confinement::default(),
            sites: None,
        }
    }
}

/// One call in 64 costs little more than none, and leaves a thousand samples of a trial with a hundred thousand calls.
pub const DEFAULT_SAMPLE_PERIOD: u64 = 64;

/// Ten times what the slowest trial of the default matrix takes on a slow machine.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a trial could not even be started. Nothing that a workload does ends here.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// No shared memory.
    #[error(
        "cannot make a shared-memory segment of {bytes} bytes: {source}; free memory, raise the limits (ulimit -a), or ask for fewer --slots"
    )]
    Segment {
        /// Its size.
        bytes: usize,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// No shared memory for call stacks.
    #[error("cannot make shared memory for {bytes} bytes of call stacks: {source}; free memory, or leave out --sites")]
    Stacks {
        /// Its size.
        bytes: usize,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The child did not start.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The child's output could not be kept.
    #[error("cannot make a temporary file for a trial's messages: {0}; point TMPDIR to a folder with space")]
    Messages(std::io::Error),
    /// The child was lost.
    #[error("lost sight of the trial's process: {0}")]
    Wait(std::io::Error),
}

/// What happens while a plan runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A trial begins.
    Started {
        /// Its number, from 0.
        index: usize,
        /// How many there are.
        of: usize,
        /// What runs.
        planned: &'a Planned,
        /// Which repetition.
        rep: u32,
    },
    /// A trial has ended.
    Ended(Box<Trial>),
}

/// Whether a plan was run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It was.
    Complete,
    /// `stop` was set. The trial that was running then is lost, those before it are not.
    Stopped,
}

/// Runs the trials of `plan` in order and tells `observer` of each, until the end, or until `stop` is set (which kills
/// the child that is running).
///
/// # Errors
/// If a trial can't be started, or what `observer` returns. What was observed before stands.
pub fn run<E: From<SuperviseError>>(
    plan: &Plan,
    settings: &Settings,
    stop: &AtomicBool,
    mut observer: impl FnMut(Event<'_>) -> Result<(), E>,
) -> Result<Finish, E> {
    crate::sys::wait::keep_ended_children();
    let mut symbols = Symbols::default();
    let order = plan.order();
    for (index, &(cell, rep)) in order.iter().enumerate() {
        if stop.load(Relaxed) {
            return Ok(Finish::Stopped);
        }
        let planned = &plan.cells[cell];
        observer(Event::Started { index, of: order.len(), planned, rep })?;
        match child::run(planned, rep, settings, stop, &mut symbols, None)? {
            Some(trial) => observer(Event::Ended(Box::new(trial)))?,
            None => return Ok(Finish::Stopped),
        }
    }
    Ok(Finish::Complete)
}
