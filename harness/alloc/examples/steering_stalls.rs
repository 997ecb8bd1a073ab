//! What changes of settings cost the threads that allocate meanwhile: their longest calls, without changes and with 1,000, beside
//! the longest purge.
//!
//!   cargo run --release -p heapgate-alloc --features control --example steering_stalls
//!
//! Each process is this program again. Its threads allocate and free without a pause; another one makes the changes (decay,
//! background threads, purge, soft limit). Calls during which the thread did not run all the time are a column of their own:
//! preempted ones, which grow with threads per processor, and those that waited for a lock.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use heapgate_alloc::control::{self, Control};
use heapgate_alloc::segment::clock::Anchor;
use heapgate_alloc::segment::histogram::bucket_bounds;
use heapgate_alloc::segment::layout::Operation;
use heapgate_alloc::segment::setting::Setting;
use heapgate_alloc::{Telemetry, session};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Telemetry<Jemalloc> = Telemetry::new(Jemalloc);

/// One, which shares the machine with nothing but the changes, and more than there are processors.
const THREADS: [u64; 2] = [1, 8];
const CHANGES: [u32; 2] = [0, 1000];
const RUNS: usize = 5;
/// Each change begins so long after the one before, at least; without changes the time is as long.
const EVERY: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let numbers: Vec<u64> = env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let result = match numbers[..] {
        [threads, changes] => work(threads, changes as u32),
        _ => measure(),
    };
    if let Err(error) = result {
        eprintln!("steering_stalls: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure() -> io::Result<()> {
    println!("Median and range of {RUNS} runs in alternation, µs.");
    println!(
        "{:>7} {:>7} {:>24} {:>26} {:>22}",
        "threads", "changes", "longest call", "longest interrupted", "longest purge"
    );
    for threads in THREADS {
        let mut found = CHANGES.map(|_| Vec::new());
        for _ in 0..RUNS {
            for (changes, found) in CHANGES.into_iter().zip(&mut found) {
                let child = Command::new(env::current_exe()?)
                    .args([threads.to_string(), changes.to_string()])
                    .envs([("HEAPGATE_TRACE", "1"), ("HEAPGATE_TRACE_INTERVAL", "60m")])
                    .envs([("HEAPGATE_TRACE_FILE", "/dev/null"), ("HEAPGATE_LEVEL", "exact")])
                    .stderr(Stdio::inherit())
                    .output()?;
                let text = String::from_utf8_lossy(&child.stdout).into_owned();
                let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
                found.push(<[f64; 3]>::try_from(numbers).map_err(|_| io::Error::other("a run has failed"))?);
            }
        }
        for (changes, found) in CHANGES.into_iter().zip(found) {
            let column = |index: usize| {
                let mut values: Vec<f64> = found.iter().map(|run: &[f64; 3]| run[index] / 1e3).collect();
                values.sort_by(f64::total_cmp);
                format!("{:.0} ({:.0} to {:.0})", values[RUNS / 2], values[0], values[RUNS - 1])
            };
            println!("{threads:>7} {changes:>7} {:>24} {:>26} {:>22}", column(0), column(1), column(2));
        }
    }
    Ok(())
}

/// Prints, in ns: the longest call, the longest that was interrupted, the longest purge.
fn work(threads: u64, changes: u32) -> io::Result<()> {
    Control::new().start().map_err(io::Error::other)?;
    let is_over = AtomicBool::new(false);
    let longest_purge = thread::scope(|scope| {
        for thread in 0..threads {
            let is_over = &is_over;
            scope.spawn(move || allocate(thread + 1, is_over));
        }
        let result = change(changes);
        is_over.store(true, Relaxed);
        result
    })?;
    let reader = session().ok_or_else(|| io::Error::other("nothing is measured"))?.reader();
    let ns_per_tick = 1e9 / reader.ticks_per_second(Some(Anchor::now(reader.clock()))).unwrap_or(1e9);
    let totals = reader.totals();
    let operations = [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc];
    // The lower end of its bucket: it took as long as that, at least.
    let longest = |counts: Vec<u64>| {
        counts.iter().rposition(|&count| count > 0).map_or(0.0, |bucket| bucket_bounds(bucket).0 as f64 * ns_per_tick)
    };
    let clean = operations.map(|operation| longest(totals.clean(operation).collect()));
    let interrupted = operations.map(|operation| longest(totals.interrupted(operation).collect()));
    let most = |values: [f64; 4]| values.into_iter().fold(0.0, f64::max);
    println!("{:.0} {:.0} {}", most(clean), most(interrupted), longest_purge.as_nanos());
    Ok(())
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Objects from 16 bytes to 128 KiB, of which a hundred are alive: in caches, slabs, and pages of their own.
fn allocate(mut state: u64, is_over: &AtomicBool) {
    let mut kept = Vec::with_capacity(100);
    while !is_over.load(Relaxed) {
        let random = next(&mut state);
        if kept.len() == 100 || (random & 1 == 0 && !kept.is_empty()) {
            kept.swap_remove((random >> 8) as usize % kept.len());
        } else {
            kept.push(black_box(vec![1_u8; 16 << ((random >> 8) % 14)]));
        }
    }
}

/// Makes so many, at random; returns the longest purge.
fn change(changes: u32) -> io::Result<Duration> {
    let (mut state, mut longest) = (7, Duration::ZERO);
    if changes == 0 {
        thread::sleep(EVERY * CHANGES[1]);
    }
    for _ in 0..changes {
        let decay = [-1, 0, 1, 10, 1000, 10_000][next(&mut state) as usize % 6];
        let (setting, value) = match next(&mut state) % 5 {
            0 => (Setting::DirtyDecayMs, decay),
            1 => (Setting::MuzzyDecayMs, decay),
            2 => (Setting::BackgroundThread, (next(&mut state) % 2).cast_signed()),
            3 => (Setting::Purge, 1),
            _ => (Setting::SoftLimitBytes, [0, 8 << 20, 64 << 20, 1 << 40][next(&mut state) as usize % 4]),
        };
        let begin = Instant::now();
        control::set(setting, value).map_err(io::Error::other)?;
        let took = begin.elapsed();
        if setting == Setting::Purge {
            longest = longest.max(took);
        }
        thread::sleep(EVERY.saturating_sub(took));
    }
    Ok(longest)
}
