//! From names on the command line to a plan: which variants under which allocators.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use heapgate_bench::{AllocatorSpec, Injection, Params, Variant};
use heapgate_core::plan::{Plan, Planned};
use heapgate_core::report::Cell;
use heapgate_workloads::variants;

use crate::fail::Failure;

/// What was asked for.
#[derive(Debug)]
pub struct Matrix<'a> {
    pub workloads: &'a [String],
    /// None: each variant's own.
    pub allocators: &'a [AllocatorSpec],
    pub params: &'a [String],
    pub steps: Option<u64>,
    pub inject: Option<Injection>,
    pub reps: u32,
    pub seed: u64,
}

impl Matrix<'_> {
    /// All cells, in the order of the registry.
    ///
    /// # Errors
    /// For a workload or parameter that there isn't.
    pub fn plan(&self) -> Result<Plan, Failure> {
        for pattern in self.workloads {
            if !exists(pattern) {
                return Err(unknown(pattern));
            }
        }
        let given = parse_params(self.params)?;
        let named = |v: &Variant| self.workloads.iter().any(|pattern| matches(v, pattern));
        let selected: Vec<&Variant> =
            variants().iter().filter(|v| if self.workloads.is_empty() { v.by_default } else { named(v) }).collect();
        check_known(&given, &selected)?;
        let mut cells = Vec::new();
        for variant in selected {
            // A parameter is for those that have it.
            let own = given.iter().filter(|(name, _)| variant.params.iter().any(|spec| spec.name == **name));
            let own = own.map(|(name, value)| (name.clone(), value.clone())).collect();
            let params = Params::resolve(variant.params, &own).map_err(Failure::usage)?;
            let own: Vec<AllocatorSpec>;
            let allocators = if self.allocators.is_empty() {
                own = variant
                    .default_allocators
                    .iter()
                    .map(|a| a.parse())
                    .collect::<Result<_, _>>()
                    .map_err(Failure::internal)?;
                &own
            } else {
                self.allocators
            };
            cells.extend(allocators.iter().map(|allocator| self.planned(variant, &params, allocator)));
        }
        Ok(Plan { cells, reps: self.reps, seed: self.seed })
    }

    fn planned(&self, variant: &Variant, params: &Params, allocator: &AllocatorSpec) -> Planned {
        let mut arguments = vec!["trial".to_owned(), format!("{}/{}", variant.workload, variant.name)];
        for (name, value) in params.iter() {
            arguments.extend(["--param".to_owned(), format!("{name}={value}")]);
        }
        let mut all: BTreeMap<String, String> = params.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        if let Some(steps) = self.steps {
            arguments.extend(["--steps".to_owned(), steps.to_string()]);
            // Peaks depend on it: another number of steps is another cell.
            all.insert("steps".to_owned(), steps.to_string());
        }
        if let Some(Injection { extra_allocs }) = self.inject {
            arguments.extend(["--inject".to_owned(), format!("extra-allocs={extra_allocs}")]);
        }
        Planned {
            cell: Cell {
                workload: variant.workload.to_owned(),
                variant: variant.name.to_owned(),
                allocator: allocator.to_string(),
                params: all,
            },
            unit: variant.unit.to_owned(),
            figures: variant.figures.iter().map(|figure| figure.name.to_owned()).collect(),
            arguments,
            environment: allocator.environment().map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }
}

fn matches(variant: &Variant, pattern: &str) -> bool {
    match pattern.split_once('/') {
        Some((workload, name)) => variant.workload == workload && variant.name == name,
        None => variant.workload == pattern,
    }
}

/// A parameter that none of the workloads has is a typing mistake.
fn check_known(given: &BTreeMap<String, String>, selected: &[&Variant]) -> Result<(), Failure> {
    let mut known: Vec<&str> = selected.iter().flat_map(|v| v.params).map(|spec| spec.name).collect();
    known.sort_unstable();
    known.dedup();
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let reason = format!("there is no such parameter; there are: {}", known.join(", "));
            Err(Failure::usage(heapgate_bench::Error::Param { name: name.clone(), reason }))
        }
        None => Ok(()),
    }
}

/// Whether one of `workloads`, or of those that run where none is named, takes the parameter. Names that there aren't
/// are told elsewhere.
pub fn takes(workloads: &[String], param: &str) -> bool {
    let selected = |v: &Variant| match workloads {
        [] => v.by_default,
        named => named.iter().any(|pattern| matches(v, pattern) || !exists(pattern)),
    };
    variants().iter().any(|v| selected(v) && v.params.iter().any(|spec| spec.name == param))
}

/// Whether `pattern` names a workload or a variant.
pub fn exists(pattern: &str) -> bool {
    variants().iter().any(|v| matches(v, pattern))
}

/// The error for a name that there isn't.
pub fn unknown(pattern: &str) -> Failure {
    let names: Vec<String> = variants().iter().map(|v| format!("{}/{}", v.workload, v.name)).collect();
    Failure::usage(format!("unknown workload '{pattern}'; there are: {}", names.join(", ")))
}

/// The variant with the full name `name`.
///
/// # Errors
/// Listing those there are.
pub fn find_variant(name: &str) -> Result<Variant, Failure> {
    variants().iter().find(|v| name.contains('/') && matches(v, name)).copied().ok_or_else(|| unknown(name))
}

/// Reads `NAME=VALUE`s.
///
/// # Errors
/// For one of another form.
pub fn parse_params(params: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    params
        .iter()
        .map(|param| match param.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Failure::usage(format!("--param {param}: not of the form NAME=VALUE"))),
        })
        .collect()
}

/// Starts a process under each allocator that has settings, so that one that jemalloc refuses is found before anything
/// is measured.
///
/// # Errors
/// With what jemalloc said.
pub fn check_settings(program: &Path, allocators: &[AllocatorSpec]) -> Result<(), Failure> {
    for allocator in allocators.iter().filter(|a| !a.options.is_empty()) {
        let output = Command::new(program).arg("probe").envs(allocator.environment()).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it gave no reason").trim_start_matches("<jemalloc>: ");
            return Err(Failure::usage(format!("jemalloc refuses '{allocator}': {said}")));
        }
    }
    Ok(())
}
