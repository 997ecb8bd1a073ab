//! What the gate promises, one property a test.

use proptest::prelude::*;

use super::*;
use crate::baseline::{Baseline, Found, Recording};
use crate::config::Config;
use crate::document::{Document, LoadError, LoadFault};
use crate::metric::{ALL, Kind, Limits, MetricId};
use crate::report::{Cell, Outcome, PhaseKind, Report, TRACED, Trial, testing};

/// As many as a recorded baseline has.
const REPS: u32 = 10;

fn config(text: &str) -> Config {
    Config::parse(text, "heapgate.toml".as_ref()).unwrap()
}

/// The decision over one metric of cell 0 after `change`, and the verdict.
fn decided(metric: MetricId, config: &Config, change: impl FnOnce(&mut Report, &mut Report)) -> (Decision, Verdict) {
    let (mut before, mut now) = (testing::report(2, REPS), testing::report(2, REPS));
    change(&mut before, &mut now);
    let verdict = compare(&before, &now, config, Look::ONLY);
    let line = verdict.lines.iter().find(|l| l.cell == testing::cell(0) && l.metric == metric);
    (line.map_or(Decision::Info, |l| l.decision.clone()), verdict)
}

fn lookup(workload: &str, found: Found) -> Lookup {
    Lookup { workload: workload.to_owned(), found: Ok(found) }
}

fn stored(report: &Report, workload: &str) -> Lookup {
    lookup(workload, Found::Same(Box::new(Baseline::from_report(report, workload, Recording::default()).unwrap())))
}

fn has(verdict: &Verdict, kind: ProblemKind) -> bool {
    verdict.problems.iter().any(|p| p.kind == kind)
}

fn measure(trial: &mut Trial) -> &mut crate::report::Phase {
    trial.phases.iter_mut().find(|p| p.kind == PhaseKind::Measure).unwrap()
}

#[test]
fn nothing_changed_passes() {
    let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |_, _| {});
    assert_eq!(verdict.decision, Overall::Pass);
    assert!(verdict.problems.is_empty() && verdict.notes.is_empty());
}

#[test]
fn an_exact_metric_fails_by_one_and_improves_by_one() {
    let set =
        |value| move |_: &mut Report, now: &mut Report| testing::set_all(now, MetricId::AllocationsPerUnit, value);
    let (worse, verdict) = decided(MetricId::AllocationsPerUnit, &Config::default(), set(20.001));
    assert_eq!((worse, verdict.decision), (Decision::Fail, Overall::Fail));
    let (better, verdict) = decided(MetricId::AllocationsPerUnit, &Config::default(), set(19.999));
    assert_eq!((better, verdict.decision), (Decision::Improved, Overall::Pass));
}

#[test]
fn an_exact_metric_that_disagrees_is_treated_as_noisy_and_that_is_said() {
    let metric = MetricId::PeakLiveBytes;
    let (decision, verdict) =
        decided(metric, &Config::default(), |_, now| testing::set(&mut now.trials[0], metric, 3_500_000.0));
    assert_eq!(decision, Decision::Pass, "one repetition in ten decides nothing");
    let reason = &verdict.lines.iter().find(|l| l.cell == testing::cell(0) && l.metric == metric).unwrap().reason;
    let expected = "repetitions of this run disagree (3.24 MiB to 3.34 MiB), so it is treated as noisy: ";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn noisy_metrics_need_the_same_machine_class() {
    let other = |_: &mut Report, now: &mut Report| {
        now.fingerprint.machine.kernel = "6.8".into();
        testing::set_all(now, MetricId::PeakRss, 9e9);
    };
    let (decision, verdict) = decided(MetricId::PeakRss, &Config::default(), other);
    assert_eq!((decision, verdict.decision), (Decision::Inconclusive, Overall::Inconclusive));

    let (decision, verdict) = decided(MetricId::PeakRss, &config("on_mismatch = \"exact-only\""), other);
    assert!(matches!(decision, Decision::NotCompared { .. }));
    assert_eq!(verdict.decision, Overall::Pass);
    assert_eq!(verdict.tally.not_compared, 6);
    assert!(
        verdict.notes[0].starts_with("6 noisy metrics left out: machine class differs: x86_64-xeon"),
        "{:?}",
        verdict.notes
    );
}

#[test]
fn exact_metrics_fail_on_another_machine_class_also_when_they_disagree() {
    let config = config("on_mismatch = \"exact-only\"");
    for disagree in [false, true] {
        let (decision, _) = decided(MetricId::AllocationsPerUnit, &config, |_, now| {
            now.fingerprint.machine.kernel = "6.8".into();
            testing::set_all(now, MetricId::AllocationsPerUnit, 30.0);
            if disagree {
                testing::set(&mut now.trials[0], MetricId::AllocationsPerUnit, 29.0);
            }
        });
        assert_eq!(decision, Decision::Fail, "disagree: {disagree}");
    }
}

#[test]
fn a_hard_limit_holds_without_any_baseline_and_on_any_machine() {
    let config = config("[limits]\npeak_rss_bytes = { hard = \"50 MiB\" }\nthroughput_per_s = { hard = 200000 }");
    let mut now = testing::report(1, 1);
    testing::set_all(&mut now, MetricId::PeakRss, 6e7);
    let verdict = judge(&now, &[], &[], &config, Look::ONLY);
    let failed: Vec<MetricId> =
        verdict.lines.iter().filter(|l| l.decision == Decision::Fail).map(|l| l.metric).collect();
    assert_eq!(failed, [MetricId::PeakRss, MetricId::Throughput], "for what is better higher, it is a floor");
    assert_eq!(verdict.decision, Overall::Fail);
    assert!(has(&verdict, ProblemKind::NoBaseline));
}

#[test]
fn a_hard_limit_alone_decides_without_a_baseline() {
    let verdict = judge(&testing::report(1, 2), &[], &[], &Config::default(), Look::ONLY);
    let line = verdict.lines.iter().find(|l| l.metric == MetricId::StallP95).unwrap();
    assert_eq!(line.decision, Decision::Pass);
    assert_eq!(verdict.decision, Overall::Inconclusive, "the rest needs one");
}

#[test]
fn an_improvement_beyond_a_hard_limit_still_fails() {
    let config = config("[limits]\nleft_objects = { hard = 2 }");
    let (decision, _) =
        decided(MetricId::LeftObjects, &config, |before, _| testing::set_all(before, MetricId::LeftObjects, 9.0));
    assert_eq!(decision, Decision::Fail);
}

#[test]
fn a_metric_that_only_one_side_has_is_inconclusive() {
    for of_before in [true, false] {
        let (decision, verdict) = decided(MetricId::LeftBytes, &Config::default(), |before, now| {
            let report = if of_before { before } else { now };
            for trial in &mut report.trials {
                trial.metrics.remove(&MetricId::LeftBytes);
            }
        });
        assert_eq!((decision, verdict.decision), (Decision::Inconclusive, Overall::Inconclusive));
    }
}

#[test]
fn a_metric_that_some_repetitions_lack_is_inconclusive() {
    let (decision, _) = decided(MetricId::PeakRss, &Config::default(), |_, now| {
        now.trials[0].metrics.remove(&MetricId::PeakRss);
    });
    assert_eq!(decision, Decision::Inconclusive);
}

#[test]
fn a_metric_that_no_side_has_is_noted_or_where_expected_inconclusive() {
    let off = |before: &mut Report, now: &mut Report| {
        for trial in before.trials.iter_mut().chain(&mut now.trials) {
            measure(trial).stalls = crate::report::Stalls::default();
            testing::recompute(trial);
        }
    };
    let (_, verdict) = decided(MetricId::StallP95, &Config::default(), off);
    assert_eq!(verdict.decision, Overall::Pass);
    assert_eq!(verdict.notes, ["stall_p95_ns has a hard limit, but neither side measured it in 2 cells"]);
    let expecting = config("[workload.tokenize.limits]\nstall_p95_ns = { hard = \"2 ms\" }");
    let (decision, verdict) = decided(MetricId::StallP95, &expecting, off);
    assert_eq!((decision, verdict.decision), (Decision::Inconclusive, Overall::Inconclusive));
}

#[test]
fn another_level_of_telemetry_or_unit_of_work_is_inconclusive() {
    let (decision, _) = decided(MetricId::PeakRss, &Config::default(), |before, _| {
        before.trials.iter_mut().for_each(|t| t.level = "sampled".into());
    });
    assert_eq!(decision, Decision::Inconclusive);
    let (decision, verdict) = decided(MetricId::AllocationsPerUnit, &Config::default(), |before, _| {
        before.trials.iter_mut().for_each(|t| t.unit = "byte".into());
    });
    assert_eq!(decision, Decision::Inconclusive);
    assert!(has(&verdict, ProblemKind::UnitDiffers));
}

#[test]
fn a_cell_that_the_baseline_has_and_the_run_lacks_is_a_problem_if_it_was_planned() {
    let before = testing::report(4, REPS);
    let mut now = before.clone();
    now.trials.retain(|t| t.cell != testing::cell(3));
    let lookups = || ["tokenize", "decode", "embed"].map(|workload| stored(&before, workload));

    let planned: Vec<Cell> = (0..4).map(testing::cell).collect();
    let verdict = judge(&now, &planned, &lookups(), &Config::default(), Look::ONLY);
    assert_eq!(verdict.decision, Overall::Inconclusive);
    assert!(has(&verdict, ProblemKind::CellNotRun));

    let verdict = judge(&now, &planned[..3], &lookups(), &Config::default(), Look::ONLY);
    assert_eq!(verdict.decision, Overall::Pass);
    assert_eq!(verdict.notes, ["tokenize: the baseline has 1 cell more, not part of this run"]);
}

#[test]
fn a_cell_that_the_baseline_lacks_is_a_problem_and_other_parameters_are_named() {
    let before = testing::report(1, REPS);
    let mut now = before.clone();
    now.trials.iter_mut().for_each(|t| {
        t.cell.params.insert("batch".into(), "64".into());
    });
    let verdict = judge(&now, &[], &[stored(&before, "tokenize")], &Config::default(), Look::ONLY);
    assert_eq!(verdict.decision, Overall::Inconclusive);
    assert!(has(&verdict, ProblemKind::CellNotInBaseline));
    assert!(verdict.problems[0].text.contains("batch 32, now 64"), "{}", verdict.problems[0].text);
}

#[test]
fn a_baseline_that_cannot_be_used_is_never_a_pass() {
    let now = testing::report(1, 2);
    let error = LoadError { document: Document::Baseline, path: "b.json".into(), fault: LoadFault::Empty };
    let unusable = Lookup { workload: "tokenize".into(), found: Err(error) };
    let verdict = judge(&now, &[], &[unusable], &Config::default(), Look::ONLY);
    assert_eq!(verdict.decision, Overall::Inconclusive);
    assert!(has(&verdict, ProblemKind::BaselineUnusable));
    assert!(verdict.problems[0].text.contains("the file is empty"), "{}", verdict.problems[0].text);
}

#[test]
fn a_trial_that_did_not_complete_is_never_a_pass() {
    for side in [0, 1] {
        let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |before, now| {
            [before, now][side].trials[0].outcome = Outcome::TimedOut { after_s: 9 };
        });
        assert_eq!(verdict.decision, Overall::Inconclusive);
        assert!(has(&verdict, ProblemKind::TrialFailed));
    }
}

#[test]
fn a_run_that_was_cut_off_is_never_a_pass() {
    let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |_, now| now.complete = false);
    assert_eq!(verdict.decision, Overall::Inconclusive);
    assert!(has(&verdict, ProblemKind::RunIncomplete));
}

#[test]
fn answers_that_differ_fail() {
    let other = |trial: &mut Trial| measure(trial).checksum = "other".into();
    let (_, from_baseline) =
        decided(MetricId::PeakRss, &Config::default(), |_, now| now.trials.iter_mut().for_each(other));
    assert_eq!(from_baseline.decision, Overall::Fail);
    assert_eq!(from_baseline.answers[0].reason, "answers differ from the baseline's");
    let (_, between) = decided(MetricId::PeakRss, &Config::default(), |_, now| other(&mut now.trials[0]));
    assert_eq!(between.decision, Overall::Fail);
    let mut alone = testing::report(1, 2);
    other(&mut alone.trials[0]);
    assert_eq!(
        judge(&alone, &[], &[], &Config::default(), Look::ONLY).decision,
        Overall::Fail,
        "whatever the baseline"
    );
}

#[test]
fn answers_that_one_side_lacks_are_inconclusive() {
    for side in [0, 1] {
        let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |before, now| {
            [before, now][side].trials.iter_mut().for_each(|t| measure(t).checksum.clear());
        });
        assert_eq!(verdict.decision, Overall::Inconclusive);
    }
}

#[test]
fn nothing_to_compare_is_no_pass() {
    let verdict = judge(&testing::report(0, 0), &[], &[], &Config::default(), Look::ONLY);
    assert_eq!(verdict.decision, Overall::Inconclusive);
    assert!(has(&verdict, ProblemKind::NothingCompared));
}

#[test]
fn another_build_is_compared_and_said() {
    let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |before, _| {
        before.fingerprint.build.rustc = "rustc 1.94".into()
    });
    assert_eq!(verdict.decision, Overall::Pass);
    assert_eq!(verdict.compared_with[0].build_differences[0].field, "rustc");
}

#[test]
fn a_trace_on_one_side_is_said_and_one_on_both_is_not() {
    let trace = |report: &mut Report| report.trials.iter_mut().for_each(|t| t.notes.push(TRACED.to_owned()));
    let notes = |change: &dyn Fn(&mut Report, &mut Report)| {
        decided(MetricId::PeakRss, &Config::default(), |before, now| change(before, now)).1.notes
    };
    let now = notes(&|_, now| trace(now));
    assert!(now.len() == 1 && now[0].starts_with("2 cells were traced"), "{now:?}");
    assert!(now[0].contains("in this run and not in the baseline"), "{now:?}");
    let before = notes(&|before, now| {
        trace(before);
        now.trials.retain(|t| t.cell == testing::cell(0));
    });
    assert!(before.iter().any(|n| n.contains("1 cell was traced (HEAPGATE_TRACE=1) in the baseline")), "{before:?}");
    assert!(notes(&|before, now| [before, now].into_iter().for_each(trace)).is_empty());
}

#[test]
fn every_line_says_what_it_could_have_seen() {
    let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |_, _| {});
    for line in verdict.lines.iter().filter(|l| l.limits.soft.is_some()) {
        let resolution = line.resolution.unwrap_or_else(|| panic!("{}", line.metric));
        assert!((0.0..0.01).contains(&resolution), "{}: {resolution}", line.metric);
    }
    let exact = verdict.lines.iter().find(|l| l.metric == MetricId::AllocationsPerUnit).unwrap();
    assert_eq!((exact.resolution, exact.interval, exact.p_value), (Some(0.0), None, None));
}

#[test]
fn a_noisy_metric_wholly_beyond_its_limit_fails_and_says_how_sure_that_is() {
    let (decision, verdict) = decided(MetricId::PeakRss, &Config::default(), |_, now| worse(now, 1.3));
    assert_eq!((decision, verdict.decision), (Decision::Fail, Overall::Fail));
    let line = verdict.lines.iter().find(|l| l.cell == testing::cell(0) && l.metric == MetricId::PeakRss).unwrap();
    assert!(line.p_value.unwrap() < FALSE_ALARM, "{line:?}");
    assert!(line.interval.unwrap().low > 0.28, "{line:?}");
    assert!(!line.advice.is_empty());
}

#[test]
fn the_same_difference_is_less_evidence_among_more_metrics_and_more_looks() {
    let of = |cells: usize, look: Look| {
        let (before, mut now) = (testing::report(cells, 5), testing::report(cells, 5));
        worse(&mut now, 1.3);
        let verdict = compare(&before, &now, &Config::default(), look);
        let of_cell = |l: &&Line| l.cell == testing::cell(0) && l.metric == MetricId::PeakRss;
        verdict.lines.iter().find(of_cell).unwrap().p_value.unwrap()
    };
    assert!(of(6, Look::ONLY) > of(2, Look::ONLY));
    assert_eq!(Look::one_of(3).alpha, FALSE_ALARM / 3.0);
}

#[test]
fn what_more_repetitions_could_decide_is_marked() {
    let (before, mut now) = (testing::report(2, 5), testing::report(2, 5));
    worse(&mut now, 1.3);
    let verdict = compare(&before, &now, &Config::default(), Look::ONLY);
    assert_eq!(verdict.decision, Overall::Inconclusive, "five against five can't show it among six metrics");
    let open: Vec<MetricId> = verdict.lines.iter().filter(|l| l.undecided).map(|l| l.metric).collect();
    assert_eq!(open, [MetricId::PeakRss]);
}

#[test]
fn where_no_call_is_made_any_more_none_is_slower_and_where_none_was_timed_that_is_told() {
    let without_times = |calls_too: bool| {
        let (stalls, _) = decided(MetricId::StallDistribution, &Config::default(), |_, now| {
            for trial in &mut now.trials {
                let phase = measure(trial);
                phase.stalls = Default::default();
                if calls_too {
                    (phase.counts.alloc_calls, phase.counts.alloc_zeroed_calls, phase.counts.realloc_calls) = (0, 0, 0);
                }
                testing::recompute(trial);
            }
        });
        stalls
    };
    assert_eq!((without_times(true), without_times(false)), (Decision::Pass, Decision::Inconclusive));
}

#[test]
fn stalls_that_move_no_percentile_fail_by_their_distribution() {
    let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |_, now| {
        for trial in now.trials.iter_mut().filter(|t| t.cell == testing::cell(0)) {
            let clean = &mut measure(trial).stalls.clean.alloc;
            let calls: u64 = clean.iter().map(|b| b.1).sum();
            clean.push((heapgate_segment::histogram::bucket_of(900_000) as u32, calls.div_ceil(5_000)));
            testing::recompute(trial);
        }
    });
    let line = |metric| verdict.lines.iter().find(|l| l.cell == testing::cell(0) && l.metric == metric).unwrap();
    assert_eq!(line(MetricId::StallDistribution).decision, Decision::Fail, "{:?}", line(MetricId::StallDistribution));
    for quantile in [MetricId::StallP50, MetricId::StallP95, MetricId::StallP99] {
        assert_eq!(line(quantile).change, Some(0.0));
    }
}

#[test]
fn where_resident_memory_moved_its_parts_say_where_to() {
    let (_, verdict) = decided(MetricId::PeakRss, &Config::default(), |_, now| {
        worse(now, 1.3);
        for trial in now.trials.iter_mut().filter(|t| t.cell == testing::cell(0)) {
            let phase = measure(trial);
            let more = 12 << 20;
            phase.process.as_mut().unwrap().rss_bytes += more;
            phase.allocator.as_mut().unwrap().resident_bytes += more;
        }
    });
    let memory = verdict.memory.iter().find(|m| m.cell == testing::cell(0)).unwrap();
    let explained: Vec<_> = memory.explained_by().iter().map(|p| p.part).collect();
    assert_eq!(explained, [crate::report::MemoryPart::Retained]);
    let line = verdict.lines.iter().find(|l| l.cell == testing::cell(0) && l.metric == MetricId::PeakRss).unwrap();
    assert!(line.advice[0].contains("decay"), "{:?}", line.advice);
}

/// Peak RSS of cell 0 `factor` times as high, with its noise.
fn worse(report: &mut Report, factor: f64) {
    for trial in report.trials.iter_mut().filter(|t| t.cell == testing::cell(0)) {
        let value = trial.metrics[&MetricId::PeakRss];
        testing::set(trial, MetricId::PeakRss, (value * factor).round());
    }
}

/// Metrics that `testing::set` can set, exact ones with a limit.
fn gated_exact() -> impl Strategy<Value = MetricId> {
    let exact: Vec<MetricId> = ALL.iter().copied().filter(|m| m.metric().kind == Kind::Exact).collect();
    prop::sample::select(exact)
}

/// Figures without a limit that have no part in one with.
fn ungated() -> impl Strategy<Value = MetricId> {
    let free = ALL.iter().copied().filter(|m| m.metric().limits == Limits::default() && m.metric().kind == Kind::Noisy);
    prop::sample::select(free.filter(|m| testing::can_be_set(*m)).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_a_pass_when_an_exact_metric_got_worse_beyond_its_limit(
        metric in gated_exact(),
        cell in 0usize..3,
        before_value in 2.0f64..1e6,
        more in 0.001f64..3.0,
        reps in 1u32..4,
        exact_only in any::<bool>(),
        other_machine in any::<bool>(),
        noise in prop::collection::vec((ungated(), 0usize..3, 1.0f64..1e9), 0..4),
    ) {
        let (mut before, mut now) = (testing::report(3, reps), testing::report(3, reps));
        let soft = metric.metric().limits.soft.unwrap();
        testing::set_cell(&mut before, cell, metric, before_value.round());
        testing::set_cell(&mut now, cell, metric, (before_value.round() * (1.0 + soft + more)).ceil() + 1.0);
        for (metric, cell, value) in noise {
            testing::set_cell(&mut now, cell, metric, value);
        }
        if other_machine {
            now.fingerprint.machine.cpus = 64;
        }
        let config = config(if exact_only { "on_mismatch = \"exact-only\"" } else { "" });
        let verdict = compare(&before, &now, &config, Look::ONLY);
        prop_assert_eq!(verdict.decision, Overall::Fail);
    }

    #[test]
    fn noise_in_ungated_metrics_never_changes_the_decision(
        cells in 1usize..4,
        reps in 1u32..4,
        worse in prop::option::of(gated_exact()),
        noise in prop::collection::vec((ungated(), any::<prop::sample::Index>(), 1.0f64..1e9, any::<bool>()), 1..6),
    ) {
        let (before, mut now) = (testing::report(cells, reps), testing::report(cells, reps));
        if let Some(metric) = worse {
            testing::set_all(&mut now, metric, 1e7);
        }
        let quiet = compare(&before, &now, &Config::default(), Look::ONLY).decision;
        let mut noisy = now.clone();
        for (metric, trial, value, gone) in noise {
            let index = trial.index(noisy.trials.len());
            let trial = &mut noisy.trials[index];
            if gone {
                trial.metrics.remove(&metric);
            } else {
                testing::set(trial, metric, value);
            }
        }
        prop_assert_eq!(compare(&before, &noisy, &Config::default(), Look::ONLY).decision, quiet);
        prop_assert_eq!(compare(&noisy, &now, &Config::default(), Look::ONLY).decision, compare(&now, &now, &Config::default(), Look::ONLY).decision);
    }

    #[test]
    fn a_report_is_never_worse_than_itself(cells in 1usize..5, reps in 5u32..12) {
        let report = testing::report(cells, reps);
        prop_assert_eq!(compare(&report, &report, &Config::default(), Look::ONLY).decision, Overall::Pass);
    }
}
