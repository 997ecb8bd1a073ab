//! Many tests at once: probabilities corrected for their number.

/// The probabilities after Holm's step-down correction (Holm 1979): rejecting those up to α is wrong about even one of
/// them with probability at most α, however they depend on each other. In the order given.
///
/// ```
/// use heapgate_core::stats::multiple::holm;
/// assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
/// ```
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest = 0f64;
    for (rank, &index) in order.iter().enumerate() {
        // None may be smaller than one before it.
        largest = largest.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R's `p.adjust(c(0.0001, 0.02, 0.03, 0.005, 0.9), "holm")`.
    #[test]
    fn known_answer() {
        let expected = [0.0005, 0.06, 0.06, 0.02, 0.9];
        for (got, expected) in holm(&[0.0001, 0.02, 0.03, 0.005, 0.9]).into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    #[test]
    fn none_is_above_one_and_one_alone_is_itself() {
        assert_eq!(holm(&[0.7, 0.8]), [1.0, 1.0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }
}
