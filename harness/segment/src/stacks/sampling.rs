//! Which allocations are sampled, and for how much each stands.
//!
//! A Poisson process over what calls cost: a call of s bytes costs `−ln(1 − 1/call_period) + s/byte_period`, and is
//! sampled if an exponential of mean 1, drawn anew after each sample, is used up by it. So it is sampled with
//! `p = 1 − exp(−cost)`, independently of all others whatever their sizes and order (the exponential has no memory), and
//! stands for 1/p calls and s/p bytes: unbiased for both (Horvitz and Thompson, JASA 47, 1952), and `(1 − p)/p²` and
//! `s²(1 − p)/p²` are unbiased for the variances. The first part of the cost is such that calls alone are sampled with
//! exactly 1/call_period, at 1 with certainty. The costs are rounded to whole units, and p is that of the rounded cost:
//! rounding changes how many samples there are by a hair, and biases nothing.

use super::{MAX_BYTE_PERIOD, MAX_STACK_PERIOD, Settings};

/// Units of a cost of 1. The rarest sampling by calls (1 in 2³²) costs 2¹⁶ of them, and the longest draw, 37, is far
/// below the most that a word holds.
const UNIT: f64 = (1_u64 << 48) as f64;

/// A cost at which a call is always sampled.
pub const ALWAYS: u64 = 64 << 48;

/// What calls cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Of every call, in units; at least [`ALWAYS`] where each is sampled.
    pub per_call: u64,
    /// Of every byte.
    pub per_byte: u64,
}

impl Rate {
    /// The rate that `settings` ask for.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let per_call = match settings.call_period.min(MAX_STACK_PERIOD) {
            0 => 0,
            1 => ALWAYS,
            period => (-(-1.0 / period as f64).ln_1p() * UNIT).round() as u64,
        };
        let per_byte = match settings.byte_period.min(MAX_BYTE_PERIOD) {
            0 => 0,
            period => (UNIT / period as f64).round() as u64,
        };
        Self { per_call, per_byte }
    }

    /// What a call of `bytes` costs.
    #[inline(always)]
    #[must_use]
    pub const fn cost(self, bytes: u64) -> u64 {
        self.per_byte.saturating_mul(bytes).saturating_add(self.per_call)
    }

    /// What an exponential is in units, for `uniform` of (0, 1]: at least 1. Rounded up: a call of cost c is sampled if
    /// it is at most c, which has the probability that [`Sample::new`] takes.
    #[must_use]
    pub fn draw(uniform: f64) -> u64 {
        ((-uniform.ln() * UNIT).ceil() as u64).max(1)
    }
}

/// Binary places of calls and bytes in shared memory: sums of integers don't drift, however often live figures go up and
/// down. The largest sum is 2⁴⁸.
const FRACTION_BITS: u32 = 16;

/// A sum in shared memory from what it is of.
pub(super) fn to_fixed(value: f64) -> u64 {
    // `as` saturates.
    (value * f64::from(1 << FRACTION_BITS)).round() as u64
}

/// And back. Two threads' adds and subtractions of one stack may be seen in any order, so what is below 0 for a moment is 0.
pub(super) fn from_fixed(word: u64) -> f64 {
    word.cast_signed().max(0) as f64 / f64::from(1 << FRACTION_BITS)
}

/// One sampled allocation, and for what it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Calls, in shared memory's form.
    pub(super) calls: u64,
    /// Bytes, in the same.
    pub(super) bytes: u64,
    /// Variance of the calls' estimate, and of the bytes'.
    pub(super) variances: [f64; 2],
}

impl Sample {
    /// An allocation of `bytes` that was sampled at `cost`.
    #[must_use]
    pub fn new(bytes: u64, cost: u64) -> Self {
        let bytes = bytes as f64;
        if cost >= ALWAYS {
            return Self { calls: to_fixed(1.0), bytes: to_fixed(bytes), variances: [0.0; 2] };
        }
        let p = -(-(cost as f64) / UNIT).exp_m1();
        let variance = (1.0 - p) / (p * p);
        Self { calls: to_fixed(1.0 / p), bytes: to_fixed(bytes / p), variances: [variance, bytes * bytes * variance] }
    }

    /// Calls it stands for.
    #[must_use]
    pub fn calls(&self) -> f64 {
        from_fixed(self.calls)
    }

    /// Bytes it stands for.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        from_fixed(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64, in (0, 1].
    struct Random(u64);

    impl Random {
        fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }

        fn uniform(&mut self) -> f64 {
            ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
        }
    }

    /// The program that is sampled: many small objects, few large ones, in an order that has a period.
    const SIZES: [u64; 8] = [16, 24, 16, 4096, 100, 16, 1_000_000, 48];

    struct Estimate {
        samples: u64,
        sums: [f64; 2],
        variances: [f64; 2],
    }

    fn sampled(rate: Rate, rounds: u64, random: &mut Random) -> Estimate {
        let mut estimate = Estimate { samples: 0, sums: [0.0; 2], variances: [0.0; 2] };
        let mut left = Rate::draw(random.uniform());
        for _ in 0..rounds {
            for bytes in SIZES {
                let cost = rate.cost(bytes);
                if left > cost {
                    left -= cost;
                    continue;
                }
                left = Rate::draw(random.uniform());
                let sample = Sample::new(bytes, cost);
                estimate.samples += 1;
                for (sum, more) in estimate.sums.iter_mut().zip([sample.calls(), sample.bytes()]) {
                    *sum += more;
                }
                for (sum, more) in estimate.variances.iter_mut().zip(sample.variances) {
                    *sum += more;
                }
            }
        }
        estimate
    }

    fn rate(call_period: u64, byte_period: u64) -> Rate {
        Rate::of(&Settings { call_period, byte_period, ..Settings::NOTHING })
    }

    #[test]
    #[cfg(not(miri))]
    fn calls_and_bytes_are_unbiased_and_their_variances_right() {
        const ROUNDS: u64 = 500;
        const RUNS: usize = 1000;
        let truth = [(ROUNDS * SIZES.len() as u64) as f64, (ROUNDS * SIZES.iter().sum::<u64>()) as f64];
        for (calls, bytes) in [(64, 0), (2, 0), (0, 4096), (1000, 65_536), (7, 500_000)] {
            let mut random = Random(calls + bytes);
            let runs: Vec<Estimate> = (0..RUNS).map(|_| sampled(rate(calls, bytes), ROUNDS, &mut random)).collect();
            for (which, truth) in truth.into_iter().enumerate() {
                let mean_of = |of: &dyn Fn(&Estimate) -> f64| runs.iter().map(of).sum::<f64>() / RUNS as f64;
                let mean = mean_of(&|run| run.sums[which]);
                let variance = mean_of(&|run| (run.sums[which] - truth).powi(2));
                let error = (variance / RUNS as f64).sqrt();
                assert!((mean - truth).abs() <= 5.0 * error, "{calls}/{bytes}: {mean} of {truth}");
                // The variance of 1000 runs is known to 4.5 % (√(2/1000), more where few samples make it skewed).
                let estimated = mean_of(&|run| run.variances[which]);
                assert!((estimated / variance - 1.0).abs() < 0.25, "{calls}/{bytes}: {estimated} of {variance}");
            }
        }
    }

    #[test]
    fn calls_alone_are_sampled_with_one_in_the_period_and_weigh_it() {
        for period in [2, 3, 64, 1000, 1 << 20] {
            let rate = rate(period, 0);
            let sample = Sample::new(24, rate.cost(24));
            // To the 2⁻¹⁶ that sums are kept in.
            assert!((sample.calls() - period as f64).abs() < 1e-3, "{period}: {}", sample.calls());
            assert!((sample.bytes() - 24.0 * period as f64).abs() < 3e-2, "{period}: {}", sample.bytes());
        }
        let calls = if cfg!(miri) { 200 } else { 200_000 };
        let mut random = Random(1);
        let found = sampled(rate(64, 0), calls / SIZES.len() as u64, &mut random).samples as f64;
        let expected = calls as f64 / 64.0;
        assert!((found - expected).abs() < 5.0 * expected.sqrt(), "{found} of {expected}");
    }

    #[test]
    fn at_period_1_every_call_is_taken_as_one() {
        let rate = rate(1, 4096);
        for bytes in [0, 1, 77, 1 << 40, u64::MAX] {
            assert!(rate.cost(bytes) >= ALWAYS);
            assert!(Rate::draw(f64::MIN_POSITIVE) < ALWAYS * 16);
        }
        let sample = Sample::new(77, rate.cost(77));
        assert_eq!((sample.calls(), sample.bytes(), sample.variances), (1.0, 77.0, [0.0; 2]));
    }

    #[test]
    fn the_rarest_draws_and_the_largest_costs_stay_finite() {
        assert_eq!(Rate::draw(1.0), 1);
        assert!(Rate::draw(1.0 / (1_u64 << 53) as f64) < ALWAYS);
        let all = rate(MAX_STACK_PERIOD, MAX_BYTE_PERIOD);
        assert!(all.per_call > 0 && all.per_byte > 0);
        let rarest = Sample::new(1, rate(MAX_STACK_PERIOD, 0).cost(1));
        assert!((rarest.calls() / MAX_STACK_PERIOD as f64 - 1.0).abs() < 1e-4);
        assert_eq!(Sample::new(u64::MAX, rate(0, 1).cost(u64::MAX)).calls(), 1.0);
    }
}
