//! The table that a bench prints: at most 80 columns.

use super::cells::Outcome;
use super::human::{self, bytes, count, nanos};

/// A column of the table.
struct Column {
    head: [&'static str; 2],
    width: usize,
    /// The figure it shows, by its place in [`super::figures::FIGURES`].
    figure: usize,
    show: fn(f64) -> String,
}

const fn column(
    above: &'static str,
    below: &'static str,
    width: usize,
    figure: usize,
    show: fn(f64) -> String,
) -> Column {
    Column { head: [above, below], width, figure, show }
}

const COLUMNS: [Column; 9] = [
    column("allocs", "/unit", 9, 0, count),
    column("bytes", "/unit", 9, 1, bytes),
    column("reallocs", "/unit", 9, 2, count),
    column("peak", "objects", 8, 3, count),
    column("peak", "bytes", 9, 4, bytes),
    column("left", "objects", 8, 5, count),
    column("wall", "/unit", 9, 7, nanos),
    column("stall", "P99", 9, 8, nanos),
    column("stall", "max", 9, 9, nanos),
];

/// The table of what was measured.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "nothing to measure: no name fits\n".to_owned();
    }
    let mut text = String::new();
    for line in 0..2 {
        let heads = COLUMNS.map(|column| format!("{:>width$}", column.head[line], width = column.width));
        text.push_str(&format!("{}\n", heads.concat()));
    }
    for outcome in outcomes {
        let trials = outcome.trials.len();
        let times = if trials == 1 { "1 repetition".to_owned() } else { format!("{trials} repetitions") };
        text.push_str(&format!("{}  per {}, {times}\n", outcome.cell, outcome.cell.variant.unit));
        if outcome.failure.is_some() {
            text.push_str("  failed\n");
        }
        if trials == 0 {
            continue;
        }
        let values = COLUMNS.map(|Column { width, figure, show, .. }| {
            let shown = outcome.median(figure).map_or_else(|| "–".to_owned(), show);
            format!("{shown:>width$}")
        });
        text.push_str(&format!("{}\n", values.concat()));
        for (name, value) in outcome.own_medians() {
            let shown = value.map_or_else(|| "–".to_owned(), |value| human::figure(name, value));
            text.push_str(&format!("  {name} {shown}\n"));
        }
        for (name, range) in outcome.disagreements() {
            let range = range.map_or(String::new(), |(low, high)| format!(": {low} to {high}"));
            text.push_str(&format!("  not the same in all repetitions: {name}{range}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::cells::tests::outcome;
    use super::*;

    #[test]
    fn the_table_fits_80_columns_and_says_what_differs() {
        let large = |value: f64| [Some(value); super::super::figures::FIGURES.len()];
        let text = render(&[outcome(&[(large(999_999.0), 1), (large(999_998.0), 1)]), outcome(&[(large(0.0), 1)])]);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains("text/count own  per byte, 2 repetitions"), "{text}");
        assert!(text.contains("not the same in all repetitions: allocations_per_unit: 999998 to 999999"), "{text}");
        assert!(text.contains("1 repetition\n"), "{text}");
    }

    #[test]
    fn nothing_is_not_an_empty_table() {
        assert!(render(&[]).contains("no name fits"));
    }
}
