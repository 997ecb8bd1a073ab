//! What a workload is: something that is set up, takes steps, and is dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Units of work done (tokens, documents, …): the denominator of every per-unit metric.
    pub units: u64,
    /// A checksum of the answers, so that a faster wrong answer shows.
    pub checksum: u64,
}

/// How many steps a trial takes. Fixed, never timed: exact metrics must see the same work on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Steps before measurement starts.
    pub warmup: u64,
    /// Steps that are measured.
    pub measure: u64,
}

/// A workload after its set-up. Dropping it is part of what is measured (the drain phase).
pub trait Workload {
    /// The default number of steps; the command line may override it.
    fn steps(&self) -> Steps;

    /// Does one piece of work, for instance tokenizes one document. Under the `region` allocator each step is one
    /// scope.
    fn step(&mut self) -> Work;
}

/// One parameter a workload takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamSpec {
    /// Its name, as in `--param name=value`.
    pub name: &'static str,
    /// The value it has when none is given.
    pub default: &'static str,
    /// The values it may take; empty for free text.
    pub choices: &'static [&'static str],
    /// One line of help.
    pub help: &'static str,
}

/// One way of doing a workload, and how to set it up.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// The workload it belongs to, for instance `tokenize`.
    pub workload: &'static str,
    /// Its own name, for instance `hf-wordpiece`.
    pub name: &'static str,
    /// The unit of work, singular, for instance `token`.
    pub unit: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// The parameters it takes.
    pub params: &'static [ParamSpec],
    /// The allocators it runs under where none is asked for: names as in [`crate::AllocatorSpec`].
    pub default_allocators: &'static [&'static str],
    /// Sets it up: loads data and vocabularies.
    pub setup: fn(&Params) -> Result<Box<dyn Workload>, Error>,
}

/// Parameters with their values, every name checked against the variant's [`ParamSpec`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Takes `given` over the defaults of `specs`.
    ///
    /// # Errors
    /// [`Error::Param`] for a name no spec has, or a value that is not among its choices.
    pub fn resolve(specs: &[ParamSpec], given: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut values: BTreeMap<String, String> =
            specs.iter().map(|s| (s.name.to_owned(), s.default.to_owned())).collect();
        for (name, value) in given {
            let spec = specs.iter().find(|s| s.name == name).ok_or_else(|| Error::Param {
                name: name.clone(),
                reason: format!(
                    "there is no such parameter; there are: {}",
                    specs.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
                ),
            })?;
            if !spec.choices.is_empty() && !spec.choices.contains(&value.as_str()) {
                return Err(Error::Param {
                    name: name.clone(),
                    reason: format!("'{value}' is not one of: {}", spec.choices.join(", ")),
                });
            }
            values.insert(name.clone(), value.clone());
        }
        Ok(Self(values))
    }

    /// The value of `name`; a parameter that has no spec is a defect of the workload.
    ///
    /// # Panics
    /// If no [`ParamSpec`] declares `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("parameter '{name}' is not declared by its workload"))
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// Why a workload could not be set up or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of input is not there.
    #[error("{path}: not found; {way_out}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do, for instance "run ci/fetch-data".
        way_out: &'static str,
    },
    /// A file of input is there and is not what it should be.
    #[error("{path}: {reason}; {way_out}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        way_out: &'static str,
    },
    /// A parameter is unknown or its value is not allowed.
    #[error("parameter '{name}': {reason}")]
    Param {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The library under test refused.
    #[error("{0}")]
    Library(String),
}
