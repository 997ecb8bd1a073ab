//! Sampled call stacks in shared memory: a table of its own beside the segment, so that who doesn't sample pays nothing.
//!
//! Each entry is one stack with how often it was sampled and for how many bytes. The measured process adds to it from
//! any thread and any signal handler: no lock, no allocation, no waiting, and what doesn't fit is counted. Whoever holds
//! the memory file reads it at any time, also after the process was killed.
//!
//! Open addressing by the stack's hash. A thread claims an empty entry by writing its hash there; others that find the
//! same hash add their counts at once, before the claimer has written the frames, since the hash alone says where they
//! belong. Two stacks with one 64-bit hash would be taken for one: with 10,000 stacks that has a chance of 3 in 10^12.

use core::fmt;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The environment variable that names a process's table: `fd:N`, an inherited descriptor of a memory file.
pub const STACKS_VARIABLE: &core::ffi::CStr = c"HEAPGATE_STACKS";

/// First word of every table.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HGSTACKS");

/// Version of this layout. A reader of another version refuses the table.
pub const STACKS_VERSION: u64 = 1;

/// Most frames of a stack that are kept, from the innermost outwards.
pub const MAX_FRAMES: usize = 64;

/// Stacks a table can hold where nobody asks for another number. The tokenizers have some hundreds, and memory is only
/// taken as entries are.
pub const DEFAULT_STACKS: usize = 1 << 14;

/// Most stacks a table may hold: more is a sign of a damaged header.
pub const MAX_STACKS: usize = 1 << 20;

/// Most allocations that one sample may stand for.
pub const MAX_STACK_PERIOD: u64 = 1 << 32;

/// Entries that are looked at before a stack is given up. A table that is half full needs 2 on average.
const PROBES: usize = 64;

const HEADER_WORDS: usize = 64;
const ENTRY_WORDS: usize = 72;

/// Words of the header.
mod header {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const CAPACITY: usize = 2;
    pub(super) const PERIOD: usize = 3;
    pub(super) const SEED: usize = 4;
    pub(super) const SCOPE: usize = 5;
    /// The counters, apart from what every sample reads.
    pub(super) const SAMPLES: usize = 16;
    pub(super) const FULL: usize = 17;
    pub(super) const NESTED: usize = 18;
}

/// Words of an entry; 0 in `KEY` is an empty one.
mod entry {
    pub(super) const KEY: usize = 0;
    /// 0 until the frames are there.
    pub(super) const DEPTH: usize = 1;
    pub(super) const SAMPLES: usize = 2;
    pub(super) const BYTES: usize = 3;
    pub(super) const FRAMES: usize = 8;
}

const _: () = assert!(entry::FRAMES + MAX_FRAMES == ENTRY_WORDS);

/// Bytes of a table for `stacks` stacks.
#[must_use]
pub const fn table_bytes(stacks: usize) -> usize {
    (HEADER_WORDS + stacks * ENTRY_WORDS) * size_of::<AtomicU64>()
}

/// When samples are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Scope {
    /// From the process's start to its end.
    Always = 0,
    /// In the measured phase.
    Measure = 1,
}

/// Makes a table of zeroed words, whose size decides how many stacks it holds.
///
/// # Panics
/// If there is no room for one stack, or for more than [`MAX_STACKS`].
pub fn format(words: &[AtomicU64], period: u64, seed: u64, scope: Scope) {
    let capacity = words.len().saturating_sub(HEADER_WORDS) / ENTRY_WORDS;
    assert!((1..=MAX_STACKS).contains(&capacity), "a table of {capacity} stacks");
    words[header::VERSION].store(STACKS_VERSION, Relaxed);
    words[header::CAPACITY].store(capacity as u64, Relaxed);
    words[header::PERIOD].store(period, Relaxed);
    words[header::SEED].store(seed, Relaxed);
    words[header::SCOPE].store(scope as u64, Relaxed);
    words[header::MAGIC].store(MAGIC, Release);
}

/// Why memory is no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// Not a table at all.
    NotATable,
    /// Of another version.
    Version(u64),
    /// Its header names more stacks than there is memory for.
    Capacity(u64),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATable => f.write_str("this is no table of stacks"),
            Self::Version(found) => write!(f, "the table of stacks has version {found}, expected {STACKS_VERSION}"),
            Self::Capacity(found) => write!(f, "the table of stacks claims to hold {found} stacks, which it can't"),
        }
    }
}

impl core::error::Error for TableError {}

/// A table, for either end. The reader's end takes what it finds for hostile.
#[derive(Debug, Clone, Copy)]
pub struct StackTable<'a> {
    header: &'a [AtomicU64; HEADER_WORDS],
    entries: &'a [[AtomicU64; ENTRY_WORDS]],
}

impl<'a> StackTable<'a> {
    /// Takes words that [`format()`] made a table of.
    ///
    /// # Errors
    /// If they are none.
    pub fn new(words: &'a [AtomicU64]) -> Result<Self, TableError> {
        let (header, rest) = words.split_first_chunk::<HEADER_WORDS>().ok_or(TableError::NotATable)?;
        if header[header::MAGIC].load(Acquire) != MAGIC {
            return Err(TableError::NotATable);
        }
        let version = header[header::VERSION].load(Relaxed);
        if version != STACKS_VERSION {
            return Err(TableError::Version(version));
        }
        let claimed = header[header::CAPACITY].load(Relaxed);
        let (entries, _) = rest.as_chunks::<ENTRY_WORDS>();
        let capacity = usize::try_from(claimed).ok().filter(|n| (1..=MAX_STACKS).contains(n));
        let entries = capacity.and_then(|n| entries.get(..n)).ok_or(TableError::Capacity(claimed))?;
        Ok(Self { header, entries })
    }

    /// One allocation in how many is sampled, on average.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.header[header::PERIOD].load(Relaxed).clamp(1, MAX_STACK_PERIOD)
    }

    /// The seed of the samples' distances.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.header[header::SEED].load(Relaxed)
    }

    /// When samples are taken.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.header[header::SCOPE].load(Relaxed) == Scope::Measure as u64 { Scope::Measure } else { Scope::Always }
    }

    /// Adds a sample: an allocation of `bytes` at `frames`, the innermost first, of which at most [`MAX_FRAMES`] are
    /// kept. Safe in an allocator and in signal handlers.
    pub fn record(&self, frames: &[u64], bytes: u64) {
        self.header[header::SAMPLES].fetch_add(1, Relaxed);
        let frames = &frames[..frames.len().min(MAX_FRAMES)];
        let key = hash(frames);
        match self.find(key, frames) {
            Some(entry) => {
                entry[entry::SAMPLES].fetch_add(1, Relaxed);
                entry[entry::BYTES].fetch_add(bytes, Relaxed);
            }
            None => {
                self.header[header::FULL].fetch_add(1, Relaxed);
            }
        }
    }

    /// Counts a sample that could not be taken: it fell into the taking of another, on the same thread.
    pub fn count_nested(&self) {
        self.header[header::NESTED].fetch_add(1, Relaxed);
    }

    fn find(&self, key: u64, frames: &[u64]) -> Option<&'a [AtomicU64; ENTRY_WORDS]> {
        // The remainder is below the length, which is a usize and not 0.
        let first = (key % self.entries.len() as u64) as usize;
        let (before, from) = self.entries.split_at_checked(first)?;
        for entry in from.iter().chain(before).take(PROBES) {
            let found = match entry[entry::KEY].load(Relaxed) {
                // AcqRel only so that the claim is not reordered with what the claimer writes after it; readers pair
                // with the depth's Release.
                0 => entry[entry::KEY].compare_exchange(0, key, AcqRel, Relaxed),
                found => Err(found),
            };
            match found {
                Ok(_) => {
                    for (word, &frame) in entry[entry::FRAMES..].iter().zip(frames) {
                        word.store(frame, Relaxed);
                    }
                    // Release: who sees the depth sees the frames.
                    entry[entry::DEPTH].store(frames.len() as u64, Release);
                    return Some(entry);
                }
                Err(found) if found == key => return Some(entry),
                Err(_) => {}
            }
        }
        None
    }

    /// What was sampled so far.
    #[must_use]
    pub fn read(&self) -> StackSamples {
        let counter = |word: usize| self.header[word].load(Relaxed);
        let stacks = self.entries.iter().filter(|entry| entry[entry::KEY].load(Relaxed) != 0);
        StackSamples {
            period: self.period(),
            samples: counter(header::SAMPLES),
            full: counter(header::FULL),
            nested: counter(header::NESTED),
            stacks: stacks.map(stack).filter(|stack| stack.samples > 0).collect(),
        }
    }
}

fn stack(entry: &[AtomicU64; ENTRY_WORDS]) -> Stack {
    let depth = usize::try_from(entry[entry::DEPTH].load(Acquire)).unwrap_or(0).min(MAX_FRAMES);
    Stack {
        frames: entry[entry::FRAMES..].iter().take(depth).map(|word| word.load(Relaxed)).collect(),
        samples: entry[entry::SAMPLES].load(Relaxed),
        bytes: entry[entry::BYTES].load(Relaxed),
    }
}

/// FNV-1a over whole words, and the finish of SplitMix64 to spread it; never 0, which means empty.
fn hash(frames: &[u64]) -> u64 {
    let x = frames.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &frame| {
        (hash ^ frame).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
    });
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)).max(1)
}

/// What a table holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StackSamples {
    /// One allocation in how many was sampled, on average.
    pub period: u64,
    /// Samples taken, also those that found no room.
    pub samples: u64,
    /// Samples whose stack found no room.
    pub full: u64,
    /// Samples not taken, since their thread was taking another (a signal handler that allocates).
    pub nested: u64,
    /// The stacks, in no order.
    pub stacks: Vec<Stack>,
}

/// One call stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// Return addresses, the innermost first; none if the process ended before it had written them.
    pub frames: Vec<u64>,
    /// Samples of it.
    pub samples: u64,
    /// Bytes that the sampled allocations asked for.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(stacks: usize) -> Vec<AtomicU64> {
        let words: Vec<AtomicU64> = (0..table_bytes(stacks) / 8).map(|_| AtomicU64::new(0)).collect();
        format(&words, 64, 7, Scope::Measure);
        words
    }

    #[test]
    fn samples_of_one_stack_add_up() {
        let words = table_of(8);
        let table = StackTable::new(&words).unwrap();
        table.record(&[1, 2, 3], 10);
        table.record(&[1, 2], 7);
        table.record(&[1, 2, 3], 20);
        let mut read = table.read();
        read.stacks.sort_by_key(|stack| stack.samples);
        let expected = [
            Stack { frames: vec![1, 2], samples: 1, bytes: 7 },
            Stack { frames: vec![1, 2, 3], samples: 2, bytes: 30 },
        ];
        assert_eq!(read.stacks, expected);
        assert_eq!((read.period, read.samples, read.full), (64, 3, 0));
    }

    #[test]
    fn a_full_table_counts_what_it_drops_and_keeps_what_it_has() {
        let words = table_of(4);
        let table = StackTable::new(&words).unwrap();
        (0..10).for_each(|stack| table.record(&[stack, 1], 1));
        (0..10).for_each(|stack| table.record(&[stack, 1], 1));
        let read = table.read();
        assert_eq!((read.stacks.len(), read.samples, read.full), (4, 20, 12));
        assert!(read.stacks.iter().all(|stack| stack.samples == 2));
    }

    #[test]
    fn a_deep_stack_keeps_its_innermost_frames() {
        let words = table_of(1);
        let table = StackTable::new(&words).unwrap();
        table.record(&(1..=200).collect::<Vec<_>>(), 1);
        assert_eq!(table.read().stacks[0].frames, (1..=MAX_FRAMES as u64).collect::<Vec<_>>());
    }

    #[test]
    fn threads_that_sample_the_same_stacks_lose_nothing() {
        const EACH: u64 = if cfg!(miri) { 40 } else { 20_000 };
        let words = table_of(64);
        let table = StackTable::new(&words).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..EACH).for_each(|i| table.record(&[i % 16, 3, 4], i % 16)));
            }
        });
        let read = table.read();
        assert_eq!((read.stacks.len(), read.full), (16, 0));
        assert_eq!(read.stacks.iter().map(|stack| stack.samples).sum::<u64>(), 4 * EACH);
        assert!(read.stacks.iter().all(|stack| stack.bytes == stack.samples * stack.frames[0]));
    }

    #[test]
    fn words_that_are_no_table_are_refused_whatever_they_hold() {
        let words = table_of(4);
        assert_eq!(StackTable::new(&words[..10]).unwrap_err(), TableError::NotATable);
        for capacity in [0, 5, u64::MAX] {
            words[header::CAPACITY].store(capacity, Relaxed);
            assert_eq!(StackTable::new(&words).unwrap_err(), TableError::Capacity(capacity));
        }
        words[header::VERSION].store(9, Relaxed);
        assert_eq!(StackTable::new(&words).unwrap_err(), TableError::Version(9));
        words.iter().for_each(|word| word.store(u64::MAX, Relaxed));
        assert_eq!(StackTable::new(&words).unwrap_err(), TableError::NotATable);
        format(&words, 0, 0, Scope::Always);
        let table = StackTable::new(&words).unwrap();
        assert_eq!(table.period(), 1);
        assert!(table.read().stacks.iter().all(|stack| stack.frames.len() == MAX_FRAMES));
        table.record(&[1], 1);
    }
}
