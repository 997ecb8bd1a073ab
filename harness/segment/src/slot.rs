//! One thread's counters. The owner counts with plain adds; the overflow slot, which threads share when all others are
//! taken, with atomic ones.
//!
//! All that writes a slot is here, so that who doubts a count reads one file: some adds are single instructions for the sake of
//! signal handlers, and each has its plain and its shared form side by side.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use core::mem::offset_of;
use core::sync::atomic::{
    AtomicI64, AtomicU64,
    Ordering::{Relaxed, Release, SeqCst},
    compiler_fence,
};

use crate::histogram::bucket_of;
use crate::layout::{BATCH_BYTES, BATCH_OBJECTS, Counters, GROUP_BUCKETS, Operation, Slot, Sums};
use crate::size_class::size_class_of;

/// Whether `add` is one instruction, so that a signal handler on the same thread finds a counter before or after it,
/// never within. Where it isn't, counting is guarded by `Slot::busy`.
pub const ADD_IS_ONE_INSTRUCTION: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Adds to a counter: one that only this thread writes (`SHARED` false), or one that others write too.
#[inline(always)]
fn add<const SHARED: bool>(counter: &AtomicU64, by: u64) {
    if SHARED {
        counter.fetch_add(by, Relaxed);
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: `counter` is valid and aligned for the add, and only this thread writes it: no `lock` is needed. For
    // other threads, that read it, an aligned 8-byte store is atomic on x86-64, and stores are not reordered.
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

// What is on the path of every call is written out with its offsets in the instructions, since there is no way to make
// sure of that otherwise.

/// Counts an object in three counters that only this thread writes: how many, how many bytes, and its size class.
#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! count_object {
    ($slot:expr, $calls:ident, $bytes:ident, $class:ident, $size:expr) => {
        // SAFETY: as in `add`; the three places are inside `$slot`, since `size_class_of` is below SIZE_CLASSES for
        // every number.
        unsafe {
            core::arch::asm!(
                "inc qword ptr [{slot} + {calls}]",
                "add qword ptr [{slot} + {bytes}], {size}",
                "inc qword ptr [{slot} + 8*{class} + {classes}]",
                slot = in(reg) core::ptr::from_ref::<Slot>($slot),
                size = in(reg) $size,
                class = in(reg) size_class_of($size),
                calls = const offset_of!(Slot, counters) + offset_of!(Counters, $calls),
                bytes = const offset_of!(Slot, counters) + offset_of!(Counters, $bytes),
                classes = const offset_of!(Slot, counters) + offset_of!(Counters, $class),
                options(nostack),
            );
        }
    };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
macro_rules! count_object {
    ($slot:expr, $calls:ident, $bytes:ident, $class:ident, $size:expr) => {
        // Release throughout: needed for frees (see `Counters`), and cheap.
        for (counter, by) in [
            (&$slot.counters.$calls, 1),
            (&$slot.counters.$bytes, $size),
            (&$slot.counters.$class[size_class_of($size)], 1),
        ] {
            counter.store(counter.load(Relaxed).wrapping_add(by), Release);
        }
    };
}

/// Subtracts from the room below a highest point; true if that leaves less than nothing.
#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! take {
    ($slot:expr, $room:ident, $by:expr) => {
        'short: {
            // SAFETY: as in `add`; the place is inside `$slot`.
            unsafe {
                core::arch::asm!(
                    "sub qword ptr [{slot} + {room}], {by}",
                    "js {short}",
                    slot = in(reg) core::ptr::from_ref::<Slot>($slot),
                    by = in(reg) $by,
                    room = const offset_of!(Slot, $room),
                    short = label { break 'short true },
                    options(nostack),
                );
            }
            false
        }
    };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
macro_rules! take {
    ($slot:expr, $room:ident, $by:expr) => {{
        let left = $slot.$room.load(Relaxed).wrapping_sub($by);
        $slot.$room.store(left, Relaxed);
        left < 0
    }};
}

/// Adds to the room below a highest point; returns the sum.
#[inline(always)]
fn give(room: &AtomicI64, by: i64) -> i64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: as in `add`.
    unsafe {
        core::arch::asm!("add qword ptr [{}], {}", in(reg) room.as_ptr(), in(reg) by, options(nostack));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    room.store(room.load(Relaxed).wrapping_add(by), Relaxed);
    room.load(Relaxed)
}

impl Slot {
    /// Counts an allocation of `bytes` that succeeded, in the slot of this thread. True if [`Self::settle`] is due;
    /// that is left to the caller, so that the usual path calls nothing.
    #[inline(always)]
    #[must_use = "settling may be due"]
    pub fn count_alloc(&self, bytes: u64) -> bool {
        count_object!(self, objects_allocated, bytes_allocated, class_allocated, bytes);
        self.rose(1, bytes.cast_signed())
    }

    /// Counts the end of an object of `bytes`, in the slot of this thread. Call it before the memory is given back: a
    /// thread that then gets the same memory counts its allocation later, so what is live is never overstated. True if
    /// [`Self::settle`] is due.
    #[inline(always)]
    #[must_use = "settling may be due"]
    pub fn count_dealloc(&self, bytes: u64) -> bool {
        count_object!(self, objects_freed, bytes_freed, class_freed, bytes);
        self.fell(1, bytes.cast_signed())
    }

    /// Counts a reallocation from `old` to `new` bytes that succeeded, in the slot of this thread. True if
    /// [`Self::settle`] is due.
    #[inline(always)]
    #[must_use = "settling may be due"]
    pub fn count_realloc(&self, old: u64, new: u64) -> bool {
        self.count_resize::<false>(old, new);
        let change = new.wrapping_sub(old).cast_signed();
        if change > 0 { self.rose(0, change) } else { self.fell(0, -change) }
    }

    /// Counts, beside [`Self::count_alloc`], that it was an `alloc_zeroed`.
    #[inline(always)]
    pub fn count_zeroed<const SHARED: bool>(&self, bytes: u64) {
        add::<SHARED>(&self.counters.alloc_zeroed_calls, 1);
        add::<SHARED>(&self.counters.alloc_zeroed_bytes, bytes);
    }

    /// [`Self::count_alloc`] for the overflow slot.
    pub fn count_alloc_shared(&self, sums: &Sums, bytes: u64) {
        let counters = &self.counters;
        add::<true>(&counters.objects_allocated, 1);
        add::<true>(&counters.bytes_allocated, bytes);
        add::<true>(&counters.class_allocated[size_class_of(bytes)], 1);
        sums.add(1, bytes as i64, 1, bytes as i64);
    }

    /// [`Self::count_dealloc`] for the overflow slot.
    pub fn count_dealloc_shared(&self, sums: &Sums, bytes: u64) {
        let counters = &self.counters;
        add_freed::<true>(&counters.objects_freed, 1);
        add_freed::<true>(&counters.bytes_freed, bytes);
        add_freed::<true>(&counters.class_freed[size_class_of(bytes)], 1);
        sums.add(-1, -(bytes as i64), 0, 0);
    }

    /// [`Self::count_realloc`] for the overflow slot.
    pub fn count_realloc_shared(&self, sums: &Sums, old: u64, new: u64) {
        self.count_resize::<true>(old, new);
        let change = new as i64 - old as i64;
        sums.add(0, change, 0, change.max(0));
    }

    #[inline(always)]
    fn count_resize<const SHARED: bool>(&self, old: u64, new: u64) {
        let counters = &self.counters;
        add::<SHARED>(&counters.realloc_calls, 1);
        add::<SHARED>(&counters.realloc_new_bytes, new);
        add::<SHARED>(&counters.bytes_allocated, new);
        add::<SHARED>(&counters.class_allocated[size_class_of(new)], 1);
        add_freed::<SHARED>(&counters.realloc_old_bytes, old);
        add_freed::<SHARED>(&counters.bytes_freed, old);
        add_freed::<SHARED>(&counters.class_freed[size_class_of(old)], 1);
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
        let (group, within) = (bucket / GROUP_BUCKETS, bucket % GROUP_BUCKETS);
        let latencies = &self.counters.latencies[group];
        // Chosen without a branch. Of interrupted calls two counts share a word; the sum of a half stays below 2^32,
        // see the layout.
        let (counter, by) = if interrupted {
            (&latencies.interrupted[operation as usize][within / 2], weight << (32 * (within % 2)))
        } else {
            (&latencies.clean[operation as usize][within], weight)
        };
        add::<SHARED>(counter, by);
        if self.touched.load(Relaxed) & (1 << group) == 0 {
            self.touch(group);
        }
    }

    /// Marks a group of latencies for readers. Atomic, in any slot: a signal handler may have come between the look and this. Release,
    /// like the count before it: who sees the mark sees the count.
    #[cold]
    fn touch(&self, group: usize) {
        self.touched.fetch_or(1 << group, Release);
    }

    /// How many allocations and reallocations were counted here so far.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        let Counters { objects_allocated, realloc_calls, .. } = &self.counters;
        objects_allocated.load(Relaxed).wrapping_add(realloc_calls.load(Relaxed))
    }

    /// Whether this call is one of the sampled ones. If it is, call [`Self::draw_countdown`] for the next.
    #[inline(always)]
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        let left = self.countdown.load(Relaxed).wrapping_sub(1);
        self.countdown.store(left, Relaxed);
        left.cast_signed() <= 0
    }

    /// Whether no countdown was ever drawn here.
    pub(crate) fn is_new(&self) -> bool {
        self.random.load(Relaxed) == 0
    }

    /// Draws how many calls from now the next sample is taken: evenly from 1 to 2·`period` − 1, so that on average it
    /// is one call in `period`, and no rhythm of the program can hide between the samples.
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

    /// Takes what was just allocated from the room below the highest points; true if there was not enough.
    #[inline(always)]
    fn rose(&self, objects: i64, bytes: i64) -> bool {
        if take!(self, room_objects, objects) {
            let _ = take!(self, room_bytes, bytes);
            return true;
        }
        take!(self, room_bytes, bytes)
    }

    /// Gives what was just freed to the room below the highest points; true if the slot is then two batches below one:
    /// since that is at most a batch above what the others know, the slot is a batch or more below what they know.
    #[inline(always)]
    fn fell(&self, objects: i64, bytes: i64) -> bool {
        // Both, without a branch between.
        (give(&self.room_objects, objects) >= 2 * BATCH_OBJECTS) | (give(&self.room_bytes, bytes) >= 2 * BATCH_BYTES)
    }

    /// Raises the highest points to where the slot is, if it is above; and tells the others if it has gone far from
    /// what they know.
    #[inline]
    pub fn settle(&self, sums: &Sums) {
        if self.raise() {
            self.flush(sums);
        }
    }

    /// Raises the highest points to where the slot is, if it is above. True if it has gone so far from what the others
    /// know that [`Self::flush`] is due.
    #[must_use]
    #[inline]
    pub fn raise(&self) -> bool {
        for room in [&self.room_objects, &self.room_bytes] {
            if room.load(Relaxed) < 0 {
                room.store(0, Relaxed);
            }
        }
        let far = |now: i64, added: &AtomicI64, batch: i64| {
            now.wrapping_sub(added.load(Relaxed)).unsigned_abs() >= batch.unsigned_abs()
        };
        far(self.objects(), &self.added_objects, BATCH_OBJECTS) || far(self.bytes(), &self.added_bytes, BATCH_BYTES)
    }

    /// Adds what this slot holds back to the shared sums.
    #[cold]
    #[inline(never)]
    pub fn flush(&self, sums: &Sums) {
        // A signal handler that comes here while its thread is here already leaves it to the thread.
        if self.is_busy() && ADD_IS_ONE_INSTRUCTION {
            return;
        }
        self.guarded(|| {
            let (objects, bytes) = (self.objects(), self.bytes());
            let (above_objects, above_bytes) = (
                objects.wrapping_sub(self.added_objects.load(Relaxed)),
                bytes.wrapping_sub(self.added_bytes.load(Relaxed)),
            );
            sums.add(
                above_objects,
                above_bytes,
                above_objects.wrapping_add(self.room_objects.load(Relaxed)),
                above_bytes.wrapping_add(self.room_bytes.load(Relaxed)),
            );
            self.added_objects.store(objects, Relaxed);
            self.added_bytes.store(bytes, Relaxed);
            self.room_objects.store(0, Relaxed);
            self.room_bytes.store(0, Relaxed);
        });
    }

    /// Runs `stores`, which belong together, so that a signal handler on this thread can see by [`Self::is_busy`] that
    /// it must keep out.
    #[inline(always)]
    pub fn guarded(&self, stores: impl FnOnce()) {
        let before = self.busy.load(Relaxed);
        self.busy.store(1, Relaxed);
        // The fences cost no instruction. They keep the stores between the two of the mark, which is all that a handler
        // needs.
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

/// Lowers a peak to what is live. A thread that adds between our load and our swap may find the old peak high enough,
/// or have the one it raised wiped out by the swap. So what is live is looked at once more after it. In the single
/// order of the SeqCst operations either our second load follows that thread's add, or its look at the peak follows our
/// swap. (On x86-64 none of them costs more than Relaxed.)
fn restart(peak: &AtomicI64, live: &AtomicI64) {
    peak.swap(live.load(Relaxed), SeqCst);
    peak.fetch_max(live.load(SeqCst), SeqCst);
}

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
        let mut too_low = 0;
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
                // Counted, not asserted: the other thread would wait for this one for ever.
                too_low += usize::from(sums.peak_objects.load(Relaxed) < sums.objects.load(Relaxed));
                too_low += usize::from(sums.peak_bytes.load(Relaxed) < sums.bytes.load(Relaxed));
            }
        });
        assert_eq!(too_low, 0);
    }

    #[test]
    fn ticks_of_uninterrupted_calls_add_up_by_weight() {
        // SAFETY: a Slot is made of atomic integers, for which zero is valid.
        let slot: Box<Slot> = unsafe { Box::new_zeroed().assume_init() };
        assert_eq!(slot.clean_ticks(), 0);
        slot.record::<false>(Operation::Alloc, 7, false, 1);
        slot.record::<false>(Operation::Dealloc, 10, false, 3);
        slot.record::<false>(Operation::Dealloc, 1_000, true, 1);
        assert_eq!(slot.clean_ticks(), 37);
        slot.record::<false>(Operation::Realloc, 1 << 20, false, 1);
        let large = slot.clean_ticks() - 37;
        assert!(large.abs_diff(1 << 20) <= (1 << 20) / 32, "{large}");
    }

    #[test]
    fn a_slot_at_the_ends_of_its_numbers_does_not_overflow() {
        // Others may write the segment, and an allocator must not panic.
        // SAFETY: a Slot is made of atomic integers, for which zero is valid.
        let slot: Box<Slot> = unsafe { Box::new_zeroed().assume_init() };
        let sums = Sums::default();
        for extreme in [i64::MIN, i64::MAX] {
            for word in [&slot.added_objects, &slot.added_bytes, &slot.room_objects, &slot.room_bytes, &sums.objects] {
                word.store(extreme, Relaxed);
            }
            slot.counters.objects_allocated.store(extreme.cast_unsigned(), Relaxed);
            slot.countdown.store(extreme.cast_unsigned(), Relaxed);
            slot.count_zeroed::<false>(1);
            if slot.count_alloc(1) {
                slot.settle(&sums);
            }
            if slot.count_realloc(1, i64::MAX as u64) {
                slot.settle(&sums);
            }
            if slot.count_dealloc(i64::MAX as u64) {
                slot.settle(&sums);
            }
            slot.count_alloc_shared(&sums, i64::MAX as u64);
            slot.count_dealloc_shared(&sums, i64::MAX as u64);
            let _ = slot.is_sampled();
        }
    }
}
