//! A small generator for orders and simulations that must be the same everywhere for a seed.

/// Steele, Lea and Flood's SplitMix64.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and an Option would only be unwrapped")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From the standard normal distribution (Box and Muller 1958; the second value of each pair is not used, which
    /// keeps the generator a single number).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A number below `bound`, which must not be 0. The bias of the remainder is below 2^-40 for the sizes of samples.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_mean_0_variance_1_and_normal_tails() {
        let mut random = SplitMix64::new(1);
        let values: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 20_000.0;
        // Four standard errors: 0.0071 and 0.01.
        assert!(mean.abs() < 0.029 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        let beyond = values.iter().filter(|v| v.abs() > 1.959_964).count();
        // 5 % of 20,000 is 1,000; four standard deviations are 123.
        assert!((877..=1_123).contains(&beyond), "{beyond}");
    }

    #[test]
    fn each_order_of_three_comes_up_as_often() {
        let mut random = SplitMix64::new(2);
        let mut seen = std::collections::BTreeMap::<[u8; 3], u32>::new();
        for _ in 0..6_000 {
            let mut values = [1, 2, 3];
            random.shuffle(&mut values);
            *seen.entry(values).or_default() += 1;
        }
        // 1,000 each; four standard deviations are 115.
        assert!(seen.len() == 6 && seen.values().all(|n| (885..=1_115).contains(n)), "{seen:?}");
    }
}
