//! One thread's counters. The owner counts with plain loads and stores; the overflow slot, which threads share when all slots are taken
//! and which signal handlers use while their thread is busy counting, with atomic adds.

use core::sync::atomic::{
    AtomicI64, AtomicU64,
    Ordering::{Relaxed, Release},
};

use crate::histogram::{BUCKETS, bucket_of};
use crate::layout::{BATCH_BYTES, BATCH_OBJECTS, Operation, Slot, Sums};
use crate::size_class::size_class_of;

/// Adds to a counter: one that only this thread writes (`SHARED` false), or one that others write too.
#[inline(always)]
fn add<const SHARED: bool>(counter: &AtomicU64, by: u64) {
    if SHARED {
        counter.fetch_add(by, Relaxed);
    } else {
        counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
    }
}

/// The same for counters of frees, which a reader reads first: see [`crate::layout::Counters`].
#[inline(always)]
fn add_freed<const SHARED: bool>(counter: &AtomicU64, by: u64) {
    if SHARED {
        counter.fetch_add(by, Release);
    } else {
        counter.store(counter.load(Relaxed).wrapping_add(by), Release);
    }
}

impl Slot {
    /// Counts an allocation of `bytes` that succeeded. `SHARED` is true for the overflow slot only.
    #[inline(always)]
    pub fn count_alloc<const SHARED: bool>(&self, sums: &Sums, zeroed: bool, bytes: u64) {
        let counters = &self.counters;
        let (calls, sum) = if zeroed {
            (&counters.alloc_zeroed_calls, &counters.alloc_zeroed_bytes)
        } else {
            (&counters.alloc_calls, &counters.alloc_bytes)
        };
        add::<SHARED>(calls, 1);
        add::<SHARED>(sum, bytes);
        add::<SHARED>(&counters.class_allocated[size_class_of(bytes)], 1);
        self.change_live::<SHARED>(sums, 1, bytes as i64);
    }

    /// Counts the end of an object of `bytes`. Call it before the memory is given back: a thread that then gets the same memory counts
    /// its allocation later, so what is live is never overstated.
    #[inline(always)]
    pub fn count_dealloc<const SHARED: bool>(&self, sums: &Sums, bytes: u64) {
        let counters = &self.counters;
        add_freed::<SHARED>(&counters.dealloc_calls, 1);
        add_freed::<SHARED>(&counters.dealloc_bytes, bytes);
        add_freed::<SHARED>(&counters.class_freed[size_class_of(bytes)], 1);
        self.change_live::<SHARED>(sums, -1, -(bytes as i64));
    }

    /// Counts a reallocation from `old` to `new` bytes that succeeded.
    #[inline(always)]
    pub fn count_realloc<const SHARED: bool>(&self, sums: &Sums, old: u64, new: u64) {
        let counters = &self.counters;
        add::<SHARED>(&counters.realloc_calls, 1);
        add::<SHARED>(&counters.realloc_new_bytes, new);
        add::<SHARED>(&counters.class_allocated[size_class_of(new)], 1);
        add_freed::<SHARED>(&counters.realloc_old_bytes, old);
        add_freed::<SHARED>(&counters.class_freed[size_class_of(old)], 1);
        self.change_live::<SHARED>(sums, 0, new as i64 - old as i64);
    }

    /// Counts a call that the allocator refused.
    #[cold]
    pub fn count_failed<const SHARED: bool>(&self) {
        add::<SHARED>(&self.counters.failed_calls, 1);
    }

    /// Files a call of `ticks` that stands for `weight` calls.
    #[inline]
    pub fn record<const SHARED: bool>(&self, operation: Operation, ticks: u64, interrupted: bool, weight: u64) {
        let bucket = bucket_of(ticks);
        if interrupted {
            // Two counts a word; the sum of a half stays below 2^32, see the layout.
            let half = 32 * (bucket % 2) as u32;
            add::<SHARED>(&self.counters.interrupted[operation as usize][bucket / 2], weight << half);
        } else {
            add::<SHARED>(&self.counters.clean[operation as usize][bucket], weight);
        }
    }

    /// Whether this call is one of the sampled ones. The intervals are drawn evenly from 1 to 2·`period` − 1, so that on average one call
    /// in `period` is taken, and no rhythm of the program can hide between the samples.
    #[inline(always)]
    pub fn take_sample(&self, period: u64) -> bool {
        let left = self.countdown.load(Relaxed);
        if left > 1 {
            self.countdown.store(left - 1, Relaxed);
            return false;
        }
        self.draw_countdown(period)
    }

    #[cold]
    fn draw_countdown(&self, period: u64) -> bool {
        // xorshift64*: three shifts are enough for intervals. The address seeds it, so that threads differ.
        let mut x = self.random.load(Relaxed);
        if x == 0 {
            x = core::ptr::from_ref(self).addr() as u64 | 1;
        }
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.store(x, Relaxed);
        let draw = x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        let span = (2 * period).saturating_sub(1).clamp(1, u64::from(u32::MAX));
        self.countdown.store(1 + ((draw * span) >> 32), Relaxed);
        true
    }

    #[inline(always)]
    fn change_live<const SHARED: bool>(&self, sums: &Sums, objects: i64, bytes: i64) {
        if SHARED {
            sums.add(objects, bytes, objects, bytes);
            return;
        }
        let objects = change(&self.delta_objects, &self.delta_objects_peak, objects);
        let bytes = change(&self.delta_bytes, &self.delta_bytes_peak, bytes);
        // One comparison each for "−BATCH ≤ delta < BATCH".
        if ((objects + BATCH_OBJECTS) as u64 >= 2 * BATCH_OBJECTS as u64)
            | ((bytes + BATCH_BYTES) as u64 >= 2 * BATCH_BYTES as u64)
        {
            self.flush(sums);
        }
    }

    /// Adds what this thread holds back to the shared sums.
    #[cold]
    pub fn flush(&self, sums: &Sums) {
        sums.add(
            self.delta_objects.load(Relaxed),
            self.delta_bytes.load(Relaxed),
            self.delta_objects_peak.load(Relaxed),
            self.delta_bytes_peak.load(Relaxed),
        );
        for delta in [&self.delta_objects, &self.delta_bytes, &self.delta_objects_peak, &self.delta_bytes_peak] {
            delta.store(0, Relaxed);
        }
    }

    /// Marks the owner as between two stores, or not. The caller keeps its stores between the two with compiler fences.
    #[inline(always)]
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(u64::from(busy), Relaxed);
    }

    /// Whether the owner was interrupted between two stores, so that this caller is a signal handler.
    #[inline(always)]
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) != 0
    }
}

#[inline(always)]
fn change(delta: &AtomicI64, peak: &AtomicI64, by: i64) -> i64 {
    let now = delta.load(Relaxed).wrapping_add(by);
    delta.store(now, Relaxed);
    if by > 0 && now > peak.load(Relaxed) {
        peak.store(now, Relaxed);
    }
    now
}

impl Sums {
    /// Adds a thread's changes, and the highest points it reached on the way.
    fn add(&self, objects: i64, bytes: i64, objects_peak: i64, bytes_peak: i64) {
        let before = self.objects.fetch_add(objects, Relaxed);
        self.peak_objects.fetch_max(before.wrapping_add(objects_peak), Relaxed);
        let before = self.bytes.fetch_add(bytes, Relaxed);
        self.peak_bytes.fetch_max(before.wrapping_add(bytes_peak), Relaxed);
    }

    /// Starts the peaks anew from what is live now.
    pub(crate) fn reset_peaks(&self) {
        self.peak_objects.store(self.objects.load(Relaxed), Relaxed);
        self.peak_bytes.store(self.bytes.load(Relaxed), Relaxed);
    }
}

const _: () = assert!(BUCKETS.is_multiple_of(2), "two interrupted counts share a word");
