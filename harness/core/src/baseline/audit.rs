//! What is wrong with the baselines there are, or missing among them. Pure: the caller loads them, and knows which
//! workloads there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Baseline, BaselineCell, agree};
use crate::fingerprint::build_differences;
use crate::metric::{ALL, Kind};
use crate::render::human::{counted, date};
use crate::report::Cell;

const SECONDS_PER_DAY: u64 = 86_400;
/// How far two machines' clocks may be apart before it is said.
const CLOCKS_APART_S: u64 = SECONDS_PER_DAY;
/// How many names are said one by one.
const MOST_NAMES: usize = 3;

/// What is asked of baselines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// The time now, seconds since 1970.
    pub now_unix_s: u64,
    /// The most days they may be old.
    pub max_age_days: Option<u64>,
    /// The fewest repetitions of each cell.
    pub min_reps: u32,
}

/// Whether a cell can still be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    There,
    /// It can't any more, and why.
    Gone(String),
    /// Its workload isn't one of those that are known: it may be that of somebody's own bench.
    Unknown,
}

/// Which workloads there are.
pub struct Known<'a> {
    /// The cells of the default matrix.
    pub default_cells: &'a [Cell],
    /// Whether a cell of a baseline can still be run.
    pub standing: &'a dyn Fn(&Cell) -> Standing,
}

/// Something about baselines that a reader should know or mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// What kind.
    pub kind: ConcernKind,
    /// Where: `CLASS/WORKLOAD`, or a class.
    pub place: String,
    /// What, and what to do.
    pub text: String,
}

/// Kinds of concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConcernKind {
    /// It can't be loaded.
    Unreadable,
    /// Cells of the default matrix have no baseline of this machine's class.
    NotRecorded,
    /// Cells that no workload has any more.
    Gone,
    /// Exact metrics whose repetitions disagree.
    Disagrees,
    /// Fewer repetitions than asked for.
    FewRepetitions,
    /// Older than asked for.
    Old,
    /// Dated in the future: a clock is or was wrong.
    InTheFuture,
    /// The baselines of one class are of different builds.
    BuildsDiffer,
    /// Of a workload that isn't known, so that it can't be said whether its cells can be run.
    UnknownWorkload,
}

impl ConcernKind {
    /// Whether something is to be done about it.
    #[must_use]
    pub fn needs_action(self) -> bool {
        self != Self::UnknownWorkload
    }
}

/// What is to be said of one baseline.
#[must_use]
pub fn audit(baseline: &Baseline, known: &Known<'_>, demands: Demands) -> Vec<Concern> {
    let mut concerns = Concerns { place: format!("{}/{}", baseline.class(), baseline.workload), found: Vec::new() };
    concerns.standing(baseline, known);
    concerns.agreement(baseline);
    concerns.repetitions(baseline, demands.min_reps);
    concerns.dates(baseline, demands);
    concerns.found
}

/// What is to be said of all baselines of one class; `own` where it is this machine's.
#[must_use]
pub fn audit_class(class: &str, baselines: &[&Baseline], known: &Known<'_>, own: bool) -> Vec<Concern> {
    let mut concerns = Concerns { place: class.to_owned(), found: Vec::new() };
    if own {
        concerns.not_recorded(baselines, known.default_cells);
    }
    concerns.builds(baselines);
    concerns.found
}

struct Concerns {
    place: String,
    found: Vec<Concern>,
}

impl Concerns {
    fn add(&mut self, kind: ConcernKind, text: String) {
        self.found.push(Concern { kind, place: self.place.clone(), text });
    }

    fn standing(&mut self, baseline: &Baseline, known: &Known<'_>) {
        let mut gone: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
        let mut unknown = false;
        for cell in baseline.cells.iter().map(|c| &c.cell) {
            match (known.standing)(cell) {
                Standing::There => {}
                Standing::Gone(why) => gone.entry(why).or_default().push(cell),
                Standing::Unknown => unknown = true,
            }
        }
        for (why, cells) in gone {
            let text = format!("{}: {why}; `heapgate baseline prune` removes {}", names(&cells), them(&cells));
            self.add(ConcernKind::Gone, text);
        }
        if unknown {
            let text = "it is not one of heapgate's own workloads, so its cells were not looked for".to_owned();
            self.add(ConcernKind::UnknownWorkload, text);
        }
    }

    fn agreement(&mut self, baseline: &Baseline) {
        for cell in &baseline.cells {
            let disagrees = |metric: &&crate::metric::MetricId| {
                metric.metric().kind == Kind::Exact && cell.metrics.get(*metric).is_some_and(|values| !agree(values))
            };
            let metrics: Vec<&str> = ALL.iter().filter(disagrees).map(|metric| metric.metric().name).collect();
            if !metrics.is_empty() {
                let text = format!(
                    "{}: repetitions disagree on {}, which should be exact; find out what differs from run to run, and record it again",
                    cell.cell,
                    listed(&metrics)
                );
                self.add(ConcernKind::Disagrees, text);
            }
        }
    }

    fn repetitions(&mut self, baseline: &Baseline, wanted: u32) {
        let mut few: BTreeMap<usize, Vec<&Cell>> = BTreeMap::new();
        for cell in &baseline.cells {
            let reps = cell.metrics.values().map(Vec::len).max().unwrap_or(0);
            if reps < wanted as usize {
                few.entry(reps).or_default().push(&cell.cell);
            }
        }
        for (reps, cells) in few {
            let text = format!(
                "{}: {}, of {wanted} wanted; record {} again with -n {wanted}",
                names(&cells),
                counted(reps as u64, "repetition"),
                them(&cells)
            );
            self.add(ConcernKind::FewRepetitions, text);
        }
    }

    fn dates(&mut self, baseline: &Baseline, demands: Demands) {
        let recorded =
            |cell: &BaselineCell| cell.origin.as_ref().map_or(baseline.recorded_unix_s, |o| o.recorded_unix_s);
        let mut by_day: BTreeMap<u64, Vec<&Cell>> = BTreeMap::new();
        for cell in &baseline.cells {
            by_day.entry(recorded(cell) / SECONDS_PER_DAY).or_default().push(&cell.cell);
        }
        for (day, cells) in by_day {
            let said = date(day.saturating_mul(SECONDS_PER_DAY));
            let whole = cells.len() == baseline.cells.len();
            let what = if whole { String::new() } else { format!("{}: ", names(&cells)) };
            match demands.now_unix_s.checked_sub(day.saturating_mul(SECONDS_PER_DAY)) {
                None if day * SECONDS_PER_DAY > demands.now_unix_s.saturating_add(CLOCKS_APART_S) => {
                    let today = date(demands.now_unix_s);
                    let text = format!(
                        "{what}dated {said}, but today is {today} by this machine's clock: one of the two is wrong; set the clock, or record it again"
                    );
                    self.add(ConcernKind::InTheFuture, text);
                }
                Some(age_s) if demands.max_age_days.is_some_and(|most| age_s / SECONDS_PER_DAY > most) => {
                    let days = counted(age_s / SECONDS_PER_DAY, "day");
                    self.add(ConcernKind::Old, format!("{what}recorded on {said}, {days} ago; record it again"));
                }
                _ => {}
            }
        }
    }

    fn not_recorded(&mut self, baselines: &[&Baseline], default_cells: &[Cell]) {
        let recorded: BTreeSet<&Cell> = baselines.iter().flat_map(|b| b.cells.iter().map(|c| &c.cell)).collect();
        let mut missing: BTreeMap<&str, Vec<&Cell>> = BTreeMap::new();
        for cell in default_cells.iter().filter(|cell| !recorded.contains(cell)) {
            missing.entry(&cell.workload).or_default().push(cell);
        }
        for (workload, cells) in missing {
            let none = !baselines.iter().any(|b| b.workload == workload);
            let text = if none {
                format!(
                    "no baseline of {workload} for this machine's class; record it with `heapgate baseline record {workload}`"
                )
            } else {
                format!(
                    "{}: run by default, and without a baseline; run {} and `heapgate baseline promote` the report",
                    names(&cells),
                    them(&cells)
                )
            };
            self.add(ConcernKind::NotRecorded, text);
        }
    }

    /// Says where the builds of one class's workloads differ. Commits are left out: each workload may be recorded when
    /// it changes.
    fn builds(&mut self, baselines: &[&Baseline]) {
        let Some((first, others)) = baselines.split_first() else { return };
        for other in others {
            let differences: Vec<String> = build_differences(&first.fingerprint, &other.fingerprint)
                .iter()
                .filter(|difference| difference.field != "commit")
                .map(ToString::to_string)
                .collect();
            if !differences.is_empty() {
                let text = format!(
                    "{} and {} are of different builds ({}); record the older again",
                    first.workload,
                    other.workload,
                    differences.join(", ")
                );
                self.add(ConcernKind::BuildsDiffer, text);
            }
        }
    }
}

fn names(cells: &[&Cell]) -> String {
    let names: Vec<String> = cells.iter().map(ToString::to_string).collect();
    listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// `a, b, c and 4 more`, each name once.
fn listed(names: &[&str]) -> String {
    let different: BTreeSet<&str> = names.iter().copied().collect();
    let shown: Vec<&str> = different.iter().copied().take(MOST_NAMES).collect();
    match different.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn them(cells: &[&Cell]) -> &'static str {
    if cells.len() == 1 { "it" } else { "them" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Recording;
    use crate::metric::MetricId;
    use crate::report::{Report, testing};

    const DAY: u64 = SECONDS_PER_DAY;
    const NOW: u64 = 20_000 * DAY + 5;

    fn baseline(report: &Report, unix_s: u64) -> Baseline {
        let recording = Recording { unix_s, accept_disagreement: true, ..Recording::default() };
        Baseline::from_report(report, "tokenize", recording).unwrap()
    }

    fn kinds(baseline: &Baseline, standing: &dyn Fn(&Cell) -> Standing, demands: Demands) -> Vec<ConcernKind> {
        audit(baseline, &Known { default_cells: &[], standing }, demands).into_iter().map(|c| c.kind).collect()
    }

    fn there(_: &Cell) -> Standing {
        Standing::There
    }

    const DEMANDS: Demands = Demands { now_unix_s: NOW, max_age_days: Some(30), min_reps: 3 };

    #[test]
    fn one_that_is_as_asked_for_needs_nothing() {
        assert!(kinds(&baseline(&testing::report(4, 3), NOW - 30 * DAY), &there, DEMANDS).is_empty());
    }

    #[test]
    fn each_shortcoming_is_told_once() {
        let few = baseline(&testing::report(4, 2), NOW);
        assert_eq!(kinds(&few, &there, DEMANDS), [ConcernKind::FewRepetitions]);
        let old = baseline(&testing::report(4, 3), NOW - 31 * DAY);
        assert_eq!(kinds(&old, &there, DEMANDS), [ConcernKind::Old]);
        assert!(kinds(&old, &there, Demands { max_age_days: None, ..DEMANDS }).is_empty());
        let mut report = testing::report(4, 3);
        testing::set(&mut report.trials[0], MetricId::AllocationsPerUnit, 21.0);
        assert_eq!(kinds(&baseline(&report, NOW), &there, DEMANDS), [ConcernKind::Disagrees]);
        let gone = |cell: &Cell| match *cell == testing::cell(3) {
            true => Standing::Gone("there is no such variant any more".into()),
            false => Standing::There,
        };
        assert_eq!(kinds(&baseline(&testing::report(4, 3), NOW), &gone, DEMANDS), [ConcernKind::Gone]);
        let unknown = kinds(&baseline(&testing::report(4, 3), NOW), &|_| Standing::Unknown, DEMANDS);
        assert_eq!(unknown, [ConcernKind::UnknownWorkload]);
        assert!(!unknown[0].needs_action());
    }

    #[test]
    fn a_date_in_the_future_is_told_and_is_no_age() {
        let concerns = audit(
            &baseline(&testing::report(1, 3), NOW + 40 * DAY),
            &Known { default_cells: &[], standing: &there },
            DEMANDS,
        );
        assert_eq!(concerns[0].kind, ConcernKind::InTheFuture);
        assert!(concerns[0].text.contains("dated 2024-11-13, but today is 2024-10-04"), "{}", concerns[0].text);
        assert!(
            kinds(&baseline(&testing::report(1, 3), NOW + DAY / 2), &there, DEMANDS).is_empty(),
            "clocks differ a bit"
        );
        let clock_at_zero = Demands { now_unix_s: 0, ..DEMANDS };
        assert_eq!(kinds(&baseline(&testing::report(1, 3), NOW), &there, clock_at_zero), [ConcernKind::InTheFuture]);
        let absurd = baseline(&testing::report(1, 3), u64::MAX);
        assert_eq!(kinds(&absurd, &there, DEMANDS), [ConcernKind::InTheFuture]);
    }

    #[test]
    fn cells_of_the_default_matrix_are_missed_on_this_machine_only() {
        let all: Vec<Cell> = (0..4).map(testing::cell).collect();
        let known = Known { default_cells: &all, standing: &there };
        let tokenize = baseline(&testing::report(1, 3), NOW);
        let concerns = audit_class("class", &[&tokenize], &known, true);
        let texts: Vec<&str> = concerns.iter().map(|c| c.text.as_str()).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(
            texts[0].starts_with("no baseline of decode") && texts[2].starts_with("tokenize/hf-wordpiece-1 "),
            "{texts:?}"
        );
        assert!(audit_class("class", &[&tokenize], &known, false).is_empty());
    }

    #[test]
    fn builds_that_differ_within_a_class_are_told_but_not_commits() {
        let first = baseline(&testing::report(1, 3), NOW);
        let mut second = first.clone();
        second.workload = "decode".into();
        second.fingerprint.build.commit = "other".into();
        let known = Known { default_cells: &[], standing: &there };
        assert!(audit_class("class", &[&first, &second], &known, true).is_empty());
        second.fingerprint.build.rustc = "rustc 1.96.0".into();
        let concerns = audit_class("class", &[&first, &second], &known, true);
        assert_eq!(concerns[0].kind, ConcernKind::BuildsDiffer);
        assert!(concerns[0].text.contains("rustc 1.95.0 → 1.96.0"), "{}", concerns[0].text);
    }
}
