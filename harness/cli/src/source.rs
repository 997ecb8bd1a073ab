//! Where the variants come from that can be run: heapgate's own registry, or a bench of the user's that has described
//! itself. Both come the same way, as owned descriptions and the program that runs them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use heapgate_bench::{Error, ParamSpec, Params, Under, Variant};
use heapgate_core::report::Build;
use heapgate_workloads::variants;
use serde::Deserialize;

use crate::build;
use crate::fail::Failure;

/// What can be run, and by which program.
#[derive(Debug)]
pub struct Source {
    pub variants: Vec<Described>,
    /// The program that runs a trial.
    pub program: PathBuf,
    /// The folder it runs in; absent for the present one.
    pub directory: Option<PathBuf>,
    /// What the program was built from.
    pub build: Build,
    /// Whether it can run under several allocators, or has one of its own.
    pub switches_allocators: bool,
    /// The user's bench that it is, if it is one.
    pub bench: Option<String>,
    /// What it is called where two are compared.
    pub name: String,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// One variant, as its program describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Described {
    pub workload: String,
    pub variant: String,
    pub unit: String,
    pub by_default: bool,
    pub default_allocators: Vec<String>,
    pub params: Vec<DescribedParam>,
    pub figures: Vec<String>,
}

/// One parameter of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DescribedParam {
    pub name: String,
    pub default: String,
    pub choices: Vec<String>,
}

impl Source {
    /// The workloads that heapgate itself comes with.
    ///
    /// # Errors
    /// If this executable can't be found.
    pub fn built_in() -> Result<Self, Failure> {
        Ok(Self {
            variants: variants().iter().map(Described::from).collect(),
            program: std::env::current_exe()?,
            directory: None,
            build: build::this(),
            switches_allocators: true,
            bench: None,
            name: "the present build".to_owned(),
        })
    }

    /// Those that `patterns` name; where there are none, those that run by default.
    ///
    /// # Errors
    /// For a pattern that names nothing.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<&Described>, Failure> {
        if let Some(unknown) = patterns.iter().find(|pattern| !self.has(pattern)) {
            return Err(Failure::usage(self.unknown(unknown)));
        }
        let by_default = |v: &&Described| v.by_default;
        Ok(if !patterns.is_empty() {
            self.variants.iter().filter(|v| patterns.iter().any(|pattern| v.matches(pattern))).collect()
        } else if self.bench.is_some() && !self.variants.iter().any(|v| v.by_default) {
            // A bench that marks none means all.
            self.variants.iter().collect()
        } else {
            self.variants.iter().filter(by_default).collect()
        })
    }

    /// Whether one of `workloads`, or of those that run where none is named, takes the parameter. Names that there aren't
    /// are told elsewhere.
    pub fn takes(&self, workloads: &[String], param: &str) -> bool {
        let takes = |v: &&Described| v.params.iter().any(|spec| spec.name == param);
        self.select(workloads).map_or(true, |selected| selected.iter().any(takes))
    }

    /// Whether `pattern` names a workload or a variant.
    pub fn has(&self, pattern: &str) -> bool {
        self.variants.iter().any(|v| v.matches(pattern))
    }

    /// What to say of a name that there isn't.
    pub fn unknown(&self, pattern: &str) -> String {
        let names: Vec<String> = self.variants.iter().map(Described::name).collect();
        let place = self.bench.as_ref().map_or(String::new(), |bench| format!(" in bench '{bench}'"));
        format!("unknown workload '{pattern}'{place}; there are: {}", names.join(", "))
    }

    /// The allocators of `variant`, of which `asked` were asked for.
    ///
    /// # Errors
    /// For a bench that can't run under one of them.
    pub fn allocators(&self, variant: &Described, asked: &[Under]) -> Result<Vec<Under>, Failure> {
        if !self.switches_allocators {
            return match asked.iter().find(|&under| *under != Under::Own) {
                Some(under) => Err(Failure::usage(format!(
                    "--allocator {under}: bench '{}' has an allocator of its own; leave --allocator out, or say `own`",
                    self.bench.as_deref().unwrap_or_default()
                ))),
                None => Ok(vec![Under::Own]),
            };
        }
        if asked.contains(&Under::Own) {
            return Err(Failure::usage("--allocator own: it is for benches with an allocator of their own"));
        }
        if asked.is_empty() {
            let parse = |name: &String| name.parse::<Under>().map_err(Failure::internal);
            return variant.default_allocators.iter().map(parse).collect();
        }
        Ok(asked.to_vec())
    }
}

impl Described {
    /// Its full name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.workload, self.variant)
    }

    fn matches(&self, pattern: &str) -> bool {
        match pattern.split_once('/') {
            Some((workload, variant)) => self.workload == workload && self.variant == variant,
            None => self.workload == pattern,
        }
    }

    /// Its parameters, those of `given` that it has over its defaults.
    ///
    /// # Errors
    /// For a value that is not among the choices.
    pub fn resolve(&self, given: &BTreeMap<String, String>) -> Result<Params, Error> {
        let own = given.iter().filter(|(name, _)| self.params.iter().any(|param| param.name == **name));
        let own = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        let specs = self.params.iter().map(|p| (p.name.as_str(), p.default.as_str(), p.choices.as_slice()));
        Params::resolve_among(specs, &own)
    }
}

impl From<&Variant> for Described {
    fn from(variant: &Variant) -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let param = |spec: &ParamSpec| DescribedParam {
            name: spec.name.to_owned(),
            default: spec.default.to_owned(),
            choices: texts(spec.choices),
        };
        Self {
            workload: variant.workload.to_owned(),
            variant: variant.name.to_owned(),
            unit: variant.unit.to_owned(),
            by_default: variant.by_default,
            default_allocators: texts(variant.default_allocators),
            params: variant.params.iter().map(param).collect(),
            figures: variant.figures.iter().map(|figure| figure.name.to_owned()).collect(),
        }
    }
}
