//! Sparse latency histograms: pairs of bucket index and count, as in a report.

use heapgate_segment::histogram::bucket_bounds;

use crate::report::ByOperation;

/// All operations in one histogram, sorted by bucket.
#[must_use]
pub fn merged(by_operation: &ByOperation) -> Vec<(u32, u64)> {
    total(by_operation.all())
}

/// The sum of several histograms, sorted by bucket.
#[must_use]
pub fn total<'a>(histograms: impl IntoIterator<Item = &'a [(u32, u64)]>) -> Vec<(u32, u64)> {
    let mut all: Vec<(u32, u64)> = histograms.into_iter().flatten().copied().collect();
    all.sort_unstable_by_key(|b| b.0);
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    all
}

/// The middle of a bucket, ticks: at most 3.2 % from any value in it.
fn middle(bucket: u32) -> f64 {
    let (low, high) = bucket_bounds(bucket as usize);
    if high - low <= 1 { low as f64 } else { f64::midpoint(low as f64, high as f64) }
}

/// Number of values.
#[must_use]
pub fn count(buckets: &[(u32, u64)]) -> u64 {
    buckets.iter().map(|b| b.1).sum()
}

/// Sum of the values, ticks.
#[must_use]
pub fn sum_ticks(buckets: &[(u32, u64)]) -> f64 {
    // Not `sum`, whose sum of nothing is -0.
    buckets.iter().fold(0.0, |sum, &(bucket, n)| sum + middle(bucket) * n as f64)
}

/// The smallest value that at least a share `q` of all values don't exceed (the nearest-rank quantile), ticks; `None`
/// where there are no values. `buckets` must be sorted.
#[must_use]
pub fn quantile(buckets: &[(u32, u64)], q: f64) -> Option<f64> {
    let total = count(buckets);
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0;
    buckets
        .iter()
        .find(|b| {
            seen += b.1;
            seen >= rank
        })
        .map(|b| middle(b.0))
}
