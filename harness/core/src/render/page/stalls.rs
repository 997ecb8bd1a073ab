//! How often calls to the allocator took how long, on logarithmic axes: clean calls and those that the scheduler
//! interrupted, now over the baseline.

use std::fmt::Write;

use heapgate_segment::histogram::bucket_bounds;
use serde_json::{Value, json};

use super::axis::power_of_ten;
use super::cell::OfCell;
use super::chart::{BOTTOM, LEFT, RIGHT, TOP, WIDTH, begin, figure, push_grid};
use crate::metric::Unit;
use crate::render::human;
use crate::report::RepStalls;
use crate::stats::histogram;

/// Bars of the histogram in each decade of time.
pub(super) const BARS_PER_DECADE: usize = 8;

const HEIGHT: f64 = 230.0;

/// One histogram of the plot.
struct Side {
    name: &'static str,
    color: &'static str,
    dashed: bool,
    /// Pairs of bucket and count, of all repetitions.
    buckets: Vec<(u32, u64)>,
    ticks_per_ns: f64,
    reps: usize,
}

impl Side {
    fn pair(
        stalls: &[RepStalls],
        ticks_per_second: f64,
        names: [&'static str; 2],
        colors: [&'static str; 2],
        dashed: bool,
    ) -> Vec<Self> {
        let ticks_per_ns = ticks_per_second / 1e9;
        if ticks_per_ns <= 0.0 {
            return Vec::new();
        }
        let all: [Vec<(u32, u64)>; 2] = [
            histogram::total(stalls.iter().map(|s| s.clean.as_slice())),
            histogram::total(stalls.iter().map(|s| s.interrupted.as_slice())),
        ];
        all.into_iter()
            .zip(names.into_iter().zip(colors))
            .filter(|(buckets, _)| !buckets.is_empty())
            .map(|(buckets, (name, color))| Self { name, color, dashed, buckets, ticks_per_ns, reps: stalls.len() })
            .collect()
    }

    fn log_ns(&self, bucket: u32) -> f64 {
        let (low, high) = bucket_bounds(bucket as usize);
        (f64::midpoint(low as f64, high as f64) / self.ticks_per_ns).max(1.0).log10()
    }

    /// Of a count over all repetitions: calls in one, as a power of ten.
    fn log_per_rep(&self, count: u64) -> f64 {
        (count as f64 / self.reps.max(1) as f64).log10()
    }

    fn calls(&self) -> u64 {
        histogram::count(&self.buckets)
    }

    /// Quantile `q`, ns.
    fn quantile(&self, q: f64) -> Option<f64> {
        Some(histogram::quantile(&self.buckets, q)? / self.ticks_per_ns)
    }

    /// Calls in each bar from decade `first` on.
    fn bars(&self, first: f64, bars: usize) -> Vec<u64> {
        let mut counts = vec![0; bars];
        for &(bucket, count) in &self.buckets {
            let bar = ((self.log_ns(bucket) - first) * BARS_PER_DECADE as f64) as usize;
            counts[bar.min(bars - 1)] += count;
        }
        counts
    }
}

/// The chart and its table of quantiles; empty where no call was timed.
pub(super) fn stalls(of: &OfCell<'_>) -> String {
    let mut sides = Vec::new();
    if let Some(trials) = &of.trials {
        let names = ["undisturbed", "interrupted by the scheduler"];
        sides.extend(Side::pair(&trials.stalls(), trials.ticks_per_second(), names, ["--a", "--b"], false));
    }
    if sides.is_empty() {
        return String::new();
    }
    if let Some(baseline) = of.baseline {
        let names = ["baseline, undisturbed", "baseline, interrupted"];
        sides.extend(Side::pair(&baseline.stalls, baseline.ticks_per_second, names, ["--ink", "--p3"], true));
    }
    let logs = || sides.iter().flat_map(|side| side.buckets.iter().map(move |b| side.log_ns(b.0)));
    let first = logs().fold(f64::INFINITY, f64::min).floor();
    let last = (logs().fold(0.0, f64::max) + 1e-9).ceil().max(first + 1.0);
    let bars = (last - first) as usize * BARS_PER_DECADE;
    let counts: Vec<Vec<u64>> = sides.iter().map(|side| side.bars(first, bars)).collect();
    let svg = drawn(&sides, &counts, first, last);
    let key: Vec<(&str, String)> =
        sides.iter().map(|s| (s.color, format!("{}: {}", s.name, human::counted(s.calls(), "call")))).collect();
    let key: Vec<(&str, &str)> = key.iter().map(|(color, name)| (*color, name.as_str())).collect();
    let caption = "Time of each call to the allocator while measuring, calls per repetition";
    figure(caption, &key, &svg, &numbers(&sides, &counts, first, caption)) + &quantiles(&sides)
}

fn numbers(sides: &[Side], counts: &[Vec<u64>], first: f64, caption: &str) -> Value {
    let series = sides.iter().zip(counts).map(|(side, counts)| {
        json!({ "name": side.name, "color": side.color, "dashed": side.dashed, "reps": side.reps, "calls": counts })
    });
    json!({
        "kind": "stalls",
        "height": HEIGHT,
        "name": caption,
        "first": first,
        "bars": BARS_PER_DECADE,
        "marks": sides.first().map(marks).unwrap_or_default(),
        "series": series.collect::<Vec<_>>(),
    })
}

const MARKS: [(&str, f64); 5] = [("P50", 0.5), ("P95", 0.95), ("P99", 0.99), ("P99.9", 0.999), ("max", 1.0)];

fn marks(side: &Side) -> Vec<(&'static str, f64)> {
    MARKS.iter().filter_map(|&(name, q)| Some((name, side.quantile(q)?))).collect()
}

fn drawn(sides: &[Side], counts: &[Vec<u64>], first: f64, last: f64) -> String {
    let shown = || {
        sides.iter().zip(counts).flat_map(|(side, c)| c.iter().filter(|&&c| c > 0).map(move |&c| side.log_per_rep(c)))
    };
    // A single call is seen: the axis begins below it.
    let low = shown().fold(f64::INFINITY, f64::min).floor().min(0.0) - 0.3;
    let top = shown().fold(0.0, f64::max).ceil().max(1.0);
    let y = |log: f64| TOP + (top - log) / (top - low) * (HEIGHT - TOP - BOTTOM);
    let x = |log: f64| LEFT + (log - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let mut svg = begin(HEIGHT, "histogram of stalls");
    for power in low.ceil() as i32..=top as i32 {
        push_grid(&mut svg, y(f64::from(power)), &power_of_ten(power));
    }
    for decade in first as i32..=last as i32 {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(f64::from(decade)).clamp(LEFT, WIDTH - 24.0),
            HEIGHT - 6.0,
            human::limit(Unit::Nanos, 10f64.powi(decade))
        );
    }
    let step = x(first + 1.0 / BARS_PER_DECADE as f64) - x(first);
    for (side, counts) in sides.iter().zip(counts) {
        let mut path = String::new();
        for (bar, &count) in counts.iter().enumerate().filter(|c| *c.1 > 0) {
            let (left, at) = (x(first + bar as f64 / BARS_PER_DECADE as f64), y(side.log_per_rep(count)));
            let _ = match side.dashed {
                // The baseline is an outline over the bars.
                true => write!(path, "M{left:.1} {at:.1}h{step:.1}"),
                false => {
                    // The narrower bars stand before the wider ones, and neither hides the other.
                    let width = if side.color == "--a" { step - 1.0 } else { step * 0.4 };
                    write!(
                        path,
                        "M{:.1} {at:.1}h{width:.1}V{:.1}h-{width:.1}z",
                        left + (step - width) / 2.0,
                        HEIGHT - BOTTOM
                    )
                }
            };
        }
        let _ = match side.dashed {
            true => write!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"var({})\" stroke-width=\"2\"/>", side.color),
            false => write!(svg, "<path d=\"{path}\" fill=\"var({})\"/>", side.color),
        };
    }
    if let Some(side) = sides.first() {
        push_marks(&mut svg, &marks(side), |ns| x(ns.max(1.0).log10()));
    }
    svg + "</svg>"
}

/// Marks of quantiles; those that stand too close share a label.
fn push_marks(out: &mut String, marks: &[(&str, f64)], x: impl Fn(f64) -> f64) {
    /// Width of a label of two names.
    const LABEL: f64 = 70.0;
    let mut labels: Vec<(f64, &str, Option<&str>)> = Vec::new();
    for &(name, ns) in marks {
        let at = x(ns);
        let _ = write!(
            out,
            "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=\"var(--ink)\" stroke-opacity=\".6\" stroke-dasharray=\"2 2\"/>",
            TOP - 8.0,
            HEIGHT - BOTTOM
        );
        match labels.last_mut() {
            Some((last, _, to)) if at - *last < LABEL => *to = Some(name),
            _ => labels.push((at, name, None)),
        }
    }
    for (at, name, to) in labels {
        let text = to.map_or(name.to_owned(), |to| format!("{name} to {to}"));
        let at = at.min(WIDTH - LABEL / 2.0);
        let _ = write!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>", TOP - 12.0);
    }
}

fn quantiles(sides: &[Side]) -> String {
    let mut out = String::from(
        "<div class=\"wide\" role=\"region\" aria-label=\"quantiles of stalls\" tabindex=\"0\"><table class=\"small quantiles\"><thead><tr><th scope=\"col\">calls, all repetitions together</th><th scope=\"col\" class=\"n\">calls</th>",
    );
    for (name, _) in MARKS {
        let _ = write!(out, "<th scope=\"col\" class=\"n\">{name}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    for side in sides {
        let calls = side.calls();
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><i class=\"dot\" style=\"background:var({})\"></i>{}</th><td class=\"n\"><data value=\"{calls}\">{}</data></td>",
            side.color,
            side.name,
            human::count(calls)
        );
        for (_, ns) in marks(side) {
            let _ = write!(out, "<td class=\"n\">{}</td>", human::value(Unit::Nanos, ns));
        }
        out.push_str("</tr>\n");
    }
    out + "</tbody></table></div>\n"
}
