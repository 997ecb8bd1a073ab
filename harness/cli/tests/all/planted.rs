//! A program with arenas, scopes and timed calls, for the tests of leaks and of probes to look at: this executable itself,
//! started again with [`VARIABLE`] set.

use std::alloc::System;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use heapgate_alloc::Telemetry;
use heapgate_region::{Arena, Region, scope};
use heapgate_segment::published::{self, Buffer, Entry};

use crate::common::Place;

// Off in all tests but the one below, in a process of its own.
#[global_allocator]
static ALLOCATOR: Telemetry<Region<System>> = Telemetry::new(Region::new(System));

/// Names what the program is to do.
const VARIABLE: &str = "HEAPGATE_TEST_PLANTED";

/// The name that it is published under.
pub const SERVICE: &str = "planted";

/// Arenas that it makes, and one in how many it leaks.
pub const ARENAS: u64 = 30_000;
pub const LEAKED_OF: u64 = 10_000;

/// Allocations and frees of one round of `calls`.
pub const CALLS: u64 = 20_000;

/// The program: says `ready` before and after what it does, and waits for a line each time.
#[test]
fn the_planted_program() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("leak") => arenas(true),
        Ok("no leak") => arenas(false),
        Ok("calls") => calls(),
        Ok("allocate") => works(one_that_allocates),
        Ok("grow") => works(one_that_leaks),
        Ok("burn") => works(one_that_burns),
        _ => {}
    }
}

fn wait() {
    println!("\nready");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

fn arenas(leak: bool) {
    // As programs have them: a cache that is made once, and a pool.
    let cache = Arena::new();
    cache.alloc_str("kept to the end");
    let pool: Vec<Arena> = (0..8).map(|_| Arena::new()).collect();
    let work = move || {
        let (mut longest, mut escaped) = (Duration::ZERO, Vec::new());
        for number in 0..ARENAS {
            let began = Instant::now();
            let arena = Arena::new();
            arena.alloc_str("a request's words");
            if number % 1_000 == 0 {
                escaped = scope(|| vec![number; 10]);
            }
            if leak && number % LEAKED_OF == 4_710 {
                arena.alloc_slice(&[0_u8; 100_000]);
                std::mem::forget(arena);
            } else {
                drop(arena);
                longest = longest.max(began.elapsed());
            }
        }
        // However the machine held up one that was released: what was leaked is to be ten times as old.
        std::thread::sleep(longest * 11);
        drop((Arena::new(), escaped));
    };
    std::thread::Builder::new().name("worker".to_owned()).spawn(work).expect("started").join().expect("ended");
    scope(wait);
    drop(pool);
}

fn calls() {
    wait();
    let mut kept = Vec::with_capacity(100);
    for number in 0..CALLS {
        kept.push(vec![0_u8; 1 + (number * 37 % 5_000) as usize]);
        if kept.len() == 100 {
            kept.clear();
        }
        if number % 1_000 == 0 {
            std::hint::black_box(scope(|| vec![number; 10]));
        }
    }
    drop(kept);
    heapgate_region::purge();
    wait();
}

/// Lets itself be asked for stacks, and works until it is told to end.
fn works(work: fn()) {
    heapgate_alloc::Publication::new(SERVICE).profiling().publish().expect("published");
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            loop {
                work();
            }
        })
        .expect("started");
    wait();
}

/// The site that takes the CPU's time.
#[inline(never)]
fn one_that_burns() {
    let mut state = std::hint::black_box(1_u64);
    for _ in 0..1_000_000 {
        state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7) ^ 1);
    }
}

/// The site that a profile is to name. As large as this, the C library clears it each time, which takes longer than 1 µs.
#[inline(never)]
fn one_that_allocates() {
    drop(std::hint::black_box(vec![0_u8; 120_000]));
    std::thread::sleep(Duration::from_micros(100));
}

/// The site that is to be named as one that grows.
#[inline(never)]
fn one_that_leaks() {
    std::mem::forget(std::hint::black_box(vec![0_u8; 500]));
    one_that_allocates();
}

/// The program, running.
pub struct Planted {
    child: Child,
    lines: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Planted {
    /// Starts it, published in `place`'s folder `run`; returns once it waits.
    pub fn start(place: &Place, what: &str, level: &str) -> Self {
        let folder = place.path("run");
        let mut child = Command::new(Self::executable())
            .args(["--exact", "planted::the_planted_program", "--nocapture", "--test-threads", "1"])
            .env(VARIABLE, what)
            .env("HEAPGATE_RUNTIME_DIR", &folder)
            .env("HEAPGATE_PUBLISH", SERVICE)
            .env("HEAPGATE_LEVEL", level)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut planted = Self { child, lines, folder };
        planted.ready();
        planted
    }

    pub fn executable() -> PathBuf {
        std::env::current_exe().expect("known")
    }

    fn ready(&mut self) {
        let mut line = String::new();
        while line.trim_end() != "ready" {
            line.clear();
            assert!(self.lines.read_line(&mut line).expect("read") > 0, "the planted program ended");
        }
    }

    fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().expect("piped")).expect("written");
    }

    /// Lets it do what it does, until it waits again.
    pub fn go(&mut self) {
        self.go_on();
        self.ready();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its published file.
    pub fn entry(&self) -> Entry {
        let entries = published::list(&self.folder).expect("listed");
        entries.into_iter().find(|entry| entry.pid == self.pid()).expect("published")
    }

    /// Allocations that it has made so far.
    pub fn allocations(&self) -> u64 {
        let mut buffer = Buffer::new();
        self.entry().read(&mut buffer).expect("read");
        buffer.reader().expect("a segment").totals().allocation_calls()
    }

    /// Lets it end; its file stays.
    pub fn end(mut self) {
        self.go_on();
        assert!(self.child.wait().expect("waited").success());
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
