//! Histograms of stalls with fixed bounds, from the segment's finer ones.

use heapgate_segment::clock::Anchor;
use heapgate_segment::histogram::{BUCKETS, bucket_bounds, bucket_of};
use heapgate_segment::layout::{OPERATIONS, Operation};
use heapgate_segment::reader::{Reader, Totals};

/// Upper bounds of the buckets, seconds: 1, 2.5, 5 in each decade from 100 ns to 10 s; and 200 ms, above which a single stall is
/// an alert (E28), since a rule can't look between bounds.
pub const BOUNDS_S: [f64; 26] = [
    1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
    5e-2, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How a process's ticks fall into [`BOUNDS_S`].
///
/// Made once for a process, and kept while it is looked at: with another rate, however little, calls that were counted below
/// a bound would be above it, and Prometheus would take the counter for one that began anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    seconds_per_tick: f64,
    /// How many of the segment's buckets are below each bound: those whose middle is.
    ends: [usize; BOUNDS_S.len()],
}

/// One operation's calls, clean or interrupted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Calls up to each bound, those below lower bounds included.
    pub cumulative: [u64; BOUNDS_S.len()],
    /// All calls.
    pub count: u64,
    /// Their time, each taken as the middle of its bucket of the segment: right to 3 %.
    pub sum_s: f64,
}

/// All of a process's stalls.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stalls {
    /// In the order of the catalogue's series: by operation, then clean and interrupted.
    pub histograms: [Histogram; 2 * OPERATIONS],
    /// Longest call, clean and interrupted, seconds.
    pub longest_s: [f64; 2],
}

impl Scale {
    /// Of a process that says how long its ticks are; `None` before that is known, in its first hundredth of a second. Two
    /// scales of one process, or of one machine, are the same unless its rate is at the edge of what is rounded away.
    #[must_use]
    pub fn of(reader: Reader<'_>) -> Option<Self> {
        Self::new(reader.ticks_per_second(Some(Anchor::now(reader.clock())))?)
    }

    /// Of a clock of `ticks_per_second`; `None` if that is no rate.
    #[must_use]
    pub fn new(ticks_per_second: f64) -> Option<Self> {
        /// To 1 in 1,000 at worst: clocks are corrected by up to 1 in 2,000, and a bucket is 1 in 16 wide.
        const DIGITS: i32 = 4;
        if !(ticks_per_second.is_finite() && ticks_per_second >= 1.0) {
            return None;
        }
        let step = 10f64.powi(ticks_per_second.log10().floor() as i32 + 1 - DIGITS);
        let rounded = (ticks_per_second / step).round() * step;
        let ends = BOUNDS_S.map(|bound| {
            let ticks = bound * rounded;
            // A cast stops at the largest number.
            let last = bucket_of(ticks as u64);
            if middle(last) <= ticks { last + 1 } else { last }
        });
        Some(Self { seconds_per_tick: 1.0 / rounded, ends })
    }

    /// Folds a process's counts. Any counts do: what the segment holds is hostile, and sums stop at the largest number.
    #[must_use]
    pub fn fold(&self, totals: &Totals) -> Stalls {
        let mut stalls = Stalls::default();
        let operations = [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc];
        for (of, operation) in operations.into_iter().enumerate() {
            let (clean, clean_s) = self.histogram(totals.clean(operation));
            let (interrupted, interrupted_s) = self.histogram(totals.interrupted(operation));
            stalls.histograms[2 * of] = clean;
            stalls.histograms[2 * of + 1] = interrupted;
            stalls.longest_s = [stalls.longest_s[0].max(clean_s), stalls.longest_s[1].max(interrupted_s)];
        }
        stalls
    }

    /// Of all operations together, calls that were not interrupted.
    pub(crate) fn fold_clean(&self, totals: &Totals) -> Histogram {
        let mut buckets = [0_u64; BUCKETS];
        for operation in [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc] {
            for (sum, count) in buckets.iter_mut().zip(totals.clean(operation)) {
                *sum = sum.saturating_add(count);
            }
        }
        self.histogram(buckets.into_iter()).0
    }

    /// One histogram, and the longest call in it, seconds.
    pub(crate) fn histogram(&self, buckets: impl Iterator<Item = u64>) -> (Histogram, f64) {
        let mut histogram = Histogram::default();
        let (mut bound, mut ticks, mut longest) = (0, 0.0, 0.0);
        for (bucket, count) in buckets.enumerate() {
            while bound < BOUNDS_S.len() && self.ends[bound] <= bucket {
                histogram.cumulative[bound] = histogram.count;
                bound += 1;
            }
            if count > 0 {
                histogram.count = histogram.count.saturating_add(count);
                longest = middle(bucket);
                ticks += count as f64 * longest;
            }
        }
        histogram.cumulative[bound..].fill(histogram.count);
        histogram.sum_s = ticks * self.seconds_per_tick;
        (histogram, longest * self.seconds_per_tick)
    }
}

/// The middle of a bucket of the segment, ticks.
fn middle(bucket: usize) -> f64 {
    let (low, high) = bucket_bounds(bucket);
    // The last value is the one below the bound.
    u64::midpoint(low, high - 1) as f64
}

const _: () = assert!(BUCKETS > 0 && OPERATIONS == 4);

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks of a nanosecond.
    fn scale() -> Scale {
        Scale::new(1e9).unwrap()
    }

    fn histogram_of(values_ns: &[u64]) -> (Histogram, f64) {
        let mut buckets = [0; BUCKETS];
        values_ns.iter().for_each(|&ns| buckets[bucket_of(ns)] += 1);
        scale().histogram(buckets.into_iter())
    }

    #[test]
    fn bounds_are_1_2_5_5_from_100_ns_to_10_s_and_200_ms() {
        assert!(BOUNDS_S.is_sorted_by(|a, b| a < b));
        assert_eq!((BOUNDS_S[0], BOUNDS_S[BOUNDS_S.len() - 1]), (1e-7, 10.0));
        let steps = (-7..=0).flat_map(|decade| [1.0, 2.5, 5.0].map(|step| step * 10f64.powi(decade)));
        let expected: Vec<f64> = steps.chain([0.2, 10.0]).collect();
        for bound in expected {
            assert!(BOUNDS_S.iter().any(|b| (b / bound - 1.0).abs() < 1e-12), "{bound}");
        }
        assert_eq!(BOUNDS_S.len(), 8 * 3 + 2);
    }

    #[test]
    fn a_call_is_counted_below_the_bounds_that_are_above_it() {
        for (ns, first) in
            [(1, 1e-7), (90, 1e-7), (110, 2.5e-7), (150_000_000, 0.2), (240_000_000, 0.25), (3_000_000_000, 5.0)]
        {
            let (histogram, longest) = histogram_of(&[ns]);
            let at = histogram.cumulative.iter().position(|&count| count == 1);
            assert_eq!(at.map(|at| BOUNDS_S[at]), Some(first), "{ns} ns");
            assert!((longest * 1e9 - ns as f64).abs() <= 0.032 * ns as f64, "{ns} ns: {longest} s");
        }
        let (beyond, _) = histogram_of(&[60_000_000_000]);
        assert_eq!((beyond.cumulative, beyond.count), ([0; BOUNDS_S.len()], 1));
    }

    #[test]
    fn counts_add_up_and_never_fall_from_bound_to_bound() {
        let values: Vec<u64> = (0..10_000u64).map(|i| i.wrapping_mul(i) % 20_000_000_000).collect();
        let (histogram, _) = histogram_of(&values);
        assert_eq!(histogram.count, 10_000);
        assert!(histogram.cumulative.is_sorted() && histogram.cumulative[BOUNDS_S.len() - 1] <= histogram.count);
        let sum_s = values.iter().sum::<u64>() as f64 / 1e9;
        assert!((histogram.sum_s / sum_s - 1.0).abs() < 0.032, "{} of {sum_s}", histogram.sum_s);
    }

    #[test]
    fn a_rate_measured_again_gives_the_same_buckets() {
        let once = Scale::new(2_599_998_412.0).unwrap();
        assert_eq!(Scale::new(2_600_003_077.0).unwrap(), once);
        assert!((once.seconds_per_tick * 2.6e9 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn hostile_rates_and_counts_are_no_panic() {
        for rate in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.5] {
            assert_eq!(Scale::new(rate), None, "{rate}");
        }
        for rate in [1.0, 1e300] {
            let (histogram, _) = Scale::new(rate).unwrap().histogram(std::iter::repeat_n(u64::MAX, BUCKETS));
            assert!(histogram.cumulative.is_sorted() && histogram.count == u64::MAX, "{rate}");
        }
    }
}
