//! Round numbers for the axes of plots.

use crate::metric::Unit;
use crate::render::human;

/// Round numbers from `low` to `high`, about `lines` of them: round in the unit in which they are shown.
pub(in crate::render) fn ticks(low: f64, high: f64, unit: Unit, lines: usize) -> Vec<f64> {
    // Bytes are counted in powers of 1,024.
    let base = match unit {
        Unit::Bytes => {
            [1_073_741_824.0, 1_048_576.0, 1_024.0].into_iter().find(|&base| high.abs() >= base).unwrap_or(1.0)
        }
        _ => 1.0,
    };
    let rough = (high - low) / lines as f64 / base;
    if !rough.is_finite() || rough <= 0.0 {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough).unwrap_or(rough);
    let step = step * base;
    let first = (low / step).ceil();
    (0..=2 * lines).map(|i| (first + i as f64) * step).take_while(|&tick| tick <= high).collect()
}

/// A power of ten as short as an axis wants it: `1`, `10`, `100`, `1k`, …, `0.1`.
pub(super) fn power_of_ten(power: i32) -> String {
    match usize::try_from(power) {
        Ok(power) => {
            let prefix = ["", "k", "M", "G", "T"].get(power / 3).copied().unwrap_or("P");
            format!("1{}{prefix}", "0".repeat(power % 3))
        }
        Err(_) => human::value(Unit::Count, 10f64.powi(power)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_in_the_unit_that_is_shown() {
        let texts = ticks(40.0 * 1_048_576.0, 50.0 * 1_048_576.0, Unit::Bytes, 4);
        let texts: Vec<String> = texts.into_iter().map(|t| human::limit(Unit::Bytes, t)).collect();
        assert_eq!(texts, ["40 MiB", "42.5 MiB", "45 MiB", "47.5 MiB", "50 MiB"]);
        assert!(ticks(1.0, 1.0, Unit::Count, 4).is_empty() && ticks(0.0, f64::INFINITY, Unit::Count, 4).is_empty());
    }

    #[test]
    fn powers_of_ten_are_short() {
        assert_eq!([-1, 0, 2, 3, 7].map(power_of_ten), ["0.1", "1", "100", "1k", "10M"]);
    }
}
