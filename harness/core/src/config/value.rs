//! Numbers with units, as people write them in `heapgate.toml`.

use std::time::Duration;

use heapgate_segment::limit::parse_bytes;

use crate::metric::Unit;

/// A value that doesn't fit its metric: what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

/// Suffixes and what they stand for.
type Suffixes = &'static [(&'static str, f64)];

const NANOS: Suffixes = &[("ns", 1.0), ("µs", 1e3), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
const PER_SECOND: Suffixes = &[("/s", 1.0)];
const SHARE: Suffixes = &[("%", 0.01)];

/// What a hard limit of a unit may look like, for messages.
fn examples(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "a plain number such as 3.2",
        Unit::Bytes => "bytes such as \"500 MiB\", \"1.5 GiB\" or 4096",
        Unit::Nanos => "a time such as \"8 ms\", \"250 µs\" or 900 (ns)",
        Unit::PerSecond => "a rate such as \"120000 /s\" or 120000",
        Unit::Share => "a share such as \"5%\" or 0.05",
    }
}

/// A time: `90s`, `1.5m`, `1h`, or a number of seconds.
///
/// # Errors
/// If it is none, or negative.
pub fn parse_time(text: &str) -> Result<Duration, BadValue> {
    let trimmed = text.trim();
    let (number, scale) = match trimmed.as_bytes().last() {
        Some(b's') => (&trimmed[..trimmed.len() - 1], 1.0),
        Some(b'm') => (&trimmed[..trimmed.len() - 1], 60.0),
        Some(b'h') => (&trimmed[..trimmed.len() - 1], 3600.0),
        _ => (trimmed, 1.0),
    };
    let seconds = positive(number.trim_end()).map(|number| number * scale);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| BadValue(format!("'{text}' is no time; write one such as 90s, 5m or 1h")))
}

/// A soft limit: a percentage, as a fraction. `"15%"` is 0.15.
///
/// # Errors
/// If it isn't a percentage, or a negative one.
pub fn parse_soft(text: &str) -> Result<f64, BadValue> {
    let number = text.trim().strip_suffix('%').and_then(|n| positive(n.trim_end()));
    number.map(|n| n / 100.0).ok_or_else(|| {
        BadValue(format!("'{text}' is no soft limit; write a percentage such as \"15%\", or false for none"))
    })
}

/// A hard limit: a number, with a suffix that suits `unit` or without, in the unit's base.
///
/// # Errors
/// If it isn't a number, is negative, or has the suffix of another unit.
pub fn parse_hard(text: &str, unit: Unit) -> Result<f64, BadValue> {
    let suffixes = match unit {
        Unit::Bytes => return parse_bytes(text).ok_or_else(|| bad_hard(text, unit)),
        Unit::Count => &[],
        Unit::Nanos => NANOS,
        Unit::PerSecond => PER_SECOND,
        Unit::Share => SHARE,
    };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(trimmed.len());
    let (number, suffix) = (trimmed[..split].replace('_', ""), trimmed[split..].trim_start());
    let factor = if suffix.is_empty() { Some(1.0) } else { suffixes.iter().find(|s| s.0 == suffix).map(|s| s.1) };
    let value = positive(&number).zip(factor).map(|(number, factor)| number * factor);
    value.filter(|v| v.is_finite()).ok_or_else(|| bad_hard(text, unit))
}

fn bad_hard(text: &str, unit: Unit) -> BadValue {
    BadValue(format!("'{text}' is no hard limit of this metric; write {}, or false for none", examples(unit)))
}

/// A plain number that is neither negative nor infinite.
fn positive(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse::<f64>().ok()).flatten().filter(|v| v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("90s"), parse_time("1.5m"));
        assert_eq!(parse_time("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "m", "-1s", "5 minutes", "1e30h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn soft_limits_are_percentages() {
        assert_eq!(parse_soft("15%"), Ok(0.15));
        assert_eq!(parse_soft(" 0.5 % "), Ok(0.005));
        assert_eq!(parse_soft("0%"), Ok(0.0));
        for bad in ["15", "-1%", "%", "nan%", "inf%", "1e3%", "fifteen%", ""] {
            assert!(parse_soft(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hard_limits_take_the_suffixes_of_their_unit_and_no_other() {
        for (text, unit, value) in [
            ("3.2", Unit::Count, 3.2),
            ("1_000", Unit::Count, 1000.0),
            ("1.5 GiB", Unit::Bytes, 1_610_612_736.0),
            ("500MiB", Unit::Bytes, 524_288_000.0),
            ("4096", Unit::Bytes, 4096.0),
            ("2 MB", Unit::Bytes, 2e6),
            ("8 ms", Unit::Nanos, 8e6),
            ("250 µs", Unit::Nanos, 250e3),
            ("250us", Unit::Nanos, 250e3),
            ("120000 /s", Unit::PerSecond, 120_000.0),
            ("5%", Unit::Share, 0.05),
            ("0.05", Unit::Share, 0.05),
        ] {
            assert_eq!(parse_hard(text, unit), Ok(value), "{text}");
        }
        for (text, unit) in [
            ("8 ms", Unit::Bytes),
            ("500 MiB", Unit::Nanos),
            ("5%", Unit::Count),
            ("3 /s", Unit::Count),
            ("3 mib", Unit::Bytes),
            ("-3", Unit::Count),
            ("", Unit::Count),
            ("MiB", Unit::Bytes),
            ("1.2.3", Unit::Count),
        ] {
            assert!(parse_hard(text, unit).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_would_be_right() {
        let error = parse_hard("8 ms", Unit::Bytes).unwrap_err().to_string();
        assert!(error.contains("8 ms") && error.contains("500 MiB"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_possible_number_or_an_error(text in ".{0,12}") {
            for unit in [Unit::Count, Unit::Bytes, Unit::Nanos, Unit::PerSecond, Unit::Share] {
                if let Ok(value) = parse_hard(&text, unit) {
                    prop_assert!(value.is_finite() && value >= 0.0);
                }
            }
            if let Ok(value) = parse_soft(&text) {
                prop_assert!(value.is_finite() && value >= 0.0);
            }
        }
    }
}
