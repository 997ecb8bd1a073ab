//! One metric over the runs as a page that needs nothing but itself: a plot for each cell.

use std::fmt::Write;

use super::history::{change_text, is_worse, names, when};
use super::human;
use crate::history::{Bin, Series};
use crate::metric::{Better, MetricId, Unit};

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
/// Width of a letter of a label, at most.
const LETTER: f64 = 6.6;

const STYLE: &str = "\
:root{--ink:#1a1f26;--dim:#5c6670;--line:#d8dde3;--paper:#fff;--good:#187a3a;--bad:#b3261e;--unsure:#8a6100;--a:#2463b8;--range:#b9cdea;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--dim:#9aa4ad;--line:#333a42;--paper:#14181c;--good:#5cc47f;--bad:#ff8a80;--unsure:#e0b050;--a:#7fb0f5;--range:#2d4568}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem}h2{font-size:1.05rem;margin:2.2rem 0 .2rem}p{margin:.2rem 0}.dim{color:var(--dim);font-weight:400}
ul{margin:.3rem 0;padding-left:1.2rem}.better{color:var(--good)}.worse{color:var(--bad)}.unsure{color:var(--unsure)}
svg{display:block;width:100%;height:auto;font-variant-numeric:tabular-nums}svg text{fill:var(--dim);font-size:11px}svg .worse{fill:var(--bad)}svg .better{fill:var(--good)}
circle{fill:var(--a)}circle:hover{stroke:var(--ink);stroke-width:2}.hit{fill:transparent}.hit:hover{fill:var(--range);fill-opacity:.5}";

/// The page.
#[must_use]
pub fn render(metric: MetricId, series: &[Series]) -> String {
    let entry = metric.metric();
    let better = match entry.better {
        Better::Lower => "Less is better.",
        Better::Higher => "More is better.",
    };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>heapgate: {metric}</title><style>{STYLE}</style></head><body>\n<h1>{metric}</h1>\n<p>{} {better}</p>\n<p class=\"dim\">Each dot is the median of a run's repetitions, with their range; runs are in the order in which they were appended.</p>\n",
        escaped(entry.help)
    );
    for (of_cell, name) in series.iter().zip(names(series)) {
        push_series(&mut out, of_cell, &name);
    }
    out.push_str("</body></html>\n");
    out
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

    /// Round numbers for the scale.
    fn ticks(&self, unit: Unit) -> Vec<f64> {
        /// About so many lines.
        const LINES: f64 = 4.0;
        // Round in the unit that is shown: bytes are counted in powers of 1,024.
        let base = match unit {
            Unit::Bytes => {
                [1_073_741_824.0, 1_048_576.0, 1_024.0].into_iter().find(|&base| self.high.abs() >= base).unwrap_or(1.0)
            }
            _ => 1.0,
        };
        let rough = (self.high - self.low) / LINES / base;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough).unwrap_or(rough);
        let step = step * base;
        let first = (self.low / step).ceil();
        (0..=2 * LINES as usize).map(|i| (first + i as f64) * step).take_while(|&tick| tick <= self.high).collect()
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
    for tick in frame.ticks(unit) {
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
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>",
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::testing::series;

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
    fn scales_are_round_in_the_unit_that_is_shown() {
        let frame = Frame { low: 40.0 * 1_048_576.0, high: 50.0 * 1_048_576.0, bins: 2 };
        let ticks: Vec<String> = frame.ticks(Unit::Bytes).into_iter().map(|t| human::limit(Unit::Bytes, t)).collect();
        assert_eq!(ticks, ["40 MiB", "42.5 MiB", "45 MiB", "47.5 MiB", "50 MiB"]);
        assert!(!Frame::new(&series(&[0.0]).bins(9)).ticks(Unit::Count).is_empty());
    }
}
