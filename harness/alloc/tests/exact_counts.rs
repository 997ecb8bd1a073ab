//! Counts are exact: under thread churn, at thread exit, in signal handlers, across fork and exec.
//!
//! Scenarios allocate objects of sizes that nothing else in their process has, so that their size classes count them
//! alone.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use common::{Ran, SCENARIO, holds, run, same};
use heapgate_alloc::Telemetry;
use heapgate_alloc::segment::layout::Level;
use heapgate_alloc::segment::size_class::size_class_of;
use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static ALLOCATOR: Telemetry<SignalSafe> = Telemetry::new(SignalSafe);

/// The system allocator; but the one object of [`IN_HANDLER`] and the one of [`OUTSIDE`] bytes that live at a time are
/// static blocks, so that a signal handler may allocate whatever it interrupted.
struct SignalSafe;

const IN_HANDLER: usize = 30_000;
const OUTSIDE: usize = 40_000;
static IN_HANDLER_BLOCK: Block<IN_HANDLER> = Block(UnsafeCell::new([0; IN_HANDLER]));
static OUTSIDE_BLOCK: Block<OUTSIDE> = Block(UnsafeCell::new([0; OUTSIDE]));

#[repr(align(16))]
struct Block<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);
// SAFETY: handed out as memory, one object at a time.
unsafe impl<const BYTES: usize> Sync for Block<BYTES> {}

fn static_block(layout: Layout) -> Option<*mut u8> {
    match layout.size() {
        IN_HANDLER => Some(IN_HANDLER_BLOCK.0.get().cast()),
        OUTSIDE => Some(OUTSIDE_BLOCK.0.get().cast()),
        _ => None,
    }
}

// SAFETY: forwards to System, but for two sizes that this file's handler and loop alone use, and never touch the memory
// of.
unsafe impl GlobalAlloc for SignalSafe {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = static_block(layout) {
            return block;
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if static_block(layout).is_none() {
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(ptr, layout) }
        }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Allocates and frees an object of `bytes`.
fn object(bytes: usize) {
    let layout = Layout::from_size_align(bytes, 8).expect("a valid layout");
    // SAFETY: the size is not 0; the block is freed once, with its layout.
    unsafe {
        let ptr = std::alloc::alloc(layout);
        std::alloc::dealloc(black_box(ptr), layout);
    }
}

const THREADS: usize = 100_000;
const IN_THREAD: usize = 12_345;
const IN_TLS_DESTRUCTOR: usize = 20_000;
const IN_LATE_DESTRUCTOR: usize = 25_000;
const SMALL_SEGMENT_SLOTS: usize = 4;

fn main() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        return scenarios(&scenario);
    }
    let tests = vec![
        Trial::test("hundred_thousand_short_threads_are_counted_exactly", churn),
        Trial::test("more_threads_than_slots_are_counted_exactly", overflow),
        Trial::test("allocations_in_thread_local_destructors_are_counted", tls_destructors),
        Trial::test("allocations_in_signal_handlers_are_counted", signals),
        Trial::test("a_forked_child_does_not_count_into_its_parent", fork),
        Trial::test("an_executed_program_does_not_count_into_its_predecessor", exec),
        Trial::test("a_refused_allocation_is_counted_apart", refused),
        Trial::test("every_call_is_timed_at_the_exact_level", timed),
        Trial::test("a_process_without_a_segment_runs_as_ever", inert),
    ];
    // One at a time: they hand descriptors to children.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..Arguments::from_args() }, tests).exit();
}

fn scenarios(name: &str) {
    match name {
        "churn" => {
            // A few at a time: what counts is how many there are in all.
            for _ in 0..THREADS / 4 {
                std::thread::scope(|scope| {
                    let threads = [(); 4].map(|()| scope.spawn(|| object(IN_THREAD)));
                    // The scope alone waits for what they do, not until they have ended and given their slots back.
                    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
                });
            }
        }
        "overflow" => {
            let barrier = std::sync::Barrier::new(32);
            std::thread::scope(|scope| {
                for _ in 0..32 {
                    scope.spawn(|| {
                        object(64);
                        barrier.wait();
                        (0..1000).for_each(|_| object(IN_THREAD));
                    });
                }
            });
        }
        "tls" => tls_scenario(),
        "signals" => signal_scenario(),
        "fork" => fork_scenario(),
        "exec" => exec_scenario(),
        "executed" => (0..1000).for_each(|_| object(IN_THREAD)),
        "refused" => {
            let layout = Layout::from_size_align(isize::MAX as usize - 4096, 8).expect("a valid layout");
            // SAFETY: the size is not 0.
            assert!(black_box(unsafe { std::alloc::alloc(layout) }).is_null());
        }
        "timed" => (0..1000).for_each(|_| object(IN_THREAD)),
        other => panic!("no scenario {other}"),
    }
}

/// Objects of the size class of `bytes`: allocated, freed.
fn of_size(ran: &Ran, bytes: usize) -> (u64, u64) {
    ran.totals().size_class(size_class_of(bytes as u64))
}

fn churn() -> Result<(), Failed> {
    let ran = run("churn", Level::Count, 256);
    holds("the child succeeds", ran.status.success())?;
    same("objects", of_size(&ran, IN_THREAD), (THREADS as u64, THREADS as u64))?;
    let (claims, overflowed) = ran.reader().threads();
    same("threads", (claims, overflowed), (THREADS as u64 + 1, 0))?;
    holds("slots are reused", ran.reader().slots_used() < 64)
}

fn overflow() -> Result<(), Failed> {
    let ran = run("overflow", Level::Exact, SMALL_SEGMENT_SLOTS);
    same("objects", of_size(&ran, IN_THREAD), (32_000, 32_000))?;
    let (claims, overflowed) = ran.reader().threads();
    same("threads", (claims, overflowed), (SMALL_SEGMENT_SLOTS as u64, 33 - SMALL_SEGMENT_SLOTS as u64))
}

struct AllocatesWhenDropped;
impl Drop for AllocatesWhenDropped {
    fn drop(&mut self) {
        object(IN_TLS_DESTRUCTOR);
    }
}

fn tls_scenario() {
    thread_local!(static GUARD: AllocatesWhenDropped = const { AllocatesWhenDropped });
    /// Runs after heapgate's own hook, whose key is older, and once more in the next round of destructors.
    unsafe extern "C" fn late(value: *mut libc::c_void) {
        object(IN_LATE_DESTRUCTOR);
        if value.addr() > 1 {
            KEY.with_value(std::ptr::without_provenance_mut(value.addr() - 1));
        }
    }
    static KEY: Key = Key(AtomicUsize::new(0));
    struct Key(AtomicUsize);
    impl Key {
        fn with_value(&self, value: *mut libc::c_void) {
            // SAFETY: the key was made below and is never deleted.
            unsafe { libc::pthread_setspecific(self.0.load(Relaxed) as libc::pthread_key_t, value) };
        }
    }
    let mut key = 0;
    // SAFETY: `key` is valid to fill in; `late` stays in memory.
    unsafe { libc::pthread_key_create(&raw mut key, Some(late)) };
    KEY.0.store(key as usize, Relaxed);
    for _ in 0..1000 {
        std::thread::spawn(|| {
            GUARD.with(|_| object(IN_THREAD));
            KEY.with_value(std::ptr::without_provenance_mut(2));
        })
        .join()
        .expect("no panic");
    }
}

fn tls_destructors() -> Result<(), Failed> {
    let ran = run("tls", Level::Exact, 256);
    same("in threads", of_size(&ran, IN_THREAD), (1000, 1000))?;
    same("in thread-local destructors", of_size(&ran, IN_TLS_DESTRUCTOR), (1000, 1000))?;
    same("in later destructors", of_size(&ran, IN_LATE_DESTRUCTOR), (2000, 2000))
}

static HANDLED: AtomicU64 = AtomicU64::new(0);
const SIGNALS: u64 = 20_000;

fn signal_scenario() {
    extern "C" fn handler(_: i32) {
        object(IN_HANDLER);
        HANDLED.fetch_add(1, Relaxed);
    }
    // SAFETY: the handler is async-signal-safe: static memory, atomics, and the telemetry under test.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
    // SAFETY: no requirement.
    let main = unsafe { libc::pthread_self() } as usize;
    let done = AtomicBool::new(false);
    let mut loops = 0u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            while sent < SIGNALS {
                // Wait for the last one: signals of one kind don't queue.
                if HANDLED.load(Relaxed) == sent {
                    // SAFETY: the main thread outlives this scope.
                    unsafe { libc::pthread_kill(main as libc::pthread_t, libc::SIGUSR1) };
                    sent += 1;
                }
                std::hint::spin_loop();
            }
            while HANDLED.load(Relaxed) < SIGNALS {
                std::hint::spin_loop();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            object(OUTSIDE);
            loops += 1;
        }
    });
    // For the test to compare with.
    let session = heapgate_alloc::session().expect("a segment");
    let phase = session.begin_phase(0);
    session.close_phase(&phase, loops, 0);
    phase.end();
}

fn signals() -> Result<(), Failed> {
    for level in [Level::Count, Level::Sampled, Level::Exact] {
        let ran = run("signals", level, 256);
        holds("the child succeeds", ran.status.success())?;
        same("in the handler", of_size(&ran, IN_HANDLER), (SIGNALS, SIGNALS))?;
        let loops = ran.reader().phases().first().map_or(0, |phase| phase.units);
        same("in what it interrupts", of_size(&ran, OUTSIDE), (loops, loops))?;
    }
    Ok(())
}

fn fork_scenario() {
    object(IN_THREAD);
    // SAFETY: the child only allocates, which is allowed after a fork from a process with one thread, and exits.
    match unsafe { libc::fork() } {
        0 => {
            (0..1000).for_each(|_| object(IN_THREAD));
            std::thread::spawn(|| object(IN_THREAD)).join().expect("no panic");
            assert!(heapgate_alloc::session().is_none(), "a forked child has no session");
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is valid to fill in.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0, "the child succeeds");
            object(IN_THREAD);
        }
    }
}

fn fork() -> Result<(), Failed> {
    let ran = run("fork", Level::Exact, 256);
    holds("the child succeeds", ran.status.success())?;
    same("the parent's objects", of_size(&ran, IN_THREAD), (2, 2))
}

fn exec_scenario() {
    use std::os::unix::process::CommandExt;
    object(IN_THREAD);
    assert!(std::env::var_os("HEAPGATE_SEGMENT").is_none(), "the variable is gone");
    let error =
        std::process::Command::new(std::env::current_exe().expect("this executable")).env(SCENARIO, "executed").exec();
    panic!("exec failed: {error}");
}

fn exec() -> Result<(), Failed> {
    let ran = run("exec", Level::Exact, 256);
    holds("the child succeeds", ran.status.success())?;
    same("the first program's objects", of_size(&ran, IN_THREAD), (1, 1))
}

fn refused() -> Result<(), Failed> {
    let ran = run("refused", Level::Exact, 256);
    holds("the child succeeds", ran.status.success())?;
    same("refused", ran.totals().failed_calls(), 1)
}

fn timed() -> Result<(), Failed> {
    let ran = run("timed", Level::Exact, 256);
    let totals = ran.totals();
    let timed: u64 = totals.timed_calls().iter().map(|(clean, interrupted)| clean + interrupted).sum();
    same("calls timed", timed, totals.allocation_calls() + totals.dealloc_calls())
}

fn inert() -> Result<(), Failed> {
    let status = std::process::Command::new(std::env::current_exe()?).env(SCENARIO, "executed").status()?;
    holds("it succeeds", status.success())
}
