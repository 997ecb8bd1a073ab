//! One metric over the runs as a page that needs nothing but itself: a plot for each cell.

use std::fmt::Write;

use super::history::{change_text, is_worse, names, when};
use super::human;
use super::page::{
    shell::{self, escaped},
    ticks,
};
use crate::history::{Bin, Series};
use crate::metric::{Better, MetricId};

/// Points that a plot shows; more are put together. About one for every two pixels of a wide screen.
const MOST_POINTS: usize = 500;
/// From here on points are too near each other for dots of their own.
const MOST_DOTS: usize = 150;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 230.0;
/// Room for the scale, and for the labels of changes and dates.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 24.0;
/// About so many lines of the scale.
const LINES: usize = 4;
/// Width of a letter of a label, at most.
const LETTER: f64 = 6.6;

/// The page.
#[must_use]
pub fn render(metric: MetricId, series: &[Series]) -> String {
    let entry = metric.metric();
    let better = match entry.better {
        Better::Lower => "Less is better.",
        Better::Higher => "More is better.",
    };
    let mut out = shell::start(&format!("heapgate: {metric}"), false);
    let _ = writeln!(
        out,
        "<h1>{metric}</h1>\n<p>{} {better}</p>\n<p class=\"dim\">Each dot is the median of a run's repetitions, with their range; runs are in the order in which they were appended.</p>",
        escaped(entry.help)
    );
    for (of_cell, name) in series.iter().zip(names(series)) {
        push_series(&mut out, of_cell, &name);
    }
    out + &shell::end(false)
}

fn push_series(out: &mut String, series: &Series, name: &str) {
    let _ = writeln!(
        out,
        "<h2>{} <span class=\"dim\">{}, {}, on {}</span></h2>",
        escaped(name),
        escaped(&series.level),
        human::counted(series.points.len() as u64, "run"),
        escaped(&series.class)
    );
    push_plot(out, series);
    if !series.changes.is_empty() {
        out.push_str("<ul>");
        for change in &series.changes {
            let _ = write!(
                out,
                "<li class=\"{}\">{}</li>",
                if is_worse(series.metric, change) { "worse" } else { "better" },
                escaped(&change_text(series, change))
            );
        }
        out.push_str("</ul>\n");
    }
    for index in series.clock_jumps() {
        let (before, after) = (&series.points[index - 1], &series.points[index]);
        let _ = writeln!(
            out,
            "<p class=\"unsure\">The clock goes back from {} (run {}) to {} (run {}).</p>",
            human::date(before.run.unix_s),
            before.run.sequence,
            human::date(after.run.unix_s),
            after.run.sequence
        );
    }
}

/// From the figures to the plot's coordinates.
struct Frame {
    low: f64,
    high: f64,
    bins: usize,
}

impl Frame {
    fn new(bins: &[Bin]) -> Self {
        let low = bins.iter().map(|b| b.min).fold(f64::INFINITY, f64::min);
        let high = bins.iter().map(|b| b.max).fold(f64::NEG_INFINITY, f64::max);
        // What never changes is a line in the middle.
        let margin = if high > low { (high - low) * 0.05 } else { high.abs().max(1.0) * 0.05 };
        Self { low: low - margin, high: high + margin, bins: bins.len() }
    }

    fn x(&self, index: usize) -> f64 {
        let share = if self.bins > 1 { index as f64 / (self.bins - 1) as f64 } else { 0.5 };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
    }
}

fn push_plot(out: &mut String, series: &Series) {
    let unit = series.metric.metric().unit;
    let bins = series.bins(MOST_POINTS);
    let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return };
    let frame = Frame::new(&bins);
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">",
        series.metric,
        human::counted(series.points.len() as u64, "run")
    );
    for tick in ticks(frame.low, frame.high, unit, LINES) {
        let y = frame.y(tick);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"var(--line)\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            human::limit(unit, tick)
        );
    }
    push_ranges(out, &bins, &frame);
    push_changes(out, series, &bins, &frame);
    let line: Vec<String> =
        bins.iter().enumerate().map(|(i, bin)| format!("{:.1},{:.1}", frame.x(i), frame.y(bin.median))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--a)\" stroke-width=\"1.2\" stroke-opacity=\".6\"/>",
        line.join(" ")
    );
    push_dots(out, series, &bins, &frame);
    let bottom = HEIGHT - 6.0;
    if series.points.len() == 1 {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{bottom}\" text-anchor=\"middle\">{}</text>",
            frame.x(0),
            escaped(&when(first))
        );
    } else {
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{bottom}\">{}</text><text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">{}</text>",
            escaped(&when(first)),
            WIDTH - RIGHT,
            escaped(&when(last))
        );
    }
    out.push_str("</svg>\n");
}

/// From the least to the greatest value of each point: bars, or a band where they would touch.
fn push_ranges(out: &mut String, bins: &[Bin], frame: &Frame) {
    // A range of nothing would not be drawn at all.
    let range = |bin: &Bin| (frame.y(bin.max), frame.y(bin.min).max(frame.y(bin.max) + 0.5));
    let each = bins.iter().enumerate();
    if bins.len() > MOST_DOTS {
        let top = each.clone().map(|(i, bin)| format!("{:.1},{:.1}", frame.x(i), range(bin).0));
        let bottom = each.rev().map(|(i, bin)| format!("{:.1},{:.1}", frame.x(i), range(bin).1));
        let corners: Vec<String> = top.chain(bottom).collect();
        let _ = writeln!(out, "<polygon points=\"{}\" fill=\"var(--range)\" fill-opacity=\".6\"/>", corners.join(" "));
    } else {
        let bar = |(i, bin): (usize, &Bin)| format!("M{:.1} {:.1}V{:.1}", frame.x(i), range(bin).0, range(bin).1);
        let bars: String = each.map(bar).collect();
        let _ = writeln!(out, "<path d=\"{bars}\" stroke=\"var(--range)\" stroke-width=\"3\"/>");
    }
}

/// A dashed line before the first point of each new level, with its commit. Labels that would touch go to two rows, and
/// what has no room in either is in the list below the plot.
fn push_changes(out: &mut String, series: &Series, bins: &[Bin], frame: &Frame) {
    let mut rows = [f64::NEG_INFINITY; 2];
    for change in &series.changes {
        let Some(bin) = bins.iter().position(|bin| (bin.first..=bin.last).contains(&change.index)) else { continue };
        let x = if bin > 0 { f64::midpoint(frame.x(bin - 1), frame.x(bin)) } else { frame.x(bin) };
        let (class, color) = if is_worse(series.metric, change) { ("worse", "--bad") } else { ("better", "--good") };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"var({color})\" stroke-dasharray=\"4 3\"><title>{}</title></line>",
            HEIGHT - BOTTOM,
            escaped(&change_text(series, change))
        );
        let size = change.fraction().map_or(String::new(), |fraction| format!(" {}", human::change(fraction)));
        let commit = series.points.get(change.index).map_or("", |p| p.run.commit.as_str());
        let label: String = format!("{}{size}", commit.chars().take(10).collect::<String>()).trim().to_owned();
        let length = label.chars().count() as f64 * LETTER;
        // To the left of the line where the right edge is near.
        let (start, anchor) = if x + length > WIDTH - RIGHT { (x - length, "end") } else { (x, "start") };
        if let Some((row, end)) = rows.iter_mut().enumerate().find(|(_, end)| **end + LETTER < start) {
            *end = start + length;
            let _ = writeln!(
                out,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                TOP - 6.0 - 12.0 * row as f64,
                escaped(&label)
            );
        }
    }
}

/// The points, with what they are of for who points at them.
fn push_dots(out: &mut String, series: &Series, bins: &[Bin], frame: &Frame) {
    let unit = series.metric.metric().unit;
    let half = if bins.len() > 1 { (frame.x(1) - frame.x(0)) / 2.0 } else { 10.0 };
    for (index, bin) in bins.iter().enumerate() {
        let (first, last) = (&series.points[bin.first], &series.points[bin.last]);
        let (low, high) = human::pair(unit, bin.min, bin.max);
        let whose = if bin.first == bin.last {
            format!("run {}, {}, {}", first.run.sequence, when(first), human::counted(first.reps.into(), "repetition"))
        } else {
            format!("runs {} to {}, {} to {}", first.run.sequence, last.run.sequence, when(first), when(last))
        };
        let title = format!("{whose}: {} ({low} to {high})", human::value(unit, bin.median));
        let (x, y) = (frame.x(index), frame.y(bin.median));
        if bins.len() <= MOST_DOTS {
            let _ = writeln!(
                out,
                "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>",
                escaped(&title)
            );
        } else {
            let _ = writeln!(
                out,
                "<rect class=\"hit\" x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{}</title></rect>",
                x - half,
                2.0 * half,
                HEIGHT - TOP - BOTTOM,
                escaped(&title)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::testing::series;
    use crate::metric::Unit;

    #[test]
    fn a_page_has_a_plot_a_cell_with_commits_to_point_at() {
        let mut stepped = series(&[43e6, 43.1e6, 43e6, 50e6, 50.1e6]);
        stepped.mark(&[3]);
        insta::assert_snapshot!(render(MetricId::PeakRss, &[stepped]));
    }

    #[test]
    fn text_from_outside_stays_text() {
        let mut hostile = series(&[43e6, 50e6]);
        for point in &mut hostile.points {
            point.run.commit = "<b>\"&".into();
        }
        hostile.cell.variant = "<script>".into();
        hostile.class = "<i>".into();
        hostile.mark(&[1]);
        let page = render(MetricId::PeakRss, &[hostile]);
        for bad in ["<b>", "<script>", "<i>"] {
            assert!(!page.contains(bad), "{bad}");
        }
    }

    #[test]
    fn many_runs_make_no_large_page() {
        let values: Vec<f64> = (0..100_000).map(|i| 43e6 + f64::from(i % 100)).collect();
        assert!(render(MetricId::PeakRss, &[series(&values)]).len() < 200_000);
    }

    #[test]
    fn a_series_that_never_changes_has_a_scale() {
        let frame = Frame::new(&series(&[0.0]).bins(9));
        assert!(!ticks(frame.low, frame.high, Unit::Count, LINES).is_empty());
    }
}
