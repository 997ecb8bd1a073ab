//! What one slot has counted so far: for looking at a stretch of one thread's work.

use core::sync::atomic::Ordering::Relaxed;

use crate::histogram::bucket_bounds;
use crate::layout::{GROUP_BUCKETS, Slot};

/// A slot's counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Calls of `alloc` and `alloc_zeroed`.
    pub objects_allocated: u64,
    /// Calls of `dealloc`.
    pub objects_freed: u64,
    /// Bytes handed out, by `realloc` too.
    pub bytes_allocated: u64,
    /// Bytes given back, by `realloc` too.
    pub bytes_freed: u64,
    /// Calls of `realloc`.
    pub realloc_calls: u64,
}

impl Tally {
    /// Objects and bytes allocated and not freed; negative where the thread freed what others allocated.
    #[must_use]
    pub fn live(&self) -> Live {
        Live {
            objects: self.objects_allocated.wrapping_sub(self.objects_freed).cast_signed(),
            bytes: self.bytes_allocated.wrapping_sub(self.bytes_freed).cast_signed(),
        }
    }
}

/// How much is live: of objects and of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Objects.
    pub objects: i64,
    /// Bytes.
    pub bytes: i64,
}

impl Live {
    /// The higher of the two, for objects and bytes apart.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { objects: self.objects.max(other.objects), bytes: self.bytes.max(other.bytes) }
    }
}

impl Slot {
    /// What this slot has counted. Consistent only in the thread that owns it.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let counters = &self.counters;
        Tally {
            objects_allocated: counters.objects_allocated.load(Relaxed),
            objects_freed: counters.objects_freed.load(Relaxed),
            bytes_allocated: counters.bytes_allocated.load(Relaxed),
            bytes_freed: counters.bytes_freed.load(Relaxed),
            realloc_calls: counters.realloc_calls.load(Relaxed),
        }
    }

    /// Ticks in timed calls that were not interrupted, each taken as the middle of its bucket. It reads some 2,300 words.
    /// Consistent only in the thread that owns the slot.
    #[must_use]
    pub fn clean_ticks(&self) -> u64 {
        let groups = self.counters.latencies.iter().enumerate();
        let buckets = groups.flat_map(|(group, latencies)| {
            let operations = latencies.clean.iter().flat_map(|operation| operation.iter().enumerate());
            operations.map(move |(within, count)| (group * GROUP_BUCKETS + within, count))
        });
        let filled = buckets.map(|(bucket, count)| (bucket, count.load(Relaxed))).filter(|&(_, count)| count > 0);
        // The last value is the one below the bound.
        let middle = |(low, high): (u64, u64)| u64::midpoint(low, high - 1);
        filled.fold(0, |sum, (bucket, count)| sum.wrapping_add(middle(bucket_bounds(bucket)).wrapping_mul(count)))
    }

    /// The most this slot had live since [`Self::flush`] was last called, also from [`Self::settle`]. For the thread that
    /// owns it.
    #[must_use]
    pub fn highest_since_flush(&self) -> Live {
        let live = self.tally().live();
        // Room below zero is a highest point that was not settled yet: it is what is live.
        Live {
            objects: live.objects.wrapping_add(self.room_objects.load(Relaxed).max(0)),
            bytes: live.bytes.wrapping_add(self.room_bytes.load(Relaxed).max(0)),
        }
    }
}
