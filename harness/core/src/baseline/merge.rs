//! New figures into a stored baseline: the cells that were measured again are replaced, the others stay.

use super::{Baseline, BaselineCell, Origin};
use crate::metric::{ALL, Kind, MetricId};
use crate::report::Cell;
use crate::stats::sample;

/// What merging did to one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct CellChange {
    /// The cell.
    pub cell: Cell,
    /// How it came out.
    pub kind: ChangeKind,
}

/// What became of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// It was not in the baseline before.
    New,
    /// It was replaced.
    Replaced {
        /// The exact metrics of which the value is another, or that only one side has; as in the catalogue.
        exact: Vec<MetricChange>,
    },
    /// It was not measured again, and stays as it was.
    Kept,
}

/// An exact metric's median before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricChange {
    /// The metric.
    pub metric: MetricId,
    /// In the stored baseline.
    pub before: Option<f64>,
    /// In the new figures.
    pub after: Option<f64>,
}

impl Baseline {
    /// These figures put into `stored`, the baseline of the same workload and machine class as it was before: cells that
    /// are in both are as here, those that only `stored` has stay, and say where they are from. Where `stored` is of
    /// another workload or class, nothing of it is taken.
    #[must_use]
    pub fn merged_into(mut self, stored: &Self) -> (Self, Vec<CellChange>) {
        if (stored.workload.as_str(), stored.class()) != (self.workload.as_str(), self.class()) {
            return (self.clone(), self.cells.iter().map(new).collect());
        }
        let mut changes: Vec<CellChange> = self
            .cells
            .iter()
            .map(|after| match stored.cell(&after.cell) {
                None => new(after),
                Some(before) => {
                    let kind = ChangeKind::Replaced { exact: exact_changes(before, after) };
                    CellChange { cell: after.cell.clone(), kind }
                }
            })
            .collect();
        let kept: Vec<BaselineCell> =
            stored.cells.iter().filter(|c| self.cell(&c.cell).is_none()).map(|c| stored.with_origin(c)).collect();
        changes.extend(kept.iter().map(|c| CellChange { cell: c.cell.clone(), kind: ChangeKind::Kept }));
        changes.sort_by(|a, b| a.cell.cmp(&b.cell));
        self.cells.extend(kept);
        self.cells.sort_by(|a, b| a.cell.cmp(&b.cell));
        self.content_hash = self.computed_hash();
        (self, changes)
    }

    /// `cell` of this baseline, as it goes into a later one.
    fn with_origin(&self, cell: &BaselineCell) -> BaselineCell {
        let mut cell = cell.clone();
        cell.origin.get_or_insert_with(|| {
            Box::new(Origin {
                recorded_unix_s: self.recorded_unix_s,
                recorded_by: self.recorded_by.clone(),
                build: self.fingerprint.build.clone(),
            })
        });
        cell
    }
}

fn new(cell: &BaselineCell) -> CellChange {
    CellChange { cell: cell.cell.clone(), kind: ChangeKind::New }
}

fn exact_changes(before: &BaselineCell, after: &BaselineCell) -> Vec<MetricChange> {
    let median = |cell: &BaselineCell, metric| cell.metrics.get(&metric).and_then(|values| sample::median(values));
    ALL.iter()
        .filter(|metric| metric.metric().kind == Kind::Exact)
        .map(|&metric| MetricChange { metric, before: median(before, metric), after: median(after, metric) })
        .filter(|change| match (change.before, change.after) {
            (Some(before), Some(after)) => !sample::same(before, after),
            (before, after) => before != after,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Recording;
    use crate::report::{Report, testing};

    fn baseline(report: &Report, unix_s: u64) -> Baseline {
        let recording = Recording { by: format!("at {unix_s}"), unix_s, ..Recording::default() };
        Baseline::from_report(report, "tokenize", recording).unwrap()
    }

    /// Two cells of tokenize, and a later run of the first and a third.
    fn merged() -> (Baseline, Vec<CellChange>) {
        let mut first = testing::report(4, 2);
        first.fingerprint.build.commit = "old".into();
        let mut later = testing::report(7, 3);
        later.trials.retain(|t| t.cell != testing::cell(3));
        testing::set_cell(&mut later, 0, MetricId::AllocationsPerUnit, 21.0);
        baseline(&later, 200).merged_into(&baseline(&first, 100))
    }

    #[test]
    fn cells_that_were_not_measured_again_stay_and_say_where_they_are_from() {
        let (merged, _) = merged();
        assert_eq!((merged.cells.len(), merged.recorded_unix_s), (3, 200));
        let kept = merged.cell(&testing::cell(3)).unwrap();
        let origin = kept.origin.as_deref().unwrap();
        assert_eq!((origin.recorded_unix_s, origin.recorded_by.as_str()), (100, "at 100"));
        assert_eq!(origin.build.commit, "old");
        assert!(merged.cell(&testing::cell(0)).unwrap().origin.is_none());
        assert!(merged.cells.is_sorted_by_key(|c| &c.cell));
    }

    #[test]
    fn an_origin_outlives_the_next_merge() {
        let (merged, _) = merged();
        let (again, _) = baseline(&testing::report(1, 2), 300).merged_into(&merged);
        let origin = |index| again.cell(&testing::cell(index)).unwrap().origin.as_ref().map(|o| o.recorded_unix_s);
        assert_eq!([origin(0), origin(3), origin(6)], [None, Some(100), Some(200)]);
    }

    #[test]
    fn what_changes_is_told_cell_by_cell() {
        let (_, changes) = merged();
        let of = |index| &changes.iter().find(|c| c.cell == testing::cell(index)).unwrap().kind;
        assert_eq!((of(3), of(6)), (&ChangeKind::Kept, &ChangeKind::New));
        let calls = MetricChange { metric: MetricId::AllocationsPerUnit, before: Some(20.0), after: Some(21.0) };
        assert!(matches!(of(0), ChangeKind::Replaced { exact } if exact[0] == calls), "{:?}", of(0));
    }

    #[test]
    fn what_is_merged_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let (merged, _) = merged();
        merged.save(folder.path()).unwrap();
        let loaded = Baseline::load(folder.path(), &merged.class(), "tokenize").unwrap();
        assert!(testing::same_json(&loaded, &merged));
    }

    #[test]
    fn figures_of_another_class_are_not_mixed() {
        let mut other = testing::report(4, 2);
        other.fingerprint.machine.cpus = 64;
        let (merged, changes) = baseline(&testing::report(1, 2), 200).merged_into(&baseline(&other, 100));
        assert_eq!((merged.cells.len(), changes.len()), (1, 1));
    }
}
