//! Calls that the scheduler interrupts are told apart from slow ones.
//!
//! The measured process competes with four busy threads for the CPUs. Preemption lasts milliseconds, an allocation
//! nanoseconds: nearly all the time in long calls must be found on the interrupted side, but for what a hypervisor took from
//! the CPUs meanwhile, which no process sees.

mod common;

use std::alloc::System;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{SCENARIO, holds, run, same};
use heapgate_alloc::Telemetry;
use heapgate_alloc::segment::clock::Anchor;
use heapgate_alloc::segment::histogram::bucket_bounds;
use heapgate_alloc::segment::layout::{InterruptedSplit, Level, Operation};
use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static ALLOCATOR: Telemetry<System> = Telemetry::new(System);

const NEIGHBOURS: usize = 4;
const RUN_FOR: Duration = Duration::from_secs(4);

fn main() {
    match std::env::var(SCENARIO).as_deref() {
        Ok("churn") => churn(),
        Ok("nothing") => {}
        _ => {
            let tests = vec![
                Trial::test("preempted_calls_are_told_apart_from_slow_ones", preempted),
                Trial::test("where_the_user_switched_rseq_off_the_split_is_unavailable", switched_off),
            ];
            libtest_mimic::run(&Arguments { test_threads: Some(1), ..Arguments::from_args() }, tests).exit();
        }
    }
}

fn churn() {
    let end = Instant::now() + RUN_FOR;
    while Instant::now() < end {
        for size in 1..2000 {
            black_box(Vec::<u8>::with_capacity(size));
        }
    }
}

fn switched_off() -> Result<(), Failed> {
    // SAFETY: tests run one at a time, in one thread.
    unsafe { std::env::set_var("GLIBC_TUNABLES", "glibc.pthread.rseq=0") };
    let ran = run("nothing", Level::Exact, 16);
    // SAFETY: as above.
    unsafe { std::env::remove_var("GLIBC_TUNABLES") };
    holds("the child succeeds", ran.status.success())?;
    let split = ran.reader().interrupted_split();
    holds(
        &format!("unavailable, not {split}"),
        !matches!(split, InterruptedSplit::Available | InterruptedSplit::Unknown),
    )
}

fn preempted() -> Result<(), Failed> {
    let stop = AtomicBool::new(false);
    let stolen_before = stolen_s();
    let ran = std::thread::scope(|scope| {
        for _ in 0..NEIGHBOURS {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let ran = run("churn", Level::Exact, 16);
        stop.store(true, Relaxed);
        ran
    });
    holds("the child succeeds", ran.status.success())?;
    let split = ran.reader().interrupted_split();
    if split != InterruptedSplit::Available {
        println!("LOUDLY SKIPPED: interrupted calls can't be told apart here ({split})");
        return Ok(());
    }
    let totals = ran.totals();
    let operations = [Operation::Alloc, Operation::Dealloc];
    let long_ticks = |buckets: Vec<u64>| -> f64 {
        // Over a million ticks: about half a millisecond, the shortest that a preemption by a busy neighbour lasts.
        buckets
            .iter()
            .enumerate()
            .map(|(b, n)| (bucket_bounds(b).0, *n))
            .filter(|b| b.0 > 1_000_000)
            .map(|(t, n)| t as f64 * n as f64)
            .sum()
    };
    let clean: f64 = operations.iter().map(|&op| long_ticks(totals.clean(op).collect())).sum();
    let interrupted: f64 = operations.iter().map(|&op| long_ticks(totals.interrupted(op).collect())).sum();
    let calls: u64 = totals.timed_calls().iter().map(|t| t.0 + t.1).sum();
    let flagged: u64 = totals.timed_calls().iter().map(|t| t.1).sum();
    println!(
        "{calls} calls, {flagged} interrupted; long calls: {clean:.2e} ticks clean, {interrupted:.2e} interrupted"
    );
    same("every call is on one side", calls, totals.allocation_calls() + totals.dealloc_calls())?;
    holds("interruptions are found", flagged > 0 && interrupted > 0.0)?;
    holds("interruptions are few", flagged < calls / 1000)?;
    // No more than was taken from all CPUs can have been taken from these calls.
    let now = Anchor::now(ran.reader().clock());
    let stolen = (stolen_s() - stolen_before) * ran.reader().ticks_per_second(Some(now)).ok_or("no clock")?;
    holds("nearly all the time in long calls is found to be interrupted", (clean - stolen) * 10.0 < interrupted)
}

/// What a hypervisor has taken from all CPUs so far, s: the eighth figure of the first line (proc_stat(5)).
fn stolen_s() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").expect("/proc");
    let ticks = text.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse::<f64>().ok());
    // SAFETY: sysconf has no requirement.
    ticks.unwrap_or(0.0) / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}
