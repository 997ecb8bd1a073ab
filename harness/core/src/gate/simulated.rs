//! The gate's rule for noisy metrics, to be set beside others on simulated series.

use super::look::{GROWTH, Look, MOST_LOOKS};
use super::noisy::{self, Evidence};
use super::verdict::Decision;
use crate::metric::MetricId;
use crate::stats::simulate::{Order, Outcome, Rule};

/// What the names of the gate's rules begin with.
pub const RULE: &str = "heapgate";

/// What the gate does with one noisy metric of one cell, of which more is worse, against the limit `soft`: among `family`
/// metrics that are tested together, the others of which say nothing, with up to `looks` looks, the last of which has all that
/// the samples have; the first that is not left open decides. Sides that
/// were measured in turns may be compared in pairs.
///
/// ```
/// use heapgate_core::gate::rule;
/// use heapgate_core::stats::simulate::{Order, Series, Source, table};
/// let source = Source { series: Series::Normal, order: Order::Interleaved, sd: 0.01 };
/// let rows = table(&[rule(0.05, 3, 60, Order::Interleaved)], &[source], &[0.0, 0.1], 20, 100, 1);
/// assert_eq!((rows[0].fail_rate, rows[1].fail_rate), (0.0, 1.0));
/// ```
#[must_use]
pub fn rule(soft: f64, looks: u32, family: usize, order: Order) -> Rule {
    let (looks, family) = (looks.max(1), family.max(1));
    let name = match family {
        1 => format!("{RULE}, one metric"),
        _ => format!("{RULE}, 1 of {family}"),
    };
    let paired = order == Order::Interleaved;
    Rule::new(name, move |a, b| decide(a, b, soft, looks, family, paired)).allowing(soft)
}

fn decide(a: &[f64], b: &[f64], soft: f64, looks: u32, family: usize, paired: bool) -> Outcome {
    // Any metric of which less is better.
    let metric = MetricId::PeakRss;
    for look in MOST_LOOKS.saturating_sub(looks)..MOST_LOOKS {
        let share = GROWTH[look as usize] / GROWTH[GROWTH.len() - 1];
        let first = |side: &'_ [f64]| ((side.len() as f64 * share) as usize).clamp(1, side.len());
        let (baseline, now) = (&a[..first(a)], &b[..first(b)]);
        let tested = noisy::test(&Evidence { metric, baseline, now, paired }, soft);
        // What Holm's correction makes of the smallest of so many.
        let corrected = (tested.beyond_p * family as f64).min(1.0);
        let finding = noisy::decide(&tested, corrected, family, soft, Look::one_of(looks));
        if !finding.undecided {
            return match finding.decision {
                Decision::Fail => Outcome::Fail,
                Decision::Pass | Decision::Improved => Outcome::Pass,
                _ => Outcome::Unsure,
            };
        }
    }
    Outcome::Unsure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::simulate::{Row, Series, Source, table};

    fn row(series: Series, order: Order, soft: f64, shift: f64) -> Row {
        let source = Source { series, order, sd: 0.03 };
        table(&[rule(soft, MOST_LOOKS, 1, order)], &[source], &[shift], 20, 1_000, 1).remove(0)
    }

    /// Of 1,000 trials at the promised 1 in 1,000, more than 5 come in 1 of 1,600 tries.
    #[test]
    fn it_keeps_its_promise_however_values_are_distributed() {
        for series in [Series::Normal, Series::LogNormal, Series::Bimodal] {
            for order in [Order::Interleaved, Order::Sequential] {
                let rate = row(series, order, 0.0, 0.0).fail_rate;
                assert!(rate <= 0.005, "{series}, {order}: {rate}");
            }
        }
    }

    #[test]
    fn measured_in_turns_it_keeps_it_however_values_depend_on_each_other() {
        for series in [Series::Autocorrelated { phi: 0.9 }, Series::Drifting] {
            let rate = row(series, Order::Interleaved, 0.0, 0.0).fail_rate;
            assert!(rate <= 0.005, "{series}: {rate}");
        }
    }

    #[test]
    fn what_is_inside_the_limit_passes_and_what_is_beyond_fails() {
        let (inside, beyond) =
            (row(Series::Normal, Order::Interleaved, 0.1, 0.0), row(Series::Normal, Order::Interleaved, 0.1, 0.25));
        assert!(inside.fail_rate == 0.0 && inside.unsure_rate < 0.01, "{inside:?}");
        assert!(beyond.fail_rate > 0.99, "{beyond:?}");
    }

    #[test]
    fn a_second_look_is_taken_only_where_the_first_left_it_open() {
        let a: Vec<f64> = (0..20).map(|i| 100.0 + f64::from(i % 4) * 0.1).collect();
        let mut b: Vec<f64> = a.clone();
        // Only what the first look doesn't see is worse; to one that sees it all, values fall into two groups.
        b[5..].iter_mut().for_each(|v| *v *= 2.0);
        assert_eq!(decide(&a, &b, 0.1, 3, 1, false), Outcome::Pass);
        assert_eq!(decide(&a, &b, 0.1, 1, 1, false), Outcome::Unsure);
    }
}
