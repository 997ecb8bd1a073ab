//! Whether the pairs of a running comparison differ, asked after each pair without paying for the asking.
//!
//! An operator looks at a live comparison whenever he likes and stops when he has seen enough. A test for a fixed number of
//! values fires on chance alone sooner or later if it is looked at again and again; this one holds its promise at all times
//! together.
//!
//! **Method.** If a difference is as likely to be `+x` as `-x`, given all before it, then `exp(λS − λ²V/2)` with `S = Σd` and
//! `V = Σd²` is a supermartingale for each λ, since `cosh x ≤ exp(x²/2)` (de la Peña 1999, "A general class of exponential
//! inequalities for martingales and ratios"). Mixing over λ normal with variance 1/ρ gives the evidence
//! `√(ρ/(ρ+V)) · exp(S²/(2(ρ+V)))` (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; Howard,
//! Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). By Ville's
//! inequality it ever exceeds 1/α with a probability of at most α. Neither a variance nor a shape is assumed, so a window
//! with one huge stall costs power, not truth. The shifts that it does not reject are a confidence sequence: an interval that
//! holds at all times together.
//!
//! **What it takes.** That the sides would be exchangeable within each pair if their settings were the same. What happens to
//! both at once cancels in a pair; what stays on one side for many pairs without being the setting's doing (an unequal share
//! of heavy requests) does not, and no test of the figures alone can tell it from the setting.
//!
//! ```
//! use heapgate_core::stats::sequential::Paired;
//! let mut paired = Paired::default();
//! for second in 0..30 {
//!     paired.push([0.30, 0.22, 0.35, 0.28, 0.25][second % 5]);
//! }
//! assert!(paired.p_value() < 0.01);
//! let interval = paired.interval(0.05).unwrap();
//! assert!(interval.low > 0.1 && interval.high < 0.5);
//! ```

/// Pairs that only say how large differences are here; the test begins after them, so that its tuning does not depend on
/// what it tests.
pub const WARM_UP: u64 = 3;

/// The mixture's weight, as a number of pairs. The squares count against the evidence together with it, so small is soon: 1 in
/// 100 takes some 15 pairs that all agree. What it costs later grows with the logarithm of the pairs only.
const TUNED_FOR: f64 = 5.0;

/// Halvings in the search for an interval's ends: below the rounding of what is searched.
const HALVINGS: u32 = 80;

/// Doublings after which an end of an interval is taken for infinite.
const DOUBLINGS: u32 = 200;

/// An interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The evidence of a sequence of differences, and what it leaves possible.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Paired {
    /// Pairs after the warm-up, and sums over them.
    pairs: f64,
    sum: f64,
    sum_of_squares: f64,
    /// Pairs of the warm-up and the sum of their squares.
    warm_up: u64,
    warm_up_squares: f64,
    /// The most evidence so far against no difference, as a logarithm.
    most: f64,
}

impl Paired {
    /// Takes the next difference. One that is not finite says nothing and is passed over.
    pub fn push(&mut self, difference: f64) {
        if !difference.is_finite() {
            return;
        }
        if self.warm_up < WARM_UP || self.warm_up_squares == 0.0 {
            self.warm_up += 1;
            self.warm_up_squares += difference * difference;
            return;
        }
        self.pairs += 1.0;
        self.sum += difference;
        self.sum_of_squares += difference * difference;
        self.most = self.most.max(self.log_evidence(0.0));
    }

    /// Pairs taken, those of the warm-up with them.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs as u64 + self.warm_up
    }

    /// The mean difference after the warm-up; `None` before.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.pairs > 0.0).then(|| self.sum / self.pairs)
    }

    /// The smallest level at which "no difference" has been rejected at any time so far, at most 1.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        (-self.most).exp().min(1.0)
    }

    /// The shifts that the differences leave possible: the true one is in it at all times together with a probability of at
    /// least 1 − `alpha`. `None` while they leave all of them.
    #[must_use]
    pub fn interval(&self, alpha: f64) -> Option<Interval> {
        let mean = self.mean()?;
        let threshold = -alpha.ln();
        let end = |direction: f64| {
            let rejected = |distance: f64| self.log_evidence(mean + direction * distance) > threshold;
            let mut outside = (self.scale() / self.pairs).sqrt().max(f64::MIN_POSITIVE);
            let mut doublings = 0;
            while !rejected(outside) {
                outside *= 2.0;
                doublings += 1;
                if doublings == DOUBLINGS || !outside.is_finite() {
                    return None;
                }
            }
            let mut inside = 0.0;
            for _ in 0..HALVINGS {
                let middle = 0.5 * (inside + outside);
                if rejected(middle) { outside = middle } else { inside = middle }
            }
            Some(mean + direction * outside)
        };
        Some(Interval { low: end(-1.0)?, high: end(1.0)? })
    }

    /// The logarithm of the evidence against a shift of `shift`.
    fn log_evidence(&self, shift: f64) -> f64 {
        let sum = self.sum - self.pairs * shift;
        let squares = (self.sum_of_squares - 2.0 * shift * self.sum + self.pairs * shift * shift).max(0.0);
        let scale = self.scale();
        if scale <= 0.0 {
            return 0.0;
        }
        sum * sum / (2.0 * (scale + squares)) - 0.5 * (squares / scale).ln_1p()
    }

    /// The ρ of the mixture: what the squares are expected to sum to after [`TUNED_FOR`] pairs.
    fn scale(&self) -> f64 {
        self.warm_up_squares / (self.warm_up.max(1) as f64) * TUNED_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    const RUNS: u32 = 4_000;
    const PAIRS: u32 = 400;

    /// How often, of [`RUNS`] runs that are looked at after every pair, `fires` is ever true.
    fn rate(mut difference: impl FnMut(&mut SplitMix64, u32) -> f64, fires: impl Fn(&Paired) -> bool) -> f64 {
        let mut random = SplitMix64::new(23);
        let fired = (0..RUNS).filter(|_| {
            let mut paired = Paired::default();
            (0..PAIRS).any(|pair| {
                paired.push(difference(&mut random, pair));
                fires(&paired)
            })
        });
        fired.count() as f64 / f64::from(RUNS)
    }

    fn uniform(random: &mut SplitMix64) -> f64 {
        2.0 * random.uniform() - 1.0
    }

    /// Student's t with one degree of freedom: no mean, no variance.
    fn cauchy(random: &mut SplitMix64) -> f64 {
        (std::f64::consts::FRAC_PI_2 * uniform(random)).tan()
    }

    #[test]
    fn looking_after_every_pair_fires_no_more_often_than_promised() {
        // One in a hundred is promised; the bound is for four standard errors of the simulation besides.
        let bound = 0.01 + 4.0 * (0.01_f64 / f64::from(RUNS)).sqrt();
        let at = |paired: &Paired| paired.p_value() < 0.01;
        assert!(rate(|random, _| uniform(random), at) <= bound);
        assert!(rate(|random, _| cauchy(random), at) <= bound);
        // The spread grows a thousandfold over the run.
        assert!(rate(|random, pair| uniform(random) * 1.02_f64.powi(pair as i32), at) <= bound);
        // Mostly nothing, now and then a stall on one side.
        let rare = |random: &mut SplitMix64, _| if random.uniform() < 0.05 { 50.0 * uniform(random) } else { 0.0 };
        assert!(rate(rare, at) <= bound);
    }

    #[test]
    fn an_interval_holds_the_shift_at_all_times() {
        let misses = |paired: &Paired| paired.interval(0.01).is_some_and(|i| i.low > 0.5 || i.high < 0.5);
        let mut random = SplitMix64::new(5);
        let missed = (0..300).filter(|_| {
            let mut paired = Paired::default();
            (0..200).any(|_| {
                paired.push(0.5 + uniform(&mut random));
                misses(&paired)
            })
        });
        assert!(missed.count() <= 8, "3 are expected");
    }

    #[test]
    fn a_shift_of_six_tenths_of_the_deviation_is_found_within_a_hundred_pairs() {
        let mut random = SplitMix64::new(11);
        let found = (0..500).filter(|_| {
            let mut paired = Paired::default();
            (0..100).for_each(|_| paired.push(0.35 + uniform(&mut random)));
            paired.p_value() < 0.01
        });
        assert!(found.count() >= 450);
    }

    #[test]
    fn nothing_follows_from_nothing() {
        let mut paired = Paired::default();
        assert_eq!((paired.p_value(), paired.mean(), paired.interval(0.05)), (1.0, None, None));
        (0..1_000).for_each(|_| paired.push(0.0));
        assert_eq!((paired.p_value(), paired.interval(0.05)), (1.0, None));
        paired.push(f64::NAN);
        paired.push(f64::INFINITY);
        assert_eq!(paired.pairs(), 1_000);
    }

    #[test]
    fn the_answer_does_not_depend_on_the_unit() {
        let mut random = SplitMix64::new(3);
        let (mut seconds, mut nanos) = (Paired::default(), Paired::default());
        for _ in 0..50 {
            let difference = 0.2 + uniform(&mut random);
            seconds.push(difference);
            nanos.push(difference * 1e9);
        }
        assert!((seconds.p_value() / nanos.p_value() - 1.0).abs() < 1e-6);
        let (a, b) = (seconds.interval(0.05).unwrap(), nanos.interval(0.05).unwrap());
        assert!((a.low - b.low / 1e9).abs() < 1e-6 && (a.high - b.high / 1e9).abs() < 1e-6);
    }
}
