//! Pairs the windows of a control and of other sides, and says what is known of each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::window::{Figures, LiveMetric};
use crate::stats::blocks::Blocked;
use crate::stats::sequential::Interval;

/// A difference up to this is called none: sides are never quite alike (an arena more, a share of heavy requests), and nobody
/// acts on two hundredths.
pub const NEGLIGIBLE: f64 = 0.02;

/// A change by this counts for a roll-out (E24, as on the dashboard): better or worse.
pub const MARGIN: f64 = 0.15;

/// How sure all findings together are: the chance that any of them is wrong, if nothing is different.
pub const ALPHA: f64 = 0.01;

/// What is known of one metric of one side, beside the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing yet.
    Open,
    /// It is less, and all that is compared is better if it is less.
    Better,
    /// It is more.
    Worse,
    /// It is the same, to [`NEGLIGIBLE`].
    Same,
}

/// An answer that may have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All that is possible is so.
    Yes,
    /// Nothing that is possible is.
    No,
    /// Both are possible.
    Undecided,
}

/// The verdict on a new version (E24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Something has improved by [`MARGIN`], and nothing is worse by it.
    pub improved: Answer,
    /// Something is worse by it.
    pub worse: Answer,
}

/// One metric of one side against the control.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Which side.
    pub side: String,
    /// Which metric.
    pub metric: LiveMetric,
    /// What is known.
    pub finding: Finding,
    /// Mean of all windows, of the control and of the side.
    pub control_mean: Option<f64>,
    /// The same of the side.
    pub mean: Option<f64>,
    /// The mean change; 0.1 is 10% more than the control.
    pub change: Option<f64>,
    /// The changes that are possible: all of them, until there is an interval.
    pub change_low: Option<f64>,
    /// Their upper end.
    pub change_high: Option<f64>,
    /// The smallest level at which "no difference" was rejected, of this comparison alone.
    pub p_value: f64,
    /// Pairs of windows.
    pub pairs: usize,
    /// Windows that were taken together, because they depend on each other; 0 while that isn't known.
    pub block: usize,
}

#[derive(Debug, Clone)]
struct Test {
    side: String,
    metric: LiveMetric,
    differences: Blocked,
    sums: [f64; 2],
    finding: Finding,
}

/// A comparison that runs.
#[derive(Debug, Clone)]
pub struct Comparison {
    control: String,
    tests: Vec<Test>,
    windows: u64,
}

impl Comparison {
    /// Of `sides` with `control`, by `metrics`. They are fixed from now on: the error is divided by how many there are.
    #[must_use]
    pub fn new(control: &str, sides: &[String], metrics: &[LiveMetric]) -> Self {
        let others = sides.iter().filter(|side| *side != control);
        let tests = others.flat_map(|side| {
            metrics.iter().map(|&metric| Test {
                side: side.clone(),
                metric,
                differences: Blocked::default(),
                sums: [0.0; 2],
                finding: Finding::Open,
            })
        });
        Self { control: control.to_owned(), tests: tests.collect(), windows: 0 }
    }

    /// With what the others are compared.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.control
    }

    /// Whether `metric` is compared.
    #[must_use]
    pub fn compares(&self, metric: LiveMetric) -> bool {
        self.tests.iter().any(|test| test.metric == metric)
    }

    /// The level of one comparison: [`ALPHA`] by Bonferroni.
    fn alpha(&self) -> f64 {
        ALPHA / self.tests.len().max(1) as f64
    }

    /// Takes a window of all sides. Those in which one of a pair had no calls, or no figure, are no pair.
    pub fn push(&mut self, window: &BTreeMap<String, Figures>) {
        self.windows += 1;
        let alpha = self.alpha();
        let Some(control) = window.get(&self.control).filter(|figures| figures.calls > 0) else { return };
        for test in &mut self.tests {
            let Some(side) = window.get(&test.side).filter(|figures| figures.calls > 0) else { continue };
            let (Some(a), Some(b)) = (control.of(test.metric), side.of(test.metric)) else { continue };
            test.sums[0] += a;
            test.sums[1] += b;
            test.differences.push((b / a).ln());
            // What was found stays found: the promise is of all moments together.
            if test.finding == Finding::Open {
                test.finding = test.differences.interval(alpha).map_or(Finding::Open, finding);
            }
        }
    }

    /// Windows that were looked at.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// What is known of each side's metrics.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let alpha = self.alpha();
        let standing = |test: &Test| {
            let pairs = test.differences.windows();
            let mean = |sum: f64| (pairs > 0).then(|| sum / pairs as f64);
            let interval = test.differences.interval(alpha);
            Standing {
                side: test.side.clone(),
                metric: test.metric,
                finding: test.finding,
                control_mean: mean(test.sums[0]),
                mean: mean(test.sums[1]),
                change: test.differences.mean().map(f64::exp_m1),
                change_low: interval.map(|interval| interval.low.exp_m1()),
                change_high: interval.map(|interval| interval.high.exp_m1()),
                p_value: test.differences.p_value(),
                pairs,
                block: test.differences.block(),
            }
        };
        self.tests.iter().map(standing).collect()
    }

    /// The sides, but the control.
    #[must_use]
    pub fn sides(&self) -> Vec<&str> {
        let mut sides: Vec<&str> = self.tests.iter().map(|test| test.side.as_str()).collect();
        sides.dedup();
        sides
    }

    /// Whether each metric of each side is found to be something, or can't differ by [`MARGIN`].
    #[must_use]
    pub fn is_decided(&self) -> bool {
        let settled = |standing: &Standing| {
            standing.finding != Finding::Open
                || (standing.change_low.is_some_and(|low| low > -MARGIN)
                    && standing.change_high.is_some_and(|high| high < MARGIN))
        };
        self.standings().iter().all(settled)
    }

    /// Whether nothing of any side can be worse by [`MARGIN`].
    #[must_use]
    pub fn nothing_is_worse(&self) -> bool {
        self.sides().iter().all(|side| self.rollout(side).worse == Answer::No)
    }

    /// The side that is better in something, and in nothing worse by [`MARGIN`]: the control, if it is that beside every
    /// other. `None` while, or if, there is no such side, or more than one.
    #[must_use]
    pub fn winner(&self) -> Option<&str> {
        let standings = self.standings();
        let of = |side: &str| standings.iter().filter(move |standing| standing.side == side).collect::<Vec<_>>();
        let sides = self.sides();
        // What was found stays found, also where longer blocks have begun anew and leave all changes possible again.
        let wins = |side: &&str| {
            let own = of(side);
            own.iter().any(|standing| standing.finding == Finding::Better)
                && own.iter().all(|standing| match standing.finding {
                    Finding::Better | Finding::Same => true,
                    Finding::Worse => false,
                    Finding::Open => standing.change_high.is_some_and(|high| high < MARGIN),
                })
        };
        let loses = |side: &&str| {
            let own = of(side);
            own.iter().any(|standing| standing.finding == Finding::Worse)
                && own.iter().all(|standing| match standing.finding {
                    Finding::Worse | Finding::Same => true,
                    Finding::Better => false,
                    Finding::Open => standing.change_low.is_some_and(|low| low > -MARGIN),
                })
        };
        let mut winners = sides.iter().copied().filter(|side| wins(side));
        match (winners.next(), winners.next()) {
            (Some(winner), None) => Some(winner),
            (None, None) if !sides.is_empty() && sides.iter().all(loses) => Some(&self.control),
            _ => None,
        }
    }

    /// The verdict on `side` as a new version.
    #[must_use]
    pub fn rollout(&self, side: &str) -> Rollout {
        let standings = self.standings();
        let own: Vec<&Standing> = standings.iter().filter(|standing| standing.side == side).collect();
        let worse = own.iter().map(|standing| at_least(standing.change_low, standing.change_high));
        let worse = any(worse);
        let improved = own.iter().map(|standing| {
            at_least(standing.change_high.map(std::ops::Neg::neg), standing.change_low.map(std::ops::Neg::neg))
        });
        let improved = match (any(improved), worse) {
            (_, Answer::Yes) | (Answer::No, _) => Answer::No,
            (Answer::Yes, Answer::No) => Answer::Yes,
            _ => Answer::Undecided,
        };
        Rollout { improved, worse }
    }
}

fn finding(interval: Interval) -> Finding {
    let (low, high) = (interval.low.exp_m1(), interval.high.exp_m1());
    if high < -NEGLIGIBLE {
        Finding::Better
    } else if low > NEGLIGIBLE {
        Finding::Worse
    } else if low > -NEGLIGIBLE && high < NEGLIGIBLE {
        Finding::Same
    } else {
        Finding::Open
    }
}

/// Whether what lies between `low` and `high` is [`MARGIN`] or more.
fn at_least(low: Option<f64>, high: Option<f64>) -> Answer {
    match (low, high) {
        (Some(low), _) if low >= MARGIN => Answer::Yes,
        (_, Some(high)) if high < MARGIN => Answer::No,
        _ => Answer::Undecided,
    }
}

fn any(answers: impl Iterator<Item = Answer>) -> Answer {
    answers.fold(Answer::No, |all, one| match (all, one) {
        (Answer::Yes, _) | (_, Answer::Yes) => Answer::Yes,
        (Answer::Undecided, _) | (_, Answer::Undecided) => Answer::Undecided,
        _ => Answer::No,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    /// One side of a service: its stalls and resident memory wander, and have spikes.
    struct Side {
        memory: f64,
        stall: f64,
        resident: f64,
    }

    impl Side {
        fn new(memory: f64) -> Self {
            Self { memory, stall: 0.0, resident: 0.0 }
        }

        fn window(&mut self, random: &mut SplitMix64, load: f64, factors: [f64; 2]) -> Figures {
            let spread = (1.0 - self.memory * self.memory).sqrt();
            self.stall = self.memory * self.stall + spread * random.normal();
            self.resident = self.memory * self.resident + spread * random.normal();
            let spike = if random.uniform() < 0.02 { 8.0 } else { 1.0 };
            Figures {
                calls: 1_000,
                processes: 1,
                stall_ns_per_call: Some(80.0 * (load + 0.2 * self.stall).exp() * spike * factors[0]),
                stall_p99_ns: Some(900.0 * (load + 0.2 * random.normal()).exp() * factors[0]),
                resident_bytes: Some(1e8 * (load + 0.1 * self.resident).exp() * factors[1]),
                ..Figures::default()
            }
        }
    }

    /// A run of `windows`: control, and one that is by `factors` of it.
    fn run(random: &mut SplitMix64, windows: u32, memory: f64, factors: [f64; 2]) -> Comparison {
        let names = ["control", "strict"].map(str::to_owned);
        let mut comparison = Comparison::new("control", &names, &LiveMetric::OF_GROUPS);
        let mut sides = [Side::new(memory), Side::new(memory)];
        for window in 0..windows {
            // Morning and evening: what happens to both.
            let load = (f64::from(window) / 40.0).sin();
            let control = sides[0].window(random, load, [1.0; 2]);
            let strict = sides[1].window(random, load, factors);
            comparison.push(&BTreeMap::from([(names[0].clone(), control), (names[1].clone(), strict)]));
        }
        comparison
    }

    #[test]
    fn of_200_comparisons_of_a_side_with_itself_no_more_than_1_percent_find_a_difference() {
        const RUNS: usize = 200;
        for memory in [0.0, 0.6, 0.95] {
            let mut random = SplitMix64::new(23);
            let finds = |comparison: &Comparison| {
                let standings = comparison.standings();
                standings.iter().any(|standing| [Finding::Better, Finding::Worse].contains(&standing.finding))
            };
            let fired = (0..RUNS).filter(|_| finds(&run(&mut random, 500, memory, [1.0; 2]))).count();
            assert!(fired <= RUNS / 100, "{fired} of {RUNS} with a memory of {memory}");
        }
    }

    #[test]
    fn a_winner_is_named_when_the_evidence_is_there_and_not_before() {
        let mut random = SplitMix64::new(5);
        assert_eq!(run(&mut random, 20, 0.3, [1.0, 0.6]).winner(), None, "too early");
        let comparison = run(&mut random, 2_000, 0.3, [1.0, 0.6]);
        assert_eq!(comparison.winner(), Some("strict"), "{:#?}", comparison.standings());
        let resident = &comparison.standings()[2];
        assert_eq!((resident.metric, resident.finding), (LiveMetric::Resident, Finding::Better));
        assert!(resident.change_low.unwrap() < -0.4 && resident.change_high.unwrap() > -0.4, "{resident:?}");
        assert_eq!(run(&mut random, 2_000, 0.3, [1.5, 1.0]).winner(), Some("control"));
        let trade_off = run(&mut random, 2_000, 0.3, [1.5, 0.6]);
        assert!(trade_off.winner().is_none() && trade_off.is_decided());
    }

    #[test]
    fn what_was_found_names_the_winner_also_while_longer_blocks_leave_all_possible() {
        use Finding::{Better, Open, Same, Worse};
        let winner = |findings: [Finding; 3]| {
            let names = ["control", "strict"].map(str::to_owned);
            let mut comparison = Comparison::new("control", &names, &LiveMetric::OF_GROUPS);
            comparison.tests.iter_mut().zip(findings).for_each(|(test, finding)| test.finding = finding);
            (comparison.winner().map(str::to_owned), comparison.is_decided())
        };
        assert_eq!(winner([Worse, Same, Worse]), (Some("control".to_owned()), true));
        assert_eq!(winner([Better, Same, Better]), (Some("strict".to_owned()), true));
        assert_eq!(winner([Better, Same, Worse]), (None, true));
        assert_eq!(winner([Worse, Same, Open]), (None, false));
    }

    #[test]
    fn a_roll_out_is_judged_by_15_percent() {
        let mut random = SplitMix64::new(7);
        let mut verdict = |windows, factors| {
            let verdict = run(&mut random, windows, 0.3, factors).rollout("strict");
            (verdict.improved, verdict.worse)
        };
        assert_eq!(verdict(2_000, [1.0, 0.6]), (Answer::Yes, Answer::No));
        assert_eq!(verdict(2_000, [1.0, 1.0]), (Answer::No, Answer::No));
        assert_eq!(verdict(2_000, [1.5, 0.6]), (Answer::No, Answer::Yes));
        assert_eq!(verdict(10, [1.5, 0.6]), (Answer::Undecided, Answer::Undecided));
    }

    #[test]
    fn a_window_without_calls_is_no_pair() {
        let names = ["a", "b"].map(str::to_owned);
        let mut comparison = Comparison::new("a", &names, &LiveMetric::OF_GROUPS);
        let busy = Side::new(0.0).window(&mut SplitMix64::new(1), 0.0, [1.0; 2]);
        let idle = Figures { calls: 0, ..busy };
        for (a, b) in [(busy, idle), (idle, busy), (busy, busy)] {
            comparison.push(&BTreeMap::from([(names[0].clone(), a), (names[1].clone(), b)]));
        }
        comparison.push(&BTreeMap::from([(names[0].clone(), busy)]));
        assert_eq!((comparison.windows(), comparison.standings()[0].pairs), (4, 1));
    }
}
