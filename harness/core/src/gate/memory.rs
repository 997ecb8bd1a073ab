//! Where resident memory went: the change of each of its parts, in the cells where it moved.

use super::verdict::{Decision, Line, MemoryLine, MemoryPartLine};
use crate::baseline::BaselineCell;
use crate::metric::MetricId;
use crate::report::{CellTrials, MemoryPart, PhaseKind};

/// Moves of resident memory smaller than this are not taken apart: its noise is of this size.
const WORTH_TELLING: f64 = 0.01;

/// The metrics of resident memory, and the phase at whose end it is taken apart.
const OF_PHASES: [(MetricId, PhaseKind); 2] =
    [(MetricId::PeakRss, PhaseKind::Measure), (MetricId::LeftRss, PhaseKind::Drain)];

/// Takes the change apart where one of the cell's `lines` shows that resident memory moved.
pub(super) fn memory_lines(now: &CellTrials<'_>, baseline: &BaselineCell, lines: &[Line]) -> Vec<MemoryLine> {
    let moved = |metric: MetricId| lines.iter().any(|line| line.metric == metric && moved(line));
    OF_PHASES
        .into_iter()
        .filter(|&(metric, _)| moved(metric))
        .filter_map(|(_, phase)| {
            let (before, after) = (baseline.memory.get(&phase)?, now.memory(phase)?);
            let parts = MemoryPart::ALL.into_iter().zip(before.iter().zip(after));
            let parts = parts
                .map(|(part, (&baseline_bytes, now_bytes))| MemoryPartLine { part, baseline_bytes, now_bytes })
                .collect();
            Some(MemoryLine { cell: now.cell.clone(), phase, parts })
        })
        .collect()
}

fn moved(line: &Line) -> bool {
    let compared = !matches!(line.decision, Decision::NotCompared { .. } | Decision::Info);
    let certain = line.interval.is_some_and(|i| i.low > 0.0 || i.high < 0.0);
    compared && (line.decision == Decision::Fail || certain && line.change.is_some_and(|c| c.abs() >= WORTH_TELLING))
}

impl MemoryLine {
    /// The parts that explain the change: those that moved the way of the whole by at least a tenth of it, most first.
    #[must_use]
    pub fn explained_by(&self) -> Vec<&MemoryPartLine> {
        /// A part below this share of the change explains nothing.
        const TENTH: f64 = 0.1;
        let whole: f64 = self.parts.iter().map(MemoryPartLine::change_bytes).sum();
        let mut parts: Vec<&MemoryPartLine> = self.parts.iter().filter(|p| p.change_bytes() / whole >= TENTH).collect();
        parts.sort_by(|a, b| b.change_bytes().abs().total_cmp(&a.change_bytes().abs()));
        parts
    }
}

impl MemoryPartLine {
    /// How much more there is now, bytes.
    #[must_use]
    pub fn change_bytes(&self) -> f64 {
        self.now_bytes - self.baseline_bytes
    }
}
