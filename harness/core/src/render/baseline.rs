//! What the verbs of `heapgate baseline` print.

use std::fmt::Write;

use super::Options;
use super::human::{self, counted};
use super::label::labels;
use super::table::{Side, clean, hanging, lines};
use crate::baseline::{Baseline, CellChange, ChangeKind, Concern, ConcernKind};

const SECONDS_PER_DAY: u64 = 86_400;
/// How far two machines' clocks may be apart before a date counts as one of the future.
const CLOCKS_APART_S: u64 = SECONDS_PER_DAY;
const INDENT: &str = "  ";
/// Where nobody said who recorded it: older files.
const NOBODY: &str = "recorded by: not said";

/// The age in whole days of what is dated `unix_s`; `None` where that is in the future.
#[must_use]
pub fn age_days(unix_s: u64, now_unix_s: u64) -> Option<u64> {
    let ahead = unix_s.saturating_sub(now_unix_s);
    (ahead <= CLOCKS_APART_S).then(|| now_unix_s.saturating_sub(unix_s) / SECONDS_PER_DAY)
}

/// The fewest and the most repetitions of a baseline's cells.
#[must_use]
pub fn repetitions(baseline: &Baseline) -> (usize, usize) {
    let reps = baseline.cells.iter().map(|c| c.metrics.values().map(Vec::len).max().unwrap_or(0));
    (reps.clone().min().unwrap_or(0), reps.max().unwrap_or(0))
}

/// The baselines, sorted by class: a table for each, that of this machine (`own_class`) said to be so.
#[must_use]
pub fn list(baselines: &[Baseline], own_class: &str, now_unix_s: u64, options: Options) -> String {
    let style = options.style;
    let mut rows = vec![["", "workload", "cells", "reps", "age", "recorded", "commit"].map(str::to_owned).to_vec()];
    rows.extend(baselines.iter().map(|baseline| row(baseline, now_unix_s)));
    let columns = [Side::Left, Side::Left, Side::Right, Side::Right, Side::Right, Side::Left, Side::Left];
    let mut table = lines(&columns, &rows).into_iter();
    let mut out = String::new();
    if let Some(header) = table.next() {
        let _ = writeln!(out, "{}", style.dim(&header));
    }
    let mut last_class = None;
    for (baseline, line) in baselines.iter().zip(table) {
        let class = baseline.class();
        if last_class.as_ref() != Some(&class) {
            let mine = if class == own_class { " (this machine's class)" } else { "" };
            let _ = writeln!(out, "{}{mine}", style.bold(&class));
            last_class = Some(class);
        }
        let _ = writeln!(out, "{line}");
        let by = if baseline.recorded_by.trim().is_empty() { NOBODY } else { &baseline.recorded_by };
        for line in hanging("      ", by, options.width).lines() {
            let _ = writeln!(out, "{}", style.dim(line));
        }
    }
    if !baselines.iter().any(|b| b.class() == own_class) {
        let _ = writeln!(out, "none is of this machine's class, {own_class}");
    }
    out
}

fn row(baseline: &Baseline, now_unix_s: u64) -> Vec<String> {
    let reps = match repetitions(baseline) {
        (fewest, most) if fewest == most => fewest.to_string(),
        (fewest, most) => format!("{fewest}-{most}"),
    };
    let age = match age_days(baseline.recorded_unix_s, now_unix_s) {
        None => "in the future".to_owned(),
        Some(0) => "today".to_owned(),
        Some(days) => counted(days, "day"),
    };
    let commit = match baseline.fingerprint.build.commit.as_str() {
        "" => "unknown".to_owned(),
        commit => commit.chars().take(LONGEST_COMMIT).collect(),
    };
    let recorded = human::date(baseline.recorded_unix_s);
    vec![
        String::new(),
        clean(&baseline.workload),
        baseline.cells.len().to_string(),
        reps,
        age,
        recorded,
        clean(&commit),
    ]
}

/// A short commit and the mark of changes.
const LONGEST_COMMIT: usize = 13;

/// What putting new figures into a baseline changes: the exact metrics before and after, then the numbers of cells.
#[must_use]
pub fn changes(changes: &[CellChange], options: Options) -> String {
    let style = options.style;
    let mut names = labels(changes.iter().map(|change| &change.cell));
    let changed: Vec<(String, Vec<Vec<String>>)> = changes
        .iter()
        .filter_map(|change| match &change.kind {
            ChangeKind::Replaced { exact } if !exact.is_empty() => {
                Some((names.remove(&change.cell).unwrap_or_default(), exact.iter().map(metric_row).collect()))
            }
            _ => None,
        })
        .collect();
    let mut out = String::new();
    if !changed.is_empty() {
        let mut rows = vec![["", "exact metric", "before", "after", "change"].map(str::to_owned).to_vec()];
        rows.extend(changed.iter().flat_map(|(_, rows)| rows.iter().cloned()));
        let mut table = lines(&[Side::Left, Side::Left, Side::Right, Side::Right, Side::Right], &rows).into_iter();
        let _ = writeln!(out, "{}", style.dim(&table.next().unwrap_or_default()));
        for (name, rows) in &changed {
            let _ = writeln!(out, "{}", style.bold(name));
            for line in table.by_ref().take(rows.len()) {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    let count = |wanted: fn(&ChangeKind) -> bool| changes.iter().filter(|c| wanted(&c.kind)).count() as u64;
    let counts = [
        (changed.len() as u64, "with other exact metrics"),
        (count(|k| matches!(k, ChangeKind::Replaced { exact } if exact.is_empty())), "with the same exact metrics"),
        (count(|k| *k == ChangeKind::New), "new"),
        (count(|k| *k == ChangeKind::Kept), "not in the report and kept"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|c| c.0 > 0)
        .map(|(number, what)| format!("{} {what}", counted(*number, "cell")))
        .collect();
    out.push_str(&hanging("", &said.join(", "), options.width));
    out
}

fn metric_row(change: &crate::baseline::MetricChange) -> Vec<String> {
    let unit = change.metric.metric().unit;
    let (before, after) = match (change.before, change.after) {
        (Some(before), Some(after)) => human::pair(unit, before, after),
        (before, after) => {
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| human::value(unit, value));
            (shown(before), shown(after))
        }
    };
    let by = match (change.before, change.after) {
        (Some(before), Some(after)) if before != 0.0 => human::change((after - before) / before.abs()),
        (Some(_), Some(_)) => "from 0".to_owned(),
        _ => "-".to_owned(),
    };
    vec![String::new(), change.metric.metric().name.to_owned(), before, after, by]
}

/// What an audit of `baselines` baselines found, by place, and in the last line whether something is to be done.
#[must_use]
pub fn concerns(concerns: &[Concern], baselines: usize, options: Options) -> String {
    let style = options.style;
    let mut out = String::new();
    let mut last_place = None;
    for concern in concerns {
        if last_place != Some(&concern.place) {
            let _ = writeln!(out, "{}", style.bold(&clean(&concern.place)));
            last_place = Some(&concern.place);
        }
        out.push_str(&hanging(&format!("{INDENT}- "), &concern.text, options.width));
    }
    if !concerns.is_empty() {
        out.push('\n');
    }
    let count = |wanted: &dyn Fn(ConcernKind) -> bool| concerns.iter().filter(|c| wanted(c.kind)).count() as u64;
    let (unreadable, todo) = (count(&|kind| kind == ConcernKind::Unreadable), count(&ConcernKind::needs_action));
    let checked = format!("{} checked", counted(baselines as u64, "baseline"));
    let said = match (unreadable, todo) {
        (0, 0) => style.good(&format!("{checked}: nothing to do")),
        (0, todo) => style.unsure(&format!("{checked}: {} to do", counted(todo, "thing"))),
        (unreadable, todo) => {
            style.bad(&format!("{checked}: {unreadable} can't be read, {} to do", counted(todo, "thing")))
        }
    };
    let _ = writeln!(out, "{said}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Recording;
    use crate::metric::MetricId;
    use crate::report::{Report, testing};

    const NOW: u64 = 1_770_000_000;

    fn baseline(report: &Report, workload: &str, by: &str, unix_s: u64) -> Baseline {
        Baseline::from_report(report, workload, Recording { by: by.into(), unix_s, ..Recording::default() }).unwrap()
    }

    #[test]
    fn a_list_fits_80_columns_and_says_which_class_is_this_machines() {
        let report = testing::report(4, 10);
        let own = report.fingerprint.machine.class();
        let mut other = testing::report(1, 3);
        other.fingerprint.machine.cpus = 128;
        other.fingerprint.build.commit = String::new();
        let long = "Ada Lovelace <ada@example.org>: candle in the executable, a histogram of document times in tokenize; decode and embed are new";
        let all = [
            baseline(&report, "tokenize", long, NOW - 40 * SECONDS_PER_DAY),
            baseline(&report, "decode", "", NOW + 90 * SECONDS_PER_DAY),
            baseline(&other, "tokenize", "somebody", NOW),
        ];
        let text = list(&all, &own, NOW, Options::default());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_a_promotion_changes_is_a_table_of_exact_metrics() {
        let before = baseline(&testing::report(4, 2), "tokenize", "", NOW);
        let mut report = testing::report(7, 2);
        report.trials.retain(|t| t.cell != testing::cell(3));
        testing::set_all(&mut report, MetricId::AllocationsPerUnit, 21.0);
        let (_, found) = baseline(&report, "tokenize", "", NOW).merged_into(&before);
        let text = changes(&found, Options::default());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn ages_are_never_negative() {
        assert_eq!(age_days(NOW - 3 * SECONDS_PER_DAY, NOW), Some(3));
        assert_eq!(age_days(NOW + 60, NOW), Some(0), "clocks differ a bit");
        assert_eq!(age_days(NOW + 2 * SECONDS_PER_DAY, NOW), None);
        assert_eq!(age_days(u64::MAX, 0), None);
    }

    #[test]
    fn concerns_are_listed_by_place_and_counted() {
        let concern = |kind, place: &str, text: &str| Concern { kind, place: place.into(), text: text.into() };
        let found = [
            concern(ConcernKind::FewRepetitions, "class/tokenize", "5 repetitions, of 10 wanted"),
            concern(ConcernKind::Old, "class/tokenize", "recorded long ago"),
            concern(ConcernKind::UnknownWorkload, "class/words", "not one of heapgate's own"),
        ];
        let text = concerns(&found, 2, Options::default());
        assert_eq!(text.matches("class/tokenize").count(), 1, "{text}");
        assert!(text.ends_with("\n2 baselines checked: 2 things to do\n"), "{text}");
        assert_eq!(concerns(&[], 1, Options::default()), "1 baseline checked: nothing to do\n");
    }
}
