//! Appending runs to the history. What goes wrong here is said, and changes neither a verdict nor a report.

use std::path::Path;

use clap::Args;
use heapgate_core::config::Config;
use heapgate_core::gate::Overall;
use heapgate_core::history::{History, Place};
use heapgate_core::render::human::counted;
use heapgate_core::report::Report;
use heapgate_store::history::{self, Appended, Kept, LastRuns, Mode, Purpose, Spool, Store, StoreError};

use crate::fail::Failure;

/// The flag that says where the history is.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// History of runs: a SQLite file, postgres://USER@HOST/DATABASE (password in PGPASSWORD), or none
    /// [default: .heapgate/history.sqlite]
    #[arg(long, value_name = "FILE|URL")]
    store: Option<String>,
}

impl StoreArgs {
    /// Where the history is: by the flag, else by the settings.
    ///
    /// # Errors
    /// For what is no store.
    pub fn place(&self, config: &Config) -> Result<Place, Failure> {
        match &self.store {
            Some(text) => Place::parse(text, Path::new("")).map_err(|bad| Failure::usage(format!("--store: {bad}"))),
            None => Ok(config.store.clone()),
        }
    }
}

/// Appends the report of a run that is complete to the history at `place`, with what the gate decided, if it was asked.
/// A store that fails is told on standard error, and the run kept to be sent later.
pub fn append(place: &Place, report: &Report, purpose: Purpose, decision: Option<Overall>) {
    if !report.complete {
        return;
    }
    let decision = decision.map(|decision| match decision {
        Overall::Pass => "pass",
        Overall::Fail => "fail",
        Overall::Inconclusive => "inconclusive",
    });
    let later = "it is sent with the next run, or by `heapgate history --send`";
    match history::append(place, &Spool::default(), report, purpose, decision) {
        Ok(Kept::Off) => {}
        Ok(Kept::Stored { run, sent, problems }) => {
            if let Appended::Already(sequence) = run {
                eprintln!("history: this report is in {place} already, as run {sequence}");
            }
            say_sent(place, sent, &problems);
        }
        Ok(Kept::Waits { path, error }) => {
            eprintln!("heapgate: warning: the run is not in the history: {error}");
            eprintln!("heapgate: warning: it waits in {}; {later}", path.display());
        }
        Err(error) => eprintln!("heapgate: warning: the run is not in the history: {error}"),
    }
}

/// The last `count` runs before `report` in the history at `place`, of its machine's class. A history that isn't there yet has
/// none: the run that is appended to it begins it.
///
/// # Errors
/// If the history can't be read.
pub fn last_runs(place: &Place, report: &Report, count: u32) -> Result<History, Failure> {
    match Store::open(place, Mode::Read) {
        Ok(mut store) => Ok(store.last_runs(&LastRuns::before(report, count as usize))?),
        Err(StoreError::Missing { .. }) => Ok(History::default()),
        Err(error) => Err(error.into()),
    }
}

/// Says how many runs that had waited were sent, and what is wrong with those that were not.
pub fn say_sent(place: &Place, sent: usize, problems: &[StoreError]) {
    if sent > 0 {
        let were = if sent == 1 { "was" } else { "were" };
        eprintln!("history: {} that had waited {were} sent to {place}", counted(sent as u64, "run"));
    }
    for problem in problems {
        eprintln!("heapgate: warning: {problem}");
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::internal(error) }
    }
}
