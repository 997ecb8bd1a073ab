//! What may go wrong with a store, and the way out.

use std::time::Duration;

use heapgate_core::files::WriteError;
use heapgate_core::metric::MetricId;

/// Why a store did not do what was asked. A place is named without its password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer heapgate made it.
    #[error(
        "{place}: the history has schema version {found}, and this heapgate reads version {ours}; use a newer heapgate, or name another store with --store"
    )]
    Newer {
        /// The store.
        place: String,
        /// Its version.
        found: i64,
        /// The version that is understood.
        ours: i64,
    },
    /// An older heapgate made it, in a form that is no longer understood.
    #[error(
        "{place}: the history has schema version {found}, and this heapgate reads version {ours}; move it away, and fill a new one with `heapgate history --import REPORT…`"
    )]
    Older {
        /// The store.
        place: String,
        /// Its version.
        found: i64,
        /// The version that is understood.
        ours: i64,
    },
    /// It is something else.
    #[error("{place}: this is no history of heapgate ({reason}); name another store with --store, or move it away")]
    NotAHistory {
        /// The store.
        place: String,
        /// Why it can't be.
        reason: String,
    },
    /// There is none yet.
    #[error(
        "{place}: there is no history yet; `heapgate run` and `heapgate gate` append to it, `heapgate history --import REPORT…` fills it"
    )]
    Missing {
        /// The store.
        place: String,
    },
    /// The store is switched off.
    #[error("there is no history, since the store is switched off; name one with --store")]
    Off,
    /// The file or the server can't be opened.
    #[error("{place}: the history cannot be opened: {reason}; {way_out}")]
    Unreachable {
        /// The store.
        place: String,
        /// What the system said.
        reason: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Somebody else is writing, for longer than anybody should.
    #[error("{place}: another program has been writing to the history for {} s; try again when it has ended", waited.as_secs())]
    Busy {
        /// The store.
        place: String,
        /// For how long it was tried.
        waited: Duration,
    },
    /// It worked, and then it did no longer.
    #[error("{place}: the history failed: {reason}")]
    Failed {
        /// The store.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// The server did not answer.
    #[error("{place}: no answer for {} s", waited.as_secs())]
    NoAnswer {
        /// The store.
        place: String,
        /// For how long.
        waited: Duration,
    },
    /// A URL that PostgreSQL's client doesn't take.
    #[error("{place}: {reason}; write postgres://USER@HOST:PORT/DATABASE")]
    Url {
        /// The store.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A figure that can't be true.
    #[error("{metric} of {cell}, repetition {rep}, is {value}: the history takes no such figure")]
    NotFinite {
        /// The metric.
        metric: MetricId,
        /// The cell, for people.
        cell: String,
        /// The repetition, from 0.
        rep: u32,
        /// The figure.
        value: f64,
    },
    /// A run that no store took could not be kept either.
    #[error(transparent)]
    Spool(#[from] WriteError),
    /// The folder of the runs that wait can't be read.
    #[error("{}: the runs that wait to be sent cannot be read: {source}", path.display())]
    SpoolFolder {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A run that waits is no longer what was put there.
    #[error("{}: this run waits to be sent, and can't be: {reason}; remove the file if it is of no use", path.display())]
    Spoiled {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something has no JSON form, or JSON in the store is no longer what was put there.
    #[error("{place}: {what} is not as it was written: {source}")]
    Json {
        /// The store.
        place: String,
        /// What.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Whether the command line or a file it names is wrong, rather than a system that failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Newer { .. }
            | Self::Older { .. }
            | Self::NotAHistory { .. }
            | Self::Missing { .. }
            | Self::Off
            | Self::Url { .. }
            | Self::NotFinite { .. } => true,
            Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Failed { .. }
            | Self::NoAnswer { .. }
            | Self::Spool(_)
            | Self::SpoolFolder { .. }
            | Self::Spoiled { .. }
            | Self::Json { .. } => false,
        }
    }
}
