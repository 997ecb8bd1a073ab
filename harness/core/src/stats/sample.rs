//! Small samples: one number per repetition.

/// The middle value, or the mean of the middle two; `None` where there are none. Values must not be NaN.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// At most `most` of the values, sorted: evenly spaced in their order where there are more.
#[must_use]
pub fn evenly(values: &[f64], most: usize) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (n, kept) = (sorted.len(), sorted.len().min(most));
    (0..kept).map(|i| sorted[(2 * i + 1) * n / (2 * kept)]).collect()
}

/// Whether `a` and `b` are the same number but for the last binary digit, which text and back may cost. Whole numbers
/// up to 2^50 are told apart.
#[must_use]
pub fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2.0 * f64::EPSILON * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0, 5.0]), Some(4.0));
    }

    #[test]
    fn few_values_stand_evenly_for_many() {
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!(evenly(&values, 4), [12.0, 37.0, 62.0, 87.0]);
        assert_eq!(evenly(&[3.0, 1.0], 4), [1.0, 3.0]);
        assert!(evenly(&[], 4).is_empty());
    }

    #[test]
    fn one_in_a_million_billion_is_told_apart_and_a_rounding_is_not() {
        let large = (1u64 << 50) as f64;
        assert!(!same(large, large + 1.0));
        assert!(same(0.1 + 0.2, 0.3));
        assert!(same(0.0, 0.0) && !same(0.0, 1e-300) && !same(1.0, -1.0));
    }
}
