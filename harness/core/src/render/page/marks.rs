//! Plots in the rows of tables, as SVG. Colours are the page's variables, so they follow its light and dark.

use std::fmt::Write;

use super::thin;
use crate::gate::{Decision, Line};
use crate::metric::Better;
use crate::render::{evidence, human};

/// More repetitions than these are not told apart anyway.
pub(super) const MOST_DOTS: usize = 60;

const WIDTH: f64 = 170.0;
const HEIGHT: f64 = 22.0;
/// Room for half a mark at either end.
const MARGIN: f64 = 6.0;
const MIDDLE: f64 = HEIGHT / 2.0;

fn color(decision: &Decision) -> &'static str {
    match decision {
        Decision::Fail => "--bad",
        Decision::Inconclusive | Decision::Accepted { .. } => "--unsure",
        Decision::Improved => "--good",
        _ => "--a",
    }
}

/// The change as a dot with its interval as a bar, on an axis with no change in the middle and the limit as a dashed
/// line; empty where there is no change to show.
pub(super) fn change(line: &Line) -> String {
    /// The axis goes this far beyond the limit, in limits; what is further is at the edge, as an arrow.
    const MOST_LIMITS: f64 = 4.0;
    /// Half the axis where there is neither limit nor change.
    const LEAST: f64 = 0.001;
    let Some(change) = line.change.filter(|c| c.is_finite()) else { return String::new() };
    let limit = change_at_limit(line);
    let ends = line.interval.map_or((change, change), |i| (i.low, i.high));
    let farthest = [change, ends.0, ends.1].into_iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let half = match limit.filter(|limit| limit.abs() > 0.0) {
        Some(limit) => farthest.clamp(limit.abs() * 1.3, limit.abs() * MOST_LIMITS) * 1.1,
        None => farthest.max(LEAST) * 1.1,
    };
    let clamped = |value: f64| value.clamp(-half, half);
    let x = |value: f64| MARGIN + (clamped(value) / half + 1.0) / 2.0 * (WIDTH - 2.0 * MARGIN);
    let said = evidence::interval(line).map_or(String::new(), |(ends, sure)| format!(", {sure} sure of {ends}"));
    let limited = limit.map_or(String::new(), |limit| format!(", limit {}", human::change(limit)));
    let mut svg = format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"change {}{said}{limited}\"><path d=\"M0 {MIDDLE}H{WIDTH}M{1} 2V{2}\" stroke=\"var(--line)\"/>",
        human::change(change),
        WIDTH / 2.0,
        HEIGHT - 2.0
    );
    if let Some(limit) = limit {
        let (at, edge) = (x(limit), if is_lower_better(line) { WIDTH } else { 0.0 });
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" width=\"{:.1}\" y=\"2\" height=\"{}\" fill=\"var(--bad)\" fill-opacity=\".12\"/><path d=\"M{at:.1} 0V{HEIGHT}\" stroke=\"var(--bad)\" stroke-dasharray=\"3 2\"/>",
            at.min(edge),
            (edge - at).abs(),
            HEIGHT - 4.0
        );
    }
    let color = color(&line.decision);
    if line.interval.is_some() {
        let _ = write!(
            svg,
            "<path d=\"M{:.1} {MIDDLE}H{:.1}\" stroke=\"var({color})\" stroke-width=\"4\" stroke-opacity=\".45\"/>",
            x(ends.0),
            x(ends.1)
        );
    }
    let at = x(change);
    if change.abs() > half {
        let tip = if change > 0.0 { -7 } else { 7 };
        let _ = write!(svg, "<path d=\"M{at:.1} {MIDDLE}l{tip} -5v10z\" fill=\"var({color})\"/>");
    } else {
        let _ = write!(svg, "<circle cx=\"{at:.1}\" cy=\"{MIDDLE}\" r=\"4\" fill=\"var({color})\"/>");
    }
    svg + "</svg>"
}

fn is_lower_better(line: &Line) -> bool {
    line.metric.metric().better == Better::Lower
}

/// The change at which the nearer of the limits is reached, signed.
fn change_at_limit(line: &Line) -> Option<f64> {
    let baseline = line.baseline?.median;
    let limit = limit(line)?;
    (baseline != 0.0).then(|| (limit - baseline) / baseline.abs())
}

/// The value that may not be passed: of two limits the nearer.
fn limit(line: &Line) -> Option<f64> {
    let better = line.metric.metric().better;
    let soft = line.limits.soft.zip(line.baseline).map(|(soft, baseline)| match better {
        Better::Lower => baseline.median + soft * baseline.median.abs(),
        Better::Higher => baseline.median - soft * baseline.median.abs(),
    });
    let nearer = |a: f64, b: f64| if better == Better::Lower { a.min(b) } else { a.max(b) };
    match (soft, line.limits.hard) {
        (Some(soft), Some(hard)) => Some(nearer(soft, hard)),
        (one, other) => one.or(other),
    }
}

/// The values of each repetition as dots over the baseline's range, with the limit; empty where there are none.
pub(super) fn repetitions(line: &Line, values: &[f64]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let limit = limit(line);
    let ends = line.baseline.iter().flat_map(|b| [b.min, b.max]).chain(values.iter().copied());
    let (low, high) = range(ends);
    // A limit far away would press all dots into one.
    let near = |limit: &f64| (low - 4.0 * (high - low)..=high + 4.0 * (high - low)).contains(limit);
    let limit = limit.filter(near);
    let axis = limit.map_or(Axis { low, high }, |limit| Axis { low: low.min(limit), high: high.max(limit) });
    let mut svg = begin(values.len());
    if let Some(baseline) = line.baseline {
        let (from, to, median) = (axis.x(baseline.min), axis.x(baseline.max), axis.x(baseline.median));
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"4\" width=\"{:.1}\" height=\"{}\" rx=\"3\" fill=\"var(--band)\"/><path d=\"M{median:.1} 4V{}\" stroke=\"var(--dim)\" stroke-width=\"1.5\"/>",
            from - 2.0,
            to - from + 4.0,
            HEIGHT - 8.0,
            HEIGHT - 4.0
        );
    }
    if let Some(limit) = limit {
        let _ = write!(
            svg,
            "<path d=\"M{:.1} 0V{HEIGHT}\" stroke=\"var(--bad)\" stroke-dasharray=\"3 2\"/>",
            axis.x(limit)
        );
    }
    push_dots(&mut svg, values, axis, color(&line.decision));
    svg + "</svg>"
}

/// The values of each repetition as dots, where there is nothing to compare them with.
pub(super) fn dots(values: &[f64]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let (low, high) = range(values.iter().copied());
    let mut svg = begin(values.len());
    push_dots(&mut svg, values, Axis { low, high }, "--a");
    svg + "</svg>"
}

#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn x(self, value: f64) -> f64 {
        // What never changes stands in the middle.
        let share = if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.5 };
        MARGIN + share * (WIDTH - 2.0 * MARGIN)
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

fn begin(count: usize) -> String {
    format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\"><path d=\"M0 {MIDDLE}H{WIDTH}\" stroke=\"var(--line)\"/>",
        human::counted(count as u64, "repetition")
    )
}

/// Dots as one path of points with round ends: a third of the bytes of circles.
fn push_dots(svg: &mut String, values: &[f64], axis: Axis, color: &str) {
    svg.push_str("<path class=\"dots\" d=\"");
    for value in thin::values(values, MOST_DOTS) {
        let _ = write!(svg, "M{:.1} {MIDDLE}h0", axis.x(value));
    }
    let _ = write!(svg, "\" stroke=\"var({color})\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::ChangeInterval;
    use crate::metric::{Limits, MetricId};
    use crate::render::tests::with_evidence;

    fn line() -> Line {
        with_evidence().1.lines.into_iter().find(|l| l.interval.is_some()).unwrap()
    }

    /// Where the dots of `svg` stand.
    fn dots_of(svg: &str) -> Vec<f64> {
        let path = svg.split("class=\"dots\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        path.split('M').skip(1).map(|dot| dot.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn every_repetition_has_a_dot_within_the_plot() {
        let svg = repetitions(&line(), &[40e6, 54e6, 52e6]);
        let at = dots_of(&svg);
        assert_eq!(at.len(), 3);
        assert!(at.iter().all(|x| (0.0..=WIDTH).contains(x)) && at.is_sorted(), "{at:?}");
        assert!(svg.contains("stroke-dasharray"), "the limit is near");
        assert_eq!(repetitions(&line(), &[]), "");
    }

    #[test]
    fn equal_repetitions_are_no_division_by_zero() {
        let mut line = line();
        line.baseline = None;
        line.limits = Limits::default();
        assert_eq!(dots_of(&repetitions(&line, &[7.0, 7.0])), [WIDTH / 2.0, WIDTH / 2.0]);
        assert_eq!(change(&line).matches("NaN").count(), 0);
    }

    #[test]
    fn thousands_of_repetitions_make_no_long_plot() {
        let values: Vec<f64> = (0..3000).map(f64::from).collect();
        assert!(dots(&values).len() < 2_000);
    }

    #[test]
    fn the_nearer_of_two_limits_is_shown() {
        let mut line = line();
        let median = line.baseline.unwrap().median;
        line.limits = Limits { soft: Some(0.5), hard: Some(1.0) };
        assert_eq!(limit(&line), Some(1.0));
        line.metric = MetricId::Throughput;
        assert_eq!(limit(&line), Some(median * 0.5));
    }

    #[test]
    fn a_change_stands_beyond_its_limit_only_where_it_is() {
        /// Where the dot stands, and the limit.
        fn at(svg: &str) -> (f64, f64) {
            let number = |before: &str| -> f64 {
                svg.split(before).nth(1).unwrap().split(['"', ' ']).next().unwrap().parse().unwrap()
            };
            (number("cx=\""), number("fill-opacity=\".12\"/><path d=\"M"))
        }
        let mut line = line();
        line.limits = Limits { soft: Some(0.15), hard: None };
        for value in [-0.3, 0.0, 0.1, 0.2] {
            line.change = Some(value);
            line.interval = Some(ChangeInterval { low: value - 0.01, high: value + 0.01, confidence: 0.95 });
            let (dot, limit) = at(&change(&line));
            assert_eq!(dot > limit, value > 0.15, "{value}: {dot} {limit}");
        }
        line.change = Some(5.0);
        assert!(!change(&line).contains("<circle"), "an arrow at the edge");
        line.interval = Some(ChangeInterval { low: 0.1, high: f64::INFINITY, confidence: 0.95 });
        let svg = change(&line);
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }
}
