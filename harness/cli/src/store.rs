//! Where a run's trials are kept: in a file of their own until the run has ended, so that the report of the run before
//! stays until there is another to take its place.

use std::path::{Path, PathBuf};

use heapgate_core::files;
use heapgate_core::render::human::counted;
use heapgate_core::report::Report;
use heapgate_core::report::file::partial_path;

use crate::fail::Failure;

/// The files of one run.
#[derive(Debug)]
pub struct Store {
    output: PathBuf,
    /// None where `output` is a pipe or a device: that is written to once, at the end.
    partial: Option<PathBuf>,
    /// Trials on disk.
    kept: usize,
}

impl Store {
    /// Finds out whether the report can be written, before anything is measured. Nothing is replaced yet.
    ///
    /// # Errors
    /// If it can't.
    pub fn new(output: PathBuf) -> Result<Self, Failure> {
        if let Some(folder) = output.parent().filter(|f| !f.as_os_str().is_empty()) {
            files::make_folder(folder).map_err(|error| match error {
                files::WriteError::NotAFolder { .. } => Failure::internal(anyhow::anyhow!("{error} with -o")),
                error => error.into(),
            })?;
        }
        files::check_writable(&output)?;
        let partial = files::is_file_or_absent(&output).then(|| beside(&output)).transpose()?;
        partial.as_deref().map_or(Ok(()), files::check_writable)?;
        Ok(Self { output, partial, kept: 0 })
    }

    /// Keeps the trials that have ended so far.
    ///
    /// # Errors
    /// If they can't be written. Those kept before still are.
    pub fn keep(&mut self, report: &Report) -> Result<(), Failure> {
        if let Some(partial) = &self.partial {
            report.save(partial)?;
            self.kept = report.trials.len();
        }
        Ok(())
    }

    /// Puts the complete report into its place.
    ///
    /// # Errors
    /// If it can't be written. The trials kept before still are.
    pub fn finish(&mut self, report: &Report) -> Result<(), Failure> {
        match &self.partial {
            Some(partial) => {
                report.save(partial)?;
                self.kept = report.trials.len();
                files::move_over(partial, &self.output)?;
            }
            None => report.save(&self.output)?,
        }
        Ok(())
    }

    /// Leaves the trials of a run that did not end, and says where.
    pub fn leave(&mut self, report: &Report) -> String {
        if self.partial.is_none() && report.save(&self.output).is_ok() {
            self.kept = report.trials.len();
        }
        let place = self.partial.as_deref().unwrap_or(&self.output);
        match self.kept {
            0 => "no finished trial was kept".to_owned(),
            1 => format!("1 finished trial is in {}", place.display()),
            n => format!("{} are in {}", counted(n as u64, "finished trial"), place.display()),
        }
    }

    pub fn output(&self) -> &Path {
        &self.output
    }
}

fn beside(output: &Path) -> Result<PathBuf, Failure> {
    Ok(partial_path(&files::behind_link(output)?))
}
