//! Takes call stacks inside the call, into a table in shared memory: of sampled allocations, which it follows to their
//! end if that is asked for, and of slow calls.
//!
//! Which allocations, and for what each stands, says [`heapgate_segment::stacks::Rate`]. Here a thread draws how far on
//! its next sample is, and counts down what its allocations cost. How a stack is found, and why that is safe here, says
//! `unwinder`; what slow calls spend their time with, `stalls`.
//!
//! There is no state between calls: a panic under way, or a signal at any point, finds nothing half done. Should anything
//! below allocate through us after all, or a signal handler do so meanwhile, a flag keeps it from sampling in its turn.

mod kernel;
mod on_request;
mod stalls;
mod unwinder;

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicPtr, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    compiler_fence,
};

use heapgate_segment::clock::{Anchor, ClockKind};
use heapgate_segment::layout::PhaseKind;
use heapgate_segment::stacks::{
    Filter, FilterWords, NAME_BYTES, Object, Place, Rate, Sample, Scope, StackTable, Tracked, phase_word,
};
use heapgate_segment::writer::Writer;

pub(crate) use kernel::thread_ends;
pub(crate) use on_request::Region;
pub(crate) use stalls::{before_call, is_slow, slow};
pub use stalls::{mark, marks, takes_slow_calls};
use unwinder::Frames;

use crate::attach;

static TABLE: OnceLock<StackTable<'static>> = OnceLock::new();

/// What an allocation costs: a call, a byte.
static RATE: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));

/// The table's filter, if sampled objects are followed to their end; else null.
static FILTER: AtomicPtr<FilterWords> = AtomicPtr::new(std::ptr::null_mut());

/// The phase in force, as the table has it.
static PHASE: AtomicU64 = AtomicU64::new(0);

/// How often sampling was switched on: what a thread knows of the table is of one time.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Threads that have sampled: each draws its own numbers.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // All without destructor and with constant initial value: an access is a load, at any time in a thread's life.
    /// What allocations may cost until the next sample; 0 before it was ever drawn. What is left when sampling goes off is
    /// as good a draw as any: the exponential has no memory.
    static LEFT: Cell<u64> = const { Cell::new(0) };
    /// The state of SplitMix64; 0 before it is seeded.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread is taking a stack.
    static TAKING: Cell<bool> = const { Cell::new(false) };
    /// This thread's last allocation if that is tracked, else null.
    static LAST: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
    /// This thread's number in the table.
    static NUMBER: Cell<Number> = const { Cell::new(Number { turn: 0, samples: 0, number: 0 }) };
}

/// A thread's number, as of some time.
#[derive(Debug, Clone, Copy)]
struct Number {
    turn: u64,
    samples: u64,
    number: u32,
}

/// Makes `table` this process's, once, and warms up what taking a stack needs.
///
/// # Errors
/// Why no stack can be taken here.
pub(crate) fn set_table(table: StackTable<'static>, writer: Writer) -> Result<(), &'static str> {
    warm_up()?;
    if TABLE.set(table).is_ok() && table.settings().scope == Scope::Always {
        switch_on(writer);
    }
    Ok(())
}

/// The first call of each function sets up what later ones only read.
fn warm_up() -> Result<(), &'static str> {
    TAKING.set(true);
    if !unwinder::warm_up() {
        TAKING.set(false);
        return Err("stacks are not sampled: it takes glibc 2.35 or later, where unwinding needs no lock");
    }
    let mut frames = Frames::new();
    unwinder::collect(&mut frames);
    std::hint::black_box((Rate::draw(0.5), Sample::new(64, 1 << 40), own_name()));
    TAKING.set(false);
    if frames.taken().is_empty() { Err("stacks are not sampled: the unwinder finds none") } else { Ok(()) }
}

/// A phase of `kind` has begun: sampling goes on, if that depends on it.
pub(crate) fn phase_began(writer: Writer, kind: u64) {
    PHASE.store(phase_word(kind), Relaxed);
    if scope() == Some(Scope::Measure) && kind == PhaseKind::Measure as u64 {
        switch_on(writer);
    }
}

/// A phase is about to be closed.
pub(crate) fn phase_closes(writer: Writer) {
    PHASE.store(0, Relaxed);
    if scope() == Some(Scope::Measure) {
        switch_off(writer);
    }
}

fn scope() -> Option<Scope> {
    TABLE.get().map(|table| table.settings().scope)
}

/// Not in a call: it may wait for the clock's rate.
fn switch_on(writer: Writer) {
    let Some(table) = TABLE.get() else { return };
    let settings = table.settings();
    let ns_per_tick = ns_per_tick(writer);
    table.set_ns_per_tick(ns_per_tick);
    let Rate { per_call, per_byte } = Rate::of(&settings);
    RATE.0.store(per_call, Relaxed);
    RATE.1.store(per_byte, Relaxed);
    let filter = if settings.track_frees { std::ptr::from_ref(table.filter()) } else { std::ptr::null() };
    // Release: who sees it sees what is in it.
    FILTER.store(filter.cast_mut(), Release);
    TURN.fetch_add(1, Relaxed);
    if settings.samples_allocations() {
        writer.sample_stacks(true);
    }
    stalls::switch_on(table, &settings, ns_per_tick);
}

fn switch_off(writer: Writer) {
    stalls::switch_off();
    writer.sample_stacks(false);
}

fn ns_per_tick(writer: Writer) -> f64 {
    if attach::clock() == ClockKind::Monotonic {
        return 1.0;
    }
    let rate = || writer.attached_at().ticks_per_second(Anchor::now(attach::clock()));
    // A process that has only just begun has to wait for the rate.
    let ticks_per_second = rate().or_else(|| {
        std::thread::sleep(Anchor::RATE_INTERVAL);
        rate()
    });
    ticks_per_second.map_or(0.0, |rate| 1e9 / rate)
}

/// Whether no sample is due at an allocation of `bytes`. If one is, [`due`] takes it.
#[inline(always)]
pub(crate) fn passes(bytes: usize) -> bool {
    let rate = Rate { per_call: RATE.0.load(Relaxed), per_byte: RATE.1.load(Relaxed) };
    let (left, cost) = (LEFT.get(), rate.cost(bytes as u64));
    LAST.set(std::ptr::null_mut());
    let passes = left > cost;
    if passes {
        LEFT.set(left - cost);
    }
    passes
}

/// The allocation of `bytes` at `ptr` has succeeded: takes its stack if it is due.
#[inline]
pub(crate) fn allocated(ptr: *mut u8, bytes: usize) {
    if !passes(bytes) {
        due(ptr, bytes);
    }
}

/// The stack of an allocation that did not pass.
#[cold]
#[inline(never)]
pub(crate) fn due(ptr: *mut u8, bytes: usize) {
    let Some(table) = TABLE.get() else { return };
    let bytes = bytes as u64;
    let cost = Rate { per_call: RATE.0.load(Relaxed), per_byte: RATE.1.load(Relaxed) }.cost(bytes);
    let seed = table.settings().seed;
    if LEFT.get() == 0 {
        let first = Rate::draw(uniform(seed));
        LEFT.set(first);
        if first > cost {
            return LEFT.set(first - cost);
        }
    }
    LEFT.set(Rate::draw(uniform(seed)));
    let tracks = !FILTER.load(Relaxed).is_null();
    let object = Object { tracked_at: tracks.then_some(ptr.addr() as u64), now: attach::clock().now() };
    let taken = with_place(table, |place| table.record(&place, Sample::new(bytes, cost), object));
    if taken && tracks {
        LAST.set(ptr);
    }
}

/// Takes the stack for `use_it`; false if this thread is taking one already, which is counted.
#[inline]
fn with_place(table: &StackTable<'_>, use_it: impl FnOnce(Place<'_>)) -> bool {
    if TAKING.replace(true) {
        table.count_nested();
        return false;
    }
    // The compiler must not move the flag's stores: a signal handler on this thread reads it.
    compiler_fence(SeqCst);
    let mut frames = Frames::new();
    unwinder::collect(&mut frames);
    use_it(Place { frames: frames.taken(), phase: PHASE.load(Relaxed), thread: number(table), stall: None });
    compiler_fence(SeqCst);
    TAKING.set(false);
    true
}

/// The object at `ptr` is about to be given back.
#[inline]
pub(crate) fn freeing(ptr: *mut u8) {
    if let Some((table, tracked)) = take(ptr) {
        let is_temporary = LAST.get() == ptr;
        if is_temporary {
            LAST.set(std::ptr::null_mut());
        }
        table.ended(&tracked, attach::clock().now(), is_temporary);
    }
}

/// A sampled object that a realloc may end.
pub(crate) struct Moving(Option<(&'static StackTable<'static>, Tracked)>);

/// The object at `ptr` is about to be reallocated.
#[inline]
pub(crate) fn reallocating(ptr: *mut u8) -> Moving {
    Moving(take(ptr))
}

impl Moving {
    /// The realloc has failed.
    pub(crate) fn stays(self, ptr: *mut u8) {
        if let Some((table, tracked)) = self.0 {
            table.put_back(ptr.addr() as u64, &tracked);
        }
    }

    /// It has succeeded: the object is another, which is sampled in its own right. The old one was no temporary: it grew.
    #[inline]
    pub(crate) fn moved(self, to: *mut u8, bytes: usize) {
        if let Some((table, tracked)) = self.0 {
            table.ended(&tracked, attach::clock().now(), false);
        }
        allocated(to, bytes);
    }
}

/// Whether the object at `ptr` may be one that was sampled and is followed to its end: [`freeing`] and [`reallocating`] say.
#[inline(always)]
pub(crate) fn may_track(ptr: *mut u8) -> bool {
    // SAFETY: null, or the filter of a table, which stays mapped until the process ends. Acquire pairs with the store in
    // `switch_on`.
    let filter = unsafe { FILTER.load(Acquire).as_ref() };
    filter.is_some_and(|filter| Filter::new(filter).may_have(ptr.addr() as u64))
}

#[inline]
fn take(ptr: *mut u8) -> Option<(&'static StackTable<'static>, Tracked)> {
    if may_track(ptr) { taken(ptr) } else { None }
}

#[cold]
#[inline(never)]
fn taken(ptr: *mut u8) -> Option<(&'static StackTable<'static>, Tracked)> {
    let table = TABLE.get()?;
    Some((table, table.take(ptr.addr() as u64)?))
}

/// This thread's number in `table`.
fn number(table: &StackTable<'_>) -> u32 {
    let (turn, mut own) = (TURN.load(Relaxed), NUMBER.get());
    if own.turn != turn {
        own = Number { turn, samples: 0, number: 0 };
    }
    own.samples += 1;
    // A thread gets its name after its first allocations: so it is asked again, seldom and more seldom.
    if own.samples.is_power_of_two() {
        own.number = table.thread(&own_name());
    }
    NUMBER.set(own);
    own.number
}

fn own_name() -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, which `name` has.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// The next number of this thread, in (0, 1].
fn uniform(seed: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let state = match RANDOM.get() {
        0 => mix(seed ^ mix(THREADS.fetch_add(1, Relaxed).wrapping_add(GOLDEN))) | 1,
        state => state.wrapping_add(GOLDEN),
    };
    RANDOM.set(state);
    ((mix(state) >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// Steele, Lea and Flood's finish.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform() {
        const DRAWS: u64 = if cfg!(miri) { 1000 } else { 200_000 };
        let mean = (0..DRAWS).map(|_| uniform(1)).sum::<f64>() / DRAWS as f64;
        // Five standard errors of a uniform distribution's mean.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / DRAWS as f64).sqrt(), "{mean}");
        assert!((0..1000).all(|_| (f64::MIN_POSITIVE..=1.0).contains(&uniform(1))));
    }
}
