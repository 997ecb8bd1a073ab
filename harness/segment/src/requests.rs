//! What the requests of each group took: a histogram and a sum a group, after the registry of arenas.
//!
//! Any thread of the process adds to them, whichever group it is of: a request is often finished by another thread than those that
//! handled it. The scale is that of [`crate::histogram`], in nanoseconds instead of ticks. A group that says nothing has zeros,
//! on pages that nobody touches.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

use crate::groups::MAX_GROUPS;
use crate::histogram::{BUCKETS, bucket_of};

/// Requests of one group.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RequestRecord {
    /// Their time, ns.
    pub(crate) sum_ns: AtomicU64,
    pub(crate) buckets: [AtomicU64; BUCKETS],
}

/// From one group's record to the next.
pub const REQUESTS_STRIDE: usize = size_of::<RequestRecord>();

/// Room for those of all groups in every segment.
pub const REQUESTS_BYTES: usize = (MAX_GROUPS * REQUESTS_STRIDE).next_multiple_of(4096);

// The ABI, as in `layout`.
const _: () = assert!(REQUESTS_STRIDE == 4672 && REQUESTS_BYTES == 40_960);

/// No request takes longer than 13 days: what seems to is counted as this, or the sum would begin anew.
const LONGEST_NS: u64 = 1 << 50;

impl RequestRecord {
    /// Counts a request that took `ns`.
    pub fn record(&self, ns: u64) {
        let ns = ns.min(LONGEST_NS);
        self.buckets[bucket_of(ns)].fetch_add(1, Relaxed);
        // Release: who reads the sum first finds every request in it counted.
        self.sum_ns.fetch_add(ns, Release);
    }
}

/// The requests of a group, as they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// Their time, ns.
    pub sum_ns: u64,
    /// How many there were in each bucket of [`crate::histogram`], by ns.
    pub buckets: Vec<u64>,
}

impl Requests {
    /// Those of the record whose words `word` gives by offset, taken for hostile; `None` if there were none.
    pub(crate) fn read(word: impl Fn(usize) -> u64) -> Option<Self> {
        let sum_ns = word(offset_of!(RequestRecord, sum_ns));
        let bucket = |index: usize| word(offset_of!(RequestRecord, buckets) + index * 8);
        let buckets: Vec<u64> = (0..BUCKETS).map(bucket).collect();
        buckets.iter().any(|&count| count > 0).then_some(Self { sum_ns, buckets })
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }
}
