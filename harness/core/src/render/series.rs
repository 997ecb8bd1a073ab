//! What a report measured, for formats that follow figures over time: one series for each cell and metric, under names
//! that stay the same from run to run, whatever else is in the report.

use std::collections::BTreeMap;

use crate::gate::{Line, Verdict};
use crate::metric::{ALL, MetricId, Unit};
use crate::report::{Cell, CellTrials, Report};

/// The values of one metric in one cell.
pub(super) struct Series<'a> {
    /// What was measured.
    pub cell: &'a Cell,
    /// The cell's [`lasting_name`].
    pub name: String,
    /// The metric.
    pub metric: MetricId,
    /// Its unit, with the unit of work where it is per unit: `ns/token`.
    pub unit: String,
    /// One for each completed repetition that measured it; at least one, all finite.
    pub values: Vec<f64>,
}

impl Series<'_> {
    /// Median, smallest and largest.
    pub(super) fn summary(&self) -> (f64, f64, f64) {
        let median = crate::stats::sample::median(&self.values).unwrap_or(self.values[0]);
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (median, least, most)
    }
}

/// Everything that `report` measured, by cell, then as in the catalogue.
pub(super) fn all(report: &Report) -> Vec<Series<'_>> {
    report.cells().iter().flat_map(of_cell).collect()
}

/// What was measured in one cell.
pub(super) fn of_cell<'a>(trials: &CellTrials<'a>) -> Vec<Series<'a>> {
    let name = lasting_name(trials.cell);
    ALL.iter()
        .filter_map(|&metric| {
            let values: Vec<f64> = trials.values(metric).into_iter().filter(|v| v.is_finite()).collect();
            let unit = unit(metric, trials.unit());
            (!values.is_empty()).then(|| Series { cell: trials.cell, name: name.clone(), metric, unit, values })
        })
        .collect()
}

/// A name of `cell` without white space, with all its parameters, since a name with only those that differ would change
/// with what else is run: `tokenize/hf-wordpiece/alloc=jemalloc/batch=32`. It has the form of Go's sub-benchmarks, whose
/// keys tools can group by.
pub(super) fn lasting_name(cell: &Cell) -> String {
    let mut name = format!("{}/{}/alloc={}", cell.workload, cell.variant, cell.allocator);
    for (key, value) in &cell.params {
        name.push_str(&format!("/{key}={value}"));
    }
    name.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

fn unit(metric: MetricId, work: &str) -> String {
    let work = if work.is_empty() { "unit" } else { work };
    let entry = metric.metric();
    let base = match entry.unit {
        Unit::Count => "count",
        Unit::Bytes => "B",
        Unit::Nanos => "ns",
        Unit::PerSecond => return format!("{work}s/s"),
        Unit::Share => "share",
    };
    if entry.name.ends_with("_per_unit") { format!("{base}/{work}") } else { base.to_owned() }
}

/// The verdict's lines by cell and metric.
pub(super) fn lines(verdict: &Verdict) -> BTreeMap<(&Cell, MetricId), &Line> {
    verdict.lines.iter().map(|line| ((&line.cell, line.metric), line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn a_name_does_not_change_with_what_else_is_run() {
        let alone = lasting_name(&testing::cell(0));
        assert_eq!(alone, "tokenize/hf-wordpiece/alloc=jemalloc/batch=32");
        assert!(all(&testing::report(4, 2)).iter().any(|s| s.name == alone));
    }

    #[test]
    fn units_say_per_what() {
        assert_eq!(unit(MetricId::CpuPerUnit, "token"), "ns/token");
        assert_eq!(unit(MetricId::AllocationsPerUnit, "token"), "count/token");
        assert_eq!(unit(MetricId::Throughput, "token"), "tokens/s");
        assert_eq!(unit(MetricId::PeakRss, "token"), "B");
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut report = testing::report(1, 2);
        report.trials[0].metrics.insert(MetricId::PeakRss, f64::NAN);
        let all = all(&report);
        assert_eq!(all.iter().find(|s| s.metric == MetricId::PeakRss).unwrap().values.len(), 1);
    }
}
