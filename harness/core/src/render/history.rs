//! What `heapgate history` prints: one metric over the runs, a small plot for each cell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use super::human::{counted, date};
use super::label::labels;
use super::table::clean;
use super::{Options, hanging, human};
use crate::history::{Change, Series, SeriesPoint};
use crate::metric::MetricId;

/// Rows of a plot.
const ROWS: usize = 5;
/// Dots of a braille character.
const DOTS: (usize, usize) = (2, 4);
/// Columns before the plot: the scale.
const SCALE: usize = 13;
/// A plot is no wider than this, so that its few runs are seen as one.
const MOST_COLUMNS: usize = 100;
/// Dots from one run to the next where there is room.
const STEP: usize = 4;
/// Characters of a commit: git's own short form has at least so many.
const COMMIT: usize = 10;

/// `series` of one metric as text.
#[must_use]
pub fn render(metric: MetricId, series: &[Series], options: Options) -> String {
    let style = options.style;
    let mut out = hanging(&format!("{metric}  "), metric.metric().help, options.width);
    out = out.replacen(metric.metric().name, &style.bold(metric.metric().name), 1);
    let classes: BTreeSet<&str> = series.iter().map(|s| s.class.as_str()).collect();
    if let (Some(class), 1) = (classes.first(), classes.len()) {
        let _ = writeln!(out, "{}", style.dim(&clean(&format!("on {class}"))));
    }
    let names = names(series);
    for (of_cell, name) in series.iter().zip(&names) {
        let mut about = format!("{}, {}", of_cell.level, counted(of_cell.points.len() as u64, "run"));
        if classes.len() > 1 {
            about = format!("{about} on {}", of_cell.class);
        }
        let first = format!("{}  ", style.bold(name));
        let _ = writeln!(out, "\n{first}{}", style.dim(&clean(&about)));
        push_plot(&mut out, of_cell, options);
        push_figures(&mut out, of_cell, options);
    }
    out
}

/// The series as JSON, for programs.
///
/// # Errors
/// None is known: all parts have a JSON form.
pub fn json(metric: MetricId, series: &[Series]) -> Result<String, serde_json::Error> {
    /// Raised by every change that an older reader would misread.
    const SCHEMA_VERSION: u32 = 1;
    #[derive(Serialize)]
    struct Document<'a> {
        schema_version: u32,
        metric: &'a str,
        series: &'a [Series],
    }
    serde_json::to_string_pretty(&Document { schema_version: SCHEMA_VERSION, metric: metric.metric().name, series })
}

/// The name of each series' cell.
pub(super) fn names(series: &[Series]) -> Vec<String> {
    let labels: BTreeMap<_, _> = labels(series.iter().map(|s| &s.cell));
    series.iter().map(|s| labels.get(&s.cell).cloned().unwrap_or_default()).collect()
}

/// Braille patterns: Unicode gives each of the eight dots a bit, the lowest two last.
fn dot(x: usize, y: usize) -> u32 {
    const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    BITS[y % DOTS.1][x % DOTS.0]
}

fn push_plot(out: &mut String, series: &Series, options: Options) {
    let unit = series.metric.metric().unit;
    let columns = options.width.saturating_sub(SCALE + 1).clamp(8, MOST_COLUMNS);
    let bins = series.bins(columns * DOTS.0);
    let (low, high) = bins
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), bin| (low.min(bin.median), high.max(bin.median)));
    let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return };
    let step = if bins.len() > 1 { ((columns * DOTS.0 - 1) / (bins.len() - 1)).clamp(1, STEP) } else { 1 };
    // What never changes is a line in the middle of one row.
    let rows = if high > low { ROWS } else { 1 };
    let height = rows * DOTS.1;
    let y = |value: f64| {
        let share = if high > low { (high - value) / (high - low) } else { 0.5 };
        (share * (height - 1) as f64).round() as usize
    };
    let mut grid = vec![vec![0u32; columns]; rows];
    let mut set = |x: usize, y: usize| grid[y / DOTS.1][x / DOTS.0] |= dot(x, y);
    for (index, bin) in bins.iter().enumerate() {
        set(index * step, y(bin.median));
        if let Some(next) = bins.get(index + 1) {
            let (from, to) = (y(bin.median) as f64, y(next.median) as f64);
            // As many dots as the line is steep, so that it has no gaps.
            let dots = ((to - from).abs() as usize).max(step);
            for i in 1..dots {
                let share = i as f64 / dots as f64;
                let x = index * step + (share * step as f64).round() as usize;
                set(x, (from + share * (to - from)).round() as usize);
            }
        }
    }
    let (top, bottom) = human::pair(unit, high, low);
    for (row, cells) in grid.iter().enumerate() {
        let label = match row {
            0 => &top,
            r if r == rows - 1 => &bottom,
            _ => "",
        };
        let line: String = cells.iter().map(|&bits| char::from_u32(0x2800 + bits).unwrap_or(' ')).collect();
        let line = format!("{label:>SCALE$} {line}");
        let _ = writeln!(out, "{}", line.trim_end_matches(['\u{2800}', ' ']));
    }
    let mut marks = vec![' '; columns];
    for change in &series.changes {
        if let Some(bin) = bins.iter().position(|bin| (bin.first..=bin.last).contains(&change.index)) {
            marks[(bin * step / DOTS.0).min(columns - 1)] = '▲';
        }
    }
    let marks: String = marks.iter().collect();
    if !series.changes.is_empty() {
        let _ = writeln!(out, "{:SCALE$} {}", "", options.style.unsure(marks.trim_end()));
    }
    let (from, to) = (when(first), when(last));
    let used = ((bins.len() - 1) * step / DOTS.0 + 1).max(from.chars().count() + to.chars().count() + 2).min(columns);
    let axis = if series.points.len() == 1 {
        from
    } else {
        let gap = used.saturating_sub(from.chars().count() + to.chars().count()).max(2);
        format!("{from}{:gap$}{to}", "")
    };
    let _ = writeln!(out, "{:SCALE$} {}", "", options.style.dim(&axis));
}

fn push_figures(out: &mut String, series: &Series, options: Options) {
    let unit = series.metric.metric().unit;
    let style = options.style;
    let Some(last) = series.points.last() else { return };
    let medians = series.medians();
    let value = |v: Option<f64>| v.map_or("-".to_owned(), |v| human::value(unit, v));
    let figures = format!(
        "least {}, median {}, most {}, last {}",
        value(medians.iter().copied().reduce(f64::min)),
        value(crate::stats::sample::median(&medians)),
        value(medians.iter().copied().reduce(f64::max)),
        value(Some(last.median)),
    );
    out.push_str(&hanging("  ", &figures, options.width));
    for change in &series.changes {
        let worse = is_worse(series.metric, change);
        let text = hanging("  ▲ ", &change_text(series, change), options.width);
        let text = text.trim_end();
        let _ = writeln!(out, "{}", if worse { style.bad(text) } else { style.good(text) });
    }
    let jumps = series.clock_jumps();
    if let Some(&index) = jumps.first() {
        let (before, after) = (&series.points[index - 1], &series.points[index]);
        let more = if jumps.len() > 1 { format!(", and {} more times", jumps.len() - 1) } else { String::new() };
        let text = format!(
            "the clock goes back from {} (run {}) to {} (run {}){more}; runs are in the order in which they were appended",
            date(before.run.unix_s),
            before.run.sequence,
            date(after.run.unix_s),
            after.run.sequence
        );
        let _ = writeln!(out, "{}", style.unsure(hanging("  ", &text, options.width).trim_end()));
    }
}

/// Whether the new level is worse.
pub(super) fn is_worse(metric: MetricId, change: &Change) -> bool {
    match metric.metric().better {
        crate::metric::Better::Lower => change.after > change.before,
        crate::metric::Better::Higher => change.after < change.before,
    }
}

/// Where, when and how much.
pub(super) fn change_text(series: &Series, change: &Change) -> String {
    let (before, after) = human::pair(series.metric.metric().unit, change.before, change.after);
    let size = change.fraction().map_or(String::new(), |fraction| format!(", {}", human::change(fraction)));
    let place =
        series.points.get(change.index).map_or(String::new(), |p| format!("run {}, {}", p.run.sequence, when(p)));
    format!("{place}: {before} → {after}{size}")
}

/// `2025-10-09 0123abc`
pub(super) fn when(point: &SeriesPoint) -> String {
    let commit = commit(&point.run.commit);
    format!("{} {commit}", date(point.run.unix_s)).trim_end().to_owned()
}

/// A commit in short, with the `+` of a tree that had changes.
fn commit(commit: &str) -> String {
    let hash: String = clean(commit.trim_end_matches('+')).chars().take(COMMIT).collect();
    if commit.ends_with('+') { hash + "+" } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::testing::series;
    use crate::render::Style;

    /// Noise by a linear congruence, the same every time, around levels of so many runs each.
    pub(crate) fn levels(levels: &[(usize, f64)]) -> Vec<f64> {
        let mut state = 7u64;
        let mut values = Vec::new();
        for &(count, level) in levels {
            for _ in 0..count {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                values.push(level * (1.0 + ((state >> 40) % 1000) as f64 / 100_000.0));
            }
        }
        values
    }

    #[test]
    fn a_step_is_seen_and_marked() {
        let mut stepped = series(&levels(&[(30, 43e6), (20, 50e6)]));
        stepped.mark(&[30]);
        insta::assert_snapshot!(render(MetricId::PeakRss, &[stepped], Options::default()));
    }

    #[test]
    fn few_runs_one_run_and_what_never_changes() {
        let mut other = series(&[44e6]);
        other.cell = crate::report::testing::cell(1);
        let mut third = series(&[44e6, 44e6, 44e6]);
        third.cell = crate::report::testing::cell(2);
        let text = render(MetricId::PeakRss, &[series(&[43e6, 43.5e6, 43.2e6]), other, third], Options::default());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_hundred_thousand_runs_take_no_more_room() {
        let mut many = series(&levels(&[(60_000, 43e6), (40_000, 42e6)]));
        many.mark(&[60_000]);
        let text = render(MetricId::PeakRss, &[many], Options::default());
        assert!(text.lines().count() < 16, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("100,000 runs") && text.contains("run 60001"), "{text}");
    }

    #[test]
    fn a_clock_that_went_back_is_told() {
        let mut jumped = series(&[43e6, 43e6, 43e6]);
        jumped.points[1].run.unix_s = 0;
        let text = render(MetricId::PeakRss, &[jumped], Options::default());
        assert!(text.contains("the clock goes back from 2025-10-09 (run 1) to 1970-01-01 (run 2)"), "{text}");
    }

    #[test]
    fn colours_tell_worse_from_better() {
        let options = Options { style: Style { color: true }, ..Options::default() };
        for (after, code) in [(50e6, "\x1b[1;31m"), (40e6, "\x1b[32m")] {
            let mut stepped = series(&levels(&[(10, 43e6), (10, after)]));
            stepped.mark(&[10]);
            let text = render(MetricId::PeakRss, &[stepped], options);
            assert!(text.contains(&format!("{code}  ▲ run 11")), "{text}");
        }
    }

    #[test]
    fn as_json_a_point_names_its_run() {
        let text = json(MetricId::PeakRss, &[series(&[43e6])]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let point = &value["series"][0]["points"][0];
        assert_eq!(value["metric"], "peak_rss_bytes");
        assert_eq!((&point["sequence"], &point["commit"]), (&1.into(), &"abc0000".into()), "{text}");
    }

    #[test]
    fn commits_keep_their_mark_of_changes() {
        assert_eq!(commit("0123456789abcdef+"), "0123456789+");
        assert_eq!(commit("0123abc"), "0123abc");
        assert_eq!(commit(""), "");
    }
}
