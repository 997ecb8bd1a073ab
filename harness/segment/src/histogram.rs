//! Fixed log-linear buckets: the scale on which every latency and size is counted.
//!
//! Values below 16 have a bucket each; above, every doubling is cut into [`SUB_BUCKETS`] equal parts. A bucket's middle
//! is then at most 1/32 = 3.125 % from any value in it. Values beyond the last bucket are counted in the last. (The
//! scale is that of HdrHistogram with 4 significant bits; ours is a pure function of the value, so that recording is an
//! add in shared memory.)

/// Bits of a value, after its leading one, that choose the bucket.
const SUB_BITS: u32 = 4;

/// Buckets per doubling.
pub const SUB_BUCKETS: usize = 1 << SUB_BITS;

/// Values below this power of two are told apart: 2^39 ticks are over 60 s up to a clock of 9 GHz.
const MAX_EXPONENT: u32 = 39;

/// Number of buckets.
pub const BUCKETS: usize = SUB_BUCKETS * (MAX_EXPONENT - SUB_BITS + 1) as usize;

/// The bucket of `value`.
///
/// ```
/// use heapgate_segment::histogram::{bucket_bounds, bucket_of};
/// let (low, high) = bucket_bounds(bucket_of(1000));
/// assert!(low <= 1000 && 1000 < high);
/// assert_eq!(bucket_of(7), 7);
/// ```
#[inline]
#[must_use]
pub const fn bucket_of(value: u64) -> usize {
    let index = log_linear::<SUB_BITS>(value);
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The values of a bucket: from the first, up to but not with the second. The last bucket also holds all larger values.
///
/// # Panics
/// If there is no such bucket.
#[must_use]
pub const fn bucket_bounds(bucket: usize) -> (u64, u64) {
    assert!(bucket < BUCKETS, "no such bucket");
    log_linear_bounds::<SUB_BITS>(bucket)
}

/// The log-linear index of `value` with `BITS` bits after the leading one.
#[inline]
pub(crate) const fn log_linear<const BITS: u32>(value: u64) -> usize {
    // With the lowest bit of the linear part set, small values need no branch of their own: their shift is 0.
    let exponent = (value | (1 << BITS)).ilog2();
    let shift = exponent - BITS;
    ((shift as usize) << BITS) + (value >> shift) as usize
}

/// The values that [`log_linear`] maps to `index`: from the first, up to but not with the second.
pub(crate) const fn log_linear_bounds<const BITS: u32>(index: usize) -> (u64, u64) {
    let linear = 1 << BITS;
    if index < 2 * linear {
        return (index as u64, index as u64 + 1);
    }
    let shift = (index >> BITS) as u32 - 1;
    let low = ((index & (linear - 1)) + linear) as u64;
    (low << shift, ((low + 1) as u128).unbounded_shl(shift) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_bounds(bucket - 1).1, bucket_bounds(bucket).0, "bucket {bucket}");
        }
        assert_eq!(bucket_bounds(0).0, 0);
    }

    #[test]
    fn the_scale_reaches_from_8_ns_past_60_s_at_any_clock_rate() {
        // From 1 GHz (8 ns are 8 ticks) to 9 GHz (60 s are 5.4e11 ticks).
        assert!(bucket_bounds(bucket_of(8)).1 == 9);
        assert!(bucket_bounds(BUCKETS - 1).1 > 60 * 9_000_000_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 20_000 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_bucket_holds_its_values_and_its_middle_is_within_3_2_percent(exponent in 0u32..39, mantissa in any::<u64>()) {
            let value = (1 << exponent) | (mantissa & ((1 << exponent) - 1));
            let (low, high) = bucket_bounds(bucket_of(value));
            prop_assert!(low <= value && value < high);
            let middle = if high - low == 1 { low as f64 } else { (low + high) as f64 / 2.0 };
            prop_assert!((middle - value as f64).abs() <= 0.032 * value as f64);
        }

        #[test]
        fn larger_values_never_have_smaller_buckets(a in any::<u64>(), b in any::<u64>()) {
            prop_assert!(bucket_of(a.min(b)) <= bucket_of(a.max(b)));
        }
    }
}
