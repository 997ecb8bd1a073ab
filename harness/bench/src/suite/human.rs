//! Numbers as people read them, in eight characters or fewer up to 10^12.

/// A count: whole with separators, or three significant digits.
pub(super) fn count(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        let digits = (value.abs() as u64).to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return if value < 0.0 { format!("-{text}") } else { text };
    }
    scaled(value, &[(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")])
}

/// Bytes.
pub(super) fn bytes(value: f64) -> String {
    let unit = f64::from(1 << 10);
    scaled(value, &[(unit * unit * unit, " GiB"), (unit * unit, " MiB"), (unit, " KiB"), (1.0, " B")])
}

/// A time given in ns.
pub(super) fn nanos(value: f64) -> String {
    scaled(value, &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")])
}

/// A workload's own figure, whose name ends in its unit.
pub(super) fn figure(name: &str, value: f64) -> String {
    match name {
        _ if name.ends_with("_ns") => nanos(value),
        _ if name.ends_with("_bytes") => bytes(value),
        _ if name.ends_with("_share") => format!("{}%", count(value * 100.0)),
        _ if name.ends_with("_per_s") => format!("{}/s", count(value)),
        _ => count(value),
    }
}

/// In the largest unit that `value` reaches; in the smallest if it reaches none.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let &(unit, name) = units.iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or(&units[units.len() - 1]);
    let number = value / unit;
    let decimals = match number.abs() {
        size if size >= 99.95 || number == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.decimals$}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_where_they_can_be() {
        assert_eq!([0.0, 7.0, 1234.0, 123_456.0, -12.0].map(count), ["0", "7", "1,234", "123,456", "-12"]);
        assert_eq!([0.013, 12.34, 123.4, 12_345_678.0].map(count), ["0.01", "12.3", "123", "12.3 M"]);
        assert_eq!([0.0, 17.5, 1024.0, 31.4 * 1024.0].map(bytes), ["0 B", "17.5 B", "1.00 KiB", "31.4 KiB"]);
        assert_eq!([5.0, 120.0, 1500.0, 2.5e6].map(nanos), ["5.00 ns", "120 ns", "1.50 µs", "2.50 ms"]);
    }
}
