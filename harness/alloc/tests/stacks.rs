//! Sampled call stacks: none is lost, shares are right, and nothing makes the sampling hang or crash.
//!
//! A child that hangs is ended by an alarm, which is a failure.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::hint::black_box;
use std::panic::{catch_unwind, panic_any, set_hook};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::{Ran, SCENARIO, holds, run_sampled, same};
use heapgate_alloc::segment::layout::{Level, PhaseKind};
use heapgate_alloc::segment::stacks::MAX_FRAMES;
use heapgate_alloc::{Telemetry, session};
use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static ALLOCATOR: Telemetry<SignalSafe> = Telemetry::new(SignalSafe);

/// The system allocator; but objects of [`IN_HANDLER`] bytes, which are never touched, are all one static block, so that
/// a signal handler may allocate whatever it interrupted.
struct SignalSafe;

const IN_HANDLER: usize = 30_011;
static BLOCK: Block = Block(UnsafeCell::new([0; IN_HANDLER]));

#[repr(align(16))]
struct Block(UnsafeCell<[u8; IN_HANDLER]>);
// SAFETY: only its address is used.
unsafe impl Sync for Block {}

// SAFETY: forwards to System, but for a size that this file's handler alone uses, and never touches the memory of.
unsafe impl GlobalAlloc for SignalSafe {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == IN_HANDLER {
            return BLOCK.0.get().cast();
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if layout.size() != IN_HANDLER {
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(ptr, layout) }
        }
    }
}

fn main() {
    // SAFETY: alarm has no requirement. Far longer than any scenario takes.
    let alarm = || unsafe { libc::alarm(120) };
    match std::env::var(SCENARIO).as_deref() {
        Ok("proportions") => measured(proportions),
        Ok("deep") => measured(|| {
            black_box(deep(500));
        }),
        Ok("stress") => {
            alarm();
            stress();
        }
        _ => {
            let tests = vec![
                Trial::test("every_allocation_has_its_stack_at_period_1", every_one),
                Trial::test("a_share_is_within_the_error_of_its_samples", estimated),
                Trial::test("a_deep_stack_is_cut_and_counted", cut),
                Trial::test("unwinding_dlopen_fork_and_signals_neither_stop_nor_lose_samples", survives),
            ];
            libtest_mimic::run(&Arguments { test_threads: Some(1), ..Arguments::from_args() }, tests).exit();
        }
    }
}

fn measured(body: impl FnOnce()) {
    let session = session().expect("a segment");
    let phase = session.begin_phase(PhaseKind::Measure as u64);
    body();
    session.close_phase(&phase, 1, 0);
    phase.end();
}

/// How often each of three functions allocates in a round, and how much.
const PROPORTIONS: [(u64, u64); 3] = [(60, 24), (30, 100), (10, 1000)];
const ROUNDS: u64 = 2000;

#[inline(never)]
fn often() {
    black_box(Vec::<u8>::with_capacity(24));
}

#[inline(never)]
fn sometimes() {
    black_box(Vec::<u8>::with_capacity(100));
}

#[inline(never)]
fn seldom() {
    black_box(Vec::<u8>::with_capacity(1000));
}

fn proportions() {
    for _ in 0..ROUNDS {
        (0..60).for_each(|_| black_box(often as fn())());
        (0..30).for_each(|_| black_box(sometimes as fn())());
        (0..10).for_each(|_| black_box(seldom as fn())());
    }
}

/// Samples and bytes of the stacks whose allocations have `size` bytes.
fn of_size(ran: &Ran, size: u64) -> (u64, u64) {
    let samples = ran.samples();
    let stacks = samples.stacks.iter().filter(|stack| stack.bytes == stack.samples * size);
    stacks.fold((0, 0), |sum, stack| (sum.0 + stack.samples, sum.1 + stack.bytes))
}

fn every_one() -> Result<(), Failed> {
    for level in [Level::Count, Level::Sampled, Level::ExactAlloc, Level::Exact] {
        let ran = run_sampled("proportions", level, 1);
        holds("the child succeeds", ran.status.success())?;
        for (times, size) in PROPORTIONS {
            same(&format!("objects of {size} bytes"), of_size(&ran, size), (times * ROUNDS, times * ROUNDS * size))?;
        }
        same("samples are the allocations of the phase", ran.samples().samples, calls(&ran))?;
        holds("frees are still counted", ran.totals().dealloc_calls() >= ROUNDS * 100)?;
        if level == Level::Exact {
            let timed: u64 = ran.totals().timed_calls().iter().map(|t| t.0 + t.1).sum();
            let all = ran.totals().allocation_calls() + ran.totals().dealloc_calls();
            same("every call is still timed", timed, all)?;
        }
    }
    let ran = run_sampled("proportions", Level::Off, 1);
    same("at level off there are none", (ran.status.success(), ran.samples().samples), (true, 0))
}

fn calls(ran: &Ran) -> u64 {
    let phases = ran.reader().phases();
    phases[0].end.since(&phases[0].begin).allocation_calls()
}

fn estimated() -> Result<(), Failed> {
    const PERIOD: u64 = 64;
    let ran = run_sampled("proportions", Level::Count, PERIOD);
    holds("the child succeeds", ran.status.success())?;
    let all = ROUNDS * 100;
    for (times, size) in PROPORTIONS {
        let expected = (times * ROUNDS / PERIOD) as f64;
        let found = of_size(&ran, size).0 as f64;
        // Binomial, with its variance below its mean; five deviations, and the seed is fixed.
        holds(
            &format!("{found} samples of {size} bytes, expected {expected}"),
            (found - expected).abs() < 5.0 * expected.sqrt(),
        )?;
    }
    let (found, expected) = (ran.samples().samples as f64, all as f64 / PERIOD as f64);
    holds(&format!("{found} samples, expected {expected}"), (found - expected).abs() < 5.0 * expected.sqrt())?;
    same(
        "the same samples every time",
        run_sampled("proportions", Level::Count, PERIOD).samples().samples as f64,
        found,
    )
}

#[inline(never)]
fn deep(depth: u32) -> u32 {
    if depth == 0 {
        black_box(Vec::<u8>::with_capacity(77));
        return 0;
    }
    black_box(deep(black_box(depth - 1)) + 1)
}

fn cut() -> Result<(), Failed> {
    let ran = run_sampled("deep", Level::Count, 1);
    holds("the child succeeds", ran.status.success())?;
    let samples = ran.samples();
    let stack = samples.stacks.iter().find(|stack| stack.bytes == 77).ok_or("the stack is not there")?;
    same("frames kept", (stack.frames.len(), stack.samples), (MAX_FRAMES, 1))
}

const STRESS_FOR: Duration = Duration::from_secs(6);
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn allocate_in_handler(_: i32) {
    let layout = Layout::array::<u8>(IN_HANDLER).expect("a small size");
    // SAFETY: the size is not 0; the block is never touched, and freed as it was allocated.
    unsafe { std::alloc::dealloc(black_box(std::alloc::alloc(layout)), layout) };
}

fn stress() {
    set_hook(Box::new(|_| {}));
    let workers: [fn(); 8] = [allocate, allocate, allocate, unwind, unwind, open_libraries, open_libraries, fork];
    let handler = allocate_in_handler as extern "C" fn(i32);
    // SAFETY: the handler allocates through our own allocator only, which for its size is async-signal-safe. Restarting
    // system calls keeps waitpid and dlopen from failing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut());
    }
    measured(|| {
        every(200);
        std::thread::scope(|scope| {
            for worker in workers {
                scope.spawn(move || {
                    while !STOP.load(Relaxed) {
                        worker();
                    }
                });
            }
            std::thread::sleep(STRESS_FOR);
            STOP.store(true, Relaxed);
        });
        every(0);
    });
}

/// A signal every so many µs of CPU time, to whichever thread is running; none at 0.
fn every(us: i64) {
    let interval = libc::timeval { tv_sec: 0, tv_usec: us };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: `timer` is valid for the call.
    unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) };
}

fn allocate() {
    for depth in 0..40 {
        deep(depth);
    }
    let text: Vec<String> = (0..20).map(|i| format!("{i}")).collect();
    black_box(text.concat());
}

/// Allocates while it is unwound.
struct AllocatesOnDrop(u32);

impl Drop for AllocatesOnDrop {
    fn drop(&mut self) {
        deep(self.0);
    }
}

fn unwind() {
    fn fall(depth: u32) {
        let _guard = AllocatesOnDrop(depth);
        if depth == 0 {
            panic_any(depth);
        }
        fall(black_box(depth - 1));
    }
    assert!(catch_unwind(|| fall(12)).is_err());
}

/// Maps and unmaps code, which changes what unwinding reads.
fn open_libraries() {
    const LIBRARIES: [&CStr; 4] = [c"libthread_db.so.1", c"libanl.so.1", c"libBrokenLocale.so.1", c"libutil.so.1"];
    for name in LIBRARIES {
        // SAFETY: these libraries are glibc's own, without constructors that matter; each is closed as it was opened.
        unsafe {
            let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
            deep(3);
            if !library.is_null() {
                libc::dlclose(library);
            }
        }
    }
}

fn fork() {
    // SAFETY: the child allocates, which glibc allows after fork, and ends without destructors; the parent waits for it.
    unsafe {
        match libc::fork() {
            0 => {
                deep(5);
                libc::_exit(0);
            }
            child if child > 0 => {
                let mut status = 0;
                while libc::waitpid(child, &raw mut status, 0) < 0 {}
                assert_eq!(status, 0, "the forked child");
            }
            _ => {}
        }
    }
}

fn survives() -> Result<(), Failed> {
    for level in [Level::Count, Level::Exact] {
        let ran = run_sampled("stress", level, 1);
        holds(&format!("the child ends well: {}", ran.status), ran.status.success())?;
        let samples = ran.samples();
        println!("{} samples, {} nested, {} full", samples.samples, samples.nested, samples.full);
        same("each allocation was sampled, or fell into a sample", samples.samples + samples.nested, calls(&ran))?;
        let kept: u64 = samples.stacks.iter().map(|stack| stack.samples).sum();
        same("each sample was kept, or found no room", kept + samples.full, samples.samples)?;
        holds("signals came while samples were taken", samples.nested > 0)?;
    }
    Ok(())
}
