//! The rule where the last runs are the baseline: is this run's median one that they would have led us to expect?

use super::exact;
use super::judge::Lookup;
use super::line::{CellContext, Soft, disagreement, inconclusive};
use super::noisy::{CONFIDENCE, ROUNDING, Tested};
use super::verdict::{ChangeInterval, Decision};
use crate::baseline::{FEWEST_RUNS, Found, Level, RecentRuns, agree};
use crate::history::History;
use crate::metric::{Better, MetricId};
use crate::render::human::counted;
use crate::report::Report;
use crate::stats::prediction::against_history;
use crate::stats::sample::median;

/// The baselines of all workloads of `report`: the last runs, in `history`.
///
/// ```
/// use heapgate_core::{config::Config, gate::{Look, Overall, from_history, judge}, history::History, report::testing};
/// let report = testing::report(1, 3);
/// let verdict = judge(&report, &[], &from_history(&History::default(), &report), &Config::default(), Look::ONLY);
/// assert_eq!(verdict.decision, Overall::Inconclusive);
/// ```
#[must_use]
pub fn from_history(history: &History, report: &Report) -> Vec<Lookup> {
    let lookup = |runs: RecentRuns| Lookup {
        workload: runs.baseline.workload.clone(),
        found: Ok(Found::History(Box::new(runs))),
    };
    RecentRuns::by_workload(history, report).into_iter().map(lookup).collect()
}

impl CellContext<'_> {
    /// Compares with the last runs. `level` is what is known of them; `None` where they don't have the metric.
    pub(super) fn against_runs(
        &self,
        metric: MetricId,
        soft: f64,
        runs: &[f64],
        now: &[f64],
        level: Option<Level>,
    ) -> Soft {
        let (completed, have) = (self.now.completed().count(), level.map_or(0, |l| l.of));
        let level = match level {
            Some(level) if have >= FEWEST_RUNS => level,
            _ => {
                return Soft::Decided(inconclusive(&format!(
                    "the history has {} with it on this machine class, and {FEWEST_RUNS} are needed; each complete \
                     `heapgate run` or `gate` with these flags adds one",
                    counted(have as u64, "run")
                )));
            }
        };
        if now.is_empty() {
            return Soft::Decided(inconclusive("the runs before have it, but this one didn't measure it"));
        }
        if now.len() < completed {
            return Soft::Decided(inconclusive(&format!("only {} of {completed} repetitions measured it", now.len())));
        }
        let last = runs[runs.len() - 1];
        if level.exact && agree(now) {
            let mut finding = exact::decide(metric, last, now[0], soft);
            if finding.decision == Decision::Improved {
                "better than the last run".clone_into(&mut finding.reason);
            }
            return Soft::Decided(finding);
        }
        match test(metric, soft, runs, now, level) {
            Some(tested) => Soft::Tested { tested, said: exactness(metric, runs, now) },
            None => Soft::Decided(inconclusive("it is 0 or below, so that no factor can be told")),
        }
    }
}

/// Why an exact metric is decided as a noisy one.
fn exactness(metric: MetricId, runs: &[f64], now: &[f64]) -> Option<String> {
    if metric.metric().kind != crate::metric::Kind::Exact {
        return None;
    }
    let disagree = |text: String| text.replace("repetitions of the baseline", "the runs before");
    Some(disagreement(metric, runs, now).map_or("repetitions of the runs before disagree".to_owned(), disagree))
}

/// Tests this run's median against the limit `soft`, by what the runs before make likely.
fn test(metric: MetricId, soft: f64, runs: &[f64], now: &[f64], level: Level) -> Option<Tested> {
    let now = median(now)?;
    let allowed = soft * (1.0 + ROUNDING);
    let (more, less) = (1.0 + allowed, 1.0 - allowed);
    let at = |limit: f64| against_history(runs, now, limit, level.step, CONFIDENCE);
    let above = at(more)?;
    // No value is as far below as that.
    let (below_p, inside_below_p) = if less > 0.0 { at(less).map(|p| (p.p_below, p.p_above))? } else { (1.0, 0.0) };
    let (beyond_p, inside_p, better_p) = match metric.metric().better {
        Better::Lower => (above.p_above, above.p_below, below_p),
        Better::Higher => (below_p, inside_below_p, above.p_above),
    };
    let runs = Some(runs.len());
    Some(Tested { beyond_p, inside_p, better_p, least_p: 0.0, place: None, dependence: None, runs })
}

/// Where the true change is, as far as the runs before tell.
pub(super) fn interval(runs: &[f64], now: &[f64], level: Level) -> Option<ChangeInterval> {
    let interval = against_history(runs, median(now)?, 1.0, level.step, CONFIDENCE)?.interval;
    Some(ChangeInterval { low: interval.low - 1.0, high: interval.high - 1.0, confidence: interval.confidence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::{Line, Look, Overall, ProblemKind, Verdict, judge};
    use crate::history::RunInfo;
    use crate::report::{Cell, testing};

    const REPS: u32 = 3;

    /// A history of `runs` runs of the first two cells, whose peak RSS is what the test report has, times `factor`.
    fn history(runs: u64, factor: impl Fn(u64) -> f64) -> History {
        let mut history = History::default();
        for run in 1..=runs {
            let (id, class) = (format!("{run:032x}"), testing::fingerprint().machine.class());
            let commit = format!("{run:07x}");
            history.runs.push(RunInfo { sequence: run, id, unix_s: 1_759_000_000 + run * 86_400, commit, class });
            let mut report = testing::report(2, REPS);
            for trial in &mut report.trials {
                let bytes = trial.metrics[&MetricId::PeakRss] * factor(run);
                testing::set(trial, MetricId::PeakRss, bytes);
            }
            add(&mut history, run, &report);
        }
        history
    }

    fn add(history: &mut History, run: u64, report: &Report) {
        for trials in report.cells() {
            history.sequences.entry(trials.cell.clone()).or_default().push(run);
            for &metric in crate::metric::ALL {
                let values = trials.values(metric);
                let Some(median) = median(&values) else { continue };
                let cell: Cell = trials.cell.clone();
                history.cells.entry(cell.clone()).or_default().entry(metric).or_default().push(median);
                history.repetitions.entry(cell).or_default().entry(metric).or_default().push(values);
            }
        }
    }

    /// Noise of half a percent.
    fn noise(run: u64) -> f64 {
        1.0 + 0.002 * ((run * 7 % 5) as f64 - 2.0)
    }

    fn judged(history: &History, change: impl FnOnce(&mut Report)) -> Verdict {
        let mut report = testing::report(2, REPS);
        change(&mut report);
        judge(&report, &[], &from_history(history, &report), &Config::default(), Look::ONLY)
    }

    fn line(verdict: &Verdict, metric: MetricId) -> &Line {
        verdict.lines.iter().find(|l| l.cell == testing::cell(0) && l.metric == metric).unwrap()
    }

    fn rss(report: &mut Report, factor: f64) {
        let values: Vec<f64> = report.cells()[0].values(MetricId::PeakRss);
        testing::set_all(report, MetricId::PeakRss, median(&values).unwrap() * factor);
    }

    #[test]
    fn a_run_like_those_before_passes() {
        let verdict = judged(&history(8, noise), |_| {});
        assert_eq!(
            verdict.decision,
            Overall::Pass,
            "{:#?}",
            verdict.lines.iter().map(|l| &l.reason).collect::<Vec<_>>()
        );
        assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
        let rss = line(&verdict, MetricId::PeakRss);
        assert_eq!((rss.baseline.unwrap().reps, rss.decision.clone()), (8, Decision::Pass));
        assert!(rss.interval.unwrap().low < 0.0 && rss.interval.unwrap().high > 0.0, "{rss:?}");
        assert!((0.001..0.05).contains(&rss.resolution.unwrap()), "{rss:?}");
        assert_eq!(line(&verdict, MetricId::AllocationsPerUnit).resolution, Some(0.0));
        let compared = verdict.compared_with[0].history.as_ref().unwrap();
        assert_eq!((compared.runs, &*compared.since_commit), (8, "0000001"));
    }

    #[test]
    fn resident_memory_wholly_beyond_its_limit_fails() {
        let verdict = judged(&history(8, noise), |report| rss(report, 1.3));
        let line = line(&verdict, MetricId::PeakRss);
        assert_eq!((verdict.decision, line.decision.clone()), (Overall::Fail, Decision::Fail), "{line:?}");
        assert!(line.interval.unwrap().low > 0.2 && line.p_value.unwrap() < 0.001, "{line:?}");
        let within = judged(&history(8, noise), |report| rss(report, 1.1));
        assert_eq!(within.decision, Overall::Pass);
        let better = judged(&history(8, noise), |report| rss(report, 0.7));
        assert_eq!(self::line(&better, MetricId::PeakRss).decision, Decision::Improved);
    }

    #[test]
    fn runs_without_noise_still_alarm() {
        let verdict = judged(&history(5, |_| 1.0), |report| rss(report, 1.16));
        assert_eq!(line(&verdict, MetricId::PeakRss).decision, Decision::Fail);
        assert_eq!(judged(&history(5, |_| 1.0), |_| {}).decision, Overall::Pass);
    }

    #[test]
    fn noise_between_runs_that_repetitions_do_not_show_is_no_regression() {
        // Each run agrees with itself, and differs from the others by up to a quarter.
        let wild = |run: u64| 1.0 + 0.12 * ((run * 7 % 5) as f64 - 2.0);
        let verdict = judged(&history(10, wild), |report| rss(report, 1.3));
        let line = line(&verdict, MetricId::PeakRss);
        assert_eq!(line.decision, Decision::Inconclusive, "{line:?}");
        assert!(line.reason.contains("noise between 10 runs") && !line.undecided, "{line:?}");
    }

    #[test]
    fn a_level_before_the_last_change_is_neither_baseline_nor_noise() {
        let stepped = |run: u64| noise(run) * if run <= 15 { 1.0 } else { 1.5 };
        let verdict = judged(&history(30, stepped), |report| rss(report, 1.5));
        let rss_line = line(&verdict, MetricId::PeakRss);
        assert_eq!((rss_line.decision.clone(), rss_line.baseline.unwrap().reps), (Decision::Pass, 15), "{rss_line:?}");
        assert!(verdict.notes.iter().any(|n| n.contains("the last 15 of 30")), "{:?}", verdict.notes);
        let verdict = judged(&history(30, stepped), |report| rss(report, 2.0));
        assert_eq!(line(&verdict, MetricId::PeakRss).decision, Decision::Fail);
    }

    #[test]
    fn an_exact_metric_is_held_to_the_last_run() {
        let metric = MetricId::AllocationsPerUnit;
        let mut grown = history(6, noise);
        let mut last = testing::report(2, REPS);
        testing::set_all(&mut last, metric, 21.0);
        grown.runs.push(RunInfo { sequence: 7, ..grown.runs[5].clone() });
        add(&mut grown, 7, &last);
        let at = |value: f64| judged(&grown, |report| testing::set_all(report, metric, value));
        assert_eq!(line(&at(21.0), metric).decision, Decision::Pass, "accepted once, it is the level");
        assert_eq!(line(&at(21.001), metric).decision, Decision::Fail);
        assert_eq!(line(&at(20.0), metric).decision, Decision::Improved);
    }

    #[test]
    fn less_throughput_is_worse() {
        let config =
            Config::parse("[limits]\nthroughput_per_s = { soft = \"10%\" }", "heapgate.toml".as_ref()).unwrap();
        let mut runs = history(0, noise);
        for run in 1..=8 {
            let mut report = testing::report(2, REPS);
            testing::set_all(&mut report, MetricId::Throughput, 1e5 * noise(run));
            runs.runs.push(RunInfo {
                sequence: run,
                id: String::new(),
                unix_s: 1,
                commit: String::new(),
                class: testing::fingerprint().machine.class(),
            });
            add(&mut runs, run, &report);
        }
        let decision = |value: f64| {
            let mut report = testing::report(2, REPS);
            testing::set_all(&mut report, MetricId::Throughput, value);
            let verdict = judge(&report, &[], &from_history(&runs, &report), &config, Look::ONLY);
            line(&verdict, MetricId::Throughput).decision.clone()
        };
        let expected = [Decision::Fail, Decision::Pass, Decision::Improved];
        assert_eq!([0.7e5, 0.97e5, 1.4e5].map(decision), expected);
    }

    #[test]
    fn too_few_runs_decide_nothing_and_say_how_to_get_more() {
        let verdict = judged(&history(4, noise), |_| {});
        assert_eq!((verdict.decision, verdict.tally.passed), (Overall::Inconclusive, 2), "two hard limits");
        let reason = &line(&verdict, MetricId::PeakRss).reason;
        assert!(reason.contains("4 runs") && reason.contains("5 are needed"), "{reason}");
        let verdict = judged(&History::default(), |_| {});
        assert_eq!(verdict.decision, Overall::Inconclusive);
        assert!(verdict.problems.iter().all(|p| p.kind == ProblemKind::NoBaseline), "{:?}", verdict.problems);
        assert!(verdict.problems[0].text.contains("`heapgate run`"), "{:?}", verdict.problems);
    }

    #[test]
    fn answers_that_differ_between_repetitions_fail_and_others_are_not_judged() {
        let verdict = judged(&history(6, noise), |_| {});
        assert!(verdict.answers.is_empty() && verdict.notes.iter().any(|n| n.contains("answers")));
        let verdict = judged(&history(6, noise), |report| {
            let phases = &mut report.trials[0].phases;
            phases.iter_mut().find(|p| !p.checksum.is_empty()).unwrap().checksum = "other".into();
        });
        assert_eq!(verdict.decision, Overall::Fail);
    }

    #[test]
    fn what_is_measured_with_fewer_repetitions_is_compared_with_as_few() {
        // The first repetition of each run is wild, and the median of three is not.
        let mut runs = history(10, |_| 1.0);
        for of_cell in runs.repetitions.values_mut() {
            for (run, values) in of_cell.get_mut(&MetricId::PeakRss).unwrap().iter_mut().enumerate() {
                values[0] *= 1.0 + 0.1 * (run % 4) as f64;
            }
        }
        let one = |report: &mut Report| {
            report.trials.retain(|t| t.rep == 0);
            rss(report, 1.3);
        };
        assert_eq!(line(&judged(&runs, one), MetricId::PeakRss).decision, Decision::Inconclusive);
        assert_eq!(line(&judged(&runs, |report| rss(report, 1.3)), MetricId::PeakRss).decision, Decision::Fail);
    }
}
