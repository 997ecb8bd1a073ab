//! What is known of each cell, those first that need attention.

use std::collections::{BTreeMap, BTreeSet};

use super::Subject;
use crate::baseline::BaselineCell;
use crate::gate::{AnswersLine, Decision, Line, MemoryLine};
use crate::metric::MetricId;
use crate::render::label::labels;
use crate::render::markdown::worst_first;
use crate::report::{Cell, CellTrials};

/// All that the page says of one cell.
pub(super) struct OfCell<'a> {
    pub cell: &'a Cell,
    /// Its number on the page, from 1: part of its element's name.
    pub number: usize,
    pub label: String,
    /// What was decided, worst first; empty where nothing was compared.
    pub lines: Vec<&'a Line>,
    pub answers: Vec<&'a AnswersLine>,
    pub memory: Vec<&'a MemoryLine>,
    /// What was measured; absent for a planned cell without a trial.
    pub trials: Option<CellTrials<'a>>,
    /// The baseline's figures.
    pub baseline: Option<&'a BaselineCell>,
    /// The baseline's trials, where another report was the baseline.
    pub before: Option<CellTrials<'a>>,
}

impl<'a> OfCell<'a> {
    /// The decision that matters most among lines and answers.
    pub fn worst(&self) -> Option<&'a Decision> {
        let decisions =
            self.lines.iter().copied().map(|l| &l.decision).chain(self.answers.iter().copied().map(|a| &a.decision));
        decisions.max_by_key(|d| d.severity())
    }

    /// Whether a reader should look at it first.
    pub fn needs_attention(&self) -> bool {
        let died = self.trials.as_ref().is_some_and(|t| t.trials.iter().any(|t| !t.outcome.is_completed()));
        died || matches!(self.worst(), Some(Decision::Fail | Decision::Inconclusive))
    }

    pub fn line(&self, metric: MetricId) -> Option<&'a Line> {
        self.lines.iter().copied().find(|l| l.metric == metric)
    }
}

/// The cells: wrong answers, then what got worse, then what could not be decided or did not complete, then all others.
pub(super) fn cells<'a>(subject: Subject<'a>) -> Vec<OfCell<'a>> {
    let verdict = subject.verdict;
    let mut trials: BTreeMap<&Cell, CellTrials<'a>> = subject.report.cells().into_iter().map(|c| (c.cell, c)).collect();
    let mut before: BTreeMap<&Cell, CellTrials<'a>> =
        subject.against.report.into_iter().flat_map(|r| r.cells()).map(|c| (c.cell, c)).collect();
    let mut lines: BTreeMap<&Cell, Vec<&'a Line>> = BTreeMap::new();
    let mut order: Vec<&'a Cell> = Vec::new();
    if let Some(verdict) = verdict {
        let worst = worst_first(verdict);
        let wrong = verdict.answers.iter().filter(|a| a.decision == Decision::Fail).map(|a| &a.cell);
        order.extend(wrong.chain(worst.iter().map(|l| &l.cell)).chain(verdict.answers.iter().map(|a| &a.cell)));
        for line in worst {
            lines.entry(&line.cell).or_default().push(line);
        }
    }
    order.extend(subject.report.cells().into_iter().map(|c| c.cell));
    let mut seen = BTreeSet::new();
    order.retain(|cell| seen.insert(*cell));
    let names = labels(order.iter().copied());
    let mut cells: Vec<OfCell<'a>> = order
        .into_iter()
        .map(|cell| OfCell {
            cell,
            number: 0,
            label: names.get(cell).cloned().unwrap_or_default(),
            lines: lines.remove(cell).unwrap_or_default(),
            answers: verdict.into_iter().flat_map(|v| &v.answers).filter(|a| a.cell == *cell).collect(),
            memory: verdict.into_iter().flat_map(|v| &v.memory).filter(|m| m.cell == *cell).collect(),
            trials: trials.remove(cell),
            baseline: subject.against.cell(cell),
            before: before.remove(cell),
        })
        .collect();
    // What failed stands first already; a workload that died has no line that says so.
    cells.sort_by_key(|cell| (cell.worst() != Some(&Decision::Fail), !cell.needs_attention()));
    cells.iter_mut().zip(1..).for_each(|(cell, number)| cell.number = number);
    cells
}
