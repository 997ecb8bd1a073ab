//! What a line of the verdict rests on, in words that several exports share: interval, resolution, limits.

use super::human;
use super::summary::{self, Figures};
use crate::gate::{ComparedWith, Line, RecentCompared};
use crate::report::PhaseKind;

/// Everything a line says in figures: `41.3 MiB → 52.0 MiB, +26.0% (+24.1% to +27.9%, 95% sure), limit 15%, smallest
/// change it could see 1.2%`.
pub(super) fn figures(line: &Line) -> String {
    let Figures { baseline, now, change, resolution: _, limits } = summary::figures(line);
    let mut text = format!("{baseline} → {now}, {change}");
    if let Some((ends, confidence)) = interval(line) {
        text.push_str(&format!(" ({ends}, {confidence} sure)"));
    }
    text.push_str(&format!(", limit {limits}"));
    if let Some(resolution) = line.resolution {
        text.push_str(&format!(", smallest change it could see {}", seen(resolution)));
    }
    if let Some(p) = line.p_value {
        text.push_str(&format!(", p {}", p_value(p)));
    }
    text
}

/// The interval's ends and its confidence.
pub(super) fn interval(line: &Line) -> Option<(String, String)> {
    let interval = line.interval?;
    let end = |value: f64| match value {
        v if v.is_finite() => human::change(v),
        v if v < 0.0 => "-∞".to_owned(),
        _ => "∞".to_owned(),
    };
    Some((format!("{} to {}", end(interval.low), end(interval.high)), human::percent(interval.confidence)))
}

/// The smallest change that could have been seen: `any` where repetitions agree.
pub(super) fn seen(resolution: f64) -> String {
    match resolution {
        0.0 => "any".to_owned(),
        r if r.is_finite() => human::percent(three_digits(r)),
        _ => "none".to_owned(),
    }
}

/// More digits than these are noise themselves.
fn three_digits(value: f64) -> f64 {
    let scale = 10f64.powi(2 - value.abs().log10().floor() as i32);
    if scale.is_finite() && scale > 0.0 { (value * scale).round() / scale } else { value }
}

/// A probability.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

/// A phase in a sentence: `measuring`.
pub(super) fn phase(kind: PhaseKind) -> &'static str {
    match kind {
        PhaseKind::Setup => "setup",
        PhaseKind::Warmup => "warm-up",
        PhaseKind::Prefill => "prefill",
        PhaseKind::Measure => "measuring",
        PhaseKind::Drain => "draining",
    }
}

/// The runs that were a baseline: `the last 12 runs, since 2026-01-31 at 0123abc`.
pub(super) fn runs(history: &RecentCompared) -> String {
    let since = human::date(history.since_unix_s);
    let at = if history.since_commit.is_empty() { String::new() } else { format!(" at {}", history.since_commit) };
    format!("the last {}, since {since}{at}", human::counted(history.runs, "run"))
}

/// What a workload was compared with.
pub(super) fn baseline(compared: &ComparedWith) -> String {
    let of = match &compared.history {
        Some(history) => runs(history),
        None => format!("baseline of {}", human::date(compared.recorded_unix_s)),
    };
    let mut text = format!("{of}, machine class {}", compared.class);
    if compared.history.is_none() && !compared.commit.is_empty() {
        text.push_str(&format!(", at {}", compared.commit));
    }
    for difference in compared.machine_differences.iter().chain(&compared.build_differences) {
        text.push_str(&format!("\n{difference}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::ChangeInterval;

    fn line() -> Line {
        crate::render::tests::with_evidence().1.lines.into_iter().find(|l| l.resolution == Some(0.012_345)).unwrap()
    }

    #[test]
    fn an_interval_without_an_upper_end_says_so() {
        let mut line = line();
        line.interval = Some(ChangeInterval { low: 0.1, high: f64::INFINITY, confidence: 0.99 });
        assert_eq!(interval(&line).unwrap(), ("+10.0% to ∞".into(), "99%".into()));
    }

    #[test]
    fn figures_are_told_with_their_evidence() {
        assert_eq!(
            figures(&line()),
            "41.4 MiB → 52.0 MiB, +25.7% (+24.1% to +27.9%, 95% sure), limit 15%, smallest change it could see 1.23%, p <0.0001"
        );
        assert_eq!(seen(0.0), "any");
        assert_eq!(seen(f64::INFINITY), "none");
    }
}
