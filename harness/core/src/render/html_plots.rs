//! Plots of the verdict's page, as SVG within it. Colours are the page's variables, so they follow its light and dark.

use std::fmt::Write;

use heapgate_segment::histogram::bucket_bounds;

use super::human;
use crate::gate::{Decision, Line, MemoryLine};
use crate::metric::{Better, Unit};
use crate::report::CellTrials;
use crate::stats::histogram;

/// More repetitions than these are not told apart anyway.
const MOST_DOTS: usize = 60;

/// The values of each repetition as dots over the baseline's range, with the limit; empty where there are none.
pub(super) fn repetitions(line: &Line, values: &[f64]) -> String {
    const WIDTH: f64 = 190.0;
    const HEIGHT: f64 = 22.0;
    const MARGIN: f64 = 6.0;
    const MIDDLE: f64 = HEIGHT / 2.0;
    if values.is_empty() {
        return String::new();
    }
    let limit = limit(line);
    let ends = line.baseline.iter().flat_map(|b| [b.min, b.max]).chain(values.iter().copied());
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    // A limit far away would press all dots into one.
    let near = |limit: &f64| (low - 4.0 * (high - low)..=high + 4.0 * (high - low)).contains(limit);
    let limit = limit.filter(near);
    let (low, high) = limit.map_or((low, high), |limit| (low.min(limit), high.max(limit)));
    let x = |value: f64| {
        if high > low { MARGIN + (value - low) / (high - low) * (WIDTH - 2.0 * MARGIN) } else { WIDTH / 2.0 }
    };
    let color = match line.decision {
        Decision::Fail => "--bad",
        Decision::Inconclusive | Decision::Accepted { .. } => "--unsure",
        Decision::Improved => "--good",
        _ => "--a",
    };
    let mut svg = format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{} repetitions\"><line x1=\"0\" x2=\"{WIDTH}\" y1=\"{MIDDLE}\" y2=\"{MIDDLE}\" stroke=\"var(--line)\"/>",
        values.len()
    );
    if let Some(baseline) = line.baseline {
        let (from, to, median) = (x(baseline.min), x(baseline.max), x(baseline.median));
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"4\" width=\"{:.1}\" height=\"{}\" rx=\"3\" fill=\"var(--band)\"/><line x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"4\" y2=\"{}\" stroke=\"var(--dim)\" stroke-width=\"1.5\"/>",
            from - 2.0,
            to - from + 4.0,
            HEIGHT - 8.0,
            HEIGHT - 4.0
        );
    }
    if let Some(limit) = limit {
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{HEIGHT}\" stroke=\"var(--bad)\" stroke-dasharray=\"3 2\"/>",
            x(limit)
        );
    }
    let _ = write!(svg, "<g fill=\"var({color})\" fill-opacity=\".65\">");
    for value in values.iter().take(MOST_DOTS) {
        let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"{MIDDLE}\" r=\"3.5\"/>", x(*value));
    }
    svg.push_str("</g></svg>");
    svg
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

/// Bars of the stall histogram in each decade of time.
const BARS_PER_DECADE: f64 = 8.0;

/// How often calls took how long in the measured phase, all repetitions together, on logarithmic axes: clean calls and
/// those that the scheduler interrupted. `None` where no call was timed.
pub(super) fn stall_histogram(trials: &CellTrials<'_>) -> Option<String> {
    const WIDTH: f64 = 960.0;
    const HEIGHT: f64 = 210.0;
    const LEFT: f64 = 64.0;
    const TOP: f64 = 26.0;
    const BOTTOM: f64 = 22.0;
    let ticks_per_ns = trials.ticks_per_second() / 1e9;
    let stalls = trials.stalls();
    let clean = histogram::total(stalls.iter().map(|s| s.clean.as_slice()));
    let interrupted = histogram::total(stalls.iter().map(|s| s.interrupted.as_slice()));
    let both = histogram::total([clean.as_slice(), interrupted.as_slice()]);
    if ticks_per_ns <= 0.0 || both.is_empty() {
        return None;
    }
    let log_ns = |bucket: u32| {
        let (low, high) = bucket_bounds(bucket as usize);
        (f64::midpoint(low as f64, high as f64) / ticks_per_ns).max(1.0).log10()
    };
    let first = both.iter().map(|b| log_ns(b.0)).fold(f64::INFINITY, f64::min).floor();
    let last = (both.iter().map(|b| log_ns(b.0)).fold(0.0, f64::max) + 1e-9).ceil().max(first + 1.0);
    let bars = ((last - first) * BARS_PER_DECADE).round() as usize;
    let binned = |buckets: &[(u32, u64)]| {
        let mut counts = vec![0u64; bars];
        for &(bucket, count) in buckets {
            let bar = ((log_ns(bucket) - first) * BARS_PER_DECADE) as usize;
            counts[bar.min(bars - 1)] += count;
        }
        counts
    };
    let (clean_bars, interrupted_bars) = (binned(&clean), binned(&interrupted));
    let most = clean_bars.iter().chain(&interrupted_bars).copied().max().unwrap_or(1);
    // A count of one is seen: the axis begins below it.
    let top = (most as f64).log10().ceil().max(1.0);
    let y = |count: f64| TOP + (1.0 - (count.log10() + 0.3) / (top + 0.3)) * (HEIGHT - TOP - BOTTOM);
    let x = |log: f64| LEFT + (log - first) / (last - first) * (WIDTH - LEFT - 10.0);
    let mut out = format!(
        "<figure><figcaption>Time of each call to the allocator while measuring, all repetitions <span class=\"dim small key\"><i style=\"background:var(--a)\"></i>{} undisturbed<i style=\"background:var(--b)\"></i>{} interrupted by the scheduler</span></figcaption><svg width=\"100%\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"histogram of stalls\">",
        human::counted(histogram::count(&clean), "call"),
        human::count(histogram::count(&interrupted))
    );
    for power in 0..=top as u32 {
        let at = y(10f64.powf(f64::from(power)));
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"var(--line)\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 10.0,
            LEFT - 6.0,
            at + 4.0,
            power_of_ten(power)
        );
    }
    for decade in first as i32..=last as i32 {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(f64::from(decade)).clamp(LEFT, WIDTH - 24.0),
            HEIGHT - 6.0,
            human::limit(Unit::Nanos, 10f64.powi(decade))
        );
    }
    let step = x(first + 1.0 / BARS_PER_DECADE) - x(first);
    // The narrower bars stand before the wider ones, and neither hides the other.
    for (counts, color, width) in [(&clean_bars, "--a", step - 1.0), (&interrupted_bars, "--b", step * 0.4)] {
        let _ = write!(out, "<g fill=\"var({color})\">");
        for (bar, &count) in counts.iter().enumerate().filter(|c| *c.1 > 0) {
            let (left, at) = (x(first + bar as f64 / BARS_PER_DECADE) + (step - width) / 2.0, y(count as f64));
            let _ = write!(
                out,
                "<rect x=\"{left:.1}\" y=\"{at:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                HEIGHT - BOTTOM - at
            );
        }
        out.push_str("</g>");
    }
    push_quantiles(&mut out, &clean, |ticks| x((ticks / ticks_per_ns).max(1.0).log10()), TOP, HEIGHT - BOTTOM);
    out.push_str("</svg></figure>\n");
    Some(out)
}

/// `1`, `10`, `100`, `1k`, … as short as an axis wants it.
fn power_of_ten(power: u32) -> String {
    let prefix = ["", "k", "M", "G", "T"].get(power as usize / 3).copied().unwrap_or("P");
    format!("1{}{prefix}", "0".repeat(power as usize % 3))
}

/// Marks of the clean calls' quantiles; those that stand too close share a label.
fn push_quantiles(out: &mut String, clean: &[(u32, u64)], x: impl Fn(f64) -> f64, top: f64, bottom: f64) {
    /// Width of a label of two names.
    const LABEL: f64 = 70.0;
    let marks = [("P50", 0.5), ("P95", 0.95), ("P99", 0.99), ("P99.9", 0.999), ("max", 1.0)];
    let mut labels: Vec<(f64, &str, Option<&str>)> = Vec::new();
    for (name, q) in marks {
        let Some(at) = histogram::quantile(clean, q).map(&x) else { continue };
        let _ = write!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"var(--ink)\" stroke-opacity=\".6\" stroke-dasharray=\"2 2\"/>",
            top - 8.0
        );
        match labels.last_mut() {
            Some((last, _, to)) if at - *last < LABEL => *to = Some(name),
            _ => labels.push((at, name, None)),
        }
    }
    for (at, name, to) in labels {
        let text = to.map_or(name.to_owned(), |to| format!("{name} to {to}"));
        let _ = write!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>", top - 12.0);
    }
}

/// Resident memory of the baseline and now as two bars, cut into their parts.
pub(super) fn memory_bars(memory: &MemoryLine) -> String {
    const WIDTH: f64 = 960.0;
    const LEFT: f64 = 70.0;
    const BAR: f64 = 20.0;
    const STEP: f64 = 28.0;
    let sides: [(&str, Vec<f64>); 2] = [
        ("baseline", memory.parts.iter().map(|p| p.baseline_bytes.max(0.0)).collect()),
        ("now", memory.parts.iter().map(|p| p.now_bytes.max(0.0)).collect()),
    ];
    let most = sides.iter().map(|s| s.1.iter().sum::<f64>()).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let mut svg = format!(
        "<svg width=\"100%\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"parts of resident memory\">",
        2.0 * STEP
    );
    for (row, (name, parts)) in sides.iter().enumerate() {
        let top = row as f64 * STEP;
        let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, top + 14.0);
        let mut left = LEFT;
        for (part, bytes) in parts.iter().enumerate() {
            let width = bytes / most * (WIDTH - LEFT);
            let _ = write!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"var(--p{})\"><title>{}: {}</title></rect>",
                part % 5,
                memory.parts[part].part.name(),
                human::value(Unit::Bytes, *bytes)
            );
            left += width;
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::MetricId;
    use crate::render::tests::with_evidence;
    use crate::report::testing;

    fn line() -> Line {
        with_evidence().1.lines.into_iter().find(|l| l.interval.is_some()).unwrap()
    }

    #[test]
    fn every_repetition_has_a_dot_within_the_plot() {
        let svg = repetitions(&line(), &[40e6, 52e6, 54e6]);
        let at: Vec<f64> =
            svg.split("cx=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        assert_eq!(at.len(), 3);
        assert!(at.iter().all(|x| (0.0..=190.0).contains(x)) && at.is_sorted(), "{at:?}");
        assert!(svg.contains("stroke-dasharray"), "the limit is near");
        assert_eq!(repetitions(&line(), &[]), "");
    }

    #[test]
    fn equal_repetitions_are_no_division_by_zero() {
        let mut line = line();
        line.baseline = None;
        line.limits = crate::metric::Limits::default();
        let svg = repetitions(&line, &[7.0, 7.0]);
        assert!(svg.contains("cx=\"95.0\"") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn the_nearer_of_two_limits_is_shown() {
        let mut line = line();
        let median = line.baseline.unwrap().median;
        line.limits = crate::metric::Limits { soft: Some(0.5), hard: Some(1.0) };
        assert_eq!(limit(&line), Some(1.0));
        line.metric = MetricId::Throughput;
        assert_eq!(limit(&line), Some(median * 0.5));
    }

    #[test]
    fn a_histogram_without_timed_calls_is_none() {
        let mut report = testing::report(1, 1);
        let svg = stall_histogram(&report.cells()[0]).unwrap();
        assert!(svg.contains(">P99 to P99.9<") && !svg.contains("NaN"), "{svg}");
        report.trials[0].ticks_per_second = 0.0;
        assert_eq!(stall_histogram(&report.cells()[0]), None);
    }

    #[test]
    fn an_axis_is_labelled_in_short() {
        assert_eq!([0, 2, 3, 7].map(power_of_ten), ["1", "100", "1k", "10M"]);
    }

    #[test]
    fn negative_parts_take_no_room() {
        let mut memory = with_evidence().1.memory.remove(0);
        memory.parts[1].now_bytes = -5e6;
        assert!(!memory_bars(&memory).contains("width=\"-"));
    }
}
