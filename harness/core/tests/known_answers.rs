//! Statistics against scipy's, on data stored with its answers. `tests/data/stats/make.py` makes them.

use std::path::Path;

use heapgate_core::stats::two_samples::{self, Interval};
use heapgate_core::stats::{binomial, mann_kendall, prediction, serial, signed_rank};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Relative error allowed: both sides compute in doubles, in another order; statrs' inverse of the beta distribution has
/// eight good digits of rates near 0.
const ROUNDING: f64 = 1e-8;

#[derive(Deserialize)]
struct Answers<T> {
    scipy: String,
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct Ends {
    low: f64,
    high: f64,
    confidence: f64,
}

fn cases<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stats").join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let answers: Answers<T> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(answers.scipy.starts_with("1.") && answers.cases.len() >= 5, "{} is not whole", path.display());
    answers.cases
}

#[track_caller]
fn near(what: &str, ours: f64, theirs: f64) {
    let allowed = ROUNDING * theirs.abs().max(f64::MIN_POSITIVE);
    assert!((ours - theirs).abs() <= allowed, "{what}: {ours}, scipy says {theirs}");
}

#[track_caller]
fn same_interval(ours: Option<Interval>, theirs: Option<&Ends>) {
    assert_eq!(ours.is_some(), theirs.is_some(), "whether there is an interval");
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        near("low", ours.low, theirs.low);
        near("high", ours.high, theirs.high);
        near("confidence", ours.confidence, theirs.confidence);
    }
}

#[derive(Deserialize)]
struct Comparison {
    base: Vec<f64>,
    other: Vec<f64>,
    confidence: f64,
    #[serde(default)]
    limit: f64,
    estimate: f64,
    interval: Option<Ends>,
    p_above: f64,
}

#[test]
fn the_factor_of_two_samples_is_what_mann_whitney_does_not_reject() {
    for case in cases::<Comparison>("two_samples") {
        let factor = two_samples::factor(&case.base, &case.other, case.confidence).unwrap();
        near("estimate", factor.estimate, case.estimate);
        same_interval(factor.interval, case.interval.as_ref());
        // The interval leaves out 1 from below just where the one-sided test rejects at half of what is left.
        let above = factor.interval.is_some_and(|i| i.low > 1.0);
        assert_eq!(above, case.p_above <= (1.0 - case.confidence) / 2.0);
    }
}

#[test]
fn the_factor_of_pairs_is_what_the_signed_rank_test_does_not_reject() {
    for case in cases::<Comparison>("signed_rank") {
        let pairs: Vec<(f64, f64)> = case.base.into_iter().zip(case.other).collect();
        let factor = signed_rank::factor(&pairs, case.confidence).unwrap();
        near("estimate", factor.estimate, case.estimate);
        same_interval(factor.interval, case.interval.as_ref());
        near("p", signed_rank::p_above(&pairs, case.limit).unwrap(), case.p_above);
    }
}

#[derive(Deserialize)]
struct Ordered {
    values: Vec<f64>,
    #[serde(default)]
    s: i64,
    p_value: f64,
}

#[test]
fn a_trend_has_kendalls_p_value() {
    for case in cases::<Ordered>("trend") {
        let trend = mann_kendall::trend(&case.values);
        assert_eq!(trend.score, case.s);
        near("p", trend.p_either, case.p_value);
    }
}

#[test]
fn autocorrelation_of_few_values_is_counted_over_all_orders() {
    for case in cases::<Ordered>("autocorrelation") {
        near("p", serial::autocorrelation(&case.values), case.p_value);
    }
}

/// Both are simulated: ours ends after ten as extreme, which leaves a third of relative error (one standard deviation),
/// or after 20,000 samples.
#[test]
fn two_modes_are_as_rare_in_other_simulations() {
    for case in cases::<Ordered>("two_modes") {
        let p_value = serial::two_modes(&case.values);
        let deviation = (case.p_value / 20_000.0).sqrt().max(case.p_value / 10.0_f64.sqrt());
        assert!((p_value - case.p_value).abs() <= 4.0 * deviation, "{p_value}, scipy says {}", case.p_value);
    }
}

#[derive(Deserialize)]
struct Rate {
    successes: u64,
    trials: u64,
    confidence: f64,
    low: f64,
    high: f64,
}

#[test]
fn rates_have_the_exact_interval() {
    for case in cases::<Rate>("binomial") {
        let interval = binomial::rate_interval(case.successes, case.trials, case.confidence).unwrap();
        near("low", interval.low, case.low);
        near("high", interval.high, case.high);
    }
}

#[derive(Deserialize)]
struct Run {
    history: Vec<f64>,
    now: f64,
    limit: f64,
    confidence: f64,
    factor: f64,
    low: f64,
    high: f64,
    p_above: f64,
    p_below: f64,
}

#[test]
fn a_run_is_predicted_by_students_t() {
    for case in cases::<Run>("prediction") {
        let run = prediction::against_history(&case.history, case.now, case.limit, 0.001, case.confidence).unwrap();
        near("factor", run.factor, case.factor);
        near("low", run.interval.low, case.low);
        near("high", run.interval.high, case.high);
        near("p above", run.p_above, case.p_above);
        near("p below", run.p_below, case.p_below);
    }
}
