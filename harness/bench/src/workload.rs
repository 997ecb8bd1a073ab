//! What a workload is: something that is set up, takes steps, and is dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use heapgate_alloc::segment::layout::MAX_FIGURES;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Units of work done (tokens, documents, …): the denominator of every per-unit metric.
    pub units: u64,
    /// A checksum of the answers, so that a faster wrong answer shows.
    pub checksum: u64,
}

/// How many steps a trial takes. Fixed, never timed: exact metrics must see the same work on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    /// Steps before measurement starts.
    pub warmup: u64,
    /// Steps of [`Workload::prefill`] between warm-up and measurement, watched as a phase of their own; for most
    /// workloads 0, and no such phase.
    pub prefill: u64,
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

    /// One piece of the work that comes before the measured steps, for instance takes in one prompt.
    fn prefill(&mut self) -> Work {
        Work::default()
    }

    /// Called once, right before the measured steps: where what [`Self::figures`] is about starts from 0. What is
    /// allocated here is not counted as the phase's.
    fn measure_begins(&mut self) {}

    /// Records the workload's own figures of the measured phase, once it has ended. What this takes is not counted as the
    /// phase's.
    fn figures(&mut self, figures: &mut Figures) {
        let _ = figures;
    }
}

/// A figure that a workload measures itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureSpec {
    /// Its name in reports; the end of it is the unit: `_ns`, `_bytes`, `_share`, `_per_s`; else a plain number.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// Takes a workload's own figures.
#[derive(Debug)]
pub struct Figures {
    specs: &'static [FigureSpec],
    values: Vec<Option<f64>>,
}

impl Figures {
    pub(crate) fn new(specs: &'static [FigureSpec]) -> Self {
        Self { specs, values: vec![None; specs.len()] }
    }

    /// Records a figure. One that could not be measured is left out, never made up.
    ///
    /// # Panics
    /// If the variant doesn't declare `name`.
    pub fn set(&mut self, name: &str, value: f64) {
        let index = self.specs.iter().position(|spec| spec.name == name);
        let index = index.unwrap_or_else(|| panic!("figure '{name}' is not declared by its workload"));
        self.values[index] = Some(value);
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = (usize, f64)> {
        self.values.iter().enumerate().filter_map(|(index, value)| Some((index, (*value)?)))
    }
}

/// One parameter a workload takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamSpec {
    /// Its name, as in `--param name=value`.
    pub name: &'static str,
    /// The value it has when none is given. Where this is empty, so is the value, and the parameter is not part of what
    /// tells one cell from another.
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
    /// The figures it measures itself; at most 16.
    pub figures: &'static [FigureSpec],
    /// The allocators it runs under where none is asked for: names as in [`crate::AllocatorSpec`].
    pub default_allocators: &'static [&'static str],
    /// Whether it runs where no workload is named.
    pub by_default: bool,
    /// Why it can't run here, if a file that it needs was not fetched.
    pub missing: fn() -> Option<String>,
    /// Sets it up: loads data and vocabularies.
    pub setup: Setup,
}

/// Sets a workload up.
pub type Setup = fn(&Params) -> Result<Box<dyn Workload>, Error>;

impl Variant {
    /// A variant without parameters and figures that runs only when it is named, under the C library's malloc and
    /// jemalloc.
    #[must_use]
    pub const fn new(
        workload: &'static str,
        name: &'static str,
        unit: &'static str,
        about: &'static str,
        setup: Setup,
    ) -> Self {
        Self {
            workload,
            name,
            unit,
            about,
            params: &[],
            figures: &[],
            default_allocators: &["system", "jemalloc"],
            by_default: false,
            missing: || None,
            setup,
        }
    }

    /// The same, from a name of the form `workload/variant`; one without `/` is a variant of `workload`.
    #[must_use]
    pub const fn named(workload: &'static str, name: &'static str, unit: &'static str, setup: Setup) -> Self {
        let mut end = 0;
        while end < name.len() {
            if name.as_bytes()[end] == b'/' {
                let (workload, rest) = name.split_at(end);
                return Self::new(workload, rest.split_at(1).1, unit, "", setup);
            }
            end += 1;
        }
        Self::new(workload, name, unit, "", setup)
    }

    /// Says in one line what it does.
    #[must_use]
    pub const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Takes these parameters.
    #[must_use]
    pub const fn params(self, params: &'static [ParamSpec]) -> Self {
        Self { params, ..self }
    }

    /// Measures these figures.
    #[must_use]
    pub const fn figures(self, figures: &'static [FigureSpec]) -> Self {
        assert!(figures.len() <= MAX_FIGURES, "a segment has no room for more figures");
        Self { figures, ..self }
    }

    /// Runs under these allocators where none is asked for.
    #[must_use]
    pub const fn allocators(self, default_allocators: &'static [&'static str]) -> Self {
        Self { default_allocators, ..self }
    }

    /// Asks this whether a file that it needs is missing.
    #[must_use]
    pub const fn needing(self, missing: fn() -> Option<String>) -> Self {
        Self { missing, ..self }
    }

    /// Runs where no workload is named.
    #[must_use]
    pub const fn by_default(self) -> Self {
        Self { by_default: true, ..self }
    }
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
        Self::resolve_among(specs.iter().map(|s| (s.name, s.default, s.choices)), given)
    }

    /// The same for parameters that another program describes: the name, default and choices of each.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_among<'a, Choice: AsRef<str> + 'a>(
        specs: impl Iterator<Item = (&'a str, &'a str, &'a [Choice])>,
        given: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let specs: Vec<_> = specs.collect();
        let mut values: BTreeMap<String, String> =
            specs.iter().map(|&(name, default, _)| (name.to_owned(), default.to_owned())).collect();
        for (name, value) in given {
            let error = |reason| Error::Param { name: name.clone(), reason };
            let &(_, default, choices) = specs.iter().find(|spec| spec.0 == name).ok_or_else(|| {
                let names = specs.iter().map(|spec| spec.0).collect::<Vec<_>>();
                error(format!("there is no such parameter; there are: {}", names.join(", ")))
            })?;
            // An empty value stands for none, and there the default would be taken in silence.
            if value.is_empty() && !default.is_empty() {
                return Err(error("it needs a value".to_owned()));
            }
            if !choices.is_empty() && !choices.iter().any(|choice| choice.as_ref() == value) {
                let choices = choices.iter().map(AsRef::as_ref).collect::<Vec<_>>();
                return Err(error(format!("'{value}' is not one of: {}", choices.join(", "))));
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

    /// The value of `name` as a number.
    ///
    /// # Errors
    /// [`Error::Param`] if it is none, or not in `range`.
    ///
    /// # Panics
    /// As [`Self::get`].
    pub fn number<T>(&self, name: &str, range: std::ops::RangeInclusive<T>) -> Result<T, Error>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let text = self.get(name);
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| Error::Param {
            name: name.to_owned(),
            reason: format!("'{text}' is not a number from {} to {}", range.start(), range.end()),
        })
    }

    /// Names and values, in order; not those whose value is empty.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.as_str(), v.as_str()))
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

impl Error {
    /// Any other reason, in its own words: `.map_err(Error::other)?`.
    pub fn other(reason: impl std::fmt::Display) -> Self {
        Self::Library(reason.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}
