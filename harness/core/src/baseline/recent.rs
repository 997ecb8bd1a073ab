//! The last runs of the history as a baseline: made anew for each gate, never stored.
//!
//! What a recorded baseline has of each repetition, this one has of each run: the noise is that between runs. Each series is
//! cut where its level changed last, so that a change which was accepted is not taken for noise.

use std::collections::{BTreeMap, BTreeSet};

use super::{BASELINE_SCHEMA_VERSION, Baseline, BaselineCell, agree};
use crate::history::{History, RunInfo};
use crate::metric::{ALL, Kind, MetricId, Unit};
use crate::report::{CellTrials, Report};
use crate::stats::change_points::{SHORTEST, change_points};
use crate::stats::sample;

/// Runs of a cell that a gate needs. Of fewer, Student's distribution has tails so long that hardly anything is beyond
/// them: at 4 degrees of freedom one in a thousand is 7 standard deviations out, at 2 it is 22.
pub const FEWEST_RUNS: usize = 5;

/// The last runs of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentRuns {
    /// Has the runs' medians at the present level, oldest first, in the place of repetitions.
    pub baseline: Baseline,
    /// The runs that had one of the cells, in order.
    pub runs: Vec<RunInfo>,
    /// What is known of the metrics of each of the baseline's cells, in their order.
    levels: Vec<Levels>,
}

/// The level of each metric of one cell.
pub type Levels = BTreeMap<MetricId, Level>;

/// The level that a metric was at last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Runs that have the metric.
    pub of: usize,
    /// The last of them, which are at this level.
    pub runs: usize,
    /// Whether it is exact and all repetitions of those runs agree.
    pub exact: bool,
    /// The smallest step of the metric in its unit: what rounding can do.
    pub step: f64,
}

impl RecentRuns {
    /// The runs of each workload that `report` has, as far as `history` has them.
    #[must_use]
    pub fn by_workload(history: &History, report: &Report) -> Vec<Self> {
        let cells = report.cells();
        let workloads: BTreeSet<&str> = cells.iter().map(|c| c.cell.workload.as_str()).collect();
        workloads
            .into_iter()
            .map(|workload| {
                let of_workload = cells.iter().filter(|c| c.cell.workload == workload);
                Self::of_cells(history, report, workload, &of_workload.collect::<Vec<_>>())
            })
            .collect()
    }

    fn of_cells(history: &History, report: &Report, workload: &str, cells: &[&CellTrials<'_>]) -> Self {
        let sequences: BTreeSet<u64> =
            cells.iter().filter_map(|c| history.sequences.get(c.cell)).flatten().copied().collect();
        let runs: Vec<RunInfo> = history.runs.iter().filter(|run| sequences.contains(&run.sequence)).cloned().collect();
        let mut fingerprint = report.fingerprint.clone();
        if let Some(last) = runs.last() {
            fingerprint.build.commit.clone_from(&last.commit);
        }
        let page_bytes = report.fingerprint.machine.page_bytes as f64;
        let (cells, levels) = cells.iter().map(|trials| cell(history, trials, page_bytes)).unzip();
        let baseline = Baseline {
            schema_version: BASELINE_SCHEMA_VERSION,
            recorded_unix_s: runs.last().map_or(0, |run| run.unix_s),
            recorded_by: String::new(),
            workload: workload.to_owned(),
            fingerprint,
            cells,
            content_hash: String::new(),
        };
        Self { baseline, runs, levels }
    }

    /// The cells with what is known of their metrics.
    pub fn cells(&self) -> impl Iterator<Item = (&BaselineCell, &Levels)> {
        self.baseline.cells.iter().zip(&self.levels)
    }
}

/// The figures of one cell, and their levels.
fn cell(history: &History, trials: &CellTrials<'_>, page_bytes: f64) -> (BaselineCell, Levels) {
    let (mut metrics, mut levels) = (BTreeMap::new(), Levels::new());
    let of_cell = history.repetitions.get(trials.cell);
    for &metric in ALL {
        let Some(runs) = of_cell.and_then(|metrics| metrics.get(&metric)) else { continue };
        let runs = alike(runs, trials.values(metric).len());
        let medians: Vec<f64> = runs.iter().filter_map(|run| sample::median(run)).collect();
        let (first, exact) = last_level(metric, &runs, &medians);
        let step = step(metric, trials, page_bytes);
        levels.insert(metric, Level { of: medians.len(), runs: medians.len() - first, exact, step });
        metrics.insert(metric, medians[first..].to_vec());
    }
    let cell = BaselineCell {
        cell: trials.cell.clone(),
        // Only runs with this run's unit and level were asked for.
        unit: trials.unit().to_owned(),
        level: trials.level().to_owned(),
        // The history does not say it.
        traced: false,
        checksums: Vec::new(),
        metrics,
        ticks_per_second: 0.0,
        stalls: Vec::new(),
        memory: BTreeMap::new(),
        sites: None,
        origin: None,
    };
    (cell, levels)
}

/// The runs with no more repetitions than `repetitions`, those of the run to be compared: the median of ten differs less
/// from run to run than that of two, which would then seem to be beyond it.
fn alike(runs: &[Vec<f64>], repetitions: usize) -> Vec<&[f64]> {
    let most = if repetitions == 0 { usize::MAX } else { repetitions };
    runs.iter().filter(|run| !run.is_empty()).map(|run| &run[..run.len().min(most)]).collect()
}

/// Where the last level begins, and whether it is that of an exact metric of which all repetitions agree.
fn last_level(metric: MetricId, runs: &[&[f64]], medians: &[f64]) -> (usize, bool) {
    if metric.metric().kind == Kind::Exact
        && let Some(first) = last_exact_level(runs, medians)
    {
        return (first, true);
    }
    (change_points(medians).last().map_or(0, |change| change.index), false)
}

/// Where an exact metric took its last value, if that is a level and no noise: three runs in a row agree on it, or it is a
/// value that no run had before, after three in a row that agreed on another. Ranks need many more runs to see a change,
/// in which a metric without noise would be taken for one with some.
fn last_exact_level(runs: &[&[f64]], medians: &[f64]) -> Option<usize> {
    let stretch = |end: usize| {
        let value = medians[end - 1];
        (0..end).rev().take_while(|&i| sample::same(medians[i], value) && agree(runs[i])).count()
    };
    let end = medians.len();
    let last = if end == 0 { 0 } else { stretch(end) };
    let first = end - last;
    let appeared = || {
        let value = medians[end - 1];
        stretch(first) >= SHORTEST && !medians[..first].iter().any(|&m| sample::same(m, value))
    };
    (last > 0 && (first == 0 || last >= SHORTEST || appeared())).then_some(first)
}

/// The smallest step of `metric`: a page of resident memory, one call or byte of all units' of what is told per unit, a
/// hundredth of a percent of shares (what tables show), and else one. A rate has none, and is never 0.
fn step(metric: MetricId, trials: &CellTrials<'_>, page_bytes: f64) -> f64 {
    use MetricId::{
        AllocatedBytesPerUnit, AllocationsPerUnit, CpuPerUnit, LeftRss, PageTables, PeakRss, ReallocationsPerUnit,
        StallPerUnit,
    };
    match metric {
        PeakRss | LeftRss | PageTables => page_bytes,
        AllocationsPerUnit | ReallocationsPerUnit | AllocatedBytesPerUnit | CpuPerUnit | StallPerUnit => {
            1.0 / trials.units().max(1) as f64
        }
        _ => match metric.metric().unit {
            Unit::Count | Unit::Bytes | Unit::Nanos => 1.0,
            Unit::Share => 1e-4,
            Unit::PerSecond => 0.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(metric: MetricId, runs: &[&[f64]]) -> (usize, bool) {
        let medians: Vec<f64> = runs.iter().filter_map(|run| sample::median(run)).collect();
        last_level(metric, runs, &medians)
    }

    fn of_medians(metric: MetricId, medians: &[f64]) -> (usize, bool) {
        level(metric, &medians.iter().map(std::slice::from_ref).collect::<Vec<_>>())
    }

    #[test]
    fn an_exact_metric_has_a_new_level_with_the_first_run_that_has_it() {
        let exact = MetricId::AllocationsPerUnit;
        assert_eq!(of_medians(exact, &[20.0; 6]), (0, true));
        assert_eq!(of_medians(exact, &[20.0, 20.0, 20.0, 20.0, 21.0]), (4, true));
        assert_eq!(of_medians(exact, &[20.0, 20.0, 21.0, 20.0, 20.0, 20.0]), (3, true), "a stray run is over");
        assert_eq!(of_medians(exact, &[20.0, 20.0, 20.0, 21.0, 20.0]), (0, false), "20 was there before");
        assert_eq!(of_medians(exact, &[20.0, 21.0, 22.0, 23.0, 24.0]), (0, false), "it is never the same");
    }

    #[test]
    fn an_exact_metric_whose_repetitions_disagree_is_not() {
        let (same, other): (&[f64], &[f64]) = (&[20.0, 20.0], &[20.0, 22.0]);
        assert_eq!(level(MetricId::AllocationsPerUnit, &[same, same, same, same, other]), (0, false));
        assert_eq!(level(MetricId::AllocationsPerUnit, &[same, other, same, same, same]), (2, true));
    }

    #[test]
    fn a_noisy_metric_is_cut_where_its_level_changed() {
        let medians: Vec<f64> = (0..30).map(|i| if i < 18 { 100.0 } else { 130.0 } + f64::from(i * 7 % 5)).collect();
        assert_eq!(of_medians(MetricId::PeakRss, &medians), (18, false));
        assert_eq!(of_medians(MetricId::PeakRss, &medians[..18]), (0, false));
        assert_eq!(of_medians(MetricId::PeakRss, &[100.0; 6]), (0, false), "agreement is chance");
    }

    #[test]
    fn runs_are_taken_with_as_many_repetitions_as_there_are_now() {
        let runs = [vec![1.0, 2.0, 9.0, 9.0], vec![3.0]];
        assert_eq!(alike(&runs, 2), [&[1.0, 2.0][..], &[3.0]]);
        assert_eq!(alike(&runs, 0), [&runs[0][..], &runs[1]]);
    }
}
