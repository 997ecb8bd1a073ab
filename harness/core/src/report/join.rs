//! Several reports as one: their trials are more repetitions of the same cells.

use std::collections::BTreeMap;

use super::{Cell, Fault, Report, check};
use crate::fingerprint::{build_differences, machine_differences};

/// Why reports can't be taken together. Files are as they were named.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JoinError {
    #[error("{second} holds the same run as {first}: its repetitions would count twice; leave one of them out")]
    SameRun { first: String, second: String },
    #[error(
        "{first} and {second} can't be taken together: {what} differs ({differences}); compare them with each other instead"
    )]
    Differs { first: String, second: String, what: &'static str, differences: String },
    #[error("{first} and {second} can't be taken together: {fault}")]
    Cells { first: String, second: String, fault: Box<Fault> },
}

/// The reports, each with its name, as one: the trials of each follow those before it, with repetitions counted on.
/// They must be of one machine class and one build. `None` where there are none.
///
/// # Errors
/// Naming the files and what differs.
pub fn join(reports: impl IntoIterator<Item = (String, Report)>) -> Result<Option<Report>, JoinError> {
    let mut reports = reports.into_iter();
    let Some((first, mut joined)) = reports.next() else { return Ok(None) };
    let mut runs = vec![(first.clone(), joined.trials.clone())];
    for (second, mut report) in reports {
        // Two runs never give the same times to the nanosecond.
        if let Some((same, _)) = runs.iter().find(|run| !report.trials.is_empty() && run.1 == report.trials) {
            return Err(JoinError::SameRun { first: same.clone(), second });
        }
        check_alike(&first, &joined, &second, &report)?;
        runs.push((second.clone(), report.trials.clone()));
        let next = next_repetitions(&joined);
        for trial in &mut report.trials {
            trial.rep = trial.rep.saturating_add(next.get(&trial.cell).copied().unwrap_or(0));
        }
        joined.trials.append(&mut report.trials);
        joined.complete &= report.complete;
        check(&joined).map_err(|fault| JoinError::Cells { first: first.clone(), second, fault: Box::new(fault) })?;
    }
    Ok(Some(joined))
}

fn check_alike(first: &str, joined: &Report, second: &str, report: &Report) -> Result<(), JoinError> {
    let pairs = [
        ("the machine", machine_differences(&joined.fingerprint, &report.fingerprint)),
        ("the build", build_differences(&joined.fingerprint, &report.fingerprint)),
    ];
    match pairs.into_iter().find(|(_, differences)| !differences.is_empty()) {
        Some((what, differences)) => Err(JoinError::Differs {
            first: first.to_owned(),
            second: second.to_owned(),
            what,
            differences: differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }),
        None => Ok(()),
    }
}

/// The number of each cell's next repetition.
fn next_repetitions(report: &Report) -> BTreeMap<Cell, u32> {
    let mut next = BTreeMap::new();
    for trial in &report.trials {
        let after = next.entry(trial.cell.clone()).or_insert(0);
        *after = trial.rep.saturating_add(1).max(*after);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::MetricId;
    use crate::report::testing;

    fn named<const N: usize>(reports: [Report; N]) -> Vec<(String, Report)> {
        (1..).map(|n| format!("{n}.json")).zip(reports).collect()
    }

    /// A report of another run: no two take the same time.
    fn another(cells: usize, reps: u32) -> Report {
        let mut report = testing::report(cells, reps);
        testing::set_all(&mut report, MetricId::MinorFaults, 10_500.0);
        report
    }

    #[test]
    fn repetitions_are_counted_on() {
        let joined = join(named([testing::report(1, 3), another(2, 2)])).unwrap().unwrap();
        let reps: Vec<Vec<u32>> = joined.cells().iter().map(|c| c.trials.iter().map(|t| t.rep).collect()).collect();
        assert_eq!(reps, [vec![0, 1], vec![0, 1, 2, 3, 4]], "decode, tokenize");
        assert!(joined.complete && joined.cells().iter().all(|c| c.missing_repetition().is_none()));
    }

    #[test]
    fn one_that_was_cut_off_makes_the_whole_so() {
        let mut cut = another(1, 2);
        cut.complete = false;
        assert!(!join(named([testing::report(1, 3), cut])).unwrap().unwrap().complete);
    }

    #[test]
    fn another_build_or_machine_is_named_with_both_files_and_the_field() {
        let mut build = another(1, 2);
        build.fingerprint.build.commit = "fedcba9".into();
        let error = join(named([testing::report(1, 3), build])).unwrap_err().to_string();
        assert!(error.starts_with("1.json and 2.json") && error.contains("commit 0123abc → fedcba9"), "{error}");
        let mut machine = another(1, 2);
        machine.fingerprint.machine.kernel = "6.8".into();
        let error = join(named([testing::report(1, 3), machine])).unwrap_err().to_string();
        assert!(error.contains("the machine differs (kernel 6.1 → 6.8)"), "{error}");
    }

    #[test]
    fn one_run_does_not_count_twice() {
        let error = join(named([testing::report(1, 3), another(1, 2), testing::report(1, 3)])).unwrap_err();
        assert_eq!(error, JoinError::SameRun { first: "1.json".into(), second: "3.json".into() });
    }

    #[test]
    fn cells_that_count_other_units_are_refused() {
        let mut other = another(1, 2);
        other.trials.iter_mut().for_each(|t| t.unit = "byte".into());
        let error = join(named([testing::report(1, 3), other])).unwrap_err();
        assert!(matches!(error, JoinError::Cells { .. }), "{error}");
    }

    #[test]
    fn one_report_is_itself_and_none_is_none() {
        assert_eq!(join(named([testing::report(2, 2)])).unwrap(), Some(testing::report(2, 2)));
        assert_eq!(join([]).unwrap(), None);
    }
}
