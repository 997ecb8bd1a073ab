//! The exposition of a real process: a child that allocates with telemetry exports itself, and its segment is read from
//! outside when it has ended.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::mpsc;

use common::Exposition;
use heapgate_alloc::Telemetry;
use heapgate_prometheus::catalogue::MetricId;
use heapgate_prometheus::stalls::Scale;
use heapgate_prometheus::{Figures, Labels, collector, text};
use heapgate_segment::layout::{self, Level, Operation};
use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::reader::Reader;
use libtest_mimic::{Arguments, Trial};
use prometheus::{Registry, TextEncoder};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Telemetry<Jemalloc> = Telemetry::new(Jemalloc);

/// Set in a child.
const CHILD: &str = "HEAPGATE_TEST_CHILD";

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("a_process_exports_itself_as_promtool_and_the_catalogue_want_it", exports_itself),
        trial("sums_from_outside_are_the_segments_counts", sums_from_outside),
        trial("a_process_without_a_segment_says_so", without_a_segment),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Allocates in every way, in several threads, and prints what it exports: before, and after.
fn child() {
    let registry = Registry::new();
    let collector = collector().service("tests").version("1.2.3").with_jemalloc();
    registry.register(Box::new(collector)).expect("registered once");
    let print = || println!("{}\u{c}", TextEncoder::new().encode_to_string(&registry.gather()).expect("text"));
    // The rate of ticks is known after a hundredth of a second.
    std::thread::sleep(std::time::Duration::from_millis(20));
    print();
    let (send, receive) = mpsc::channel();
    let threads = (1..4usize).map(|of| {
        let send = send.clone();
        std::thread::spawn(move || {
            for size in 1..500 {
                let mut grown = vec![0u8; size * of];
                grown.reserve(10 * size);
                send.send(grown).expect("received until the end");
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    drop(send);
    assert_eq!(receive.iter().count(), 3 * 499);
    threads.into_iter().for_each(|thread| thread.join().expect("a thread that does not panic"));
    print();
}

/// A child that has ended.
struct Ran {
    expositions: Vec<(String, Exposition)>,
    mapping: Mapping,
}

fn run(level: Option<Level>) -> Ran {
    const SLOTS: usize = 16;
    let file = create_file(c"test", layout::segment_bytes(SLOTS)).expect("a memory file");
    let mapping = Mapping::new(file.as_fd()).expect("a mapping");
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.env(CHILD, "1");
    if let Some(level) = level {
        layout::format(mapping.words(), SLOTS, level, 8);
        command.env("HEAPGATE_SEGMENT", inherited(&file));
    }
    let output = command.output().expect("the child starts");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let texts = stdout.split_terminator("\u{c}\n").map(|text| text.trim_end_matches('\n').to_owned() + "\n");
    Ran { expositions: texts.map(|text| (text.clone(), Exposition::parse(&text))).collect(), mapping }
}

/// Lets children have `file`; returns its name for them.
fn inherited(file: &File) -> String {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open; the flag only decides that children inherit it.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    format!("fd:{fd}")
}

fn exports_itself() {
    for level in [Level::Exact, Level::Sampled] {
        let ran = run(Some(level));
        let [(_, before), (text, after)] = &ran.expositions[..] else { panic!("two expositions") };
        after.check();
        after.check_since(before);
        common::promtool(text);
        let labels = [("service", "tests"), ("version", "1.2.3"), ("allocator", "jemalloc")];
        assert_eq!(after.value("heapgate_up", &labels), 1.0);
        assert_eq!(after.value("heapgate_level", &[]), level as u64 as f64);
        let grown = |name, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
        assert!(grown("heapgate_allocations_total", &[("op", "alloc_zeroed")]) >= 1497.0);
        assert!(grown("heapgate_allocations_total", &[("op", "realloc")]) >= 1497.0);
        assert!(grown("heapgate_stall_seconds_count", &[("op", "realloc")]) > 500.0, "at level {level:?}");
        assert!(grown("heapgate_threads_seen_total", &[("slot", "own")]) >= 3.0);
        // Its parts are of one look, and add up to what the kernel says.
        let resident = after.value("heapgate_process_resident_bytes", &[]);
        assert!((after.sum("heapgate_resident_bytes", &[]) - resident).abs() < 1.0);
        assert!(after.value("heapgate_jemalloc_active_bytes", &[]) >= after.value("heapgate_live_bytes", &[]));
        assert!(after.value("heapgate_process_memory_limit_bytes", &[]) > resident);
    }
}

fn sums_from_outside() {
    let ran = run(Some(Level::Exact));
    let reader = Reader::new(ran.mapping.words()).expect("a segment");
    let scale = Scale::of(reader).expect("the process lived for more than a hundredth of a second");
    let figures = Figures::read(reader, Some(&scale), None);
    let labels = Labels::of_process("tests", reader.pid(), "", "");
    let mut written = Vec::new();
    text::write(&[(&labels, &figures)], &mut written).expect("written to memory");
    let exposition = Exposition::parse(&String::from_utf8(written).expect("UTF-8"));
    exposition.check();

    let totals = reader.totals();
    let same = |name, labels: &[(&str, &str)], count: u64| {
        assert_eq!(exposition.sum(name, labels), count as f64, "{name} with {labels:?}");
    };
    let operations = [
        (Operation::Alloc, "alloc"),
        (Operation::AllocZeroed, "alloc_zeroed"),
        (Operation::Realloc, "realloc"),
        (Operation::Dealloc, "dealloc"),
    ];
    for (operation, op) in operations {
        let (clean, interrupted) = totals.timed_calls()[operation as usize];
        same("heapgate_stall_seconds_count", &[("op", op), ("interrupted", "false")], clean);
        same("heapgate_stall_seconds_count", &[("op", op), ("interrupted", "true")], interrupted);
        // Every call is timed at this level.
        let counted = if op == "dealloc" { "heapgate_deallocations_total" } else { "heapgate_allocations_total" };
        let label = [("op", op)];
        same(counted, if op == "dealloc" { &[] } else { &label }, clean + interrupted);
    }
    same("heapgate_allocations_total", &[], totals.allocation_calls());
    same("heapgate_allocated_bytes_total", &[], totals.bytes_allocated());
    same("heapgate_deallocated_bytes_total", &[], totals.bytes_freed());
    same("heapgate_live_objects", &[], totals.live_objects() as u64);
    same("heapgate_live_bytes", &[], totals.live_bytes() as u64);
    let longest = exposition.sum("heapgate_stall_max_seconds", &[]);
    assert!(longest > 0.0 && longest < 10.0, "{longest} s");
    assert_eq!(figures.value(MetricId::Resident, 0), None, "the process has ended");
}

fn without_a_segment() {
    let ran = run(None);
    let (text, exposition) = ran.expositions.last().expect("an exposition");
    exposition.check();
    common::promtool(text);
    assert_eq!(exposition.value("heapgate_up", &[]), 0.0);
    assert_eq!(exposition.value("heapgate_unmeasured_info", &[("reason", "no-segment")]), 1.0);
    assert_eq!(exposition.matching("heapgate_live_bytes", &[]).count(), 0);
    assert!(exposition.value("heapgate_process_resident_bytes", &[]) > 0.0, "what the kernel says is there");
}
