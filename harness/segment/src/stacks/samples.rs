//! What a table holds, as plain data. It may have been written by anybody: whatever it says, reading gives finite numbers
//! that are not negative, and indices that exist.

use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};

use super::entry::{self, STACK_WORDS, STALL_WORDS, of_labels, stack, stall, word};
use super::sampling::from_fixed;
use super::threads::{MAX_THREADS, OTHERS, UNKNOWN};
use super::{Capabilities, MAX_FRAMES, Settings, StackTable, StallKind, header};
use crate::layout::{OPERATIONS, PhaseKind};

/// What a table holds. Estimates are unbiased (see [`super::Rate`]); where every call is taken, they are exact.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackSamples {
    /// What was to be taken.
    pub settings: Settings,
    /// Allocations sampled, also those that found no room.
    pub samples: u64,
    /// Samples whose stack found no room.
    pub full: u64,
    /// Stacks not taken, of samples and of slow calls, since their thread was taking another (a signal handler that
    /// allocates).
    pub nested: u64,
    /// Sampled objects that were not followed to their end: there was no room, or their end went unseen.
    pub untracked: u64,
    /// Slow calls whose stack found no room.
    pub stalls_full: u64,
    /// The most that sampled objects had live at once, bytes, estimated.
    pub peak_live_bytes: f64,
    /// Which kinds of slow calls were told.
    pub capabilities: Capabilities,
    /// Stacks that allocate, in no order.
    pub stacks: Vec<Stack>,
    /// Stacks of slow calls, in no order.
    pub stalls: Vec<StallStack>,
    /// Names of threads, by number. A thread goes by the name that it has as it is sampled, and threads of one name are one.
    pub threads: Vec<String>,
}

/// One call stack in one phase and thread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stack {
    /// Return addresses, the innermost first; none if the process ended before it had written them.
    pub frames: Vec<u64>,
    /// The phase: see [`phase_kind`].
    pub phase: u64,
    /// The thread, an index into [`StackSamples::threads`].
    pub thread: u32,
    /// Samples of it.
    pub samples: u64,
    /// Allocations (alloc, alloc_zeroed, realloc), estimated.
    pub calls: f64,
    /// Bytes that they asked for, by realloc the whole new size, estimated.
    pub bytes: f64,
    /// Estimated variance of [`Self::calls`]; 0 where every call was taken.
    pub calls_variance: f64,
    /// And of [`Self::bytes`].
    pub bytes_variance: f64,
    /// Objects that live at the end, estimated; a realloc ends one and begins another.
    pub live_objects: f64,
    /// Their bytes.
    pub live_bytes: f64,
    /// Objects that lived when the sampled objects of all stacks had the most bytes, estimated.
    pub peak_objects: f64,
    /// Their bytes.
    pub peak_bytes: f64,
    /// Objects that were seen to end, estimated.
    pub freed: f64,
    /// Those of them that ended in the thread that made them, before its next allocation.
    pub temporaries: f64,
    /// How long those that ended lived, together, ns.
    pub lifetime_ns: f64,
}

/// Slow calls at one call stack, in one phase and thread, of one operation and kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StallStack {
    /// Return addresses, the innermost first; none if the process ended before it had written them.
    pub frames: Vec<u64>,
    /// The phase: see [`phase_kind`].
    pub phase: u64,
    /// The thread, an index into [`StackSamples::threads`].
    pub thread: u32,
    /// The operation, an index as [`crate::layout::Operation`]'s.
    pub operation: u64,
    /// With what it spent its time.
    pub kind: StallKind,
    /// Slow calls. Where only one call in N is timed, each counts N.
    pub calls: u64,
    /// Their time.
    pub ns: u64,
    /// The longest of them.
    pub max_ns: u64,
}

/// The word that a phase of `kind` has in a table. A place outside phases has 0.
#[must_use]
pub const fn phase_word(kind: u64) -> u64 {
    kind.saturating_add(1)
}

/// The phase that a table's word stands for; `None` outside phases.
#[must_use]
pub fn phase_kind(word: u64) -> Option<PhaseKind> {
    PhaseKind::ALL.into_iter().find(|&kind| phase_word(kind as u64) == word)
}

pub(super) fn read(table: &StackTable<'_>) -> StackSamples {
    let counter = |word: usize| table.header[word].load(Relaxed);
    let ns_per_tick = positive(counter(header::NS_PER_TICK));
    let mut threads = Names(table.threads.read());
    let used = |entry: &&[AtomicU64; STACK_WORDS]| entry[word::KEY].load(Relaxed) != 0;
    let stacks = table.stacks.iter().filter(used).map(|entry| stack(table, entry, ns_per_tick, &mut threads));
    let stacks = stacks.filter(|stack| stack.samples > 0).collect();
    let used = |entry: &&[AtomicU64; STALL_WORDS]| entry[word::KEY].load(Relaxed) != 0;
    let stalls = table.stalls.iter().filter(used).map(|entry| stall(entry, ns_per_tick, &mut threads));
    let stalls = stalls.filter(|stall| stall.calls > 0).collect();
    StackSamples {
        settings: table.settings(),
        samples: counter(header::SAMPLES),
        full: counter(header::FULL),
        nested: counter(header::NESTED),
        untracked: counter(header::UNTRACKED),
        stalls_full: counter(header::STALLS_FULL),
        peak_live_bytes: from_fixed(counter(header::PEAK_BYTES)),
        capabilities: Capabilities(counter(header::CAPABILITIES)),
        stacks,
        stalls,
        threads: threads.0,
    }
}

/// Names by number.
struct Names(Vec<String>);

impl Names {
    /// `number`, if it is a thread's; else that of a name that says so.
    fn checked(&mut self, number: u32) -> u32 {
        if self.0.get(number as usize).is_some() && (number as usize) < MAX_THREADS {
            return number;
        }
        let name = if number as usize == MAX_THREADS { OTHERS } else { UNKNOWN };
        // From the end: these come after all threads.
        let found = self.0.iter().rposition(|known| known == name);
        found.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        }) as u32
    }
}

fn stack(table: &StackTable<'_>, entry: &[AtomicU64; STACK_WORDS], ns_per_tick: f64, threads: &mut Names) -> Stack {
    let frames = frames(entry);
    let value = |word: usize| entry[word].load(Relaxed);
    let fixed = |word: usize| from_fixed(value(word));
    let (thread, phase, _, _) = of_labels(value(word::LABELS));
    let [peak_objects, peak_bytes] = table.peak_of(entry).map(from_fixed);
    Stack {
        frames,
        phase,
        thread: threads.checked(thread),
        samples: value(stack::SAMPLES),
        calls: fixed(stack::CALLS),
        bytes: fixed(stack::BYTES),
        calls_variance: positive(value(stack::CALLS_VARIANCE)),
        bytes_variance: positive(value(stack::BYTES_VARIANCE)),
        live_objects: fixed(stack::LIVE_OBJECTS),
        live_bytes: fixed(stack::LIVE_BYTES),
        peak_objects,
        peak_bytes,
        freed: fixed(stack::FREED),
        temporaries: fixed(stack::TEMPORARIES),
        lifetime_ns: (positive(value(stack::LIFETIME)) * ns_per_tick).min(f64::MAX),
    }
}

fn stall(entry: &[AtomicU64; STALL_WORDS], ns_per_tick: f64, threads: &mut Names) -> StallStack {
    let frames = frames(entry);
    let value = |word: usize| entry[word].load(Relaxed);
    let ns = |word: usize| (value(word) as f64 * ns_per_tick).round() as u64;
    let (thread, phase, operation, kind) = of_labels(value(entry::word::LABELS));
    StallStack {
        frames,
        phase,
        thread: threads.checked(thread),
        operation: operation.min(OPERATIONS as u64 - 1),
        kind: StallKind::from_word(kind),
        calls: value(stall::CALLS),
        ns: ns(stall::TICKS),
        max_ns: ns(stall::MAX_TICKS),
    }
}

/// The frames of an entry. First: who sees the depth sees the labels too.
fn frames<const WORDS: usize>(entry: &[AtomicU64; WORDS]) -> Vec<u64> {
    let depth = usize::try_from(entry[word::DEPTH].load(Acquire)).unwrap_or(0).min(MAX_FRAMES);
    entry[WORDS - MAX_FRAMES..].iter().take(depth).map(|word| word.load(Relaxed)).collect()
}

/// The `f64` of these bits, 0 if it is none that a sum can be.
fn positive(bits: u64) -> f64 {
    Some(f64::from_bits(bits)).filter(|value| value.is_finite() && *value > 0.0).unwrap_or(0.0)
}
