//! What telemetry costs a whole program: the same steps without any, and at every level, in turn, each in a fresh
//! process.
//!
//! `cargo bench -p heapgate-workloads --bench overhead`. Figures are ratios of the medians of one run; beside them the
//! region against jemalloc, both without telemetry, and how many chunks it took.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use heapgate_alloc::segment::layout::{self, Level};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::segment::reader::Reader;

#[global_allocator]
static ALLOCATOR: heapgate_bench::Allocator = heapgate_bench::allocator();

const ROUNDS: usize = 9;
const SLOTS: usize = 4;
const SAMPLE_PERIOD: u64 = 64;
/// Set in a child.
const CHILD: &str = "HEAPGATE_BENCH_CHILD";
/// Variant, document, steps: those of a third of a second.
type Work = [&'static str; 3];

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    for work in [
        ["tokenize/hf-wordpiece", "book", "16"],
        ["tokenize/hf-wordpiece", "verse", "4000"],
        ["tokenize/tiktoken-cl100k", "book", "48"],
    ] {
        compare(work);
    }
}

fn child() {
    let work: Vec<String> = std::env::args().skip(1).collect();
    let [variant, document, steps] = &work[..] else { panic!("variant, document and steps are given") };
    println!("{}", heapgate_workloads::stopwatch::run(variant, document, steps).expect("the workload runs"));
    if heapgate_bench::in_force().has_region() {
        eprintln!("{} chunks", heapgate_region::stats().chunks_in_use_peak);
    }
}

fn compare(work: Work) {
    let mut unmeasured = Vec::new();
    let mut levels = vec![Vec::new(); Level::ALL.len()];
    let mut region = Vec::new();
    let mut calls = 0;
    for round in 0..=ROUNDS {
        // The first round warms the page cache.
        let keep = round > 0;
        let bare = self::bare(work, "jemalloc");
        let in_region = self::bare(work, "region");
        if keep {
            unmeasured.push(bare);
            region.push(in_region / bare);
        }
        for (level, times) in Level::ALL.into_iter().zip(&mut levels) {
            let (ns, timed_calls) = measured(work, level);
            calls = timed_calls.max(calls);
            if keep {
                times.push(ns / bare);
            }
        }
    }
    let [variant, document, steps] = work;
    println!(
        "{variant}, {steps} steps of a {document}, {calls} calls: {:.1} ms without telemetry",
        median(unmeasured) / 1e6
    );
    for (level, ratios) in Level::ALL.into_iter().zip(levels) {
        let name = if level == Level::Off { "off (attached)" } else { level.name() };
        println!("  {name:<16} {:.3}x", median(ratios));
    }
    println!("  {:<16} {:.3}x  {}", "region, bare", median(region), region_chunks(work));
}

/// Without telemetry, ns.
fn bare(work: Work, allocator: &str) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unmeasured"));
    ns(command.args(work).env("HEAPGATE_ALLOCATOR", allocator))
}

/// At `level`: ns, and calls of the allocator in the whole life of the process.
fn measured(work: Work, level: Level) -> (f64, u64) {
    let file = create_file(c"bench", layout::segment_bytes(SLOTS)).expect("a memory file");
    let mapping = Mapping::new(file.as_fd()).expect("mapped");
    layout::format(mapping.words(), SLOTS, level, SAMPLE_PERIOD);
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open; the flag only decides that the child inherits it.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    let ns = ns(itself(work, "jemalloc").env("HEAPGATE_SEGMENT", format!("fd:{fd}")));
    let totals = Reader::new(mapping.words()).expect("a segment").totals();
    (ns, totals.allocation_calls() + totals.dealloc_calls())
}

fn region_chunks(work: Work) -> String {
    let output = itself(work, "region").output().expect("it starts");
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn itself(work: Work, allocator: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.args(work).env(CHILD, "1").env("HEAPGATE_ALLOCATOR", allocator);
    command
}

fn ns(command: &mut Command) -> f64 {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("a number of ns")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
