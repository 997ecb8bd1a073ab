//! What regions have done in this process: sums of per-thread counts, and the latest escapes.
//!
//! Threads count in cells of their own and add them here when a scope ends, a chunk fills or the thread exits.

use crate::local::with_local;
use crate::{chunk, os, range};
use std::cell::Cell;
use std::panic::Location;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering, fence};

/// How many escape records are kept: the latest.
pub const ESCAPES_KEPT: usize = 32;

/// What regions have done since the process began. Other threads' open scopes show when they end; all else is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Scopes that have begun and ended, nested ones included.
    pub scopes: u64,
    /// Objects bumped.
    pub objects: u64,
    /// Bytes bumped, as requested; growth in place included, padding not.
    pub bytes: u64,
    /// Chunks that a thread fills or that objects pin, now.
    pub chunks_in_use: u64,
    /// The most of them at any time.
    pub chunks_in_use_peak: u64,
    /// The same peak in bytes of chunks.
    pub bytes_peak: u64,
    /// Bytes of chunks ever made usable: resident memory is at most this.
    pub committed_bytes: u64,
    /// Chunks handed to threads.
    pub chunk_acquisitions: u64,
    /// Of these, chunks that had been used before.
    pub chunk_reuses: u64,
    /// Times a thread found its chunk empty and began it again, without handing it back.
    pub chunk_resets: u64,
    /// Bytes unused at the end of chunks that were sealed with objects in them.
    pub tail_waste_bytes: u64,
    /// Allocations in a scope that went to the inner allocator for their size or alignment.
    pub large_fallbacks: u64,
    /// Allocations in a scope that went there because no chunk could be had.
    pub exhausted_fallbacks: u64,
    /// Scopes that ended with objects alive.
    pub escaping_scopes: u64,
    /// Objects alive when their scope ended. One that outlives two nested scopes counts for each. Exact for what the
    /// owning thread frees; what other threads freed counts as dead only where a whole chunk is seen to be empty.
    pub escaped_objects: u64,
    /// Bytes of these, with the same limits.
    pub escaped_bytes: u64,
}

impl Stats {
    /// The share of chunk acquisitions that were reuses, from 0 to 1.
    pub fn reuse_rate(&self) -> f64 {
        if self.chunk_acquisitions == 0 { 0.0 } else { self.chunk_reuses as f64 / self.chunk_acquisitions as f64 }
    }
}

/// The objects that outlived one scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Escape {
    /// Which scope of its thread: 1 is the first.
    pub scope: u64,
    /// The kernel's id of the thread.
    pub thread: i32,
    /// When the scope ended: `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Objects alive at that time.
    pub objects: u64,
    /// Bytes of these objects.
    pub bytes: u64,
    /// The line that called [`scope`](crate::scope).
    pub place: Option<&'static Location<'static>>,
}

/// What each thread counts by itself and adds to the sums from time to time.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Scopes,
    Objects,
    Bytes,
    ChunkResets,
    TailWasteBytes,
    LargeFallbacks,
    ExhaustedFallbacks,
    EscapingScopes,
    EscapedObjects,
    EscapedBytes,
}

/// How many `Count`s there are.
pub(crate) const COUNTS: usize = Count::EscapedBytes as usize + 1;

/// Sums are split over this many cache-line groups, so that short scopes on many cores don't fight for one.
const SHARDS: usize = 16;

#[repr(align(128))]
struct Shard([AtomicU64; COUNTS]);

static SUMS: [Shard; SHARDS] = [const { Shard([const { AtomicU64::new(0) }; COUNTS]) }; SHARDS];
static IN_USE: AtomicU64 = AtomicU64::new(0);
static IN_USE_PEAK: AtomicU64 = AtomicU64::new(0);
static ACQUISITIONS: AtomicU64 = AtomicU64::new(0);
static REUSES: AtomicU64 = AtomicU64::new(0);

/// Moves a thread's counts to the sums. Relaxed, like all sums here: they order nothing.
pub(crate) fn collect(thread: u64, counts: &[Cell<u64>; COUNTS]) {
    let shard = &SUMS[thread as usize % SHARDS];
    for (sum, count) in shard.0.iter().zip(counts) {
        if count.get() > 0 {
            sum.fetch_add(count.take(), Ordering::Relaxed);
        }
    }
}

pub(crate) fn chunk_acquired(reused: bool) {
    let now = IN_USE.fetch_add(1, Ordering::Relaxed) + 1;
    IN_USE_PEAK.fetch_max(now, Ordering::Relaxed);
    ACQUISITIONS.fetch_add(1, Ordering::Relaxed);
    REUSES.fetch_add(u64::from(reused), Ordering::Relaxed);
}

pub(crate) fn chunk_released() {
    IN_USE.fetch_sub(1, Ordering::Relaxed);
}

/// The counters now. Takes well under a microsecond and allocates nothing.
///
/// ```
/// let before = heapgate_region::stats();
/// heapgate_region::scope(|| ());
/// assert_eq!(heapgate_region::stats().scopes, before.scopes + 1);
/// ```
pub fn stats() -> Stats {
    with_local(|local| local.flush());
    let sum = |count| SUMS.iter().map(|shard| shard.0[count as usize].load(Ordering::Relaxed)).sum();
    let chunks_in_use_peak = IN_USE_PEAK.load(Ordering::Relaxed);
    Stats {
        scopes: sum(Count::Scopes),
        objects: sum(Count::Objects),
        bytes: sum(Count::Bytes),
        chunk_resets: sum(Count::ChunkResets),
        tail_waste_bytes: sum(Count::TailWasteBytes),
        large_fallbacks: sum(Count::LargeFallbacks),
        exhausted_fallbacks: sum(Count::ExhaustedFallbacks),
        escaping_scopes: sum(Count::EscapingScopes),
        escaped_objects: sum(Count::EscapedObjects),
        escaped_bytes: sum(Count::EscapedBytes),
        chunks_in_use: IN_USE.load(Ordering::Relaxed),
        chunks_in_use_peak,
        bytes_peak: chunks_in_use_peak * range::CHUNK_BYTES as u64,
        committed_bytes: chunk::committed_bytes(),
        chunk_acquisitions: ACQUISITIONS.load(Ordering::Relaxed),
        chunk_reuses: REUSES.load(Ordering::Relaxed),
    }
}

/// Scopes that are open in this process now, of up to [`MAX_SCOPE_THREADS`](heapgate_segment::arenas::MAX_SCOPE_THREADS)
/// threads; `None` in a process without a segment, which keeps no list of them.
#[must_use]
pub fn open_scopes() -> Option<u64> {
    heapgate_segment::arenas::registry().map(|registry| registry.open_scopes())
}

/// A record that many may write and read without a lock: odd while it is written, and a reader that sees the version
/// move drops what it read.
struct Slot {
    version: AtomicU64,
    thread: AtomicI32,
    words: [AtomicU64; 4],
    /// A `&'static Location`, or null.
    place: AtomicPtr<Location<'static>>,
}

static SLOTS: [Slot; ESCAPES_KEPT] = [const {
    Slot {
        version: AtomicU64::new(0),
        thread: AtomicI32::new(0),
        words: [const { AtomicU64::new(0) }; 4],
        place: AtomicPtr::new(null_mut()),
    }
}; ESCAPES_KEPT];
/// Escapes recorded so far; the next goes to this number's slot.
static RECORDED: AtomicU64 = AtomicU64::new(0);

/// Records that `objects` of `bytes` outlived scope number `scope` of this thread, which began at `place`.
#[cold]
pub(crate) fn record_escape(scope: u64, place: Option<&'static Location<'static>>, objects: u64, bytes: u64) {
    let slot = &SLOTS[RECORDED.fetch_add(1, Ordering::Relaxed) as usize % ESCAPES_KEPT];
    let version = slot.version.load(Ordering::Relaxed);
    // Acquire keeps the fields' stores after the mark. A slot that another thread is writing is left to it: the sums
    // count this escape all the same.
    let claim = |odd| slot.version.compare_exchange(version, odd, Ordering::Acquire, Ordering::Relaxed);
    if version % 2 == 1 || claim(version + 1).is_err() {
        return;
    }
    // Release pairs with the Acquire fence in `read`: who sees a new field sees the odd version.
    fence(Ordering::Release);
    slot.thread.store(os::thread_id(), Ordering::Relaxed);
    for (word, value) in slot.words.iter().zip([scope, os::monotonic_ns(), objects, bytes]) {
        word.store(value, Ordering::Relaxed);
    }
    slot.place.store(place.map_or(null_mut(), |place| std::ptr::from_ref(place).cast_mut()), Ordering::Relaxed);
    // Release pairs with the Acquire load in `read`: who sees this version sees its fields.
    slot.version.store(version + 2, Ordering::Release);
}

impl Slot {
    fn read(&self) -> Option<Escape> {
        let version = self.version.load(Ordering::Acquire);
        let thread = self.thread.load(Ordering::Relaxed);
        let [scope, time_ns, objects, bytes] = [0, 1, 2, 3].map(|i| self.words[i].load(Ordering::Relaxed));
        let place = self.place.load(Ordering::Relaxed);
        // SAFETY: null, or from `record_escape`: a static's address, whichever escape's it is.
        let place = unsafe { place.as_ref() };
        fence(Ordering::Acquire);
        let whole = version > 0 && version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        whole.then_some(Escape { scope, thread, time_ns, objects, bytes, place })
    }
}

/// The latest escapes of all threads, oldest first, at most [`ESCAPES_KEPT`]. Allocates nothing.
///
/// ```
/// use heapgate_region::{recent_escapes, scope};
/// scope(|| ());
/// for escape in recent_escapes() {
///     let place = escape.place.map(ToString::to_string).unwrap_or_default();
///     eprintln!("scope {} of thread {}, {place}, leaked {} bytes", escape.scope, escape.thread, escape.bytes);
/// }
/// ```
pub fn recent_escapes() -> impl Iterator<Item = Escape> {
    let oldest = RECORDED.load(Ordering::Relaxed) as usize;
    (0..ESCAPES_KEPT).filter_map(move |i| SLOTS[oldest.wrapping_add(i) % ESCAPES_KEPT].read())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope;
    use crate::testing::{Block, isolated};

    #[test]
    fn objects_and_bytes_are_counted_as_requested() {
        isolated(|| {
            let before = stats();
            scope(|| {
                let mut block = Block::new(100, 1, 1);
                block.resize(150);
                Block::new(3, 1, 2).free();
                block.free();
            });
            let after = stats();
            assert_eq!(after.objects - before.objects, 2);
            assert_eq!(after.bytes - before.bytes, 153);
            assert_eq!(after.scopes - before.scopes, 1);
        });
    }

    #[test]
    fn an_escape_is_recorded_with_scope_thread_time_and_size() {
        isolated(|| {
            let start = os::monotonic_ns();
            scope(|| ());
            let escaped = scope(|| (Block::new(40, 8, 1), Block::new(2, 1, 2)));
            let last = recent_escapes().last().unwrap();
            assert!(last.place.is_some_and(|place| place.file().ends_with("stats.rs")), "{:?}", last.place);
            assert_eq!((last.scope, last.objects, last.bytes), (2, 2, 42));
            assert_eq!(last.thread, os::thread_id());
            assert!((start..=os::monotonic_ns()).contains(&last.time_ns));
            escaped.0.free();
            escaped.1.free();
        });
    }

    #[test]
    fn the_ring_keeps_the_latest_escapes_in_order() {
        isolated(|| {
            for size in 1..=2 * ESCAPES_KEPT {
                scope(|| Block::new(size, 1, 1)).free();
            }
            let sizes: Vec<u64> = recent_escapes().map(|escape| escape.bytes).collect();
            assert_eq!(sizes, (ESCAPES_KEPT as u64 + 1..=2 * ESCAPES_KEPT as u64).collect::<Vec<_>>());
        });
    }

    #[test]
    fn large_and_misaligned_requests_are_counted_as_fallbacks() {
        isolated(|| {
            let before = stats();
            scope(|| {
                Block::new(crate::MAX_OBJECT_BYTES + 1, 1, 1).free();
                Block::new(8, 2 * range::CHUNK_BYTES, 1).free();
            });
            assert_eq!(stats().large_fallbacks - before.large_fallbacks, 2);
        });
    }

    #[test]
    fn tail_waste_is_what_a_sealed_chunk_left_unused() {
        isolated(|| {
            let before = stats();
            let quarter = crate::MAX_OBJECT_BYTES;
            scope(|| {
                let filling = [1, 2, 3].map(|byte| Block::new(quarter, 1, byte));
                let fitting = Block::new(quarter - 100, 1, 4);
                let next = Block::new(101, 1, 5);
                filling.into_iter().for_each(Block::free);
                fitting.free();
                next.free();
            });
            assert_eq!(stats().tail_waste_bytes - before.tail_waste_bytes, 100);
        });
    }
}
