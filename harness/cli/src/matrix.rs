//! From names on the command line to a plan: which variants under which allocators.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use heapgate_bench::{Injection, PROBE, Params, TRIAL, Under, parse_param};
use heapgate_core::plan::{Plan, Planned};
use heapgate_core::report::Cell;

use crate::fail::Failure;
use crate::source::{Described, Source};

/// The parameter that a number of steps other than the workload's own is in a cell.
pub const STEPS: &str = "steps";

/// What was asked for.
#[derive(Debug)]
pub struct Matrix<'a> {
    pub workloads: &'a [String],
    /// None: each variant's own.
    pub allocators: &'a [Under],
    pub params: &'a [String],
    pub steps: Option<u64>,
    pub inject: Injection,
    pub reps: u32,
    pub seed: u64,
}

impl Matrix<'_> {
    /// All cells, in the order of `source`.
    ///
    /// # Errors
    /// For a workload or parameter that there isn't.
    pub fn plan(&self, source: &Source) -> Result<Plan, Failure> {
        let selected = source.select(self.workloads)?;
        let given = parse_params(self.params)?;
        check_known(&given, &selected)?;
        let mut cells = Vec::new();
        for variant in selected {
            let params = variant.resolve(&given).map_err(Failure::usage)?;
            let allocators = source.allocators(variant, self.allocators)?;
            cells.extend(allocators.iter().map(|allocator| self.planned(variant, &params, allocator)));
        }
        Ok(Plan { cells, group: 1, first_rep: 0, reps: self.reps, seed: self.seed })
    }

    fn planned(&self, variant: &Described, params: &Params, allocator: &Under) -> Planned {
        let mut arguments = vec![TRIAL.to_owned(), variant.name()];
        for (name, value) in params.iter() {
            arguments.extend(["--param".to_owned(), format!("{name}={value}")]);
        }
        let mut all: BTreeMap<String, String> = params.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        if let Some(steps) = self.steps {
            arguments.extend(["--steps".to_owned(), steps.to_string()]);
            // Peaks depend on it: another number of steps is another cell.
            all.insert(STEPS.to_owned(), steps.to_string());
        }
        arguments.extend(self.inject.arguments());
        Planned {
            cell: Cell {
                workload: variant.workload.clone(),
                variant: variant.variant.clone(),
                allocator: allocator.to_string(),
                params: all,
            },
            unit: variant.unit.clone(),
            figures: variant.figures.clone(),
            arguments,
            environment: allocator.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            program: None,
            side: 0,
        }
    }
}

/// A parameter that none of the workloads has is a typing mistake.
fn check_known(given: &BTreeMap<String, String>, selected: &[&Described]) -> Result<(), Failure> {
    let mut known: Vec<&str> = selected.iter().flat_map(|v| &v.params).map(|param| param.name.as_str()).collect();
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

/// Reads `NAME=VALUE`s.
///
/// # Errors
/// For one of another form.
pub fn parse_params(params: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    params.iter().map(|param| parse_param(param).map_err(Failure::usage)).collect()
}

/// Starts a process under each allocator that has settings, so that one that jemalloc refuses is found before anything
/// is measured.
///
/// # Errors
/// With what jemalloc said.
pub fn check_settings(program: &Path, allocators: &[Under]) -> Result<(), Failure> {
    let specs = allocators.iter().filter_map(|under| match under {
        Under::Switch(spec) => Some(spec),
        Under::Own => None,
    });
    for allocator in specs.filter(|spec| !spec.options.is_empty()) {
        let output = Command::new(program).arg(PROBE).envs(allocator.environment()).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it gave no reason").trim_start_matches("<jemalloc>: ");
            return Err(Failure::usage(format!("jemalloc refuses '{allocator}': {said}")));
        }
    }
    Ok(())
}
