//! Sampled call stacks: none is lost, shares are right, and nothing makes the sampling hang or crash.
//!
//! A child that hangs is ended by an alarm, which is a failure.

mod common;
#[path = "stacks/stress.rs"]
mod stress;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Ran, SCENARIO, holds, run_sampled, run_taking, same};
use heapgate_alloc::segment::layout::{Level, Operation, PhaseKind};
use heapgate_alloc::segment::stacks::{MAX_FRAMES, Settings, Stack, StackSamples, StallKind, phase_kind};
use heapgate_alloc::{Telemetry, mark, marks, session};
use libtest_mimic::{Arguments, Failed, Trial};
use stress::{stress, stress_for, survives};

#[global_allocator]
static ALLOCATOR: Telemetry<SignalSafe> = Telemetry::new(SignalSafe);

/// The system allocator; but objects of [`IN_HANDLER`] bytes, which are never touched, are one block of each thread, so that
/// a signal handler may allocate whatever it interrupted.
struct SignalSafe;

const IN_HANDLER: usize = 30_011;
/// Objects of this size take [`SLOW_FOR`].
const SLOW: usize = 30_013;
/// Of this, too, and touch a fresh page meanwhile.
const FAULTS: usize = 30_015;
/// Of this, too, and sleep.
const WAITS: usize = 30_017;
const PAGE: usize = 4096;
const SLOW_FOR: Duration = Duration::from_micros(60);
thread_local! {
    // Of each thread its own: no address lives twice.
    static BLOCK: Block = const { Block(UnsafeCell::new([0; IN_HANDLER])) };
}

#[repr(align(16))]
struct Block(UnsafeCell<[u8; IN_HANDLER]>);

// SAFETY: forwards to System, but for a size that this file's handler alone uses, and never touches the memory of.
unsafe impl GlobalAlloc for SignalSafe {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == IN_HANDLER {
            return BLOCK.with(|block| block.0.get().cast());
        }
        if layout.size() == SLOW {
            mark(StallKind::Purge);
            mark(StallKind::FreshMapping);
            let begin = Instant::now();
            while begin.elapsed() < SLOW_FOR {}
        }
        if layout.size() == FAULTS || layout.size() == WAITS {
            // SAFETY: the caller's contract.
            let ptr = unsafe { System.alloc(layout) };
            let begin = Instant::now();
            if layout.size() == WAITS {
                std::thread::sleep(SLOW_FOR);
            } else if !ptr.is_null() {
                let page = ptr.map_addr(|address| address.next_multiple_of(PAGE));
                // SAFETY: the object has room for a whole page after the next boundary, and nobody uses it yet.
                unsafe {
                    libc::madvise(page.cast(), PAGE, libc::MADV_DONTNEED);
                    page.write_volatile(1);
                }
            }
            while begin.elapsed() < SLOW_FOR {}
            return ptr;
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
    let alarm = || unsafe { libc::alarm(120 + stress_for().as_secs() as u32) };
    match std::env::var(SCENARIO).as_deref() {
        Ok("proportions") => measured(proportions),
        Ok("deep") => measured(|| {
            black_box(deep(500));
        }),
        Ok("lives") => measured(lives),
        Ok("slow") => {
            marks(&[StallKind::FreshMapping, StallKind::Purge]);
            measured(slow);
        }
        Ok("stress") => {
            alarm();
            stress();
        }
        _ => {
            let tests = vec![
                Trial::test("every_allocation_has_its_stack_at_period_1", every_one),
                Trial::test("a_share_is_within_the_error_of_its_samples", estimated),
                Trial::test("bytes_and_calls_are_estimated_by_one_rate", by_bytes),
                Trial::test("live_peak_freed_and_temporaries_are_exact_by_thread", lives_are_followed),
                Trial::test("slow_calls_have_their_stack_and_kind_and_fast_ones_none", slow_calls),
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
    let stacks = samples.stacks.iter().filter(|stack| (stack.bytes / stack.calls - size as f64).abs() < 1e-3);
    stacks.fold((0, 0), |sum, stack| (sum.0 + stack.samples, sum.1 + stack.samples * size))
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

/// What the stacks with objects of `size` bytes sum up to. For exact samples.
fn sum(samples: &StackSamples, size: u64, of: fn(&Stack) -> f64) -> f64 {
    samples.stacks.iter().filter(|stack| stack.bytes == stack.calls * size as f64).map(of).sum()
}

fn by_bytes() -> Result<(), Failed> {
    let settings = Settings { call_period: 1000, byte_period: 2000, track_frees: true, ..Settings::NOTHING };
    let ran = run_taking("proportions", Level::Count, &settings);
    holds("the child succeeds", ran.status.success())?;
    let samples = ran.samples();
    for (times, size) in PROPORTIONS {
        let of_size = || {
            samples.stacks.iter().filter(|stack| (stack.bytes / stack.calls - size as f64).abs() < 1e-2 * size as f64)
        };
        let sum = |of: fn(&Stack) -> f64| of_size().map(of).sum::<f64>();
        for (what, found, expected, variance) in [
            ("calls", sum(|s| s.calls), (times * ROUNDS) as f64, sum(|s| s.calls_variance)),
            ("bytes", sum(|s| s.bytes), (times * ROUNDS * size) as f64, sum(|s| s.bytes_variance)),
        ] {
            let deviation = variance.sqrt();
            holds(
                &format!("{what} of {size}: {found} ± {deviation} of {expected}"),
                deviation > 0.0 && deviation < expected / 4.0 && (found - expected).abs() < 5.0 * deviation,
            )?;
        }
        // Each is dropped at once: what was sampled was seen to end.
        same("freed at once", (sum(|s| s.freed), sum(|s| s.live_objects)), (sum(|s| s.calls), 0.0))?;
        same("temporaries", sum(|s| s.temporaries), sum(|s| s.freed))?;
    }
    Ok(())
}

/// 50 objects of 5001 bytes live at the peak and 10 at the end; 100 temporaries of 5002; a vector of 5003 that grows to
/// 5004, in a thread of a name of its own, and is freed there after another allocation.
fn lives() {
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(50);
    kept.extend((0..50).map(|_| Vec::with_capacity(5001)));
    kept.truncate(10);
    (0..100).for_each(|_| drop(black_box(Vec::<u8>::with_capacity(5002))));
    let worker = std::thread::Builder::new().name("grower".to_owned()).spawn(|| {
        // The name is looked up again as samples come.
        (0..8).for_each(|_| drop(black_box(Vec::<u8>::with_capacity(10))));
        let mut grows = black_box(Vec::<u8>::with_capacity(5003));
        grows.reserve_exact(black_box(5004));
        let grows = black_box(grows);
        let other = black_box(Vec::<u8>::with_capacity(5005));
        drop(grows);
        drop(other);
    });
    worker.expect("a thread").join().expect("it ends well");
    std::mem::forget(kept);
}

fn lives_are_followed() -> Result<(), Failed> {
    let ran = run_taking("lives", Level::Count, &Settings::exact());
    holds("the child succeeds", ran.status.success())?;
    let samples = ran.samples();
    let of = |size| {
        let sum = |of| sum(&samples, size, of);
        [sum(|s| s.calls), sum(|s| s.freed), sum(|s| s.temporaries), sum(|s| s.live_objects), sum(|s| s.peak_objects)]
    };
    // The last one made is freed before anything else is allocated.
    same("kept", of(5001), [50.0, 40.0, 1.0, 10.0, 50.0])?;
    same("temporaries", of(5002), [100.0, 100.0, 100.0, 0.0, 0.0])?;
    same("grown", of(5003), [1.0, 1.0, 0.0, 0.0, 0.0])?;
    same("moved, and outlived by another", of(5004), [1.0, 1.0, 0.0, 0.0, 0.0])?;
    same("the other, freed after a free", of(5005), [1.0, 1.0, 1.0, 0.0, 0.0])?;
    holds("lifetimes are positive", sum(&samples, 5001, |s| s.lifetime_ns) > 0.0)?;
    let grown = samples.stacks.iter().find(|stack| stack.bytes == 5004.0).ok_or("it is there")?;
    same("its thread", samples.threads[grown.thread as usize].as_str(), "grower")?;
    same("its phase", phase_kind(grown.phase), Some(PhaseKind::Measure))?;
    same("nothing was lost", (samples.untracked, samples.full, samples.nested), (0, 0, 0))
}

const SLOW_CALLS: u64 = 300;

fn slow() {
    for _ in 0..SLOW_CALLS {
        for size in [SLOW, FAULTS, WAITS] {
            drop(black_box(Vec::<u8>::with_capacity(size)));
        }
        often();
    }
}

fn slow_calls() -> Result<(), Failed> {
    // Half the time that a slow call takes at least.
    let ran = run_taking(
        "slow",
        Level::Exact,
        &Settings { asks_kernel: true, ..Settings::stalls(SLOW_FOR.as_nanos() as u64 / 2) },
    );
    holds("the child succeeds", ran.status.success())?;
    let samples = ran.samples();
    same("no allocation was sampled", (samples.samples, samples.stacks.len()), (0, 0))?;
    let slow: Vec<_> = samples.stalls.iter().filter(|stall| stall.kind == StallKind::Purge).collect();
    let calls: u64 = slow.iter().map(|stall| stall.calls).sum();
    // Some are interrupted, and not taken; on a busy machine many.
    holds(&format!("{calls} slow calls"), (1..=SLOW_CALLS).contains(&calls))?;
    for stall in slow {
        same("its operation", stall.operation, Operation::Alloc as u64)?;
        same("its phase", phase_kind(stall.phase), Some(PhaseKind::Measure))?;
        holds("its stack", !stall.frames.is_empty())?;
        // The rate of the clock is right to 0.1 %.
        holds("its time", stall.ns as f64 >= 0.99 * (stall.calls * SLOW_FOR.as_nanos() as u64) as f64)?;
        holds("the longest", stall.max_ns <= stall.ns && stall.max_ns as f64 >= 0.99 * SLOW_FOR.as_nanos() as f64)?;
    }
    holds("purges are told", samples.capabilities.tells(StallKind::Purge))?;
    let of = |kind| samples.stalls.iter().filter(|stall| stall.kind == kind).map(|stall| stall.calls).sum::<u64>();
    let kernels = [StallKind::PageFault, StallKind::LockWait];
    if kernels.into_iter().all(|kind| samples.capabilities.tells(kind)) {
        for kind in kernels {
            holds(&format!("{} calls of {}", of(kind), kind.name()), (1..=SLOW_CALLS + 20).contains(&of(kind)))?;
        }
    } else {
        eprintln!("SKIPPED: page faults and waits are not told here: the kernel refuses perf_event_open");
        holds("none is guessed", kernels.into_iter().all(|kind| !samples.capabilities.tells(kind) && of(kind) == 0))?;
    }
    let ran = run_taking("slow", Level::Count, &Settings::stalls(1));
    same("where no call is timed there are none", ran.samples().stalls, Vec::new())
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
    let stack = samples.stacks.iter().find(|stack| stack.bytes == 77.0).ok_or("the stack is not there")?;
    same("frames kept", (stack.frames.len(), stack.samples), (MAX_FRAMES, 1))
}
