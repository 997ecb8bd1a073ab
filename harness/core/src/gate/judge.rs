//! Walks over cells and metrics, and adds up.

use std::collections::{BTreeMap, BTreeSet};

use super::advice::advice;
use super::line::{Against, CellContext, Draft};
use super::look::Look;
use super::memory::memory_lines;
use super::verdict::*;
use crate::baseline::{Baseline, BaselineCell, FEWEST_RUNS, Found, Level, Levels, RecentRuns};
use crate::config::Config;
use crate::document::LoadError;
use crate::fingerprint::{build_differences, machine_differences};
use crate::metric::{ALL, MetricId};
use crate::render::human;
use crate::report::{Cell, CellTrials, Report};
use crate::stats::multiple::holm;

/// What looking for the baseline of a workload gave. An error is a part of the verdict: a baseline that can't be read
/// is never a pass.
#[derive(Debug)]
pub struct Lookup {
    /// The workload.
    pub workload: String,
    /// What was found.
    pub found: Result<Found, LoadError>,
}

/// Sets `report` against baselines. `planned` are the cells that were to be run: one of them without a trial is a problem,
/// while cells of a baseline that were not planned are left alone. `look` is how much error is allowed.
///
/// ```
/// use heapgate_core::{config::Config, gate::{Look, Overall, judge}, report::testing};
/// // Without a baseline nothing passes in silence.
/// let verdict = judge(&testing::report(1, 3), &[], &[], &Config::default(), Look::ONLY);
/// assert_eq!(verdict.decision, Overall::Inconclusive);
/// ```
#[must_use]
pub fn judge(report: &Report, planned: &[Cell], baselines: &[Lookup], config: &Config, look: Look) -> Verdict {
    let mut judge = Judge { report, config, look, baselines: by_workload(baselines), verdict: empty(look) };
    judge.run(planned);
    judge.verdict
}

/// Sets report `now` against report `before`, as if that were the baseline of all its workloads.
#[must_use]
pub fn compare(before: &Report, now: &Report, config: &Config, look: Look) -> Verdict {
    let same_class = before.fingerprint.machine.class() == now.fingerprint.machine.class();
    let lookups: Vec<Lookup> = Baseline::in_memory(before)
        .into_iter()
        .map(|baseline| {
            let (workload, class) = (baseline.workload.clone(), baseline.class());
            let baseline = Box::new(baseline);
            let found =
                if same_class { Found::Same(baseline) } else { Found::OtherClass { baseline, classes: vec![class] } };
            Lookup { workload, found: Ok(found) }
        })
        .collect();
    let planned: BTreeSet<Cell> =
        [before, now].into_iter().flat_map(|r| r.trials.iter().map(|t| t.cell.clone())).collect();
    let mut verdict = judge(now, &planned.into_iter().collect::<Vec<_>>(), &lookups, config, look);
    let mut first_problems = trial_problems(before);
    for problem in &mut first_problems {
        problem.text = format!("in the first report: {}", problem.text);
    }
    verdict.problems.extend(first_problems);
    verdict.decision = overall(&verdict);
    verdict
}

fn empty(look: Look) -> Verdict {
    Verdict {
        schema_version: VERDICT_SCHEMA_VERSION,
        decision: Overall::Inconclusive,
        tally: Tally::default(),
        lines: Vec::new(),
        answers: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
        compared_with: Vec::new(),
        rule: Rule { alpha: look.alpha, miss: look.miss, looks: look.of, tested: 0 },
        memory: Vec::new(),
        culprits: Vec::new(),
    }
}

fn by_workload(baselines: &[Lookup]) -> BTreeMap<&str, &Result<Found, LoadError>> {
    baselines.iter().map(|lookup| (lookup.workload.as_str(), &lookup.found)).collect()
}

struct Judge<'a> {
    report: &'a Report,
    config: &'a Config,
    look: Look,
    baselines: BTreeMap<&'a str, &'a Result<Found, LoadError>>,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    fn run(&mut self, planned: &[Cell]) {
        let cells = self.report.cells();
        self.verdict.problems = trial_problems(self.report);
        let run: BTreeSet<&Cell> = cells.iter().map(|c| c.cell).collect();
        let wanted: BTreeSet<&Cell> = planned.iter().chain(run.iter().copied()).collect();
        for missing in wanted.iter().filter(|cell| !run.contains(*cell)) {
            self.problem(
                ProblemKind::CellNotRun,
                missing.to_string(),
                "it was planned, but has no trial; run it again".to_owned(),
            );
        }
        let workloads: BTreeSet<&str> = wanted.iter().map(|c| c.workload.as_str()).collect();
        for workload in workloads {
            self.workload(workload, &wanted);
        }
        self.note_traced(&cells);
        self.cells(&cells);
        self.note_what_was_left_out();
        self.verdict.tally = tally(&self.verdict);
        if self.verdict.tally.compared() + self.verdict.tally.inconclusive == 0 {
            let text = "not one metric with a limit could be compared".to_owned();
            self.problem(ProblemKind::NothingCompared, String::new(), text);
        }
        self.verdict.decision = overall(&self.verdict);
    }

    fn problem(&mut self, kind: ProblemKind, place: String, text: String) {
        self.verdict.problems.push(Problem { kind, place, text });
    }

    /// Says what the workload is compared with.
    fn workload(&mut self, workload: &str, wanted: &BTreeSet<&Cell>) {
        let found = match self.baselines.get(workload) {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                return self.problem(ProblemKind::BaselineUnusable, workload.to_owned(), error.to_string());
            }
            None => &Found::None,
        };
        let Some(baseline) = found.baseline() else {
            let text = "there is no baseline; record one with `heapgate baseline record`".to_owned();
            return self.problem(ProblemKind::NoBaseline, workload.to_owned(), text);
        };
        if let Found::OtherClass { classes, .. } = found
            && classes.len() > 1
        {
            let text = format!(
                "{workload}: of {} other machine classes, {} was recorded last and is compared",
                classes.len(),
                baseline.class()
            );
            self.verdict.notes.push(text);
        }
        if let Found::History(recent) = found {
            if recent.runs.is_empty() {
                let text = format!(
                    "the history has no run of it on this machine class, and {FEWEST_RUNS} are needed; each complete \
                     `heapgate run` or `gate` with these flags adds one"
                );
                return self.problem(ProblemKind::NoBaseline, workload.to_owned(), text);
            }
            self.verdict.notes.extend(cut(recent));
        }
        let outside = baseline.cells.iter().filter(|c| !wanted.contains(&c.cell)).count();
        if outside > 0 {
            self.verdict.notes.push(format!(
                "{workload}: the baseline has {} more, not part of this run",
                human::counted(outside as u64, "cell")
            ));
        }
        let (before, now) = (&baseline.fingerprint, &self.report.fingerprint);
        self.verdict.compared_with.push(ComparedWith {
            workload: workload.to_owned(),
            class: baseline.class(),
            same_class: !matches!(found, Found::OtherClass { .. }),
            recorded_unix_s: baseline.recorded_unix_s,
            recorded_by: baseline.recorded_by.clone(),
            commit: before.build.commit.clone(),
            build_differences: build_differences(before, now),
            machine_differences: machine_differences(before, now),
            history: found.runs().and_then(RecentCompared::of),
        });
    }

    /// Compares all cells, and only then decides: how much evidence is enough depends on how many metrics are tested.
    fn cells(&mut self, cells: &[CellTrials<'a>]) {
        // Without a completed trial there is nothing to judge, and the problem is already there.
        let cells: Vec<&CellTrials<'_>> = cells.iter().filter(|c| c.completed().next().is_some()).collect();
        let compared: Vec<(Against<'a>, Vec<Draft>)> = cells
            .iter()
            .map(|trials| {
                let against = self.against(trials);
                let now_stalls = trials.stalls();
                let context = CellContext { now: trials, now_stalls: &now_stalls, against, config: self.config };
                (against, ALL.iter().filter_map(|&metric| context.draft(metric)).collect())
            })
            .collect();
        let tested: Vec<f64> = compared.iter().flat_map(|(_, drafts)| drafts).filter_map(Draft::p_value).collect();
        let mut corrected = holm(&tested).into_iter();
        self.verdict.rule.tested = tested.len();
        for (trials, (against, drafts)) in cells.into_iter().zip(compared) {
            let finish = |draft: Draft| {
                let p_value = draft.p_value().and_then(|_| corrected.next());
                draft.finish(p_value, tested.len(), self.look)
            };
            let lines = drafts.into_iter().map(finish).collect();
            let base = match against {
                Against::Cell { baseline, levels, .. } => Some((baseline, levels.is_some())),
                Against::Nothing(_) => None,
            };
            self.explained(trials, base, lines);
        }
    }

    /// Takes over the lines of a cell, with what explains them.
    fn explained(&mut self, trials: &CellTrials<'_>, base: Option<(&BaselineCell, bool)>, mut lines: Vec<Line>) {
        let (base, of_runs) = (base.map(|b| b.0), base.is_some_and(|b| b.1));
        let memory = base.map_or(Vec::new(), |base| memory_lines(trials, base, &lines));
        for line in &mut lines {
            line.advice = advice(line, trials, base, &memory);
        }
        self.verdict.lines.extend(lines);
        self.verdict.memory.extend(memory);
        // Runs in the history have no answers; a failure of this one's repetitions to agree needs none.
        let answers = answers(trials, base).filter(|a| !of_runs || a.now.len() > 1);
        self.verdict.answers.extend(answers);
    }

    fn against(&mut self, trials: &CellTrials<'_>) -> Against<'a> {
        let cell = trials.cell;
        let found = match self.baselines.get(cell.workload.as_str()) {
            Some(Ok(found)) => found,
            Some(Err(_)) => return Against::Nothing("the baseline can't be used"),
            None => return Against::Nothing("there is no baseline"),
        };
        let Some(baseline) = found.baseline() else { return Against::Nothing("there is no baseline") };
        let Some(base_cell) = baseline.cell(cell) else {
            let text = format!("it is not in the baseline{}; record it again", other_parameters(cell, &baseline.cells));
            self.problem(ProblemKind::CellNotInBaseline, cell.to_string(), text);
            return Against::Nothing("the baseline doesn't have this cell");
        };
        if base_cell.unit != trials.unit() {
            let text = format!(
                "it counts in units of '{}', the baseline in '{}'; record it again",
                trials.unit(),
                base_cell.unit
            );
            self.problem(ProblemKind::UnitDiffers, cell.to_string(), text);
        }
        let same_class = !matches!(found, Found::OtherClass { .. });
        let levels =
            found.runs().and_then(|runs| runs.cells().find(|(c, _)| c.cell == *cell)).map(|(_, levels)| levels);
        Against::Cell { baseline: base_cell, same_class, levels }
    }

    /// Says that cells were traced on one side only: what is left is compared, and the reader must know.
    fn note_traced(&mut self, cells: &[CellTrials<'a>]) {
        let mut traced = [0_u64; 2];
        for trials in cells {
            let Some(Ok(found)) = self.baselines.get(trials.cell.workload.as_str()) else { continue };
            let Some(before) = found.baseline().and_then(|baseline| baseline.cell(trials.cell)) else { continue };
            match (before.traced, trials.are_traced()) {
                (true, false) => traced[0] += 1,
                (false, true) => traced[1] += 1,
                _ => {}
            }
        }
        for (cells, [side, other]) in
            traced.into_iter().zip([["the baseline", "this run"], ["this run", "the baseline"]])
        {
            if cells > 0 {
                self.verdict.notes.push(format!(
                    "{} traced (HEAPGATE_TRACE=1) in {side} and not in {other}: each line took CPU time, so times and rates \
                     differ by that too",
                    if cells == 1 { "1 cell was".to_owned() } else { format!("{} were", human::counted(cells, "cell")) }
                ));
            }
        }
    }

    fn note_what_was_left_out(&mut self) {
        if self.baselines.values().any(|found| matches!(found, Ok(Found::History(_)))) {
            let text = "the history has neither answers nor histograms: answers are compared between this run's \
                        repetitions only, distributions by the figures that stand for them";
            self.verdict.notes.push(text.to_owned());
        }
        let left_out = self.verdict.lines.iter().filter(|l| matches!(l.decision, Decision::NotCompared { .. })).count();
        if left_out > 0 {
            let others: BTreeSet<&str> =
                self.verdict.compared_with.iter().filter(|c| !c.same_class).map(|c| c.class.as_str()).collect();
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            let now = self.report.fingerprint.machine.class();
            let metrics = human::counted(left_out as u64, "noisy metric");
            self.verdict.notes.push(format!("{metrics} left out: machine class differs: {others} → {now}"));
        }
        for (metric, cells) in self.unmeasured() {
            let cells = human::counted(cells as u64, "cell");
            self.verdict.notes.push(format!("{metric} has a hard limit, but neither side measured it in {cells}"));
        }
    }

    /// Metrics with a hard limit that a cell has no line for, and in how many cells.
    fn unmeasured(&self) -> BTreeMap<MetricId, usize> {
        let judged: BTreeSet<(&Cell, MetricId)> = self.verdict.lines.iter().map(|l| (&l.cell, l.metric)).collect();
        let cells: BTreeSet<&Cell> = self.verdict.lines.iter().map(|l| &l.cell).collect();
        let mut counts = BTreeMap::new();
        for cell in cells {
            for &metric in ALL {
                if self.config.limits_for(cell, metric).hard.is_some() && !judged.contains(&(cell, metric)) {
                    *counts.entry(metric).or_insert(0) += 1;
                }
            }
        }
        counts
    }
}

/// Says which figures were at another level in the first of the runs.
fn cut(recent: &RecentRuns) -> Option<String> {
    /// Figures that are named.
    const NAMED: usize = 3;
    let of_cell = |(cell, levels): (&BaselineCell, &Levels)| {
        let changed = levels.iter().filter(|(_, level)| level.runs < level.of);
        let said = |(metric, level): (&MetricId, &Level)| {
            format!("{metric} of {} {} the last {} of {}", cell.cell.variant, cell.cell.allocator, level.runs, level.of)
        };
        changed.map(said).collect::<Vec<_>>()
    };
    let all: Vec<String> = recent.cells().flat_map(of_cell).collect();
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if all.len() > NAMED { ", …" } else { "" };
    let text = "changed their level within the runs, and only those since then are the baseline";
    let figures = human::counted(all.len() as u64, "figure");
    (!all.is_empty()).then(|| format!("{}: {figures} {text}: {named}{more}", recent.baseline.workload))
}

/// Trials that did not complete, and a run that was cut off.
fn trial_problems(report: &Report) -> Vec<Problem> {
    let mut problems: Vec<Problem> = report
        .cells()
        .iter()
        .flat_map(|cell| cell.trials.iter().filter(|t| !t.outcome.is_completed()))
        .map(|trial| Problem {
            kind: ProblemKind::TrialFailed,
            place: format!("{} repetition {}", trial.cell, human::repetition(trial.rep)),
            text: trial.outcome.to_string(),
        })
        .collect();
    problems.extend(super::doubt::missing_repetitions(report));
    if !report.complete {
        let text = "the run was cut off before all its trials ended; run it again".to_owned();
        problems.push(Problem { kind: ProblemKind::RunIncomplete, place: String::new(), text });
    }
    problems
}

/// Says which parameters the baseline has for what is else the same cell.
fn other_parameters(cell: &Cell, cells: &[BaselineCell]) -> String {
    let alike = cells.iter().map(|c| &c.cell).find(|c| c.variant == cell.variant && c.allocator == cell.allocator);
    let Some(alike) = alike else { return String::new() };
    let names: BTreeSet<&String> = alike.params.keys().chain(cell.params.keys()).collect();
    let shown = |cell: &Cell, name: &str| cell.params.get(name).cloned().unwrap_or_else(|| "none".to_owned());
    let changed: Vec<String> = names
        .into_iter()
        .filter(|name| alike.params.get(*name) != cell.params.get(*name))
        .map(|name| format!("{name} {}, now {}", shown(alike, name), shown(cell, name)))
        .collect();
    format!(", which has it with other parameters ({})", changed.join("; "))
}

/// Judges the answers of a cell; `None` where neither side has any.
fn answers(trials: &CellTrials<'_>, baseline: Option<&BaselineCell>) -> Option<AnswersLine> {
    let now: Vec<String> = trials.checksums().into_iter().map(str::to_owned).collect();
    let before: Vec<String> = baseline.map(|b| b.checksums.clone()).unwrap_or_default();
    let none = |sums: &[String]| sums.iter().all(String::is_empty);
    let (decision, reason) = if now.len() > 1 {
        (Decision::Fail, "answers differ between repetitions")
    } else if none(&now) && none(&before) {
        return None;
    } else if baseline.is_none() {
        // That is a problem by itself, and already said.
        return None;
    } else if none(&before) {
        (Decision::Inconclusive, "the baseline has no checksum of the answers; record it again")
    } else if none(&now) {
        (Decision::Inconclusive, "the baseline has a checksum of the answers, this run has none")
    } else if before.len() == 1 && before == now {
        (Decision::Pass, "answers agree")
    } else {
        (Decision::Fail, "answers differ from the baseline's")
    };
    Some(AnswersLine { cell: trials.cell.clone(), decision, baseline: before, now, reason: reason.to_owned() })
}

fn decisions(verdict: &Verdict) -> impl Iterator<Item = &Decision> {
    verdict.lines.iter().map(|l| &l.decision).chain(verdict.answers.iter().map(|a| &a.decision))
}

/// Answers that agree are not counted: the tally is of metrics, and of what stands in the way.
pub(super) fn tally(verdict: &Verdict) -> Tally {
    let mut tally = Tally::default();
    let of_answers = verdict.answers.iter().map(|a| &a.decision).filter(|d| **d != Decision::Pass);
    for decision in verdict.lines.iter().map(|l| &l.decision).chain(of_answers) {
        *match decision {
            Decision::Pass => &mut tally.passed,
            Decision::Improved => &mut tally.improved,
            Decision::Fail => &mut tally.failed,
            Decision::Inconclusive => &mut tally.inconclusive,
            Decision::NotCompared { .. } => &mut tally.not_compared,
            Decision::Accepted { .. } => &mut tally.accepted,
            Decision::Info => &mut tally.info,
        } += 1;
    }
    tally
}

/// A regression is certain, whatever else could not be compared; and what could not be compared is no pass.
pub(super) fn overall(verdict: &Verdict) -> Overall {
    if decisions(verdict).any(|d| *d == Decision::Fail) {
        Overall::Fail
    } else if decisions(verdict).any(|d| *d == Decision::Inconclusive) || !verdict.problems.is_empty() {
        Overall::Inconclusive
    } else {
        Overall::Pass
    }
}
