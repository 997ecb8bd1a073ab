//! Call stacks in shared memory: of sampled allocations, of what of them is alive, and of slow calls. A table of its own
//! beside the segment, so that who doesn't sample pays nothing.
//!
//! The measured process writes from any thread and any signal handler: no lock, no allocation, no waiting, and what
//! doesn't fit is counted. Whoever holds the memory file reads it at any time, also after the process was killed.
//!
//! | file | what |
//! | --- | --- |
//! | `sampling` | which calls are sampled, and for how much each stands |
//! | `entry` | one stack with its sums, found by its hash |
//! | `live` | which sampled objects live, by address; what was freed; the peak |
//! | `threads` | names of threads |
//! | `samples` | what is read, plain data |

mod entry;
mod live;
mod samples;
mod sampling;
mod threads;

use core::fmt;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use entry::{STACK_WORDS, STALL_WORDS};
use live::{FILTER_WORDS, Live, RECORD_WORDS};
pub use live::{Filter, FilterWords, Tracked};
pub use samples::{Stack, StackSamples, StallStack, phase_kind, phase_word};
pub use sampling::{ALWAYS, Rate, Sample};
pub use threads::{MAX_THREADS, NAME_BYTES};
use threads::{THREADS_WORDS, Threads};

use crate::layout::Operation;

/// The environment variable that names a process's table: `fd:N`, an inherited descriptor of a memory file.
pub const STACKS_VARIABLE: &core::ffi::CStr = c"HEAPGATE_STACKS";

/// First word of every table.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HGSTACKS");

/// Version of this layout. A reader of another version refuses the table.
pub const STACKS_VERSION: u64 = 3;

/// Most frames of a stack that are kept, from the innermost outwards.
pub const MAX_FRAMES: usize = 64;

/// Most calls that one sample may stand for.
pub const MAX_STACK_PERIOD: u64 = 1 << 32;

/// Most bytes that one sample may stand for.
pub const MAX_BYTE_PERIOD: u64 = 1 << 40;

/// One call in how many is sampled where nobody says: it costs a program that does little but allocate 2 to 3 %. 3 million
/// allocations leave 2,900 samples, of which a site that makes a hundredth of them has 29 ± 5.
pub const DEFAULT_CALL_PERIOD: u64 = 1024;

/// And one sample in how many bytes, since large allocations are few: what allocates 1 GB/s is sampled 500 times a second.
pub const DEFAULT_BYTE_PERIOD: u64 = 2 << 20;

/// How long a call takes at least to be slow where nobody says, ns.
pub const DEFAULT_STALL_THRESHOLD_NS: u64 = 10_000;

/// Most entries of a kind that a table may have: more is a sign of a damaged header.
pub const MAX_ENTRIES: usize = 1 << 24;

const HEADER_WORDS: usize = 64;

/// Words of the header.
mod header {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const STACKS: usize = 2;
    pub(super) const CALL_PERIOD: usize = 3;
    pub(super) const SEED: usize = 4;
    pub(super) const SCOPE: usize = 5;
    pub(super) const STALLS: usize = 6;
    pub(super) const LIVE: usize = 7;
    pub(super) const BYTE_PERIOD: usize = 8;
    pub(super) const STALL_THRESHOLD: usize = 9;
    pub(super) const TRACK_FREES: usize = 10;
    /// An `f64`'s bits, by the process.
    pub(super) const NS_PER_TICK: usize = 11;
    /// By the process.
    pub(super) const CAPABILITIES: usize = 12;
    pub(super) const ASKS_KERNEL: usize = 13;
    // The counters, apart from what every sample reads.
    pub(super) const SAMPLES: usize = 16;
    pub(super) const FULL: usize = 17;
    pub(super) const NESTED: usize = 18;
    pub(super) const UNTRACKED: usize = 19;
    pub(super) const STALLS_FULL: usize = 20;
    // What the peak is known by: see `live`.
    pub(super) const LIVE_BYTES: usize = 24;
    pub(super) const PEAK_BYTES: usize = 25;
    pub(super) const EPOCH: usize = 26;
}

/// How much a table has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Stacks that allocate, each with its phase and thread.
    pub stacks: usize,
    /// Stacks of slow calls.
    pub stalls: usize,
    /// Sampled objects that are alive at once.
    pub live: usize,
}

impl Capacity {
    /// A trial's, of which every allocation may be taken: the tokenizers have some hundreds of stacks, and some 100,000 live
    /// objects. 77 MB, of which the kernel gives what is used.
    pub const TRIAL: Self = Self { stacks: 1 << 15, stalls: 1 << 13, live: 1 << 20 };

    /// A service's, whose blocks are all allocated at once: 6 MB. At the rates that a service can bear, it has some
    /// thousand sampled objects alive.
    pub const SERVICE: Self = Self { stacks: 1 << 12, stalls: 1 << 11, live: 1 << 16 };

    /// A trial's in which is taken what `settings` say. What is sampled seldom has a smaller table of live objects: they are
    /// spread all over it, so that each costs a page fault as long as there are pages that none has touched.
    #[must_use]
    pub fn of_trial(settings: &Settings) -> Self {
        /// A trial seldom has more objects alive, or 4 GiB; what finds no room is counted.
        const MOST_OBJECTS: u64 = 1 << 24;
        const MOST_BYTES: u64 = 1 << 32;
        let expected = |most: u64, period: u64| most.checked_div(period).unwrap_or(0);
        let live = expected(MOST_OBJECTS, settings.call_period) + expected(MOST_BYTES, settings.byte_period);
        let live = (live as usize).next_power_of_two().clamp(1 << 12, Self::TRIAL.live);
        Self { live, ..Self::TRIAL }
    }

    /// Size of such a table, bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.words() * size_of::<AtomicU64>()
    }

    const fn words(self) -> usize {
        FIXED_WORDS + self.stacks * STACK_WORDS + self.stalls * STALL_WORDS + self.live * (1 + RECORD_WORDS)
    }

    const fn is_sound(self) -> bool {
        let Self { stacks, stalls, live } = self;
        stacks >= 1 && stalls >= 1 && live >= 1 && stacks <= MAX_ENTRIES && stalls <= MAX_ENTRIES && live <= MAX_ENTRIES
    }
}

const FIXED_WORDS: usize = HEADER_WORDS + THREADS_WORDS + FILTER_WORDS;

/// When samples are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u64)]
pub enum Scope {
    /// From the process's start to its end.
    Always = 0,
    /// In the measured phase.
    #[default]
    Measure = 1,
}

/// What is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// One allocation in how many is sampled whatever its size, on average; 1: all of them; 0: none but by bytes.
    pub call_period: u64,
    /// Besides, one sample in so many bytes, on average; 0: none by bytes.
    pub byte_period: u64,
    /// Calls that take at least this long are taken, of those that are timed; 0: none. It is the level that says which are
    /// timed: at `exact`, all.
    pub stall_threshold_ns: u64,
    /// Makes the samples of a process with one thread the same every time.
    pub seed: u64,
    /// When.
    pub scope: Scope,
    /// Whether sampled objects are followed to their end: live, peak, lifetimes, temporaries.
    pub track_frees: bool,
    /// Whether, in a trial, the kernel tells of slow calls that they waited or met a page fault. It then records each fault and
    /// each switch of each thread, some µs each: on `hf-wordpiece` some percent of all time, so only where the kind is
    /// worth that.
    pub asks_kernel: bool,
}

impl Settings {
    /// One allocation in `period`, on average, in the measured phase; nothing else.
    #[must_use]
    pub const fn calls(period: u64) -> Self {
        Self { call_period: period, ..Self::NOTHING }
    }

    /// Every allocation of the measured phase, followed to its end.
    #[must_use]
    pub const fn exact() -> Self {
        Self { call_period: 1, track_frees: true, ..Self::NOTHING }
    }

    /// Allocations of the measured phase by calls and by bytes, at rates that cost some percent where most time goes into
    /// allocating ([`DEFAULT_CALL_PERIOD`], [`DEFAULT_BYTE_PERIOD`]), followed to their end.
    #[must_use]
    pub const fn sampled() -> Self {
        let (call_period, byte_period) = (DEFAULT_CALL_PERIOD, DEFAULT_BYTE_PERIOD);
        Self { call_period, byte_period, track_frees: true, ..Self::NOTHING }
    }

    /// Calls of the measured phase that take at least `threshold_ns`.
    #[must_use]
    pub const fn stalls(threshold_ns: u64) -> Self {
        Self { stall_threshold_ns: threshold_ns, ..Self::NOTHING }
    }

    /// Nothing: to begin with.
    pub const NOTHING: Self = Self {
        call_period: 0,
        byte_period: 0,
        stall_threshold_ns: 0,
        seed: 1,
        scope: Scope::Measure,
        track_frees: false,
        asks_kernel: false,
    };

    /// Whether allocations are sampled at all.
    #[must_use]
    pub const fn samples_allocations(&self) -> bool {
        self.call_period > 0 || self.byte_period > 0
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::NOTHING
    }
}

/// What a slow call spent its time with, as far as was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u64)]
pub enum StallKind {
    /// Not seen.
    #[default]
    Unknown = 0,
    /// The allocator mapped fresh memory.
    FreshMapping = 1,
    /// The allocator gave memory back to the kernel.
    Purge = 2,
    /// The thread gave up its CPU: it waited for a lock.
    LockWait = 3,
    /// The kernel gave a page, at the first touch.
    PageFault = 4,
}

impl StallKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::FreshMapping, Self::Purge, Self::LockWait, Self::PageFault];

    /// Its name in profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::FreshMapping => "fresh mapping",
            Self::Purge => "purge",
            Self::LockWait => "lock wait",
            Self::PageFault => "page fault",
        }
    }

    /// The kind that `word` stands for; [`Self::Unknown`] for a word that is none.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        match word {
            1 => Self::FreshMapping,
            2 => Self::Purge,
            3 => Self::LockWait,
            4 => Self::PageFault,
            _ => Self::Unknown,
        }
    }
}

/// Which kinds of slow calls the process could tell, a bit each: `1 << StallKind`. A kind whose bit is not set was not
/// looked for, so calls of that kind are among the unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether calls of `kind` were told from others.
    #[must_use]
    pub const fn tells(self, kind: StallKind) -> bool {
        self.0 & (1 << kind as u64) != 0
    }
}

/// Makes a table of zeroed words.
///
/// # Panics
/// If there are too few words, or the capacity is none that a table may have.
pub fn format(words: &[AtomicU64], capacity: Capacity, settings: &Settings) {
    assert!(capacity.is_sound(), "a table of {capacity:?}");
    assert!(words.len() >= capacity.words(), "a table of {capacity:?} in {} words", words.len());
    let set = |word: usize, value: u64| words[word].store(value, Relaxed);
    set(header::VERSION, STACKS_VERSION);
    set(header::STACKS, capacity.stacks as u64);
    set(header::STALLS, capacity.stalls as u64);
    set(header::LIVE, capacity.live as u64);
    set(header::CALL_PERIOD, settings.call_period);
    set(header::BYTE_PERIOD, settings.byte_period);
    set(header::STALL_THRESHOLD, settings.stall_threshold_ns);
    set(header::SEED, settings.seed);
    set(header::SCOPE, settings.scope as u64);
    set(header::TRACK_FREES, u64::from(settings.track_frees));
    set(header::ASKS_KERNEL, u64::from(settings.asks_kernel));
    words[header::MAGIC].store(MAGIC, Release);
}

/// Why memory is no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// Not a table at all.
    NotATable,
    /// Of another version.
    Version(u64),
    /// Its header names more entries than there is memory for, or a table may have.
    Capacity {
        /// Stacks.
        stacks: u64,
        /// Stacks of slow calls.
        stalls: u64,
        /// Live objects.
        live: u64,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATable => f.write_str("this is no table of stacks"),
            Self::Version(found) => write!(f, "the table of stacks has version {found}, expected {STACKS_VERSION}"),
            Self::Capacity { stacks, stalls, live } => write!(
                f,
                "the table of stacks claims to hold {stacks} stacks, {stalls} stacks of slow calls and {live} live \
                 objects, which it can't"
            ),
        }
    }
}

impl core::error::Error for TableError {}

/// A table, for either end. The reader's end takes what it finds for hostile.
#[derive(Debug, Clone, Copy)]
pub struct StackTable<'a> {
    header: &'a [AtomicU64; HEADER_WORDS],
    threads: Threads<'a>,
    stacks: &'a [[AtomicU64; STACK_WORDS]],
    stalls: &'a [[AtomicU64; STALL_WORDS]],
    live: Live<'a>,
}

impl<'a> StackTable<'a> {
    /// Takes words that [`format()`] made a table of.
    ///
    /// # Errors
    /// If they are none.
    pub fn new(words: &'a [AtomicU64]) -> Result<Self, TableError> {
        let header = words.first_chunk::<HEADER_WORDS>().ok_or(TableError::NotATable)?;
        if header[header::MAGIC].load(Acquire) != MAGIC {
            return Err(TableError::NotATable);
        }
        let version = header[header::VERSION].load(Relaxed);
        if version != STACKS_VERSION {
            return Err(TableError::Version(version));
        }
        let claimed = [header::STACKS, header::STALLS, header::LIVE].map(|word| header[word].load(Relaxed));
        let [stacks, stalls, live] = claimed;
        let error = TableError::Capacity { stacks, stalls, live };
        // A claim that no usize holds is above every limit.
        let [stacks, stalls, live] = claimed.map(|claim| usize::try_from(claim).unwrap_or(usize::MAX));
        let capacity = Capacity { stacks, stalls, live };
        if !capacity.is_sound() { Err(error) } else { Self::of(words, capacity).ok_or(error) }
    }

    /// Cuts `words` up; `None` if they are too few.
    fn of(words: &'a [AtomicU64], capacity: Capacity) -> Option<Self> {
        let (header, rest) = words.split_first_chunk::<HEADER_WORDS>()?;
        let (threads, rest) = rest.split_first_chunk::<THREADS_WORDS>()?;
        let (filter, rest) = rest.split_first_chunk::<FILTER_WORDS>()?;
        let (stacks, rest) = rest.split_at_checked(capacity.stacks * STACK_WORDS)?;
        let (stalls, rest) = rest.split_at_checked(capacity.stalls * STALL_WORDS)?;
        let (keys, rest) = rest.split_at_checked(capacity.live)?;
        let records = rest.get(..capacity.live * RECORD_WORDS)?;
        Some(Self {
            header,
            threads: Threads::new(threads),
            stacks: stacks.as_chunks().0,
            stalls: stalls.as_chunks().0,
            live: Live { filter, keys, records: records.as_chunks().0 },
        })
    }

    /// What is to be taken. Numbers that make no sense are brought to the nearest that do.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let word = |word: usize| self.header[word].load(Relaxed);
        Settings {
            call_period: word(header::CALL_PERIOD).min(MAX_STACK_PERIOD),
            byte_period: word(header::BYTE_PERIOD).min(MAX_BYTE_PERIOD),
            stall_threshold_ns: word(header::STALL_THRESHOLD),
            seed: word(header::SEED),
            scope: if word(header::SCOPE) == Scope::Measure as u64 { Scope::Measure } else { Scope::Always },
            track_frees: word(header::TRACK_FREES) != 0,
            asks_kernel: word(header::ASKS_KERNEL) != 0,
        }
    }

    /// How long a tick is, by the process that writes: lifetimes and slow calls are kept in ticks.
    pub fn set_ns_per_tick(&self, ns: f64) {
        self.header[header::NS_PER_TICK].store(ns.to_bits(), Relaxed);
    }

    /// Which kinds of slow calls this process tells.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.header[header::CAPABILITIES].store(capabilities.0, Relaxed);
    }

    /// The number of a thread called `name` (as the kernel keeps it: ended by zeros), for [`Place::thread`].
    #[must_use]
    pub fn thread(&self, name: &[u8; NAME_BYTES]) -> u32 {
        self.threads.find(name)
    }

    /// Adds a sampled allocation: of `object.bytes` at `address`, which is tracked if frees are.
    pub fn record(&self, place: &Place<'_>, sample: Sample, object: Object) {
        self.count(header::SAMPLES);
        let Some(index) = entry::find(self.stacks, place) else { return self.count(header::FULL) };
        entry::add_sample(&self.stacks[index], sample);
        if let Some(address) = object.tracked_at {
            let tracked = Tracked::new(index, sample, object.now);
            self.track(address, &tracked);
        }
    }

    /// Adds a slow call of `ticks` that stands for `calls` calls.
    pub fn record_stall(&self, place: &Place<'_>, calls: u64, ticks: u64) {
        match entry::find(self.stalls, place) {
            Some(index) => entry::add_stall(&self.stalls[index], calls, ticks),
            None => self.count(header::STALLS_FULL),
        }
    }

    /// Counts a stack that could not be taken: it fell into the taking of another, on the same thread.
    pub fn count_nested(&self) {
        self.count(header::NESTED);
    }

    fn count(&self, word: usize) {
        self.header[word].fetch_add(1, Relaxed);
    }

    /// How many samples were taken so far, how many slow calls and how many samples found no room, and how many stacks were
    /// not taken as their thread was taking another.
    #[must_use]
    pub fn counts(&self) -> [u64; 4] {
        [header::SAMPLES, header::STALLS_FULL, header::FULL, header::NESTED].map(|word| self.header[word].load(Relaxed))
    }

    /// What was taken so far.
    #[must_use]
    pub fn read(&self) -> StackSamples {
        samples::read(self)
    }
}

/// Where a call was made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Return addresses, the innermost first, of which at most [`MAX_FRAMES`] are kept.
    pub frames: &'a [u64],
    /// The phase in force: [`phase_word`].
    pub phase: u64,
    /// What [`StackTable::thread`] said.
    pub thread: u32,
    /// For slow calls: which operation, and with what it spent its time.
    pub stall: Option<(Operation, StallKind)>,
}

/// What was allocated.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// Its address, if it is to be followed to its end.
    pub tracked_at: Option<u64>,
    /// When, in ticks.
    pub now: u64,
}

#[cfg(test)]
mod tests;
