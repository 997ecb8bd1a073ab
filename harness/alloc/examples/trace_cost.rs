//! What a trace line costs: CPU time of the thread that writes them, for processes of some numbers of threads.
//!
//!   cargo run --release -p heapgate-alloc --example trace_cost
//!
//! Each process is this program again with `HEAPGATE_TRACE=1`. Its threads allocate for some seconds, every call is timed, and
//! the kernel says how long the thread `heapgate-trace` ran.

use std::alloc::System;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use heapgate_alloc::Telemetry;

#[global_allocator]
static ALLOCATOR: Telemetry<System> = Telemetry::new(System);

/// Beyond 256 a process of heapgate's usual number of slots has no more to add up.
const THREADS: [usize; 4] = [1, 16, 64, 256];

/// How long each process works: some two hundred lines.
const WORK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let result = match env::args().nth(1).map(|threads| threads.parse()) {
        None => measure(),
        Some(Ok(threads)) => work(threads),
        Some(Err(error)) => Err(io::Error::other(error)),
    };
    if let Err(error) = result {
        eprintln!("trace_cost: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure() -> io::Result<()> {
    let log = env::temp_dir().join(format!("heapgate-trace-cost-{}", std::process::id()));
    println!("{:>7} {:>6} {:>12}", "threads", "lines", "CPU a line");
    for threads in THREADS {
        let child = Command::new(env::current_exe()?)
            .arg(threads.to_string())
            .env("HEAPGATE_TRACE", "1")
            .env("HEAPGATE_TRACE_INTERVAL", "10ms")
            .env("HEAPGATE_TRACE_FILE", &log)
            .env("HEAPGATE_LEVEL", "exact")
            .stderr(Stdio::inherit())
            .output()?;
        let ns: f64 = String::from_utf8_lossy(&child.stdout).trim().parse().map_err(io::Error::other)?;
        // The last is written by `exit`, not by that thread.
        let lines = fs::read_to_string(&log)?.lines().count().saturating_sub(1);
        fs::remove_file(&log)?;
        println!("{threads:>7} {lines:>6} {:>9.0} µs", ns / 1e3 / lines as f64);
    }
    Ok(())
}

/// Allocates on so many threads, and says how many nanoseconds the tracing thread ran.
fn work(threads: usize) -> io::Result<()> {
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for round in thread.. {
                    let sizes = (0..100).map(|step| 1_usize << ((round + step) % 18));
                    black_box(sizes.map(Vec::<u8>::with_capacity).collect::<Vec<_>>());
                    if began.elapsed() > WORK {
                        return;
                    }
                    // Many threads mostly wait; this leaves the tracing thread a CPU.
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim_end() == "heapgate-trace" {
            // Time on a CPU, time waiting for one, turns (Documentation/scheduler/sched-stats.rst).
            let schedstat = fs::read_to_string(task.join("schedstat"))?;
            println!("{}", schedstat.split(' ').next().unwrap_or_default());
            return Ok(());
        }
    }
    Err(io::Error::other("no thread writes trace lines"))
}
