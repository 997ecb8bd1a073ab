//! Known changes that `heapgate.toml` accepts for a time: what would fail is accepted as far as it says, and no farther.

use super::judge::{overall, tally};
use super::noisy::beyond;
use super::verdict::{Decision, Line, Verdict};
use crate::config::{Acceptance, Config, Date};
use crate::metric::Better;
use crate::render::human::{limit, percent};

/// Turns the lines of `verdict` that failed, but by no more than an acceptance of `config` that is not over `today`,
/// into [`Decision::Accepted`], and decides anew. An acceptance is about the change against the baseline: a hard limit
/// that is passed fails all the same, and so do answers that differ.
///
/// What stands in the way is said in the line's reason. Acceptances that are over, or that nothing needs any more, are
/// noted, so that they are removed.
pub fn accept(verdict: &mut Verdict, config: &Config, today: Date) {
    for acceptance in config.acceptances() {
        let notes = note(verdict, acceptance, today, config);
        verdict.notes.extend(notes);
    }
    for line in verdict.lines.iter_mut().filter(|line| line.decision == Decision::Fail) {
        let mut concerned = config.acceptances().iter().filter(|a| a.is_for(&line.cell, line.metric)).peekable();
        if concerned.peek().is_none() {
            continue;
        }
        let refusals: Result<Vec<String>, &Acceptance> =
            concerned.map(|acceptance| refusal(line, acceptance, today).ok_or(acceptance)).collect();
        match refusals {
            Err(accepted) => {
                line.reason = format!(
                    "{}; up to {} is accepted until {}: {}",
                    line.reason,
                    percent(accepted.up_to),
                    accepted.until,
                    accepted.reason
                );
                line.advice.clear();
                line.decision = Decision::Accepted { why: accepted.reason.clone(), until: accepted.until.to_string() };
            }
            Ok(refusals) => line.reason = format!("{}; {}", line.reason, refusals.join("; ")),
        }
    }
    verdict.tally = tally(verdict);
    verdict.decision = overall(verdict);
}

/// Why `acceptance` doesn't cover `line`; `None` where it does.
fn refusal(line: &Line, acceptance: &Acceptance, today: Date) -> Option<String> {
    if acceptance.until < today {
        return Some(format!("it was accepted until {}, which is over", acceptance.until));
    }
    if let Some(hard) = passed_hard_limit(line) {
        let limit = limit(line.metric.metric().unit, hard);
        return Some(format!("an accepted change never covers a hard limit, here {limit}"));
    }
    match line.worsening() {
        Some(worse) if worse.is_infinite() => {
            Some("from a baseline of 0 no percentage can be accepted: record a new baseline".to_owned())
        }
        Some(worse) if !beyond(worse, acceptance.up_to) => None,
        _ => Some(format!("beyond the {} that are accepted", percent(acceptance.up_to))),
    }
}

/// The hard limit that the line's median passed.
fn passed_hard_limit(line: &Line) -> Option<f64> {
    let (hard, now) = (line.limits.hard?, line.now?.median);
    let passed = match line.metric.metric().better {
        Better::Lower => now > hard,
        Better::Higher => now < hard,
    };
    passed.then_some(hard)
}

/// What is to be said of `acceptance` itself.
fn note(verdict: &Verdict, acceptance: &Acceptance, today: Date, config: &Config) -> Option<String> {
    let mut concerned =
        verdict.lines.iter().filter(|line| acceptance.is_for(&line.cell, line.metric)).map(|l| &l.decision).peekable();
    // What was not part of this run tells nothing.
    concerned.peek()?;
    let failed = concerned.clone().any(|decision| *decision == Decision::Fail);
    let all_well = concerned.all(|d| matches!(d, Decision::Pass | Decision::Improved | Decision::Info));
    let file =
        config.source.as_deref().map_or(String::new(), |path| format!("{}:{}: ", path.display(), acceptance.line));
    let subject = format!("{file}{} in {}", acceptance.metric, acceptance.workload);
    let over = acceptance.until < today;
    match (over, failed, all_well) {
        (true, true, _) => {
            Some(format!("{subject} was accepted until {}, which is over: {}", acceptance.until, acceptance.reason))
        }
        (true, false, _) => {
            Some(format!("{subject} was accepted until {}, which is over; remove it", acceptance.until))
        }
        (false, _, true) => Some(format!("{subject} is accepted, which is no longer needed; remove it")),
        (false, ..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Look, Overall, compare};
    use crate::metric::MetricId;
    use crate::report::{Report, testing};

    const TODAY: &str = "2026-06-15";

    fn config(metric: &str, up_to: &str, until: &str, more: &str) -> Config {
        let text = format!(
            "[[accept]]\nworkload = \"tokenize\"\nmetric = \"{metric}\"\nup_to = \"{up_to}\"\nuntil = \"{until}\"\nreason = \"larger vocabulary\"\n{more}"
        );
        Config::parse(&text, "heapgate.toml".as_ref()).unwrap()
    }

    /// The verdict over what `change` does to the second of two like reports.
    fn verdict(config: &Config, change: impl FnOnce(&mut Report)) -> Verdict {
        let before = testing::report(2, 10);
        let mut now = before.clone();
        change(&mut now);
        let mut verdict = compare(&before, &now, config, Look::ONLY);
        accept(&mut verdict, config, TODAY.parse().unwrap());
        verdict
    }

    fn line(verdict: &Verdict, index: usize, metric: MetricId) -> &Line {
        verdict.lines.iter().find(|l| l.cell == testing::cell(index) && l.metric == metric).unwrap()
    }

    const CALLS: MetricId = MetricId::AllocationsPerUnit;

    fn more_calls(now: &mut Report) {
        testing::set_cell(now, 0, CALLS, 22.0);
    }

    #[test]
    fn a_change_within_its_size_is_accepted_with_its_reason_and_date() {
        for until in ["2026-12-31", TODAY] {
            let config = config("allocations_per_unit", "10%", until, "");
            let verdict = verdict(&config, more_calls);
            let line = line(&verdict, 0, CALLS);
            let expected = Decision::Accepted { why: "larger vocabulary".into(), until: until.into() };
            assert_eq!(line.decision, expected);
            assert_eq!((verdict.decision, verdict.tally.accepted), (Overall::Pass, 1));
            assert!(line.reason.contains("up to 10% is accepted until"), "{}", line.reason);
            assert!(verdict.notes.is_empty(), "{:?}", verdict.notes);
        }
    }

    #[test]
    fn a_larger_change_fails_and_says_what_is_accepted() {
        let verdict = verdict(&config("allocations_per_unit", "9.9%", "2026-12-31", ""), more_calls);
        assert_eq!(verdict.decision, Overall::Fail);
        let reason = &line(&verdict, 0, CALLS).reason;
        assert!(reason.ends_with("; beyond the 9.9% that are accepted"), "{reason}");
    }

    #[test]
    fn one_that_is_over_fails_again_and_is_noted() {
        let verdict = verdict(&config("allocations_per_unit", "50%", "2026-06-14", ""), more_calls);
        assert_eq!(verdict.decision, Overall::Fail);
        let expected = "heapgate.toml:1: allocations_per_unit in tokenize was accepted until 2026-06-14, which is over: larger vocabulary";
        assert_eq!(verdict.notes, [expected]);
        assert!(line(&verdict, 0, CALLS).reason.contains("until 2026-06-14, which is over"));
    }

    #[test]
    fn one_that_nothing_needs_is_noted_and_one_of_another_run_is_not() {
        let of_this = verdict(&config("allocations_per_unit", "10%", "2026-12-31", ""), |_| {});
        assert!(of_this.notes[0].ends_with("is accepted, which is no longer needed; remove it"), "{:?}", of_this.notes);
        let over = verdict(&config("allocations_per_unit", "10%", "2025-12-31", ""), |_| {});
        assert!(over.notes[0].ends_with("until 2025-12-31, which is over; remove it"), "{:?}", over.notes);
        let other = config("allocations_per_unit", "10%", "2026-12-31", "allocator = \"region\"");
        assert!(verdict(&other, |_| {}).notes.is_empty());
    }

    #[test]
    fn only_what_it_names_is_accepted() {
        let config = config("allocations_per_unit", "10%", "2026-12-31", "");
        let other_cell = verdict(&config, |now| testing::set_cell(now, 1, CALLS, 22.0));
        assert_eq!(other_cell.decision, Overall::Fail);
        let other_metric = verdict(&config, |now| testing::set_cell(now, 0, MetricId::LeftObjects, 4.0));
        assert_eq!(other_metric.decision, Overall::Fail);
    }

    #[test]
    fn a_hard_limit_is_never_covered() {
        let hard = "[limits]\npeak_rss_bytes = { hard = \"45 MiB\" }\n";
        let config = config("peak_rss_bytes", "50%", "2026-12-31", hard);
        let verdict = verdict(&config, |now| testing::set_cell(now, 0, MetricId::PeakRss, 5e7));
        assert_eq!(verdict.decision, Overall::Fail);
        let reason = &line(&verdict, 0, MetricId::PeakRss).reason;
        assert!(reason.ends_with("an accepted change never covers a hard limit, here 45 MiB"), "{reason}");
    }

    #[test]
    fn less_of_what_should_be_more_is_a_worsening_too() {
        let soft = "[limits]\nthroughput_per_s = { soft = \"5%\" }\n";
        let slower = |now: &mut Report| testing::set_cell(now, 0, MetricId::Throughput, 100_000.0);
        for (up_to, decision) in [("30%", Overall::Pass), ("10%", Overall::Fail)] {
            let config = config("throughput_per_s", up_to, "2026-12-31", soft);
            assert_eq!(verdict(&config, slower).decision, decision, "{up_to}");
        }
    }

    #[test]
    fn nothing_is_accepted_from_a_baseline_of_zero() {
        let config = config("left_objects", "900%", "2026-12-31", "");
        let mut before = testing::report(1, 10);
        testing::set_all(&mut before, MetricId::LeftObjects, 0.0);
        let mut verdict = compare(&before, &testing::report(1, 10), &config, Look::ONLY);
        accept(&mut verdict, &config, TODAY.parse().unwrap());
        assert_eq!(verdict.decision, Overall::Fail);
        assert!(line(&verdict, 0, MetricId::LeftObjects).reason.contains("from a baseline of 0"));
    }

    #[test]
    fn answers_that_differ_are_never_accepted() {
        let config = config("allocations_per_unit", "10%", "2026-12-31", "");
        let verdict = verdict(&config, |now| {
            more_calls(now);
            for trial in &mut now.trials {
                trial.phases[2].checksum = "other".into();
            }
        });
        assert_eq!((verdict.decision, verdict.tally.accepted), (Overall::Fail, 1));
    }
}
