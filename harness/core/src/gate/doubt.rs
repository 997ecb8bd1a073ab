//! What makes a comparison doubtful though every figure in it is possible: repetitions that are missing, clocks that
//! disagree.

use std::collections::BTreeMap;

use super::verdict::{Problem, ProblemKind, Verdict};
use crate::render::human::{counted, date, repetition};
use crate::report::Report;

/// How far two machines' clocks may be apart before it is said.
const CLOCKS_APART_S: u64 = 86_400;

/// Cells of `report` of which a repetition is missing: they are numbered one after the other, so the file is a part of
/// what was measured, and nobody knows what was in the rest.
pub(super) fn missing_repetitions(report: &Report) -> Vec<Problem> {
    report
        .cells()
        .iter()
        .filter_map(|cell| {
            let missing = cell.missing_repetition()?;
            let text = format!(
                "repetition {} is not in the report, though a later one is; take the report as it was written, or run it again",
                repetition(missing)
            );
            Some(Problem { kind: ProblemKind::RunIncomplete, place: cell.cell.to_string(), text })
        })
        .collect()
}

/// Notes what a reader should know of a report from a file: cells with more repetitions than others, and what
/// [`note_clocks`] notes.
pub fn note_doubts(verdict: &mut Verdict, report: &Report, now_unix_s: u64) {
    verdict.notes.extend(unequal_repetitions(report));
    note_clocks(verdict, report, now_unix_s);
}

/// Notes dates later than `now_unix_s`, which ages can't be counted from.
pub fn note_clocks(verdict: &mut Verdict, report: &Report, now_unix_s: u64) {
    let today = date(now_unix_s);
    let later = |unix_s: u64| unix_s > now_unix_s.saturating_add(CLOCKS_APART_S);
    let dated = |what: String, unix_s| {
        format!(
            "{what} is dated {}, but today is {today} by this machine's clock: one of the two is wrong",
            date(unix_s)
        )
    };
    let baselines = verdict.compared_with.iter().filter(|c| later(c.recorded_unix_s));
    let mut notes: Vec<String> =
        baselines.map(|c| dated(format!("{}: the baseline", c.workload), c.recorded_unix_s)).collect();
    if later(report.created_unix_s) {
        notes.push(dated("this run".to_owned(), report.created_unix_s));
    }
    verdict.notes.extend(notes);
}

/// That some cells of `report` have more repetitions than others, and how many have how many.
#[must_use]
pub fn unequal_repetitions(report: &Report) -> Option<String> {
    let mut cells: BTreeMap<usize, u64> = BTreeMap::new();
    for cell in report.cells() {
        *cells.entry(cell.trials.len()).or_default() += 1;
    }
    if cells.len() < 2 {
        return None;
    }
    let counts: Vec<String> = cells
        .into_iter()
        .map(|(repetitions, cells)| {
            format!("{} of {}", counted(repetitions as u64, "repetition"), counted(cells, "cell"))
        })
        .collect();
    Some(format!("cells have different numbers of repetitions: {}", counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::{Look, Overall, compare};
    use crate::report::testing;

    #[test]
    fn a_repetition_that_is_missing_is_no_pass_on_either_side() {
        let whole = testing::report(2, 3);
        let mut part = whole.clone();
        part.trials.retain(|t| t.cell != testing::cell(1) || t.rep != 1);
        for (before, now) in [(&whole, &part), (&part, &whole)] {
            let verdict = compare(before, now, &Config::default(), Look::ONLY);
            assert_eq!(verdict.decision, Overall::Inconclusive);
            assert!(verdict.problems[0].text.contains("repetition 2 is not in the report"), "{:?}", verdict.problems);
            assert!(verdict.problems[0].place.starts_with("decode/"), "{:?}", verdict.problems);
        }
    }

    #[test]
    fn unequal_numbers_of_repetitions_are_noted() {
        let mut report = testing::report(3, 3);
        assert_eq!(unequal_repetitions(&report), None);
        report.trials.retain(|t| t.cell != testing::cell(1) || t.rep == 0);
        let said = unequal_repetitions(&report).unwrap();
        assert!(said.ends_with("1 repetition of 1 cell, 3 repetitions of 2 cells"), "{said}");
    }

    #[test]
    fn dates_of_the_future_are_noted_once_they_are_a_day_ahead() {
        let report = testing::report(1, 3);
        let made = report.created_unix_s;
        for (now, notes) in [(made, 0), (made - CLOCKS_APART_S, 0), (made - CLOCKS_APART_S - 1, 2), (0, 2)] {
            let mut verdict = compare(&report, &report, &Config::default(), Look::ONLY);
            note_doubts(&mut verdict, &report, now);
            assert_eq!(verdict.notes.len(), notes, "{:?}", verdict.notes);
        }
    }
}
