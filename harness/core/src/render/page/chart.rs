//! A chart: drawn here as SVG, for paper and for readers without scripts, and given as numbers beside it, from which the
//! page's script draws what can be pointed at.

use std::fmt::Write;

use serde_json::{Value, json};

use super::axis::ticks;
use super::shell::{embedded, escaped};
use crate::metric::Unit;
use crate::render::{evidence, human};
use crate::report::Phase;

pub(super) const WIDTH: f64 = 960.0;
pub(super) const LEFT: f64 = 64.0;
pub(super) const RIGHT: f64 = 10.0;
pub(super) const BOTTOM: f64 = 22.0;
/// Room above the plot for labels.
pub(super) const TOP: f64 = 24.0;

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub name: String,
    /// A variable of the page's style.
    pub color: &'static str,
    pub dashed: bool,
    /// Pairs of ms since the trial's start and a value.
    pub points: Vec<(f64, f64)>,
}

/// The figure of a chart. `numbers` are for the script.
pub(super) fn figure(caption: &str, key: &[(&str, &str)], svg: &str, numbers: &Value) -> String {
    let mut keys = String::new();
    for (color, name) in key {
        let _ = write!(keys, "<span><i style=\"background:var({color})\"></i>{}</span>", escaped(name));
    }
    format!(
        "<figure class=\"chart\"><figcaption>{}<span class=\"key dim small\">{keys}</span></figcaption><div class=\"drawn\">{svg}</div><script type=\"application/json\">{}</script></figure>\n",
        escaped(caption),
        embedded(numbers)
    )
}

/// Begins the SVG of a chart so high.
pub(super) fn begin(height: f64, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(label))
}

/// A line across the chart with its value at the left.
pub(super) fn push_grid(svg: &mut String, y: f64, text: &str) {
    let _ = write!(
        svg,
        "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"var(--line)\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
        WIDTH - RIGHT,
        LEFT - 6.0,
        y + 4.0
    );
}

/// Curves over time from 0 up, with the phases of the trial that the first is of.
pub(super) fn over_time(caption: &str, unit: Unit, height: f64, curves: &[Curve], phases: &[Phase]) -> Option<String> {
    let points = || curves.iter().flat_map(|c| &c.points);
    let last = points().map(|p| p.0).fold(0.0, f64::max);
    let highest = points().map(|p| p.1).fold(0.0, f64::max);
    let lowest = points().map(|p| p.1).fold(0.0, f64::min);
    if last <= 0.0 || highest <= lowest {
        return None;
    }
    let x = |ms: f64| LEFT + ms / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (highest - value) / (highest - lowest) * (height - TOP - BOTTOM);
    let mut svg = begin(height, caption);
    let phases: Vec<(&Phase, f64, f64)> =
        phases.iter().map(|p| (p, p.start_s * 1e3, ((p.start_s + p.wall_s) * 1e3).min(last))).collect();
    for (index, &(phase, from, to)) in phases.iter().enumerate() {
        let (from, to) = (x(from.min(last)), x(to));
        if index % 2 == 0 {
            let _ = write!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\" fill=\"var(--phase)\"/>",
                (to - from).max(0.0),
                height - TOP - BOTTOM
            );
        }
        let name = evidence::phase(phase.kind);
        if to - from > name.len() as f64 * 6.6 {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                f64::midpoint(from, to),
                TOP - 8.0
            );
        }
    }
    for tick in ticks(lowest, highest, unit, 4) {
        push_grid(&mut svg, y(tick), &human::limit(unit, tick));
    }
    for tick in ticks(0.0, last * 1e6, Unit::Nanos, 8) {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(tick / 1e6).clamp(LEFT, WIDTH - 20.0),
            height - 6.0,
            human::limit(Unit::Nanos, tick)
        );
    }
    // The first curve is the one that matters: it is drawn last.
    for curve in curves.iter().rev() {
        let _ = write!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"var({})\" stroke-width=\"1.5\"{}/>",
            path(curve.points.iter().map(|&(ms, value)| (x(ms), y(value)))),
            curve.color,
            if curve.dashed { " stroke-dasharray=\"4 3\"" } else { "" }
        );
    }
    svg.push_str("</svg>");
    let numbers = json!({
        "kind": "time",
        "unit": unit,
        "height": height,
        "name": caption,
        "phases": phases.iter().map(|(p, from, to)| json!([evidence::phase(p.kind), tenths(*from), tenths(*to)])).collect::<Vec<_>>(),
        "series": curves.iter().map(numbers_of).collect::<Vec<_>>(),
    });
    let key: Vec<(&str, &str)> = curves.iter().map(|c| (c.color, c.name.as_str())).collect();
    Some(figure(caption, &key, &svg, &numbers))
}

/// A path through `points`, in differences, which are short.
pub(super) fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    let mut at: Option<(i64, i64)> = None;
    for (x, y) in points {
        let next = (tenths(x), tenths(y));
        let short = |tenths: i64| format!("{}", tenths as f64 / 10.0);
        match at {
            None => path.push_str(&format!("M{} {}l", short(next.0), short(next.1))),
            Some(at) => path.push_str(&format!("{} {} ", short(next.0 - at.0), short(next.1 - at.1))),
        }
        at = Some(next);
    }
    path.trim_end_matches([' ', 'l']).to_owned()
}

fn tenths(value: f64) -> i64 {
    (value * 10.0).round() as i64
}

/// A curve as differences of whole numbers: times in tenths of ms, values in pages of a KiB where all are whole ones.
fn numbers_of(curve: &Curve) -> Value {
    const KIB: f64 = 1024.0;
    let points = &curve.points;
    let scale = if points.iter().all(|p| p.1 % KIB == 0.0) { KIB } else { 1.0 };
    let differences = |values: Vec<i64>| -> Vec<i64> {
        let before = std::iter::once(0).chain(values.iter().copied());
        before.zip(&values).map(|(before, value)| value - before).collect()
    };
    json!({
        "name": curve.name,
        "color": curve.color,
        "dashed": curve.dashed,
        "scale": scale,
        "x": differences(points.iter().map(|p| tenths(p.0)).collect()),
        "y": differences(points.iter().map(|p| (p.1 / scale).round() as i64).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        Curve { name: "<b>".into(), color: "--a", dashed: false, points: points.to_vec() }
    }

    #[test]
    fn what_the_script_gets_gives_the_values_back() {
        let points = [(0.5, 20_480.0), (2.7, 9_527_296.0), (10.6, 8_192.0)];
        let numbers = numbers_of(&curve(&points));
        let summed = |key: &str| {
            let differences = numbers[key].as_array().unwrap().iter().map(|v| v.as_i64().unwrap());
            differences
                .scan(0, |sum, d| {
                    *sum += d;
                    Some(*sum)
                })
                .collect::<Vec<i64>>()
        };
        assert_eq!(summed("x"), [5, 27, 106]);
        let scale = numbers["scale"].as_f64().unwrap();
        assert_eq!(summed("y").iter().map(|&v| v as f64 * scale).collect::<Vec<_>>(), points.map(|p| p.1));
    }

    #[test]
    fn a_flat_or_empty_curve_is_no_trouble() {
        assert_eq!(over_time("a", Unit::Bytes, 200.0, &[curve(&[])], &[]), None);
        assert_eq!(over_time("a", Unit::Bytes, 200.0, &[curve(&[(0.0, 0.0), (5.0, 0.0)])], &[]), None);
        let text = over_time("a", Unit::Bytes, 200.0, &[curve(&[(0.0, 7.0), (5.0, 7.0)])], &[]).unwrap();
        assert!(!text.contains("NaN") && !text.contains("<b>"), "{text}");
    }

    #[test]
    fn a_path_is_in_differences() {
        assert_eq!(path([(1.0, 2.0), (3.5, 1.0), (4.0, 1.0)].into_iter()), "M1 2l2.5 -1 0.5 0");
        assert_eq!(path(std::iter::empty()), "");
    }
}
