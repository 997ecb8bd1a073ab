//! One thread's counters. The owner counts with plain adds; the overflow slot, which threads share when all others are taken,
//! with atomic ones.

use core::sync::atomic::{
    AtomicI64, AtomicU64,
    Ordering::{Relaxed, Release, SeqCst},
    compiler_fence,
};

use crate::histogram::{BUCKETS, bucket_of};
use crate::layout::{BATCH_BYTES, BATCH_OBJECTS, Operation, Slot, Sums};
use crate::size_class::size_class_of;

/// Whether [`add`] is one instruction, so that a signal handler on the same thread finds a counter before or after it, never within.
/// Where it isn't, counting is guarded by [`Slot::busy`].
pub const ADD_IS_ONE_INSTRUCTION: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Adds to a counter: one that only this thread writes (`SHARED` false), or one that others write too.
#[inline(always)]
fn add<const SHARED: bool>(counter: &AtomicU64, by: u64) {
    if SHARED {
        counter.fetch_add(by, Relaxed);
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: `counter` is valid and aligned for the add, and only this thread writes it: no `lock` is needed. For other threads, that read it,
    // an aligned 8-byte store is atomic on x86-64, and stores are not reordered.
    unsafe {
        core::arch::asm!("add qword ptr [{}], {}", in(reg) counter.as_ptr(), in(reg) by, options(nostack));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The same for counters of frees, which a reader reads first: see [`crate::layout::Counters`].
#[inline(always)]
fn add_freed<const SHARED: bool>(counter: &AtomicU64, by: u64) {
    if SHARED {
        counter.fetch_add(by, Release);
    } else if ADD_IS_ONE_INSTRUCTION {
        add::<false>(counter, by);
    } else {
        counter.store(counter.load(Relaxed).wrapping_add(by), Release);
    }
}

impl Slot {
    /// Counts an allocation of `bytes` that succeeded. `SHARED` is true for the overflow slot only. `sums` is called only when the
    /// sums are needed, once in many calls.
    #[inline(always)]
    pub fn count_alloc<'s, const SHARED: bool>(&self, sums: impl Fn() -> &'s Sums, zeroed: bool, bytes: u64) {
        let counters = &self.counters;
        add::<SHARED>(&counters.objects_allocated, 1);
        add::<SHARED>(&counters.bytes_allocated, bytes);
        add::<SHARED>(&counters.class_allocated[size_class_of(bytes)], 1);
        if zeroed {
            add::<SHARED>(&counters.alloc_zeroed_calls, 1);
            add::<SHARED>(&counters.alloc_zeroed_bytes, bytes);
        }
        if SHARED {
            sums().add(1, bytes as i64, 1, bytes as i64);
        } else if self.objects() > self.high_objects.load(Relaxed) || self.bytes() > self.high_bytes.load(Relaxed) {
            self.rise(sums);
        }
    }

    /// Counts the end of an object of `bytes`. Call it before the memory is given back: a thread that then gets the same memory counts
    /// its allocation later, so what is live is never overstated.
    #[inline(always)]
    pub fn count_dealloc<'s, const SHARED: bool>(&self, sums: impl Fn() -> &'s Sums, bytes: u64) {
        let counters = &self.counters;
        add_freed::<SHARED>(&counters.objects_freed, 1);
        add_freed::<SHARED>(&counters.bytes_freed, bytes);
        add_freed::<SHARED>(&counters.class_freed[size_class_of(bytes)], 1);
        if SHARED {
            sums().add(-1, -(bytes as i64), 0, 0);
        } else {
            self.fall(sums);
        }
    }

    /// Counts a reallocation from `old` to `new` bytes that succeeded.
    #[inline(always)]
    pub fn count_realloc<'s, const SHARED: bool>(&self, sums: impl Fn() -> &'s Sums, old: u64, new: u64) {
        let counters = &self.counters;
        add::<SHARED>(&counters.realloc_calls, 1);
        add::<SHARED>(&counters.realloc_new_bytes, new);
        add::<SHARED>(&counters.bytes_allocated, new);
        add::<SHARED>(&counters.class_allocated[size_class_of(new)], 1);
        add_freed::<SHARED>(&counters.realloc_old_bytes, old);
        add_freed::<SHARED>(&counters.bytes_freed, old);
        add_freed::<SHARED>(&counters.class_freed[size_class_of(old)], 1);
        if SHARED {
            let change = new as i64 - old as i64;
            sums().add(0, change, 0, change.max(0));
        } else if self.bytes() > self.high_bytes.load(Relaxed) {
            self.rise(sums);
        } else {
            self.fall(sums);
        }
    }

    /// Counts a call that the allocator refused.
    #[cold]
    pub fn count_failed<const SHARED: bool>(&self) {
        add::<SHARED>(&self.counters.failed_calls, 1);
    }

    /// Files a call of `ticks` that stands for `weight` calls.
    #[inline(always)]
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

    /// Whether this call is one of the sampled ones. If it is, call [`Self::draw_countdown`] for the next.
    #[inline(always)]
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        let left = self.countdown.load(Relaxed).wrapping_sub(1);
        self.countdown.store(left, Relaxed);
        left.cast_signed() <= 0
    }

    /// Draws how many calls from now the next sample is taken: evenly from 1 to 2·`period` − 1, so that on average it is one call in
    /// `period`, and no rhythm of the program can hide between the samples.
    #[cold]
    pub fn draw_countdown(&self, period: u64) {
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
        let span = period.saturating_mul(2).saturating_sub(1).clamp(1, u64::from(u32::MAX));
        self.countdown.store(1 + ((draw * span) >> 32), Relaxed);
    }

    /// Objects this slot's owners allocated and did not free; negative if they free what others allocate.
    #[inline(always)]
    fn objects(&self) -> i64 {
        let counters = &self.counters;
        counters.objects_allocated.load(Relaxed).wrapping_sub(counters.objects_freed.load(Relaxed)).cast_signed()
    }

    /// The same in bytes.
    #[inline(always)]
    fn bytes(&self) -> i64 {
        let counters = &self.counters;
        counters.bytes_allocated.load(Relaxed).wrapping_sub(counters.bytes_freed.load(Relaxed)).cast_signed()
    }

    /// Notes a new highest point, and tells the others when it is a batch above what they know.
    #[inline]
    fn rise<'s>(&self, sums: impl Fn() -> &'s Sums) {
        let mut far = false;
        for (now, high, added, batch) in [
            (self.objects(), &self.high_objects, &self.added_objects, BATCH_OBJECTS),
            (self.bytes(), &self.high_bytes, &self.added_bytes, BATCH_BYTES),
        ] {
            if now > high.load(Relaxed) {
                high.store(now, Relaxed);
                far |= now.wrapping_sub(added.load(Relaxed)) >= batch;
            }
        }
        if far {
            self.flush(sums());
        }
    }

    /// Tells the others when this slot is a batch below what they know.
    #[inline(always)]
    fn fall<'s>(&self, sums: impl Fn() -> &'s Sums) {
        if self.objects().wrapping_add(BATCH_OBJECTS) <= self.added_objects.load(Relaxed)
            || self.bytes().wrapping_add(BATCH_BYTES) <= self.added_bytes.load(Relaxed)
        {
            self.flush(sums());
        }
    }

    /// Adds what this slot holds back to the shared sums.
    #[cold]
    pub fn flush(&self, sums: &Sums) {
        // A signal handler that comes here while its thread is here already leaves it to the thread.
        if self.is_busy() && ADD_IS_ONE_INSTRUCTION {
            return;
        }
        self.guarded(|| {
            let (objects, bytes) = (self.objects(), self.bytes());
            let (added_objects, added_bytes) = (self.added_objects.load(Relaxed), self.added_bytes.load(Relaxed));
            sums.add(
                objects.wrapping_sub(added_objects),
                bytes.wrapping_sub(added_bytes),
                self.high_objects.load(Relaxed).wrapping_sub(added_objects),
                self.high_bytes.load(Relaxed).wrapping_sub(added_bytes),
            );
            self.added_objects.store(objects, Relaxed);
            self.added_bytes.store(bytes, Relaxed);
            self.high_objects.store(objects, Relaxed);
            self.high_bytes.store(bytes, Relaxed);
        });
    }

    /// Runs `stores`, which belong together, so that a signal handler on this thread can see by [`Self::is_busy`] that it must keep out.
    #[inline(always)]
    pub fn guarded(&self, stores: impl FnOnce()) {
        let before = self.busy.load(Relaxed);
        self.busy.store(1, Relaxed);
        // The fences cost no instruction. They keep the stores between the two of the mark, which is all that a handler needs.
        compiler_fence(SeqCst);
        stores();
        compiler_fence(SeqCst);
        self.busy.store(before, Relaxed);
    }

    /// Whether the owner was interrupted between stores that belong together, so that this caller is a signal handler.
    #[inline(always)]
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) != 0
    }

    /// For a slot that changes hands: whatever interrupted its last owner is over.
    pub(crate) fn clear_busy(&self) {
        self.busy.store(0, Relaxed);
    }
}

impl Sums {
    /// Adds a slot's changes, and the highest points it reached on the way.
    fn add(&self, objects: i64, bytes: i64, objects_peak: i64, bytes_peak: i64) {
        let raise = |sum: &AtomicI64, peak: &AtomicI64, by: i64, highest: i64| {
            // SeqCst here and at the look: see `restart`.
            let before = sum.fetch_add(by, SeqCst);
            let highest = before.wrapping_add(highest);
            // A look first: most of the time the peak is higher, and its cache line stays shared.
            if highest > peak.load(SeqCst) {
                peak.fetch_max(highest, SeqCst);
            }
        };
        raise(&self.objects, &self.peak_objects, objects, objects_peak);
        raise(&self.bytes, &self.peak_bytes, bytes, bytes_peak);
    }

    /// Starts the peaks anew from what is live now.
    pub(crate) fn reset_peaks(&self) {
        restart(&self.peak_objects, &self.objects);
        restart(&self.peak_bytes, &self.bytes);
    }
}

/// Lowers a peak to what is live. A thread that adds between our load and our swap may find the old peak high enough, or have the one it
/// raised wiped out by the swap. So what is live is looked at once more after it. In the single order of the SeqCst operations either our
/// second load follows that thread's add, or its look at the peak follows our swap. (On x86-64 none of them costs more than Relaxed.)
fn restart(peak: &AtomicI64, live: &AtomicI64) {
    peak.swap(live.load(Relaxed), SeqCst);
    peak.fetch_max(live.load(SeqCst), SeqCst);
}

const _: () = assert!(BUCKETS.is_multiple_of(2), "two interrupted counts share a word");

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads leave it at the same time: a `std::sync::Barrier` wakes one long after the other.
    fn meet(arrivals: &AtomicU64) {
        let all = (arrivals.fetch_add(1, SeqCst) / 2 + 1) * 2;
        while arrivals.load(SeqCst) < all {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_peak_that_starts_anew_is_never_below_what_is_live() {
        let (sums, arrivals) = (Sums::default(), AtomicU64::new(0));
        let rounds = if cfg!(miri) { 20 } else { 200_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    meet(&arrivals);
                    // Up in one round and down in the next, so that the old peak is high enough now and again.
                    let up = if round % 2 == 0 { 1 } else { -1 };
                    sums.add(up, up << 30, up.max(0), (up << 30).max(0));
                    meet(&arrivals);
                }
            });
            for _ in 0..rounds {
                meet(&arrivals);
                sums.reset_peaks();
                meet(&arrivals);
                assert!(sums.peak_objects.load(Relaxed) >= sums.objects.load(Relaxed));
                assert!(sums.peak_bytes.load(Relaxed) >= sums.bytes.load(Relaxed));
            }
        });
    }

    #[test]
    fn a_slot_at_the_ends_of_its_numbers_does_not_overflow() {
        // Others may write the segment, and an allocator must not panic.
        // SAFETY: a Slot is made of atomic integers, for which zero is valid.
        let slot: Box<Slot> = unsafe { Box::new_zeroed().assume_init() };
        let sums = Sums::default();
        for extreme in [i64::MIN, i64::MAX] {
            for word in [&slot.added_objects, &slot.added_bytes, &slot.high_objects, &slot.high_bytes, &sums.objects] {
                word.store(extreme, Relaxed);
            }
            slot.counters.objects_allocated.store(extreme.cast_unsigned(), Relaxed);
            slot.countdown.store(extreme.cast_unsigned(), Relaxed);
            slot.count_alloc::<false>(|| &sums, true, 1);
            slot.count_realloc::<false>(|| &sums, 1, i64::MAX as u64);
            slot.count_dealloc::<false>(|| &sums, i64::MAX as u64);
            slot.count_alloc::<true>(|| &sums, false, i64::MAX as u64);
            slot.count_dealloc::<true>(|| &sums, i64::MAX as u64);
            let _ = slot.is_sampled();
        }
    }
}
