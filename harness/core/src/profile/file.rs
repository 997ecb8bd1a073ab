//! Profiles as files: written whole, read with errors that say what is wrong.

use std::path::Path;

use super::model::{PROFILE_SCHEMA_VERSION, Profile};
use crate::document::{self, Document, LoadError, LoadFault};
use crate::files::{self, WriteError};
use crate::report::Fault;

/// One location, stack or sample a line.
const LINES_TO_DEPTH: usize = 2;

/// The name of the model's file in a profile's folder.
pub const FILE_NAME: &str = "profile.json";

impl Profile {
    /// As JSON.
    ///
    /// # Errors
    /// If it has a number that JSON has no form for.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        document::to_json(self, LINES_TO_DEPTH)
    }

    /// Stores it, whole or not at all.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        // Plain structs with finite numbers always have a JSON form.
        files::atomic_write(path, self.to_text().unwrap_or_default().as_bytes())
    }

    /// Reads one from a file, or from the folder that `heapgate profile` wrote.
    ///
    /// # Errors
    /// If there is none, it can't be read, is of another version, or refers to what it does not have.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let loaded = document::read(&path).and_then(|bytes| Self::parse(&bytes));
        loaded.map_err(|fault| LoadError { document: Document::Profile, path, fault })
    }

    /// Reads one from the bytes of a file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadFault> {
        let profile: Self = document::parse(bytes, PROFILE_SCHEMA_VERSION)
            .map_err(|fault| document::explained(fault, bytes, Document::Profile))?;
        match profile.fault() {
            Some(fault) => Err(LoadFault::Invalid(Box::new(fault))),
            None => Ok(profile),
        }
    }

    /// What it refers to and does not have.
    fn fault(&self) -> Option<Fault> {
        let within = |number: Option<u32>, length: usize| number.is_none_or(|number| (number as usize) < length);
        let fault = |place: String, problem: &'static str| Some(Fault::Profile { place, problem });
        for (index, location) in self.locations.iter().enumerate() {
            if !within(location.module, self.modules.len()) {
                return fault(format!("locations[{index}]"), "names a module that isn't there");
            }
        }
        for (index, stack) in self.stacks.iter().enumerate() {
            if !stack.iter().all(|&location| within(Some(location), self.locations.len())) {
                return fault(format!("stacks[{index}]"), "names a location that isn't there");
            }
        }
        if self.exact_totals.len() != self.values.len() {
            return fault("exact_totals".to_owned(), "does not have one entry for each value");
        }
        for (index, sample) in self.samples.iter().enumerate() {
            let place = || format!("samples[{index}]");
            let known = within(Some(sample.stack), self.stacks.len())
                && within(sample.thread, self.threads.len())
                && within(sample.phase, self.phases.len());
            if !known {
                return fault(place(), "names a stack, thread or phase that isn't there");
            }
            let numbers = [&sample.values, &sample.variances];
            if numbers.iter().any(|numbers| numbers.len() != self.values.len()) {
                return fault(place(), "does not have one number for each value");
            }
            if numbers.into_iter().flatten().any(|number| !number.is_finite() || *number < 0.0) {
                return fault(place(), "has a negative number");
            }
        }
        None
    }
}
