//! The rule for exact metrics whose repetitions agree: there is one value on each side, and any difference is real.

use super::noisy::{Finding, beyond};
use super::verdict::{Decision, worsening};
use crate::metric::MetricId;
use crate::render::human;

/// Decides `metric` from the value that all repetitions agree on, on each side. `soft` is the largest change for the
/// worse.
pub(super) fn decide(metric: MetricId, baseline: f64, now: f64, soft: f64) -> Finding {
    let worse = worsening(metric, baseline, now);
    let (decision, reason) = if beyond(worse, soft) {
        let reason = match (soft, baseline) {
            (0.0, _) => "worse, and no change for the worse is allowed".to_owned(),
            (_, 0.0) => "worse than a baseline of 0, which is beyond every percentage".to_owned(),
            _ => format!("worse by more than the {} allowed", human::percent(soft)),
        };
        (Decision::Fail, reason)
    } else if worse > 0.0 {
        (Decision::Pass, format!("worse, within the {} allowed", human::percent(soft)))
    } else if worse < 0.0 {
        (Decision::Improved, "better; record a new baseline to keep it so".to_owned())
    } else {
        (Decision::Pass, "unchanged".to_owned())
    };
    Finding::new(decision, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(metric: MetricId, baseline: f64, now: f64, soft: f64) -> Decision {
        decide(metric, baseline, now, soft).decision
    }

    #[test]
    fn without_leeway_one_more_fails() {
        assert_eq!(decision(MetricId::LeftObjects, 1e12, 1e12 + 1.0, 0.0), Decision::Fail);
        assert_eq!(decision(MetricId::LeftObjects, 7.0, 7.0, 0.0), Decision::Pass);
        assert_eq!(decision(MetricId::LeftObjects, 7.0, 6.0, 0.0), Decision::Improved);
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert_eq!(decision(MetricId::PeakLiveBytes, 100.0, 120.0, 0.2), Decision::Pass);
        assert_eq!(decision(MetricId::PeakLiveBytes, 1000.0, 1201.0, 0.2), Decision::Fail);
    }

    #[test]
    fn from_zero_anything_worse_fails_whatever_the_percentage() {
        assert_eq!(decision(MetricId::LeftObjects, 0.0, 1.0, 10.0), Decision::Fail);
        assert_eq!(decision(MetricId::LeftObjects, 0.0, 0.0, 0.0), Decision::Pass);
    }

    #[test]
    fn a_last_digit_lost_in_a_file_is_no_change() {
        assert_eq!(decision(MetricId::AllocationsPerUnit, 0.3, 0.1 + 0.2, 0.0), Decision::Pass);
    }
}
