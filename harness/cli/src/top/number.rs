//! Numbers in few columns.

use heapgate_core::metric::Unit;
use heapgate_core::render::human;

/// `41.2M`, `1.50G`.
pub fn bytes(bytes: f64) -> String {
    human::value(Unit::Bytes, bytes).replace([' ', 'i', 'B', ','], "")
}

/// `85ns`, `1.20µs`.
pub fn nanos(ns: f64) -> String {
    human::value(Unit::Nanos, ns).replace([' ', ','], "")
}

/// `999`, `1.23k`, `45.6M`.
pub fn count(number: f64) -> String {
    const UNITS: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would be rounded up to the next unit belongs to it.
    match UNITS.iter().find(|(factor, _)| number.abs() >= factor * 0.9995) {
        None => format!("{number:.0}"),
        Some((factor, unit)) => {
            let scaled = number / factor;
            let decimals = match scaled.abs() {
                size if size >= 99.95 => 0,
                size if size >= 9.995 => 1,
                _ => 2,
            };
            format!("{scaled:.decimals$}{unit}")
        }
    }
}

/// `text` in `width` columns: cut, or with spaces after it (before it, if `right`).
pub fn fit(text: &str, width: usize, right: bool) -> String {
    let taken = ratatui::text::Span::raw(text).width();
    if taken > width {
        let mut cut = String::new();
        // One column is for the mark.
        for c in text.chars() {
            if ratatui::text::Span::raw(format!("{cut}{c}")).width() + 1 > width {
                break;
            }
            cut.push(c);
        }
        return fit(&format!("{cut}{}", if width > 0 { "…" } else { "" }), width, right);
    }
    let space = " ".repeat(width - taken);
    if right { space + text } else { text.to_owned() + &space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_six_columns_at_most() {
        for (number, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1_234.0, "1.23k"),
            (99_960.0, "100k"),
            (999_499.0, "999k"),
            (999_600.0, "1.00M"),
            (4.56e7, "45.6M"),
            (-1_500.0, "-1.50k"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!((bytes(1023.0), bytes(43_200_000.0), bytes(1.5e9)), ("1023".into(), "41.2M".into(), "1.40G".into()));
        assert_eq!((nanos(85.0), nanos(1_200.0), nanos(2.5e8)), ("85ns".into(), "1.20µs".into(), "250ms".into()));
    }

    #[test]
    fn what_is_too_wide_is_cut_and_marked() {
        assert_eq!((fit("abc", 5, false), fit("abc", 5, true)), ("abc  ".into(), "  abc".into()));
        assert_eq!((fit("abcdef", 4, false), fit("abc", 0, false)), ("abc…".into(), String::new()));
        assert_eq!(fit("日本語", 4, false), "日… ", "wide characters take two");
    }
}
