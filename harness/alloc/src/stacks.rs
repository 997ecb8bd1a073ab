//! Samples the call stacks of allocations, inside the call, into a table in shared memory.
//!
//! **Which calls.** Each allocation (alloc, alloc_zeroed, realloc) is sampled with probability 1/N, drawn as the distance
//! to the next sample (geometric, so that no period of the program can beat with it). Then `samples × N` and `bytes of
//! the samples × N` are unbiased for calls and bytes, wherever counting starts and ends (Horvitz and Thompson's
//! estimator), and counts are binomial. With N = 1 they are exact.
//!
//! **How a stack is found.** By `_Unwind_Backtrace` of the compiler's runtime, which std links and panics use. Frame
//! pointers would be ten times as fast, but neither std nor most people's programs are built with them, and a chain that
//! breaks at the first C library ends or, worse, misleads. The tables that unwinding reads are in every executable, and
//! a sampled call stands at a call instruction, where they are right.
//!
//! **Why that is safe in an allocator.** Finding the tables goes through glibc's `_dl_find_object` (2.35), which takes
//! no lock; before it, libgcc took the loader's, and deadlocked with `dlopen`. So without it sampling is refused. Neither
//! libgcc (12 or later) nor glibc allocates on that path, and what is set up at the first use is done before `main`,
//! when sampling is switched on. (That libgcc is of version 12 or later is not checked: a distribution with glibc
//! 2.35 has it. Where frames are registered by hand, as just-in-time compilers do, libgcc 12 takes a lock of its
//! own.) There is no state between calls: a panic under way, or a signal at any point, finds nothing half done. A
//! walk ends at a function that a signal interrupted: its tables need not be right at that very instruction (in
//! libgcc's `_Unwind_RaiseException` they are not while it overwrites its own frame, and a walk through it crashed in
//! our stress test), and a handler's allocations are the handler's. Should anything below allocate through us after
//! all, or a signal handler do so meanwhile, a flag keeps it from sampling in its turn. It takes 2 to 3 KiB of the
//! stack.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    compiler_fence,
};

use heapgate_segment::layout::PhaseKind;
use heapgate_segment::stacks::{MAX_FRAMES, Scope, StackTable};
use heapgate_segment::writer::Writer;

static TABLE: OnceLock<StackTable<'static>> = OnceLock::new();

/// Threads that have sampled: each draws its own numbers.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // All without destructor and with constant initial value: an access is a load, at any time in a thread's life.
    /// Allocations until the next sample, itself counted; 0 before it was ever drawn.
    static COUNTDOWN: Cell<u64> = const { Cell::new(0) };
    /// The state of SplitMix64; 0 before it is seeded.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread is taking a sample.
    static TAKING: Cell<bool> = const { Cell::new(false) };
}

/// Makes `table` this process's, once, and warms up what taking a sample needs.
///
/// # Errors
/// Why no stack can be taken here.
pub(crate) fn set_table(table: StackTable<'static>, writer: Writer) -> Result<(), &'static str> {
    if !unwinder::is_lock_free() {
        return Err("stacks are not sampled: it takes glibc 2.35 or later, where unwinding needs no lock");
    }
    // The first call of each sets up what later ones only read.
    TAKING.set(true);
    let mut frames = Frames::new();
    unwinder::collect(&mut frames);
    std::hint::black_box(distance(0.5, 64));
    TAKING.set(false);
    if frames.len == 0 {
        return Err("stacks are not sampled: the unwinder finds none");
    }
    if TABLE.set(table).is_ok() && table.scope() == Scope::Always {
        writer.sample_stacks(true);
    }
    Ok(())
}

/// A phase of `kind` has begun: sampling goes on or off, if that depends on it.
pub(crate) fn phase_began(writer: Writer, kind: u64) {
    if scope() == Some(Scope::Measure) {
        writer.sample_stacks(kind == PhaseKind::Measure as u64);
    }
}

/// A phase is about to be closed.
pub(crate) fn phase_closes(writer: Writer) {
    if scope() == Some(Scope::Measure) {
        writer.sample_stacks(false);
    }
}

fn scope() -> Option<Scope> {
    TABLE.get().map(StackTable::scope)
}

/// An allocation of `bytes` has succeeded: takes its stack if it is due.
#[inline]
pub(crate) fn allocated(bytes: usize) {
    match COUNTDOWN.get() {
        left @ 2.. => COUNTDOWN.set(left - 1),
        left => due(bytes, left == 0),
    }
}

#[cold]
#[inline(never)]
fn due(bytes: usize, is_first: bool) {
    let Some(table) = TABLE.get() else { return };
    let period = table.period();
    if is_first {
        COUNTDOWN.set(distance(uniform(table.seed()), period));
        if COUNTDOWN.get() > 1 {
            return COUNTDOWN.set(COUNTDOWN.get() - 1);
        }
    }
    COUNTDOWN.set(distance(uniform(table.seed()), period));
    if TAKING.replace(true) {
        return table.count_nested();
    }
    // The compiler must not move the flag's stores: a signal handler on this thread reads it.
    compiler_fence(SeqCst);
    let mut frames = Frames::new();
    unwinder::collect(&mut frames);
    table.record(frames.taken(), bytes as u64);
    compiler_fence(SeqCst);
    TAKING.set(false);
}

/// How many allocations on the next sample is, for `uniform` of (0, 1]: at least 1, `period` on average.
fn distance(uniform: f64, period: u64) -> u64 {
    if period <= 1 {
        return 1;
    }
    // Inversion of the geometric distribution.
    let failures = uniform.ln() / (-1.0 / period as f64).ln_1p();
    1 + failures as u64
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

/// Return addresses, the innermost first.
struct Frames {
    addresses: [u64; MAX_FRAMES],
    len: usize,
}

impl Frames {
    const fn new() -> Self {
        Self { addresses: [0; MAX_FRAMES], len: 0 }
    }

    /// False when there is no more room.
    fn push(&mut self, address: u64) -> bool {
        let Some(place) = self.addresses.get_mut(self.len) else { return false };
        *place = address;
        self.len += 1;
        self.len < MAX_FRAMES
    }

    fn taken(&self) -> &[u64] {
        self.addresses.get(..self.len).unwrap_or(&self.addresses)
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
mod unwinder {
    use super::Frames;
    use std::ffi::{c_int, c_void};

    /// `_Unwind_Reason_Code`: go on, and what ends a walk without meaning an end of the stack.
    const NO_REASON: c_int = 0;
    const NORMAL_STOP: c_int = 4;

    // The Itanium C++ ABI's unwinding interface, from the library that std itself links.
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            trace: unsafe extern "C" fn(context: *mut c_void, argument: *mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIPInfo(context: *mut c_void, interrupted: *mut c_int) -> usize;
    }

    pub(super) fn is_lock_free() -> bool {
        // SAFETY: dlsym takes a handle and a C string.
        unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()).is_null() }
    }

    #[inline]
    pub(super) fn collect(frames: &mut Frames) {
        // SAFETY: `on_frame` is called with `frames` while this call lasts, one frame at a time, and does not unwind. How
        // the walk ended does not matter: what it found stands.
        unsafe { _Unwind_Backtrace(on_frame, std::ptr::from_mut(frames).cast()) };
    }

    unsafe extern "C" fn on_frame(context: *mut c_void, argument: *mut c_void) -> c_int {
        let mut interrupted = 0;
        // SAFETY: `collect` passed a `Frames` that nothing else uses meanwhile; `context` is the unwinder's own, and
        // `interrupted` is valid for the call to fill in.
        let (frames, address) =
            unsafe { (&mut *argument.cast::<Frames>(), _Unwind_GetIPInfo(context, &raw mut interrupted)) };
        // Beyond what a signal interrupted nothing is followed: see the head of this file.
        if address != 0 && frames.push(address as u64) && interrupted == 0 { NO_REASON } else { NORMAL_STOP }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
mod unwinder {
    use super::Frames;

    pub(super) fn is_lock_free() -> bool {
        false
    }

    pub(super) fn collect(_: &mut Frames) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_geometric_whatever_the_period() {
        for period in [1_u64, 2, 64, 1000] {
            const DRAWS: u64 = 200_000;
            let draws: Vec<u64> = (0..DRAWS).map(|_| distance(uniform(1), period)).collect();
            let mean = draws.iter().sum::<u64>() as f64 / DRAWS as f64;
            // The standard deviation of a geometric distribution is below its mean: five standard errors.
            assert!((mean - period as f64).abs() <= 5.0 * period as f64 / (DRAWS as f64).sqrt(), "{period}: {mean}");
            let ones = draws.iter().filter(|&&draw| draw == 1).count() as f64 / DRAWS as f64;
            assert!((ones - 1.0 / period as f64).abs() <= 2.5 / (DRAWS as f64).sqrt(), "{period}: {ones}");
        }
    }

    #[test]
    fn the_rarest_draws_are_finite() {
        assert_eq!(distance(1.0, 64), 1);
        assert!(distance(1.0 / (1_u64 << 53) as f64, 1 << 32) < 1 << 38);
    }
}
