//! Several reports made one: shards of a matrix that was split over several machines, or runs of one build on one class
//! of machine. Nothing is left out in silence: what doesn't fit together is an error that names both files.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cell, Fault, Report, Shard, Trial, check};
use crate::fingerprint::{Difference, build_differences, machine_differences};
use crate::render::human;
use crate::shard::matrix_hash;

/// A report and what to call it in errors: its file or address.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it says.
    pub report: Report,
}

/// What may be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Repetitions that are there already are taken as more of them, with numbers of their own.
    pub more_repetitions: bool,
    /// Shards may be missing; the report is then not complete.
    pub partial: bool,
}

/// One report, and what of the others it can't say.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The report.
    pub report: Report,
    /// What whoever asked for it should know.
    pub notes: Vec<String>,
}

/// Why reports are not one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MergeError {
    #[error("there is no report to merge")]
    Nothing,
    #[error("{name} is of a run that did not end; run it again, or leave it out")]
    Unfinished { name: String },
    #[error(
        "{first} and {other} are of different machine classes, whose noisy figures are not one series: {}; gate each report \
         by itself, or run all shards on machines of one class",
        listed(differences)
    )]
    OtherMachine { first: String, other: String, differences: Vec<Difference> },
    #[error(
        "{first} and {other} are of different builds: {}; gate each report by itself, or run all with one build",
        listed(differences)
    )]
    OtherBuild { first: String, other: String, differences: Vec<Difference> },
    #[error(
        "{first} is {first_shard} and {other} is {other_shard}: parts of different matrices; give every shard the same \
         workloads and flags"
    )]
    OtherMatrix { first: String, first_shard: String, other: String, other_shard: String },
    #[error(
        "{first} and {other} are both {shard}; leave one out, or count it as more repetitions: --as-more-repetitions"
    )]
    SameShard { first: String, other: String, shard: String },
    #[error("missing: {}; run what is missing, or join what there is: --partial", missing.join(", "))]
    Missing { missing: Vec<String> },
    #[error(
        "the shards are all there, but their cells are not those of the matrix that was planned; a file was edited"
    )]
    OtherCells,
    #[error(
        "{place} is in {first} and in {other}; leave one out, or count it as more repetitions: --as-more-repetitions"
    )]
    Twice { first: String, other: String, place: String },
    #[error("{place} of {first} and {other_place} of {other} are the same measurement; leave one of the files out")]
    SameMeasurement { first: String, place: String, other: String, other_place: String },
    #[error("{cell}: {field} is {first} but {other}: not one series")]
    CellDisagrees { cell: String, field: &'static str, first: String, other: String },
    #[error("{name}: {cell} has more repetitions than can be numbered")]
    TooMany { name: String, cell: String },
    #[error("together they cannot be true: {0}")]
    Invalid(#[from] Fault),
}

fn listed(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Joins `inputs`, in their order. One alone comes back as it was, if it is no shard.
///
/// # Errors
/// If they are of different machine classes or builds, hold the same trials, or lack some: see [`MergeError`].
pub fn merge(inputs: &[Input], options: Options) -> Result<Merged, MergeError> {
    let first = inputs.first().ok_or(MergeError::Nothing)?;
    for input in inputs {
        alike(first, input)?;
    }
    let whole = all_shards(inputs, options)?;
    let mut notes = Vec::new();
    if let Some(other) = inputs.iter().find(|i| i.report.seed != first.report.seed) {
        notes.push(format!(
            "the orders of trials had different seeds; the report has that of {}, {}, not that of {}, {}",
            first.name, first.report.seed, other.name, other.report.seed
        ));
    }
    let report = Report {
        schema_version: first.report.schema_version,
        created_unix_s: inputs.iter().map(|i| i.report.created_unix_s).min().unwrap_or_default(),
        seed: first.report.seed,
        complete: whole,
        shard: None,
        fingerprint: first.report.fingerprint.clone(),
        trials: joined(inputs, options)?,
    };
    check(&report)?;
    Ok(Merged { report, notes })
}

/// Checks that `other` is a whole file of the series that `first` is of.
fn alike(first: &Input, other: &Input) -> Result<(), MergeError> {
    if !other.report.complete {
        return Err(MergeError::Unfinished { name: other.name.clone() });
    }
    let names = || (first.name.clone(), other.name.clone());
    let differences = machine_differences(&first.report.fingerprint, &other.report.fingerprint);
    if !differences.is_empty() {
        let (first, other) = names();
        return Err(MergeError::OtherMachine { first, other, differences });
    }
    let differences = build_differences(&first.report.fingerprint, &other.report.fingerprint);
    if !differences.is_empty() {
        let (first, other) = names();
        return Err(MergeError::OtherBuild { first, other, differences });
    }
    Ok(())
}

/// Whether every shard is there, as often as the others: true where there are none.
fn all_shards(inputs: &[Input], options: Options) -> Result<bool, MergeError> {
    let shards: Vec<(&Input, &Shard)> = inputs.iter().filter_map(|i| Some((i, i.report.shard.as_ref()?))).collect();
    let Some(&(first, of_first)) = shards.first() else { return Ok(true) };
    let mut found: BTreeMap<u32, Vec<&Input>> = BTreeMap::new();
    for &(input, shard) in &shards {
        if (Shard { index: of_first.index, ..shard.clone() }) != *of_first {
            return Err(MergeError::OtherMatrix {
                first: first.name.clone(),
                first_shard: described(of_first),
                other: input.name.clone(),
                other_shard: described(shard),
            });
        }
        let same = found.entry(shard.index).or_default();
        if let Some(twin) = same.first().filter(|_| !options.more_repetitions) {
            let (first, other, shard) = (twin.name.clone(), input.name.clone(), shard.to_string());
            return Err(MergeError::SameShard { first, other, shard });
        }
        same.push(input);
    }
    let rounds = found.values().map(Vec::len).max().unwrap_or_default();
    let times = |index: u32| found.get(&index).map_or(0, Vec::len);
    let missing: Vec<String> = (1..=of_first.of)
        .filter(|&index| times(index) < rounds)
        .map(|index| {
            let shard = Shard { index, ..of_first.clone() };
            match rounds {
                1 => shard.to_string(),
                _ => format!("{shard} (there {} times, others {rounds} times)", times(index)),
            }
        })
        .collect();
    if !missing.is_empty() {
        return if options.partial { Ok(false) } else { Err(MergeError::Missing { missing }) };
    }
    let cells: BTreeSet<&Cell> = shards.iter().flat_map(|(i, _)| i.report.trials.iter().map(|t| &t.cell)).collect();
    if matrix_hash(cells) == of_first.matrix { Ok(true) } else { Err(MergeError::OtherCells) }
}

fn described(shard: &Shard) -> String {
    let Shard { planned_cells, planned_reps, matrix, .. } = shard;
    format!(
        "{shard} of {} in {} (matrix {matrix})",
        human::counted(*planned_cells, "cell"),
        human::counted(u64::from(*planned_reps), "repetition")
    )
}

/// A trial that is taken already.
struct Taken<'a> {
    input: &'a Input,
    trial: &'a Trial,
    /// Its number in the report of all.
    rep: u32,
}

/// The trials of all, with numbers for those that are more repetitions.
fn joined(inputs: &[Input], options: Options) -> Result<Vec<Trial>, MergeError> {
    let mut cells: BTreeMap<&Cell, Vec<Taken<'_>>> = BTreeMap::new();
    let mut trials = Vec::new();
    for input in inputs {
        // First all cells, so that repetitions of one input keep their order when they are numbered anew.
        let mut reps: BTreeMap<(&Cell, u32), u32> = BTreeMap::new();
        for of_cell in input.report.cells() {
            let taken = cells.entry(of_cell.cell).or_default();
            if let (Some(before), Some(&now)) = (taken.first(), of_cell.trials.first()) {
                agree(before, input, now)?;
            }
            let more = options.more_repetitions && !taken.is_empty();
            let next = taken.iter().map(|t| u64::from(t.rep) + 1).max().unwrap_or_default();
            let mut new = Vec::new();
            for (number, &trial) in (next..).zip(&of_cell.trials) {
                let names = |other: &Taken<'_>| (other.input.name.clone(), input.name.clone());
                if let Some(same) = taken.iter().find(|before| is_copy(before.trial, trial)) {
                    let (first, other) = names(same);
                    let (place, other_place) = (place(same.trial), place(trial));
                    return Err(MergeError::SameMeasurement { first, place, other, other_place });
                }
                if let Some(same) = taken.iter().find(|before| !more && before.rep == trial.rep) {
                    let (first, other) = names(same);
                    return Err(MergeError::Twice { first, other, place: place(trial) });
                }
                let rep = if more { u32::try_from(number) } else { Ok(trial.rep) };
                let Ok(rep) = rep else {
                    return Err(MergeError::TooMany { name: input.name.clone(), cell: of_cell.cell.to_string() });
                };
                reps.insert((of_cell.cell, trial.rep), rep);
                new.push(Taken { input, trial, rep });
            }
            taken.extend(new);
        }
        trials.extend(input.report.trials.iter().map(|trial| {
            let rep = reps.get(&(&trial.cell, trial.rep)).copied().unwrap_or(trial.rep);
            Trial { rep, ..trial.clone() }
        }));
    }
    Ok(trials)
}

/// Checks that a cell was measured alike in both.
fn agree(before: &Taken<'_>, other: &Input, now: &Trial) -> Result<(), MergeError> {
    for (field, a, b) in [("unit", &before.trial.unit, &now.unit), ("level", &before.trial.level, &now.level)] {
        if a != b {
            let (first, other) = (format!("'{a}' in {}", before.input.name), format!("'{b}' in {}", other.name));
            return Err(MergeError::CellDisagrees { cell: now.cell.to_string(), field, first, other });
        }
    }
    Ok(())
}

/// Whether one is a copy of the other: no two runs take the same time to the nanosecond and agree in all else.
fn is_copy(a: &Trial, b: &Trial) -> bool {
    a.wall_s == b.wall_s && *a == Trial { rep: a.rep, ..b.clone() }
}

fn place(trial: &Trial) -> String {
    format!("{} repetition {}", trial.cell, human::repetition(trial.rep))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Plan, Planned};
    use crate::report::testing;

    const MORE: Options = Options { more_repetitions: true, partial: false };
    const PARTIAL: Options = Options { more_repetitions: false, partial: true };

    /// The report of each shard of `whole`, as machines would have made them.
    fn shards(whole: &Report, of: u32) -> Vec<Input> {
        let planned = |cell: &Cell| Planned {
            cell: cell.clone(),
            unit: String::new(),
            figures: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            program: None,
            side: 0,
        };
        let cells: Vec<Planned> = whole.cells().iter().map(|c| planned(c.cell)).collect();
        let reps = whole.trials.iter().map(|t| t.rep + 1).max().unwrap_or(1);
        let plan = Plan { cells, group: 1, first_rep: 0, reps, seed: whole.seed };
        (1..=of)
            .map(|index| {
                let (part, shard) = plan.shard(format!("{index}/{of}").parse().unwrap());
                let mut report = whole.clone();
                report.trials.retain(|t| part.cells.iter().any(|p| p.cell == t.cell));
                report.shard = Some(shard);
                check(&report).unwrap();
                Input { name: format!("shard-{index}.json"), report }
            })
            .collect()
    }

    fn named(name: &str, report: Report) -> Input {
        Input { name: name.to_owned(), report }
    }

    fn sorted(mut report: Report) -> Report {
        report.trials.sort_by(|a, b| (&a.cell, a.rep).cmp(&(&b.cell, b.rep)));
        report
    }

    /// The same measured again: other times, and of the rest what is exact.
    fn again(report: &Report) -> Report {
        let mut report = report.clone();
        report.trials.iter_mut().for_each(|t| t.wall_s += 0.001);
        report
    }

    fn error(inputs: &[Input], options: Options) -> String {
        merge(inputs, options).unwrap_err().to_string()
    }

    #[track_caller]
    fn says(error: &str, words: &[&str]) {
        for word in words {
            assert!(error.contains(word), "'{word}' is not in: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_shards_in_any_order_are_the_report_of_the_whole(
            cells in 0usize..10, reps in 1u32..4, of in 1u32..8, order in any::<prop::sample::Index>(),
        ) {
            let whole = testing::report(cells, reps);
            let mut inputs = shards(&whole, of);
            let turned = order.index(inputs.len());
            inputs.rotate_left(turned);
            let merged = merge(&inputs, Options::default()).unwrap();
            prop_assert_eq!(merged.notes.len(), 0);
            prop_assert_eq!(sorted(merged.report), sorted(whole));
        }

        #[test]
        fn any_one_missing_shard_is_named(cells in 0usize..10, of in 2u32..8, which in any::<prop::sample::Index>()) {
            let mut inputs = shards(&testing::report(cells, 2), of);
            let gone = inputs.remove(which.index(of as usize)).report.shard.unwrap();
            let missing = vec![gone.to_string()];
            prop_assert_eq!(merge(&inputs, Options::default()), Err(MergeError::Missing { missing }));
            let part = merge(&inputs, PARTIAL).unwrap().report;
            prop_assert!(!part.complete);
            prop_assert_eq!(part.trials.len(), inputs.iter().map(|i| i.report.trials.len()).sum::<usize>());
        }

        #[test]
        fn more_repetitions_keep_every_trial_once(cells in 1usize..6, reps in 1u32..4, runs in 2usize..5) {
            let mut report = testing::report(cells, reps);
            let mut inputs = Vec::new();
            for run in 0..runs {
                report = again(&report);
                inputs.push(named(&format!("run-{run}.json"), report.clone()));
            }
            let merged = merge(&inputs, MORE).unwrap().report;
            for (index, of_cell) in merged.cells().iter().enumerate() {
                let numbers: Vec<u32> = of_cell.trials.iter().map(|t| t.rep).collect();
                prop_assert_eq!(numbers, (0..reps * runs as u32).collect::<Vec<_>>());
                // In the order of the files, and in each in that of its repetitions.
                let expected = inputs.iter().flat_map(|i| i.report.cells()[index].trials.iter().map(|t| t.wall_s).collect::<Vec<_>>());
                prop_assert_eq!(of_cell.trials.iter().map(|t| t.wall_s).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn runs_of_different_workloads_are_joined() {
        let whole = testing::report(3, 2);
        let only = |workload: &str| {
            let mut report = whole.clone();
            report.trials.retain(|t| t.cell.workload == workload);
            named(&format!("{workload}.json"), report)
        };
        let merged = merge(&[only("embed"), only("tokenize"), only("decode")], Options::default()).unwrap().report;
        assert_eq!(sorted(merged), sorted(whole));
    }

    #[test]
    fn another_machine_class_is_refused_with_what_differs() {
        let mut inputs = shards(&testing::report(4, 2), 2);
        inputs[1].report.fingerprint.machine.cpus = 64;
        let error = error(&inputs, Options { more_repetitions: true, partial: true });
        says(&error, &["shard-1.json and shard-2.json", "different machine classes", "cpus 2 → 64", "by itself"]);
    }

    #[test]
    fn another_build_is_refused_with_what_differs() {
        let mut inputs = shards(&testing::report(4, 2), 2);
        inputs[1].report.fingerprint.build.commit = "fff".into();
        says(
            &error(&inputs, Options::default()),
            &["shard-1.json and shard-2.json", "commit 0123abc → fff", "one build"],
        );
    }

    #[test]
    fn a_run_that_did_not_end_is_refused_even_as_a_part() {
        let mut inputs = shards(&testing::report(4, 2), 2);
        inputs[1].report.complete = false;
        says(&error(&inputs, PARTIAL), &["shard-2.json", "did not end"]);
    }

    #[test]
    fn the_same_shard_twice_names_both_files() {
        let mut inputs = shards(&testing::report(4, 2), 2);
        inputs.push(named("again.json", again(&inputs[0].report)));
        let said = error(&inputs, Options::default());
        says(&said, &["shard-1.json and again.json are both shard 1/2", "--as-more-repetitions"]);
        // As more repetitions, the other shard must be there as often.
        says(&error(&inputs, MORE), &["missing: shard 2/2 (there 1 times, others 2 times)"]);
        inputs.push(named("again-2.json", again(&inputs[1].report)));
        let merged = merge(&inputs, MORE).unwrap().report;
        assert!(merged.complete && merged.cells().iter().all(|c| c.trials.len() == 4));
    }

    #[test]
    fn a_copy_is_never_more_repetitions() {
        let report = testing::report(2, 2);
        let inputs = [named("a.json", report.clone()), named("b.json", report)];
        for options in [MORE, Options::default()] {
            says(&error(&inputs, options), &["a.json", "b.json", "repetition 1", "same measurement"]);
        }
    }

    #[test]
    fn a_trial_of_two_runs_names_both_files() {
        let report = testing::report(2, 2);
        let inputs = [named("a.json", again(&report)), named("b.json", report)];
        says(&error(&inputs, Options::default()), &["a.json", "b.json", "repetition 1", "--as-more-repetitions"]);
    }

    #[test]
    fn shards_of_two_matrices_are_no_whole() {
        let mut inputs = shards(&testing::report(4, 2), 2);
        inputs[1] = shards(&testing::report(5, 2), 2).remove(1);
        says(&error(&inputs, PARTIAL), &["shard-1.json", "shard-2.json", "of 4 cells", "of 5 cells"]);
        inputs[1] = shards(&testing::report(4, 3), 2).remove(1);
        says(&error(&inputs, Options::default()), &["in 2 repetitions", "in 3 repetitions"]);
    }

    #[test]
    fn cells_that_were_not_planned_are_noticed() {
        let mut inputs = shards(&testing::report(4, 2), 2);
        inputs[1].report.trials.iter_mut().for_each(|t| t.cell.params.clear());
        assert_eq!(merge(&inputs, Options::default()), Err(MergeError::OtherCells));
    }

    #[test]
    fn a_cell_measured_at_another_level_is_not_one_series() {
        let report = testing::report(1, 2);
        let mut other = again(&report);
        other.trials.iter_mut().for_each(|t| t.level = "count".into());
        let inputs = [named("a.json", report), named("b.json", other)];
        says(&error(&inputs, MORE), &["level is 'exact' in a.json but 'count' in b.json"]);
    }

    #[test]
    fn numbers_of_repetitions_do_not_overflow() {
        let mut report = testing::report(1, 1);
        report.trials[0].rep = u32::MAX;
        let inputs = [named("a.json", report.clone()), named("b.json", again(&report))];
        says(&error(&inputs, MORE), &["b.json", "more repetitions than can be numbered"]);
    }

    #[test]
    fn another_seed_is_said_and_the_first_begin_counts() {
        let report = testing::report(1, 1);
        let mut other = again(&report);
        (other.seed, other.created_unix_s) = (8, report.created_unix_s - 5);
        let merged = merge(&[named("a.json", report.clone()), named("b.json", other)], MORE).unwrap();
        assert_eq!((merged.report.seed, merged.report.created_unix_s), (report.seed, report.created_unix_s - 5));
        assert!(merged.notes[0].contains("a.json, 7, not that of b.json, 8"), "{:?}", merged.notes);
    }

    #[test]
    fn nothing_is_no_report() {
        assert_eq!(merge(&[], PARTIAL), Err(MergeError::Nothing));
    }
}
