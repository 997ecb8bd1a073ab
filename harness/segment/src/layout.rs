//! The bytes of a segment: one [`Header`], the owner table, the slots, the phases, the registry of arenas, the
//! groups' requests.
//!
//! Everything is an `AtomicU64` at a multiple of 8 bytes (the two words that threads wait on apart), so that the
//! watching end can read any part at any time without tearing and without a lock. The sizes below are the ABI: a change
//! of any of them, or of the order of fields, must raise [`ABI_VERSION`].
//!
//! A long file, on purpose: both ends compile all of it, and who changes a field must see the offsets, sizes and checks that
//! depend on it.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::arenas::ARENAS_BYTES;
use crate::clock::SharedAnchor;
use crate::histogram::{BUCKETS, SUB_BUCKETS};
use crate::requests::REQUESTS_BYTES;
use crate::size_class::SIZE_CLASSES;

/// First word of every segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HEAPGATE");

/// Version of this layout. A reader of another version refuses the segment and names both.
pub const ABI_VERSION: u64 = 5;

/// Slots where nobody asks for another number: enough for a service with 256 threads that allocate at once.
pub const DEFAULT_SLOTS: usize = 256;

/// Most slots a segment may have: more is a sign of a damaged header.
pub const MAX_SLOTS: usize = 1 << 16;

/// Phases a trial's segment can hold; one trial has five at most. A published segment has none.
pub const MAX_PHASES: usize = 16;

/// Slots and phases of a segment: what its size follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Slots, without the overflow slot.
    pub slots: usize,
    /// Phases, at most [`MAX_PHASES`].
    pub phases: usize,
}

impl Shape {
    /// A trial's, with `slots` slots.
    #[must_use]
    pub const fn trial(slots: usize) -> Self {
        Self { slots, phases: MAX_PHASES }
    }

    /// Size of a segment of this shape, bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.requests_offset() + REQUESTS_BYTES
    }

    /// Where the registry of arenas begins.
    #[must_use]
    pub const fn arenas_offset(self) -> usize {
        phases_offset(self.slots) + self.phases * PHASE_STRIDE
    }

    /// Where the groups' requests begin.
    #[must_use]
    pub const fn requests_offset(self) -> usize {
        self.arenas_offset() + ARENAS_BYTES
    }
}

/// Most calls that one timed call may stand for at the sampled levels: two interrupted counts share a word, and must
/// not overflow into each other in the life of a process.
pub const MAX_SAMPLE_PERIOD: u64 = 1 << 16;

/// The environment variable that names a process's segment: `fd:N`, an inherited descriptor of a memory file.
pub const SEGMENT_VARIABLE: &core::ffi::CStr = c"HEAPGATE_SEGMENT";

/// The operations of `GlobalAlloc`, in the order of every per-operation array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Operation {
    /// `alloc`
    Alloc = 0,
    /// `alloc_zeroed`
    AllocZeroed = 1,
    /// `realloc`
    Realloc = 2,
    /// `dealloc`
    Dealloc = 3,
}

/// Number of [`Operation`]s.
pub const OPERATIONS: usize = 4;

/// The phases of a trial, as numbered in their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum PhaseKind {
    /// Loading of data and vocabularies.
    Setup = 0,
    /// Steps that are not measured.
    Warmup = 1,
    /// Steps that are measured.
    Measure = 2,
    /// Everything dropped, and purging asked for.
    Drain = 3,
    /// Steps before the measured ones that are watched for themselves: a prompt taken in before tokens are decoded.
    Prefill = 4,
}

impl PhaseKind {
    /// All of them, in the order in which a trial has them; not every workload has a prefill.
    pub const ALL: [Self; 5] = [Self::Setup, Self::Warmup, Self::Prefill, Self::Measure, Self::Drain];
}

/// How much is recorded. The level is a word of the segment: whoever may write the segment may change it while the
/// process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Level {
    /// Nothing. Live figures are wrong from here on, since frees go unseen.
    Off = 0,
    /// Calls, bytes, live objects.
    Count = 1,
    /// And the time of one call in N, weighted by N.
    Sampled = 2,
    /// And the time of every alloc and realloc, and of one dealloc in N.
    ExactAlloc = 3,
    /// And the time of every call.
    Exact = 4,
}

impl Level {
    /// All levels, cheapest first.
    pub const ALL: [Self; 5] = [Self::Off, Self::Count, Self::Sampled, Self::ExactAlloc, Self::Exact];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Count => "count",
            Self::Sampled => "sampled",
            Self::ExactAlloc => "exact-alloc",
            Self::Exact => "exact",
        }
    }

    /// The level that `word` stands for, whatever it says of stacks; `Off` for a word that is no level.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        match word & !SAMPLES_STACKS {
            1 => Self::Count,
            2 => Self::Sampled,
            3 => Self::ExactAlloc,
            4 => Self::Exact,
            _ => Self::Off,
        }
    }
}

/// A bit of the level's word, beside the level: call stacks are sampled. In the same word, so that a program that doesn't
/// sample needs no look more.
pub const SAMPLES_STACKS: u64 = 1 << 32;

/// Whether calls that the scheduler interrupted are told apart from the allocator's own slowness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum InterruptedSplit {
    /// Nobody has found out.
    Unknown = 0,
    /// They are.
    Available = 1,
    /// Not: the C library has no restartable sequences (glibc before 2.35, another libc, or a static build).
    NoLibc = 2,
    /// Not: the kernel has none, or the user switched them off (`GLIBC_TUNABLES=glibc.pthread.rseq=0`).
    NotRegistered = 3,
    /// Not: this architecture has not been taught to us.
    NoArchitecture = 4,
}

impl InterruptedSplit {
    /// The value that `word` stands for.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        match word {
            1 => Self::Available,
            2 => Self::NoLibc,
            3 => Self::NotRegistered,
            4 => Self::NoArchitecture,
            _ => Self::Unknown,
        }
    }
}

impl core::fmt::Display for InterruptedSplit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unavailable: no process attached",
            Self::Available => "available",
            Self::NoLibc => "unavailable: the C library has no restartable sequences",
            Self::NotRegistered => "unavailable: restartable sequences are not registered",
            Self::NoArchitecture => "unavailable: not on this architecture",
        })
    }
}

/// Figures that the process itself puts into a phase's record, or into the header: those of its allocator and of its
/// regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "the report's AllocatorStats and RegionStats document each")]
pub enum Gauge {
    JemallocAllocated = 0,
    JemallocActive,
    JemallocResident,
    JemallocMapped,
    JemallocRetained,
    JemallocMetadata,
    /// 0 unused, 1 active, 2 unavailable.
    RegionStatus,
    RegionErrno,
    RegionScopes,
    RegionBytes,
    RegionHighWaterBytes,
    RegionTailWasteBytes,
    RegionChunksAcquired,
    RegionChunksReused,
    RegionChunksPeak,
    RegionLargeFallbacks,
    RegionEscapedObjects,
    /// Steps that the workload took.
    Steps,
    /// Times that jemalloc went through its free pages to give some back, dirty and muzzy.
    JemallocPurges,
    /// System calls by which it gave them back.
    JemallocMadvises,
    /// Bytes that it gave back.
    JemallocPurgedBytes,
    /// Scopes that are open now.
    RegionOpenScopes,
}

impl Gauge {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 22] = [
        Self::JemallocAllocated,
        Self::JemallocActive,
        Self::JemallocResident,
        Self::JemallocMapped,
        Self::JemallocRetained,
        Self::JemallocMetadata,
        Self::RegionStatus,
        Self::RegionErrno,
        Self::RegionScopes,
        Self::RegionBytes,
        Self::RegionHighWaterBytes,
        Self::RegionTailWasteBytes,
        Self::RegionChunksAcquired,
        Self::RegionChunksReused,
        Self::RegionChunksPeak,
        Self::RegionLargeFallbacks,
        Self::RegionEscapedObjects,
        Self::Steps,
        Self::JemallocPurges,
        Self::JemallocMadvises,
        Self::JemallocPurgedBytes,
        Self::RegionOpenScopes,
    ];
}

/// Room for gauges; later ones need no new ABI.
pub const MAX_GAUGES: usize = 40;

/// The first of the gauges that hold a workload's own figures, each an `f64`'s bits; those before are [`Gauge`]s.
pub const FIRST_FIGURE: usize = 24;

/// Most figures of its own that a workload can have.
pub const MAX_FIGURES: usize = MAX_GAUGES - FIRST_FIGURE;

const _: () = {
    let mut gauge = 0;
    while gauge < Gauge::ALL.len() {
        assert!(Gauge::ALL[gauge] as usize == gauge, "in their order, none left out");
        gauge += 1;
    }
    assert!(Gauge::ALL.len() <= FIRST_FIGURE);
};

/// Counts that only grow: one thread's in a slot, the process's in a phase's snapshots.
///
/// The order of the fields is the order in which a reader reads them: all that counts frees before all that counts
/// allocations. A free is counted by a release store after its allocation was, so a reader that has seen the free sees
/// the allocation, and never finds more freed than allocated.
#[derive(Debug)]
#[repr(C)]
pub struct Counters {
    /// Calls of dealloc.
    pub(crate) objects_freed: AtomicU64,
    /// Bytes given back: by dealloc, and the old sizes of realloc.
    pub(crate) bytes_freed: AtomicU64,
    pub(crate) realloc_old_bytes: AtomicU64,
    pub(crate) class_freed: [AtomicU64; SIZE_CLASSES],
    /// Calls of alloc and alloc_zeroed.
    pub(crate) objects_allocated: AtomicU64,
    /// Bytes handed out: by alloc, alloc_zeroed, and the new sizes of realloc.
    pub(crate) bytes_allocated: AtomicU64,
    pub(crate) alloc_zeroed_calls: AtomicU64,
    pub(crate) alloc_zeroed_bytes: AtomicU64,
    pub(crate) realloc_calls: AtomicU64,
    pub(crate) realloc_new_bytes: AtomicU64,
    pub(crate) failed_calls: AtomicU64,
    pub(crate) class_allocated: [AtomicU64; SIZE_CLASSES],
    pub(crate) latencies: [LatencyGroup; LATENCY_GROUPS],
}

/// Buckets of latencies that lie together: those of one doubling. Most threads have latencies in few of them.
pub const GROUP_BUCKETS: usize = SUB_BUCKETS;

/// Number of [`LatencyGroup`]s.
pub const LATENCY_GROUPS: usize = BUCKETS / GROUP_BUCKETS;

/// All operations' latencies from one value up to twice that: who reads from outside leaves out what nobody has touched.
#[derive(Debug)]
#[repr(C)]
pub struct LatencyGroup {
    /// Of undisturbed calls.
    pub(crate) clean: [[AtomicU64; GROUP_BUCKETS]; OPERATIONS],
    /// Of interrupted calls, two 32-bit counts a word: interruptions come at most some thousand times a second.
    pub(crate) interrupted: [[AtomicU64; GROUP_BUCKETS / 2]; OPERATIONS],
}

impl LatencyGroup {
    /// Where the count of undisturbed calls of `operation` in `bucket` lies in [`Counters`].
    pub(crate) const fn clean_offset(operation: usize, bucket: usize) -> usize {
        let word = operation * GROUP_BUCKETS + bucket % GROUP_BUCKETS;
        Self::offset(bucket / GROUP_BUCKETS) + offset_of!(Self, clean) + word * 8
    }

    /// Where the counts of interrupted calls of `operation` in `bucket` and the other that shares its word lie.
    pub(crate) const fn interrupted_offset(operation: usize, bucket: usize) -> usize {
        let word = (operation * GROUP_BUCKETS + bucket % GROUP_BUCKETS) / 2;
        Self::offset(bucket / GROUP_BUCKETS) + offset_of!(Self, interrupted) + word * 8
    }

    /// Where group `group` begins.
    pub(crate) const fn offset(group: usize) -> usize {
        offset_of!(Counters, latencies) + group * size_of::<Self>()
    }
}

/// Words in [`Counters`].
pub const COUNTER_WORDS: usize = size_of::<Counters>() / 8;

impl Counters {
    /// The counters as words, in reading order.
    pub(crate) fn words(&self) -> &[AtomicU64; COUNTER_WORDS] {
        // SAFETY: Counters is repr(C) and made of AtomicU64 only, COUNTER_WORDS of them (the assertion below holds that
        // there is no padding), so the cast keeps size, alignment and validity; both are shared references with one
        // lifetime.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

/// One thread's memory. Only the owner writes it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// Of what this slot has live (allocated − freed, may be negative), the part that is in the header's shared sums.
    pub(crate) added_objects: AtomicI64,
    pub(crate) added_bytes: AtomicI64,
    /// How far this slot is below the most it had live since it last added to the sums.
    pub(crate) room_objects: AtomicI64,
    pub(crate) room_bytes: AtomicI64,
    /// Not 0 while the owner is between two stores that belong together: a signal handler on the same thread must keep
    /// out.
    pub(crate) busy: AtomicU64,
    /// Calls until the next one that is timed, for the sampled levels.
    pub(crate) countdown: AtomicU64,
    /// State of the generator that draws the next countdown.
    pub(crate) random: AtomicU64,
    /// Bit N: group N of the latencies may hold some. Set after the first was counted, never cleared: what a reader leaves out
    /// is as if it had read a moment earlier.
    pub(crate) touched: AtomicU64,
    pub(crate) counters: Counters,
}

/// From one slot to the next. A thread in use costs no more than this (pages it never touches cost nothing).
pub const SLOT_STRIDE: usize = 32 * 1024;

/// A phase whose totals are the process's own, as of now.
pub(crate) const PHASE_OPEN: u64 = 0;

/// A phase that has all.
pub(crate) const PHASE_ENDED: u64 = 1;

/// A phase whose totals were taken, and whose figures are still put in.
pub(crate) const PHASE_CLOSED: u64 = 2;

/// One phase mark.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct PhaseRecord {
    /// 0 unused, else 1 + the phase's kind.
    pub(crate) kind: AtomicU64,
    /// [`PHASE_OPEN`], [`PHASE_CLOSED`] or [`PHASE_ENDED`].
    pub(crate) state: AtomicU64,
    pub(crate) units: AtomicU64,
    pub(crate) checksum: AtomicU64,
    pub(crate) peak_objects: AtomicI64,
    pub(crate) peak_bytes: AtomicI64,
    pub(crate) begin_at: SharedAnchor,
    pub(crate) end_at: SharedAnchor,
    /// Bit N: gauge N was set.
    pub(crate) gauges_set: AtomicU64,
    pub(crate) gauges: [AtomicU64; MAX_GAUGES],
    /// The process's totals when the phase began, and when it ended.
    pub(crate) begin: Counters,
    pub(crate) end: Counters,
}

/// From one phase to the next.
pub const PHASE_STRIDE: usize = 64 * 1024;

/// The head of a segment.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Header {
    // What it is; written once by the creator.
    pub(crate) magic: AtomicU64,
    pub(crate) abi_version: AtomicU64,
    pub(crate) total_bytes: AtomicU64,
    pub(crate) slot_count: AtomicU64,
    pub(crate) slot_stride: AtomicU64,
    pub(crate) phase_count: AtomicU64,
    pub(crate) phase_stride: AtomicU64,
    pub(crate) counter_words: AtomicU64,
    // Who writes it; written once by the process that attaches.
    pub(crate) pid: AtomicU64,
    pub(crate) clock: AtomicU64,
    pub(crate) interrupted_split: AtomicU64,
    pub(crate) attached_at: SharedAnchor,
    // How; written from outside at any time.
    pub(crate) level: AtomicU64,
    pub(crate) sample_period: AtomicU64,
    /// Not 0: the process waits at its start and at each phase's end until it is released.
    pub(crate) supervised: AtomicU64,
    /// Not 0: the level was `Off` at some time after the process began, so live figures can't be trusted.
    pub(crate) was_off: AtomicU64,
    // What all threads share; written rarely.
    pub(crate) slots_used: AtomicU64,
    pub(crate) claims: AtomicU64,
    pub(crate) overflow_claims: AtomicU64,
    pub(crate) phases_begun: AtomicU64,
    // The two words that are waited on: how many times the process has stopped and waited, and how many times it was
    // released.
    pub(crate) held: AtomicU32,
    pub(crate) released: AtomicU32,
    pub(crate) sums: Sums,
    pub(crate) identity: SharedIdentity,
    /// Bit N: gauge N was set. These are of now; a phase's record has those of its end.
    pub(crate) gauges_set: AtomicU64,
    pub(crate) gauges: [AtomicU64; MAX_GAUGES],
    /// Arenas that were made, those that were released, and those that found no record in the registry.
    pub(crate) arenas_created: AtomicU64,
    pub(crate) arenas_finalized: AtomicU64,
    pub(crate) arenas_untracked: AtomicU64,
}

/// Whose segment it is, for those who label its figures; empty where nobody said.
#[derive(Debug)]
#[repr(C)]
pub struct SharedIdentity {
    /// When the process started, as field 22 of `/proc/PID/stat` has it.
    pub(crate) start_time: AtomicU64,
    /// When it was published, ns since 1970.
    pub(crate) published_unix_ns: AtomicU64,
    pub(crate) service: SharedText,
    pub(crate) version: SharedText,
    pub(crate) allocator: SharedText,
}

/// Most bytes of a text in the header.
pub const MAX_TEXT_BYTES: usize = 64;

/// UTF-8, padded with zero bytes.
pub(crate) type SharedText = [AtomicU64; MAX_TEXT_BYTES / 8];

/// Live objects and bytes of the whole process, to which threads add in batches; apart, since all threads write it.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Sums {
    pub(crate) objects: AtomicI64,
    pub(crate) bytes: AtomicI64,
    pub(crate) peak_objects: AtomicI64,
    pub(crate) peak_bytes: AtomicI64,
}

impl Sums {
    /// Nothing live.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            objects: AtomicI64::new(0),
            bytes: AtomicI64::new(0),
            peak_objects: AtomicI64::new(0),
            peak_bytes: AtomicI64::new(0),
        }
    }
}

impl Default for Sums {
    fn default() -> Self {
        Self::new()
    }
}

/// Objects by which a thread may go above what it has added to [`Sums`]; below it, twice as many.
pub const BATCH_OBJECTS: i64 = 64;
/// The same in bytes.
pub const BATCH_BYTES: i64 = 64 * 1024;

/// Where the owner table begins.
pub const OWNERS_OFFSET: usize = 4096;

const fn page_up(bytes: usize) -> usize {
    bytes.next_multiple_of(4096)
}

/// Where the slots begin. There is one more than `slots`: the last is the overflow slot, with atomic adds.
#[must_use]
pub const fn slots_offset(slots: usize) -> usize {
    page_up(OWNERS_OFFSET + slots * 8)
}

/// Where the phases begin.
#[must_use]
pub const fn phases_offset(slots: usize) -> usize {
    slots_offset(slots) + (slots + 1) * SLOT_STRIDE
}

/// Size of a trial's segment with `slots` slots, bytes.
#[must_use]
pub const fn segment_bytes(slots: usize) -> usize {
    Shape::trial(slots).bytes()
}

// The ABI. Both ends are built from this file; these hold that another compiler, target or edit lays it out alike.
const _: () = {
    assert!(size_of::<Counters>() == 8 * COUNTER_WORDS);
    assert!(COUNTER_WORDS == 10 + 2 * SIZE_CLASSES + OPERATIONS * (BUCKETS + BUCKETS / 2));
    assert!(SIZE_CLASSES == 252 && BUCKETS == 576);
    // A bit of a word for each.
    assert!(LATENCY_GROUPS * GROUP_BUCKETS == BUCKETS && LATENCY_GROUPS <= 64 && GROUP_BUCKETS.is_multiple_of(2));
    assert!(offset_of!(Slot, counters) == 64);
    assert!(size_of::<Slot>() <= SLOT_STRIDE && SLOT_STRIDE.is_multiple_of(4096));
    assert!(offset_of!(PhaseRecord, begin) == 8 * (11 + MAX_GAUGES));
    assert!(size_of::<PhaseRecord>() <= PHASE_STRIDE);
    assert!(offset_of!(Header, sums) == 256 && offset_of!(Header, identity) == 384);
    assert!(size_of::<Header>() <= OWNERS_OFFSET);
};

/// Why bytes are not a segment that this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutError {
    /// Fewer bytes than a header, or than the header says.
    TooShort {
        /// Bytes there are.
        bytes: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// The first word is not [`MAGIC`].
    NotASegment,
    /// Another version of the ABI.
    Version {
        /// The version of the segment.
        found: u64,
    },
    /// A field of the header has a value it can't have in this version.
    BadField(&'static str),
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooShort { bytes, needed } => write!(f, "segment is cut short: {bytes} bytes, {needed} needed"),
            Self::NotASegment => f.write_str("not a heapgate segment"),
            Self::Version { found } => {
                let age = if *found > ABI_VERSION { "newer" } else { "older" };
                write!(
                    f,
                    "segment has ABI version {found}, {age} than this build's {ABI_VERSION}; use the heapgate that matches it"
                )
            }
            Self::BadField(field) => write!(f, "segment is damaged: its header's {field} can't be right"),
        }
    }
}

impl core::error::Error for LayoutError {}

/// Checks that `words` begin with a header of this version that fits them; returns the segment's shape.
///
/// # Errors
/// Says what is wrong.
pub fn check(words: &[AtomicU64]) -> Result<Shape, LayoutError> {
    let shape = check_header(words)?;
    let (bytes, needed) = (words.len() * 8, shape.bytes());
    if bytes < needed { Err(LayoutError::TooShort { bytes, needed }) } else { Ok(shape) }
}

/// Checks the header alone, whatever follows it.
///
/// # Errors
/// Says what is wrong.
pub fn check_header(words: &[AtomicU64]) -> Result<Shape, LayoutError> {
    let bytes = words.len() * 8;
    if bytes < OWNERS_OFFSET {
        return Err(LayoutError::TooShort { bytes, needed: OWNERS_OFFSET });
    }
    let field = |offset: usize| words[offset / 8].load(Relaxed);
    if field(offset_of!(Header, magic)) != MAGIC {
        return Err(LayoutError::NotASegment);
    }
    let found = field(offset_of!(Header, abi_version));
    if found != ABI_VERSION {
        return Err(LayoutError::Version { found });
    }
    let number = |offset: usize| usize::try_from(field(offset)).unwrap_or(usize::MAX);
    let shape =
        Shape { slots: number(offset_of!(Header, slot_count)), phases: number(offset_of!(Header, phase_count)) };
    if shape.slots == 0 || shape.slots > MAX_SLOTS {
        return Err(LayoutError::BadField("slot count"));
    }
    if shape.phases > MAX_PHASES {
        return Err(LayoutError::BadField("phase count"));
    }
    for (offset, expected, name) in [
        (offset_of!(Header, slot_stride), SLOT_STRIDE, "slot stride"),
        (offset_of!(Header, phase_stride), PHASE_STRIDE, "phase stride"),
        (offset_of!(Header, counter_words), COUNTER_WORDS, "counter count"),
        (offset_of!(Header, total_bytes), shape.bytes(), "total size"),
    ] {
        if field(offset) != expected as u64 {
            return Err(LayoutError::BadField(name));
        }
    }
    Ok(shape)
}

/// Writes the header of a fresh trial's segment of `slots` slots into zeroed `words`, which must be at least
/// [`segment_bytes`] long.
///
/// # Panics
/// If `words` are too short or `slots` is 0 or over [`MAX_SLOTS`].
pub fn format(words: &[AtomicU64], slots: usize, level: Level, sample_period: u64) {
    format_shape(words, Shape::trial(slots), level, sample_period);
}

/// Writes the header of a fresh segment of `shape` into zeroed `words`.
///
/// # Panics
/// If `words` are too short, or the shape is none that a segment can have.
pub fn format_shape(words: &[AtomicU64], shape: Shape, level: Level, sample_period: u64) {
    assert!((1..=MAX_SLOTS).contains(&shape.slots), "a segment has 1 to {MAX_SLOTS} slots");
    assert!(shape.phases <= MAX_PHASES, "a segment has up to {MAX_PHASES} phases");
    assert!(words.len() * 8 >= shape.bytes(), "room for {} slots", shape.slots);
    write_shape(words, shape);
    for (offset, value) in [
        (offset_of!(Header, abi_version), ABI_VERSION),
        (offset_of!(Header, level), level as u64),
        (offset_of!(Header, sample_period), sample_period.clamp(1, MAX_SAMPLE_PERIOD)),
        (offset_of!(Header, magic), MAGIC),
    ] {
        words[offset / 8].store(value, Relaxed);
    }
}

/// Writes what a header says of the segment's shape.
pub(crate) fn write_shape(words: &[AtomicU64], shape: Shape) {
    for (offset, value) in [
        (offset_of!(Header, total_bytes), shape.bytes()),
        (offset_of!(Header, slot_count), shape.slots),
        (offset_of!(Header, slot_stride), SLOT_STRIDE),
        (offset_of!(Header, phase_count), shape.phases),
        (offset_of!(Header, phase_stride), PHASE_STRIDE),
        (offset_of!(Header, counter_words), COUNTER_WORDS),
    ] {
        words[offset / 8].store(value as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests;
