//! What is measured: a variant with its parameters under an allocator; and what came of it.

use std::fmt;

use super::Suite;
use super::arguments::Arguments;
use super::figures::{FIGURES, Figures};
use super::fresh::{Failure, Ran};
use crate::allocator::{SpecError, Under};
use crate::inject::Injection;
use crate::json::Json;
use crate::switch;
use crate::workload::{Params, Variant};

/// One thing to measure.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub variant: &'static Variant,
    pub params: Params,
    pub allocator: Under,
    pub steps: Option<u64>,
    pub inject: Injection,
}

impl Cell {
    /// Its variant's full name.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.variant.workload, self.variant.name)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.allocator)?;
        self.params.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The cells that the command line asks for.
pub(super) fn plan(suite: &Suite, arguments: &Arguments) -> Result<Vec<Cell>, String> {
    let found = |name: &str, filter: &String| if arguments.exact { name == filter } else { name.contains(filter) };
    // A suite that marks none means all.
    let some_by_default = suite.variants.iter().any(|variant| variant.by_default);
    let selected: Vec<&'static Variant> = suite
        .variants
        .iter()
        .filter(|variant| {
            let name = format!("{}/{}", variant.workload, variant.name);
            let wanted = if arguments.filters.is_empty() {
                variant.by_default || !some_by_default
            } else {
                arguments.filters.iter().any(|filter| found(&name, filter))
            };
            wanted && !arguments.only_ignored && !arguments.skips.iter().any(|filter| found(&name, filter))
        })
        .collect();
    for name in arguments.params.keys() {
        // `cargo bench -- FILTER` reaches all benches, so nothing found is no error; a parameter nobody has is one.
        if !selected.is_empty() && !selected.iter().any(|v| v.params.iter().any(|spec| spec.name == *name)) {
            let mut known: Vec<&str> = selected.iter().flat_map(|v| v.params).map(|spec| spec.name).collect();
            known.sort_unstable();
            known.dedup();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("there is no parameter '{name}'; there are: {known}"));
        }
    }
    if let Some(reason) = arguments.inject.needs_switch().filter(|_| switch::in_use().is_none()) {
        return Err(reason);
    }
    let mut cells = Vec::new();
    for variant in selected {
        if let Some(why) = (variant.missing)() {
            // What was asked for by name fails; the rest goes on without it.
            if !arguments.filters.is_empty() {
                return Err(format!("{}/{}: {why}", variant.workload, variant.name));
            }
            eprintln!("heapgate-bench: {}/{} is left out: {why}", variant.workload, variant.name);
            continue;
        }
        let own = arguments.params.iter().filter(|(name, _)| variant.params.iter().any(|spec| spec.name == **name));
        let own = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        let params = Params::resolve(variant.params, &own).map_err(|error| error.to_string())?;
        for allocator in allocators(variant, &arguments.allocators)? {
            let (steps, inject) = (arguments.steps, arguments.inject);
            cells.push(Cell { variant, params: params.clone(), allocator, steps, inject });
        }
    }
    Ok(cells)
}

fn allocators(variant: &Variant, asked: &[String]) -> Result<Vec<Under>, String> {
    let parse = |name: &str| name.parse::<Under>().map_err(|error: SpecError| error.to_string());
    let asked: Vec<Under> = asked.iter().map(|name| parse(name)).collect::<Result<_, _>>()?;
    if switch::in_use().is_none() {
        return match asked.iter().find(|&under| *under != Under::Own) {
            Some(under) => Err(format!("--allocator {under}: this bench has an allocator of its own, 'own'")),
            None => Ok(vec![Under::Own]),
        };
    }
    if asked.contains(&Under::Own) {
        return Err("--allocator own: it is for benches with an allocator of their own".to_owned());
    }
    if asked.is_empty() { variant.default_allocators.iter().map(|name| parse(name)).collect() } else { Ok(asked) }
}

/// What came of a cell's repetitions.
#[derive(Debug)]
pub(super) struct Outcome {
    pub cell: Cell,
    pub trials: Vec<Figures>,
    /// Why it failed; it is then not run again.
    pub failure: Option<Failure>,
    /// What the last trial that succeeded printed to standard error.
    pub said: String,
}

impl Outcome {
    pub(super) fn new(cell: Cell) -> Self {
        Self { cell, trials: Vec::new(), failure: None, said: String::new() }
    }

    pub(super) fn add(&mut self, result: Result<Ran, Failure>) {
        match result {
            Ok(ran) => {
                self.trials.push(ran.figures);
                self.said = ran.said;
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// Figure `index` of all repetitions: their median (of an even number, the lower of the two in the middle).
    pub(super) fn median(&self, index: usize) -> Option<f64> {
        median(self.trials.iter().map(|trial| trial.values[index]))
    }

    /// The workload's own figures: medians.
    pub(super) fn own_medians(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        self.cell.variant.figures.iter().enumerate().map(|(index, figure)| {
            (figure.name, median(self.trials.iter().map(|trial| trial.own.get(index).copied().flatten())))
        })
    }

    /// The exact figures that are not the same in all repetitions, with the lowest and the highest value; and the
    /// checksum, if the answers differ.
    pub(super) fn disagreements(&self) -> Vec<(&'static str, Option<(f64, f64)>)> {
        let exact = FIGURES.iter().enumerate().filter(|(_, figure)| figure.exact);
        let mut found: Vec<_> = exact
            .filter_map(|(index, figure)| {
                let values = self.trials.iter().filter_map(|trial| trial.values[index]);
                let (low, high) =
                    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
                (low < high).then_some((figure.name, Some((low, high))))
            })
            .collect();
        if self.trials.windows(2).any(|pair| pair[0].checksum != pair[1].checksum) {
            found.push(("the answers", None));
        }
        found
    }

    pub(super) fn json(&self) -> Json {
        let number = |value: Option<f64>| value.map_or(Json::Null, Json::Number);
        let figures = FIGURES.iter().enumerate().map(|(index, figure)| (figure.name, number(self.median(index))));
        let own = self.own_medians().map(|(name, value)| (name, number(value)));
        Json::object([
            ("workload", Json::text(self.cell.variant.workload)),
            ("variant", Json::text(self.cell.variant.name)),
            ("allocator", Json::text(self.cell.allocator.to_string())),
            ("params", Json::object(self.cell.params.iter().map(|(name, value)| (name, Json::text(value))))),
            ("unit", Json::text(self.cell.variant.unit)),
            ("reps", Json::Integer(self.trials.len() as u64)),
            ("failure", self.failure.as_ref().map_or(Json::Null, |failure| Json::text(failure.to_string()))),
            ("disagreements", Json::list(self.disagreements().iter().map(|&(name, _)| Json::text(name)))),
            ("figures", Json::object(figures)),
            ("own_figures", Json::object(own)),
        ])
    }
}

fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    static VARIANT: Variant = crate::bench!("text/count", "byte", || || 1u64);

    /// What came of trials with these figures and checksums.
    pub(in crate::suite) fn outcome(trials: &[([Option<f64>; FIGURES.len()], u64)]) -> Outcome {
        let (params, allocator) = (Params::default(), Under::Own);
        let mut outcome =
            Outcome::new(Cell { variant: &VARIANT, params, allocator, steps: None, inject: Injection::default() });
        for &(values, checksum) in trials {
            outcome.add(Ok(Ran { figures: Figures { values, checksum, own: Vec::new() }, said: String::new() }));
        }
        outcome
    }

    #[test]
    fn exact_figures_that_differ_are_named_and_noisy_ones_are_not() {
        let mut other = [Some(1.0); FIGURES.len()];
        (other[0], other[9]) = (Some(1.5), Some(99.0));
        let differing = outcome(&[([Some(1.0); FIGURES.len()], 1), (other, 1), (other, 2)]);
        let expected = [("allocations_per_unit", Some((1.0, 1.5))), ("the answers", None)];
        assert_eq!(differing.disagreements(), expected);
        assert_eq!((differing.median(0), differing.median(1)), (Some(1.5), Some(1.0)));
        assert!(outcome(&[(other, 1), (other, 1)]).disagreements().is_empty());
    }

    #[test]
    fn what_failed_is_told_with_what_was_measured_before() {
        let mut failed = outcome(&[([Some(2.0); FIGURES.len()], 1)]);
        failed.add(Err(Failure::new("killed by signal 9".to_owned())));
        let json = failed.json().to_string();
        assert!(json.contains(r#""reps":1,"failure":"killed by signal 9""#), "{json}");
        assert!(json.contains(r#""allocations_per_unit":2"#), "{json}");
    }
}
