//! heapgate's exit codes: documented, stable, and decided in one place.

use crate::gate::{Overall, Verdict};
use crate::report::Report;

/// Everything that was asked for was done, and nothing got worse.
pub const PASS: u8 = 0;
/// heapgate itself failed: a bug, or the system refused something it needs.
pub const INTERNAL: u8 = 1;
/// The command line, the configuration or a file given to heapgate is wrong.
pub const USAGE: u8 = 2;
/// A metric got worse than its limit allows, or the answers differ.
pub const REGRESSION: u8 = 3;
/// Nothing is known to have got worse, but something could not be compared.
pub const INCONCLUSIVE: u8 = 4;
/// A workload failed, crashed, ran out of memory or out of time.
pub const WORKLOAD_FAILED: u8 = 5;
/// The user interrupted the run (128 + SIGINT, as shells have it).
pub const INTERRUPTED: u8 = 130;

/// The exit code of a gate.
///
/// A failed workload (5) goes before a regression (3): the figures are then incomplete, so mend the workload first; the
/// regressions found so far are in the table all the same. A regression goes before what is inconclusive (4): it is
/// certain.
#[must_use]
pub fn exit_code(verdict: &Verdict, report: &Report) -> u8 {
    if report.trials.iter().any(|trial| !trial.outcome.is_completed()) {
        return WORKLOAD_FAILED;
    }
    match verdict.decision {
        Overall::Pass => PASS,
        Overall::Fail => REGRESSION,
        Overall::Inconclusive => INCONCLUSIVE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::{Look, compare};
    use crate::metric::MetricId;
    use crate::report::{Outcome, testing};

    #[test]
    fn each_decision_has_its_code() {
        let before = testing::report(2, 10);
        let config = Config::default();
        let code = |now: &Report| exit_code(&compare(&before, now, &config, Look::ONLY), now);
        assert_eq!(code(&before), PASS);

        let mut worse = before.clone();
        testing::set_all(&mut worse, MetricId::AllocationsPerUnit, 21.0);
        assert_eq!(code(&worse), REGRESSION);

        let mut unfinished = before.clone();
        unfinished.complete = false;
        assert_eq!(code(&unfinished), INCONCLUSIVE);
    }

    #[test]
    fn a_failed_workload_goes_before_a_regression() {
        let before = testing::report(2, 10);
        let mut now = before.clone();
        testing::set_all(&mut now, MetricId::AllocationsPerUnit, 21.0);
        now.trials[0].outcome = Outcome::TimedOut { after_s: 60 };
        assert_eq!(exit_code(&compare(&before, &now, &Config::default(), Look::ONLY), &now), WORKLOAD_FAILED);
    }
}
