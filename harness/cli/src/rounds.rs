//! More repetitions for what is still open: which, how many, and when to stop.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use heapgate_core::config::{Config, parse_time};
use heapgate_core::gate::{Look, MOST_LOOKS, Verdict, repetitions};
use heapgate_core::render::human::counted;
use heapgate_core::report::{Cell, Report};

use crate::run::More;

/// The flag that limits them.
#[derive(Debug, Clone, Args)]
pub struct Budget {
    /// Time for more repetitions of what the first ones left open, as in 90s or 5m; 0 for none [default: that of
    /// heapgate.toml, or 2m]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    budget: Option<Duration>,
}

/// Enough to run the default matrix twice more; what is decided at once needs none of it.
const DEFAULT_BUDGET: Duration = Duration::from_secs(120);

impl Budget {
    /// The time: as the flag says, or else `config`.
    pub fn time(&self, config: &Config) -> Duration {
        self.budget.or(config.budget).unwrap_or(DEFAULT_BUDGET)
    }

    /// Begins to count looks and time.
    pub fn rounds(&self, config: &Config) -> Rounds {
        let budget = self.time(config);
        // The error is divided by the looks that are planned, whether they are taken or not.
        let looks = if budget.is_zero() { 1 } else { MOST_LOOKS };
        Rounds { looks, taken: 0, budget, first: None }
    }
}

/// The looks at a run that grows.
#[derive(Debug)]
pub struct Rounds {
    looks: u32,
    taken: u32,
    budget: Duration,
    /// When the first repetitions had ended, and how many there were.
    first: Option<(Instant, u32)>,
}

impl Rounds {
    /// One look, and no more repetitions: where they could decide nothing.
    pub fn one() -> Self {
        Self { looks: 1, taken: 0, budget: Duration::ZERO, first: None }
    }

    /// The error that each look may make.
    pub fn look(&self) -> Look {
        Look::one_of(self.looks)
    }

    /// What to repeat after a look at `reports` that gave `verdicts`: the cells with something open, as often as the next look
    /// needs, or as the rest of the time allows; None where nothing is open, or there is no look or time left. Says
    /// so on standard error. `cells` turns a cell of the verdict into those of the plan.
    pub fn more(
        &mut self,
        verdicts: &[&Verdict],
        reports: &[&Report],
        cells: impl Fn(&Cell) -> Vec<Cell>,
    ) -> Option<More> {
        self.taken += 1;
        let lines = verdicts.iter().flat_map(|verdict| &verdict.lines);
        let open: Vec<&Cell> = lines.filter(|l| l.undecided).map(|l| &l.cell).collect();
        let metrics = open.len() as u64;
        let open: BTreeSet<Cell> = open.into_iter().flat_map(cells).collect();
        let most = reports.iter().flat_map(|report| report.cells()).map(|cell| cell.trials.len()).max().unwrap_or(1);
        let (since, first) = *self.first.get_or_insert_with(|| (Instant::now(), most as u32));
        if open.is_empty() || self.taken >= self.looks {
            return None;
        }
        let (so_far, cost) = cost(&open, reports);
        let left = self.budget.saturating_sub(since.elapsed());
        let affordable = (left.as_secs_f64() / cost.as_secs_f64().max(f64::MIN_POSITIVE)) as u32;
        if affordable == 0 {
            eprintln!("{} still open, and the time for more is over (--budget)", counted(metrics, "metric"));
            return None;
        }
        let reps = repetitions(first, self.taken).saturating_sub(so_far).clamp(1, affordable);
        eprintln!(
            "{} still open: {} more of {} (of the --budget, {} s are left)",
            counted(metrics, "metric"),
            counted(reps.into(), "repetition"),
            counted(open.len() as u64, "cell"),
            left.as_secs()
        );
        Some(More { cells: open, reps })
    }
}

/// How often `cells` ran so far, and what running each once takes.
fn cost(cells: &BTreeSet<Cell>, reports: &[&Report]) -> (u32, Duration) {
    let (mut reps, mut seconds) = (1, 0.0);
    for report in reports {
        for cell in report.cells().iter().filter(|c| cells.contains(c.cell)) {
            let count = cell.trials.len();
            reps = reps.max(count as u32);
            seconds += cell.trials.iter().map(|t| t.wall_s).sum::<f64>() / count.max(1) as f64;
        }
    }
    (reps, Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heapgate_core::gate::compare;
    use heapgate_core::metric::MetricId;
    use heapgate_core::report::testing;

    fn budget(text: &str) -> Budget {
        Budget { budget: Some(parse_time(text).unwrap()) }
    }

    /// A run of two cells, of which the first has twice the resident memory: more than five repetitions can show.
    fn open() -> (Report, Verdict) {
        let (before, mut now) = (testing::report(2, 5), testing::report(2, 5));
        for trial in now.trials.iter_mut().filter(|t| t.cell == testing::cell(0)) {
            let value = trial.metrics[&MetricId::PeakRss];
            testing::set(trial, MetricId::PeakRss, value * 2.0);
        }
        let verdict = compare(&before, &now, &Config::default(), Look::one_of(MOST_LOOKS));
        (now, verdict)
    }

    #[test]
    fn only_open_cells_are_repeated_as_often_as_the_next_look_needs() {
        let (report, verdict) = open();
        let more =
            budget("1h").rounds(&Config::default()).more(&[&verdict], &[&report], |cell| vec![cell.clone()]).unwrap();
        assert_eq!(more, More { cells: BTreeSet::from([testing::cell(0)]), reps: 7 });
    }

    #[test]
    fn the_last_look_asks_for_no_more_and_neither_does_a_budget_of_nothing() {
        let (report, verdict) = open();
        let mut rounds = budget("1h").rounds(&Config::default());
        let asked =
            (0..5).filter(|_| rounds.more(&[&verdict], &[&report], |cell| vec![cell.clone()]).is_some()).count();
        assert_eq!(asked, MOST_LOOKS as usize - 1);
        let mut none = budget("0").rounds(&Config::default());
        assert_eq!(none.more(&[&verdict], &[&report], |cell| vec![cell.clone()]), None);
        assert_eq!(none.look(), Look::ONLY);
    }

    #[test]
    fn a_budget_that_is_too_small_for_one_repetition_is_said() {
        let (report, verdict) = open();
        assert_eq!(
            budget("0.001").rounds(&Config::default()).more(&[&verdict], &[&report], |cell| vec![cell.clone()]),
            None
        );
    }

    #[test]
    fn the_flag_wins_over_the_settings() {
        let config = Config::parse("budget = 0", "heapgate.toml".as_ref()).unwrap();
        assert_eq!(Budget { budget: None }.rounds(&config).look(), Look::ONLY);
        assert_eq!(budget("1h").rounds(&config).look(), Look::one_of(MOST_LOOKS));
        assert_eq!(Budget { budget: None }.rounds(&Config::default()).budget, DEFAULT_BUDGET);
    }
}
