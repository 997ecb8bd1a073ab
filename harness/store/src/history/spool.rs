//! Runs that a store did not take: each waits in a file of its own until it does.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use heapgate_core::files;
use heapgate_core::history::Place;
use heapgate_core::report::Report;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::id_of;
use super::{Purpose, StoreError};

/// Where runs wait if nobody says: beside the report of the last run.
pub const SPOOL: &str = ".heapgate/spool";

/// The folder of runs that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool(pub PathBuf);

impl Default for Spool {
    fn default() -> Self {
        Self(SPOOL.into())
    }
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<R> {
    store: String,
    purpose: Purpose,
    decision: Option<String>,
    report: R,
}

/// A run that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Spooled {
    /// The store that is to have it, without password.
    pub store: String,
    /// What it was made for.
    pub purpose: Purpose,
    /// What the gate decided.
    pub decision: Option<String>,
    /// The whole report.
    pub report: Report,
}

impl Spool {
    /// Keeps a run for `place`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn keep(
        &self,
        place: &Place,
        report: &Report,
        purpose: Purpose,
        decision: Option<&str>,
    ) -> Result<PathBuf, StoreError> {
        let file = File { store: place.to_string(), purpose, decision: decision.map(str::to_owned), report };
        let json = serde_json::to_vec(&file).map_err(|source| StoreError::Json {
            place: self.0.display().to_string(),
            what: "a run",
            source,
        })?;
        files::make_folder(&self.0)?;
        let path = self.0.join(format!("{}.json", id_of(report)));
        files::atomic_write(&path, &json)?;
        Ok(path)
    }

    /// The files that wait, oldest first.
    ///
    /// # Errors
    /// If the folder can't be read. One that isn't there has none.
    pub fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let fail = |source| StoreError::SpoolFolder { path: self.0.clone(), source };
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fail)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(fail)?.path();
            // What is half written begins with a point and ends otherwise.
            if path.extension().is_some_and(|extension| extension == "json") {
                let modified = fs::metadata(&path).and_then(|meta| meta.modified()).map_err(fail)?;
                found.push((modified, path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Reads one of the files. Its report is checked as any other.
    ///
    /// # Errors
    /// If it can't be read, or isn't a run.
    pub fn read(&self, path: &Path) -> Result<Spooled, StoreError> {
        let spoiled = |reason: String| StoreError::Spoiled { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|source| StoreError::SpoolFolder { path: path.to_owned(), source })?;
        let file: File<Value> = serde_json::from_slice(&bytes).map_err(|error| spoiled(error.to_string()))?;
        let report = serde_json::to_vec(&file.report).map_err(|error| spoiled(error.to_string()))?;
        let report = Report::parse(&report).map_err(|fault| spoiled(fault.to_string()))?;
        Ok(Spooled { store: file.store, purpose: file.purpose, decision: file.decision, report })
    }
}
