//! Numbers for people: the one place that formats them.

use crate::metric::{Limits, Unit};

const BYTE_UNITS: [(&str, f64); 5] =
    [("B", 1.0), ("KiB", 1_024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("TiB", 1_099_511_627_776.0)];
const NANO_UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];

/// Significant digits of plain numbers and of numbers with a scaled unit.
const PLAIN_DIGITS: usize = 4;
const SCALED_DIGITS: usize = 3;
/// Two different values get more digits up to here; beyond, their whole base units.
const MOST_SCALED_DIGITS: usize = 5;
const MOST_DIGITS: usize = 15;
/// Changes from here on are shown as factors.
const FACTOR_FROM: f64 = 9.0;

/// `value` in its unit.
///
/// ```
/// use heapgate_core::{metric::Unit, render::human};
/// assert_eq!(human::value(Unit::Bytes, 43_200_000.0), "41.2 MiB");
/// assert_eq!(human::value(Unit::Nanos, 1_200.0), "1.20 µs");
/// assert_eq!(human::value(Unit::Count, 1_234_567.0), "1,234,567");
/// ```
#[must_use]
pub fn value(unit: Unit, value: f64) -> String {
    with_digits(unit, value, 0)
}

/// Two values in their unit, with as many digits as it takes to tell them apart where they differ.
#[must_use]
pub fn pair(unit: Unit, a: f64, b: f64) -> (String, String) {
    let differ = !crate::stats::sample::same(a, b);
    let scaled =
        (0..=MOST_SCALED_DIGITS - SCALED_DIGITS).map(|more| (with_digits(unit, a, more), with_digits(unit, b, more)));
    if let Some(pair) = scaled.clone().find(|(a, b)| !differ || a != b) {
        return pair;
    }
    let base = |v: f64| match unit {
        Unit::Bytes => format!("{} B", plain(v, MOST_DIGITS)),
        Unit::Nanos => format!("{} ns", plain(v, MOST_DIGITS)),
        _ => with_digits(unit, v, MOST_DIGITS - PLAIN_DIGITS),
    };
    (base(a), base(b))
}

/// A limit, which people write with few digits: `8 ms`, `500 MiB`, `1.5 GiB`.
#[must_use]
pub fn limit(unit: Unit, limit: f64) -> String {
    let units: &[(&str, f64)] = match unit {
        Unit::Bytes => &BYTE_UNITS,
        Unit::Nanos => &NANO_UNITS,
        unit => return value(unit, limit),
    };
    let (name, factor) = units.iter().rev().find(|u| limit >= u.1).unwrap_or(&units[0]);
    format!("{} {name}", plain(limit / factor, PLAIN_DIGITS))
}

/// The limits of a metric: `15%`, `8 ms`, `15%, 500 MiB`, or `none`.
#[must_use]
pub fn limits(unit: Unit, limits: Limits) -> String {
    let soft = limits.soft.map(percent);
    let hard = limits.hard.map(|hard| limit(unit, hard));
    match (soft, hard) {
        (None, None) => "none".to_owned(),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(soft), Some(hard)) => format!("{soft}, {hard}"),
    }
}

/// A fraction as a percentage without sign: `15%`, `0.5%`.
#[must_use]
pub fn percent(fraction: f64) -> String {
    format!("{}%", plain(fraction * 100.0, PLAIN_DIGITS))
}

/// A quantile by its percentile: `P50`, `P99.9`, `P99.98`.
#[must_use]
pub fn quantile(q: f64) -> String {
    // One digit of what is left above it, however little that is.
    let digits = (-(1.0 - q).max(1e-6).log10()).ceil() as i32 - 2;
    let text = format!("{:.*}", digits.clamp(0, 4) as usize + usize::from(digits >= 0), q * 100.0);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("P{text}")
}

/// A fraction as a signed change: `+15.0%`, `-3.2%`, `+0.051%`, `0%`; from tenfold on as a factor, `×13.5`.
#[must_use]
pub fn change(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let size = percent.abs();
    let sign = if percent < 0.0 { '-' } else { '+' };
    match size {
        _ if fraction >= FACTOR_FROM => format!("×{}", plain(fraction + 1.0, SCALED_DIGITS)),
        0.0 => "0%".to_owned(),
        _ if size < 0.0001 => format!("{sign}<0.0001%"),
        // Two significant digits below 1, one decimal above.
        _ => {
            let decimals = if size >= 1.0 { 1 } else { (1.0 - size.log10().floor()) as usize };
            format!("{sign}{}%", thousands(&format!("{size:.decimals$}")))
        }
    }
}

/// A whole number with thousands separators.
#[must_use]
pub fn count(number: u64) -> String {
    thousands(&number.to_string())
}

/// The number of a repetition for people, who count from 1; reports count from 0.
#[must_use]
pub fn repetition(rep: u32) -> String {
    (u64::from(rep) + 1).to_string()
}

/// `1 metric`, `2 metrics`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// The date of a time in seconds since 1970, UTC: `2025-10-09`.
#[must_use]
pub fn date(unix_s: u64) -> String {
    // Days to civil date, after Howard Hinnant's "chrono-compatible low-level date algorithms": years begin in March,
    // so that the leap day is a year's last; eras have 400 years of 146,097 days.
    let days = unix_s / 86_400 + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = days / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Date and time of a time in seconds since 1970, UTC: `2025-10-09T08:53:20`.
#[must_use]
pub fn date_time(unix_s: u64) -> String {
    let second = unix_s % 86_400;
    format!("{}T{:02}:{:02}:{:02}", date(unix_s), second / 3600, second / 60 % 60, second % 60)
}

fn with_digits(unit: Unit, value: f64, more: usize) -> String {
    match unit {
        Unit::Count => plain(value, PLAIN_DIGITS + more),
        Unit::PerSecond => format!("{}/s", plain(value, PLAIN_DIGITS + more)),
        Unit::Share => format!("{}%", plain(value * 100.0, SCALED_DIGITS + more)),
        Unit::Bytes => scaled(value, &BYTE_UNITS, SCALED_DIGITS + more),
        Unit::Nanos => scaled(value, &NANO_UNITS, SCALED_DIGITS + more),
    }
}

/// `value` in the largest of `units` of which it is at least one.
fn scaled(value: f64, units: &[(&str, f64)], digits: usize) -> String {
    // What would be rounded up to the next unit belongs to it.
    let nearly = 1.0 - 0.5 * 10f64.powi(-(digits as i32));
    let (name, factor) = units.iter().rev().find(|u| value.abs() >= u.1 * nearly).unwrap_or(&units[0]);
    let scaled = value / factor;
    let number = if *factor == 1.0 {
        plain(scaled, digits)
    } else {
        thousands(&format!("{scaled:.*}", decimals(scaled.abs().max(1.0), digits)))
    };
    format!("{number} {name}")
}

/// A number with so many significant digits and no zeros at its end; whole numbers are whole.
fn plain(value: f64, digits: usize) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return thousands(&format!("{value:.0}"));
    }
    let text = format!("{value:.*}", decimals(value, digits));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    thousands(if text == "-0" { "0" } else { text })
}

/// Digits after the point for so many significant ones.
fn decimals(value: f64, digits: usize) -> usize {
    if value == 0.0 {
        return 0;
    }
    let before_point = value.abs().log10().floor() as i64 + 1;
    (digits as i64 - before_point).clamp(0, MOST_DIGITS as i64) as usize
}

/// Puts separators into the digits before the point.
fn thousands(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.find('.').map_or((rest, ""), |point| rest.split_at(point));
    let mut grouped = String::with_capacity(number.len() + whole.len() / 3);
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_have_units() {
        for (unit, number, text) in [
            (Unit::Bytes, 0.0, "0 B"),
            (Unit::Bytes, 104.32, "104 B"),
            (Unit::Bytes, 1023.0, "1,023 B"),
            (Unit::Bytes, 1536.0, "1.50 KiB"),
            (Unit::Bytes, 43_200_000.0, "41.2 MiB"),
            (Unit::Bytes, 1_073_741_823.0, "1.00 GiB"),
            (Unit::Bytes, -96.0, "-96 B"),
            (Unit::Nanos, 85.0, "85 ns"),
            (Unit::Nanos, 1_200.0, "1.20 µs"),
            (Unit::Nanos, 999_999.0, "1.00 ms"),
            (Unit::Nanos, 8e6, "8.00 ms"),
            (Unit::Nanos, 90e9, "90.0 s"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, 20.4, "20.4"),
            (Unit::Count, 0.003_12, "0.00312"),
            (Unit::Count, 9.999_96, "10"),
            (Unit::PerSecond, 119_998.7, "119,999/s"),
            (Unit::Share, 0.0521, "5.21%"),
        ] {
            assert_eq!(value(unit, number), text);
        }
    }

    #[test]
    fn different_values_look_different() {
        assert_eq!(pair(Unit::Bytes, 3_400_000.0, 3_400_001.0), ("3,400,000 B".into(), "3,400,001 B".into()));
        assert_eq!(pair(Unit::Bytes, 43_200_000.0, 43_220_000.0), ("41.20 MiB".into(), "41.22 MiB".into()));
        assert_eq!(pair(Unit::Count, 20.0001, 20.0002), ("20.0001".into(), "20.0002".into()));
        assert_eq!(pair(Unit::Count, 20.0, 20.0), ("20".into(), "20".into()));
    }

    #[test]
    fn changes_are_signed_with_sensible_digits() {
        for (fraction, text) in [
            (0.0, "0%"),
            (0.15, "+15.0%"),
            (-0.032, "-3.2%"),
            (0.000_51, "+0.051%"),
            (-0.004_4, "-0.44%"),
            (8.5, "+850.0%"),
            (12.5, "×13.5"),
            (75_000.2, "×75,001"),
            (1e-9, "+<0.0001%"),
        ] {
            assert_eq!(change(fraction), text);
        }
    }

    #[test]
    fn limits_look_as_people_write_them() {
        assert_eq!(limit(Unit::Nanos, 8e6), "8 ms");
        assert_eq!(limit(Unit::Bytes, 500.0 * 1_048_576.0), "500 MiB");
        assert_eq!(limit(Unit::Bytes, 1.5 * 1_073_741_824.0), "1.5 GiB");
        assert_eq!(limits(Unit::Count, Limits { soft: Some(0.2), hard: Some(3.2) }), "20%, 3.2");
        assert_eq!(limits(Unit::Count, Limits::default()), "none");
    }

    #[test]
    fn percentages_hide_the_noise_of_binary_fractions() {
        assert_eq!(percent(0.15), "15%");
        assert_eq!(percent(0.29), "29%");
        assert_eq!(percent(0.005), "0.5%");
        assert_eq!(percent(0.0), "0%");
    }

    #[test]
    fn quantiles_are_percentiles() {
        for (q, text) in
            [(0.5, "P50"), (0.95, "P95"), (0.999, "P99.9"), (0.9998, "P99.98"), (0.123, "P12"), (1.0, "P100")]
        {
            assert_eq!(quantile(q), text);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_760_000_000, "2025-10-09"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(unix_s), text);
        }
        assert_eq!(date_time(1_760_000_000), "2025-10-09T08:53:20");
    }
}
