//! Rules of a gate on simulated series, whose truth is known: how often each fails a change that isn't there, and how
//! often it catches one that is.
//!
//! A rule is a name and a closure over two samples, so that any can be added to the table:
//!
//! ```
//! use heapgate_core::stats::simulate::{Outcome, Order, Rule, Series, Source, table};
//! let doubled = Rule::new("doubled", |a, b| if b[0] > 2.0 * a[0] { Outcome::Fail } else { Outcome::Pass });
//! let source = Source { series: Series::Normal, order: Order::Interleaved, sd: 0.03 };
//! let rows = table(&[doubled], &[source], &[0.0, 4.0], 5, 100, 1);
//! assert_eq!((rows[0].fail_rate, rows[1].fail_rate), (0.0, 1.0));
//! ```

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::binomial::rate_interval;
use super::random::SplitMix64;
use super::rank_test::p_greater;
use super::sample::median;

/// Confidence of the interval of a rate.
pub const CONFIDENCE: f64 = 0.95;

/// Of the two-mode series: which share of values is of the slow mode, and how wide each mode is in standard deviations
/// of the whole: apart enough that they don't overlap, and the median stays in the lower one.
const SLOW_SHARE: f64 = 0.3;
const MODE_WIDTH: f64 = 0.3;

/// What a rule says of two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The second is worse.
    Fail,
    /// It is not.
    Pass,
    /// It takes more to say.
    Unsure,
}

/// How the values of a series are distributed and depend on each other. The median of each is about 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Series {
    /// Independent normal values.
    Normal,
    /// Independent values with a long upper tail: log-normal with a skewness of 6.2, moved and scaled.
    LogNormal,
    /// Independent values of two modes that don't overlap, 70 % of them of the lower.
    Bimodal,
    /// Normal values, each `phi` times the one before plus what is new: AR(1).
    Autocorrelated {
        /// Correlation of neighbours.
        phi: f64,
    },
    /// Normal values that grow over the run; the growth makes half of the variance.
    Drifting,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::LogNormal => f.write_str("skewed (log-normal)"),
            Self::Bimodal => f.write_str("bimodal"),
            Self::Autocorrelated { phi } => write!(f, "autocorrelated (AR(1), phi {phi})"),
            Self::Drifting => f.write_str("drifting"),
        }
    }
}

impl Series {
    /// Those that the gate's rule is tried on.
    pub const ALL: [Self; 6] = [
        Self::Normal,
        Self::LogNormal,
        Self::Bimodal,
        Self::Autocorrelated { phi: 0.6 },
        Self::Autocorrelated { phi: 0.9 },
        Self::Drifting,
    ];

    /// `n` values in their order, with standard deviation `sd` in the long run.
    #[must_use]
    pub fn values(self, n: usize, sd: f64, random: &mut SplitMix64) -> Vec<f64> {
        let mut last = random.normal();
        (0..n)
            .map(|i| {
                let fresh = random.normal();
                let standard = match self {
                    Self::Normal => fresh,
                    // The standard deviation of exp of a standard normal value is √((e − 1) e).
                    Self::LogNormal => {
                        let e = std::f64::consts::E;
                        (fresh.exp() - 1.0) / ((e - 1.0) * e).sqrt()
                    }
                    Self::Bimodal => {
                        let apart = ((1.0 - MODE_WIDTH * MODE_WIDTH) / (SLOW_SHARE * (1.0 - SLOW_SHARE))).sqrt();
                        MODE_WIDTH * fresh + if random.uniform() < SLOW_SHARE { apart } else { 0.0 }
                    }
                    Self::Autocorrelated { phi } => {
                        last = phi * last + (1.0 - phi * phi).sqrt() * fresh;
                        last
                    }
                    // Uniform steps from −√1.5 to √1.5 have a variance of one half.
                    Self::Drifting => {
                        0.5_f64.sqrt() * fresh + 1.5_f64.sqrt() * (2.0 * (i as f64 + 0.5) / n as f64 - 1.0)
                    }
                };
                1.0 + sd * standard
            })
            .collect()
    }
}

/// In which order two sides are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In blocks of one value a side, in random order, as an interleaved run does.
    Interleaved,
    /// All of A, then all of B, as against a stored baseline.
    Sequential,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interleaved => "interleaved",
            Self::Sequential => "sequential",
        })
    }
}

/// Where two samples come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// The process that makes all values, of both sides.
    pub series: Series,
    /// Which of them go to which side.
    pub order: Order,
    /// Its standard deviation relative to its median.
    pub sd: f64,
}

impl Source {
    /// `n` values a side, those of B times 1 + `shift`.
    #[must_use]
    pub fn samples(&self, n: usize, shift: f64, random: &mut SplitMix64) -> (Vec<f64>, Vec<f64>) {
        let all = self.series.values(2 * n, self.sd, random);
        let (a, mut b): (Vec<f64>, Vec<f64>) = match self.order {
            Order::Sequential => (all[..n].to_vec(), all[n..].to_vec()),
            Order::Interleaved => {
                let deal = |pair: &[f64]| if random.below(2) == 0 { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
                all.chunks_exact(2).map(deal).unzip()
            }
        };
        b.iter_mut().for_each(|v| *v *= 1.0 + shift);
        (a, b)
    }
}

type Decide = Box<dyn Fn(&[f64], &[f64]) -> Outcome + Send + Sync>;

/// A rule: its name, and what it says of samples A and B.
pub struct Rule {
    name: String,
    limit: f64,
    decide: Decide,
}

impl Rule {
    /// Larger values are worse.
    pub fn new(name: impl Into<String>, decide: impl Fn(&[f64], &[f64]) -> Outcome + Send + Sync + 'static) -> Self {
        Self { name: name.into(), limit: 0.0, decide: Box::new(decide) }
    }

    /// Notes that the rule allows a change of `limit`, as a share.
    #[must_use]
    pub fn allowing(self, limit: f64) -> Self {
        Self { limit, ..self }
    }

    /// Fails if B is larger by the one-sided exact Mann–Whitney test at `alpha`.
    #[must_use]
    pub fn mann_whitney(alpha: f64) -> Self {
        Self::new(format!("Mann–Whitney, p ≤ {alpha}"), move |a, b| fail_if(p_greater(a, b) <= alpha))
    }

    /// Fails if benchstat reports a change, in either direction: the two-sided exact Mann–Whitney test at 0.05
    /// (golang.org/x/perf/benchmath, `AssumeNothing`). With fewer than four values a side it never can.
    #[must_use]
    pub fn benchstat() -> Self {
        Self::new("benchstat, p ≤ 0.05", |a, b| fail_if(2.0 * p_greater(a, b).min(p_greater(b, a)) <= 0.05))
    }

    /// Fails if B is larger by Welch's one-sided t-test at `alpha`.
    #[must_use]
    pub fn welch(alpha: f64) -> Self {
        Self::new(format!("t-test (Welch), p ≤ {alpha}"), move |a, b| fail_if(welch_p(a, b) <= alpha))
    }

    /// Fails if the median of B exceeds that of A by more than a share of `limit`, whatever the noise.
    #[must_use]
    pub fn medians(limit: f64) -> Self {
        Self::new("medians compared", move |a, b| fail_if(median(b) > median(a).map(|m| m * (1.0 + limit))))
            .allowing(limit)
    }

    /// The same rule asked whether B is larger than A by more than a share of `limit`.
    #[must_use]
    pub fn beyond(self, limit: f64) -> Self {
        let Self { name, decide, .. } = self;
        Self::new(name, move |a, b| decide(&a.iter().map(|v| v * (1.0 + limit)).collect::<Vec<_>>(), b)).allowing(limit)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("name", &self.name).finish_non_exhaustive()
    }
}

fn fail_if(worse: bool) -> Outcome {
    if worse { Outcome::Fail } else { Outcome::Pass }
}

/// One-sided; 1 where there is no spread to judge by.
fn welch_p(a: &[f64], b: &[f64]) -> f64 {
    let moments = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (n, mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((n, mean_a, error_a), (m, mean_b, error_b)) = (moments(a), moments(b));
    let error = error_a + error_b;
    let freedom = error * error / (error_a * error_a / (n - 1.0) + error_b * error_b / (m - 1.0));
    StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |student| student.sf((mean_b - mean_a) / error.sqrt()))
}

/// What one rule did on one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The rule's name.
    pub rule: String,
    /// The change that it allows, as a share.
    pub limit: f64,
    /// The series.
    pub series: String,
    /// In which order the sides were measured.
    pub order: String,
    /// Standard deviation relative to the median.
    pub sd: f64,
    /// By how much B is larger, as a share.
    pub shift: f64,
    /// Values a side.
    pub n: usize,
    /// Trials simulated.
    pub trials: u64,
    /// Share of them that failed: false alarms where the shift is 0, power elsewhere.
    pub fail_rate: f64,
    /// Where the true share is, at [`CONFIDENCE`].
    pub interval: (f64, f64),
    /// Share of them that took more to say.
    pub unsure_rate: f64,
}

/// What each rule does on each source for each shift (shares: 0.05 is 5 % more), `trials` times with `n` values a side.
/// All rules see the same samples, and all shifts the same noise; a source's samples depend on `seed` and its place
/// only.
///
/// # Panics
/// Where `n` or `trials` is 0.
#[must_use]
pub fn table(rules: &[Rule], sources: &[Source], shifts: &[f64], n: usize, trials: u64, seed: u64) -> Vec<Row> {
    assert!(n > 0 && trials > 0, "nothing to simulate");
    let mut rows = Vec::with_capacity(rules.len() * sources.len() * shifts.len());
    for (place, source) in sources.iter().enumerate() {
        for &shift in shifts {
            let mut random = SplitMix64::new(seed.wrapping_add(place as u64));
            let mut said = vec![(0, 0); rules.len()];
            for _ in 0..trials {
                let (a, b) = source.samples(n, shift, &mut random);
                for (rule, (failed, unsure)) in rules.iter().zip(&mut said) {
                    match (rule.decide)(&a, &b) {
                        Outcome::Fail => *failed += 1,
                        Outcome::Unsure => *unsure += 1,
                        Outcome::Pass => {}
                    }
                }
            }
            rows.extend(rules.iter().zip(said).map(|(rule, (failed, unsure))| Row {
                rule: rule.name.clone(),
                limit: rule.limit,
                series: source.series.to_string(),
                order: source.order.to_string(),
                sd: source.sd,
                shift,
                n,
                trials,
                fail_rate: failed as f64 / trials as f64,
                interval: rate_interval(failed, trials, CONFIDENCE).map_or((0.0, 1.0), |i| (i.low, i.high)),
                unsure_rate: unsure as f64 / trials as f64,
            }));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    fn fail_rate(rule: Rule, series: Series, order: Order, shift: f64) -> f64 {
        table(&[rule], &[Source { series, order, sd: 0.03 }], &[shift], 10, 2_000, 1)[0].fail_rate
    }

    #[test]
    fn series_have_a_median_near_1_and_the_spread_asked_for() {
        for series in Series::ALL {
            let values = series.values(100_000, 0.03, &mut SplitMix64::new(31));
            let mean = values.iter().sum::<f64>() / 1e5;
            let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5).sqrt();
            let middle = sample::median(&values).unwrap();
            assert!((middle - 1.0).abs() < 0.01 && (sd / 0.03 - 1.0).abs() < 0.06, "{series}: {middle} {sd}");
        }
    }

    #[test]
    fn neighbours_correlate_as_asked() {
        let values = Series::Autocorrelated { phi: 0.9 }.values(20_000, 1.0, &mut SplitMix64::new(32));
        let products: f64 = values.windows(2).map(|p| (p[0] - 1.0) * (p[1] - 1.0)).sum();
        let squares: f64 = values.iter().map(|v| (v - 1.0).powi(2)).sum();
        assert!((products / squares - 0.9).abs() < 0.02);
    }

    /// Of 10 and 10 independent values, whatever their distribution, the one-sided test at 0.05 fires at the largest
    /// level its distribution has below that, 0.0446 (R: `1 - pwilcox(72, 10, 10)`), the two-sided one at 0.0433; four
    /// standard deviations of 2,000 trials are 0.0185.
    #[test]
    fn mann_whitney_fires_at_its_level_on_independent_values() {
        for series in [Series::Normal, Series::LogNormal, Series::Bimodal] {
            for order in [Order::Interleaved, Order::Sequential] {
                let one_sided = fail_rate(Rule::mann_whitney(0.05), series, order, 0.0);
                assert!((one_sided - 0.0446).abs() < 0.0185, "{series}, {order}: {one_sided}");
                let two_sided = fail_rate(Rule::benchstat(), series, order, 0.0);
                assert!((two_sided - 0.0433).abs() < 0.0185, "{series}, {order}: {two_sided}");
            }
        }
    }

    #[test]
    fn a_t_test_holds_its_level_on_normal_values() {
        let rate = fail_rate(Rule::welch(0.05), Series::Normal, Order::Interleaved, 0.0);
        assert!((rate - 0.05).abs() < 0.0195, "{rate}");
        assert_eq!(welch_p(&[1.0, 1.0], &[1.0, 1.0]), 1.0, "no spread, no verdict");
    }

    /// What the table is to show: against a stored baseline, dependence makes every test cry wolf; interleaved, none.
    #[test]
    fn interleaving_saves_tests_from_dependence() {
        for series in [Series::Autocorrelated { phi: 0.9 }, Series::Drifting] {
            for rule in [|| Rule::mann_whitney(0.05), || Rule::welch(0.05)] {
                let stored = fail_rate(rule(), series, Order::Sequential, 0.0);
                let interleaved = fail_rate(rule(), series, Order::Interleaved, 0.0);
                assert!(stored > 0.2 && interleaved < 0.06, "{series}: {stored} {interleaved}");
            }
        }
    }

    #[test]
    fn a_large_shift_is_caught_and_a_small_median_limit_cries_wolf() {
        assert!(fail_rate(Rule::mann_whitney(0.05), Series::Normal, Order::Interleaved, 0.12) > 0.99);
        assert!(fail_rate(Rule::welch(0.05), Series::Normal, Order::Interleaved, 0.12) > 0.99);
        assert!(fail_rate(Rule::medians(0.05), Series::Normal, Order::Interleaved, 0.12) > 0.99);
        assert!(fail_rate(Rule::medians(0.01), Series::Normal, Order::Interleaved, 0.0) > 0.15);
    }

    #[test]
    fn too_few_values_never_fire() {
        let source = Source { series: Series::Normal, order: Order::Interleaved, sd: 0.03 };
        let rows = table(&[Rule::benchstat()], &[source], &[0.5], 3, 50, 1);
        assert_eq!((rows[0].fail_rate, rows[0].interval.0), (0.0, 0.0));
    }
}
