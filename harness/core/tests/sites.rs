//! From a process that samples its stacks to the names of its functions, with their shares and sizes.
//!
//! Without the usual harness: the child, which is this executable again, must be as plain as a program.

use std::alloc::System;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use heapgate_alloc::segment::layout::{self, Level, PhaseKind};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::segment::stacks::{self, Capacity, Settings, StackTable};
use heapgate_alloc::{Telemetry, session};
use heapgate_core::report::{Counts, Site, Sites};
use heapgate_core::sites::{Modules, Symbols, gather};

#[global_allocator]
static ALLOCATOR: Telemetry<System> = Telemetry::new(System);

const CHILD: &str = "HEAPGATE_TEST_CHILD";
const ROUNDS: u64 = 500;
const EACH: [(&str, u64, u64); 3] = [("often", 60, 24), ("sometimes", 30, 100), ("seldom", 10, 1000)];

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    exact_with_period_1();
    estimated_with_another();
    println!("sites: ok");
}

fn exact_with_period_1() {
    let sites = sites_of_a_child(1);
    for (name, times, size) in EACH {
        let site = site_in(&sites, name);
        assert_eq!((site.samples, site.sampled_bytes), (times * ROUNDS, times * ROUNDS * size), "{name}");
        assert!((sites.share(site) - times as f64 / 100.0).abs() < 0.001, "{name}: {}", sites.share(site));
        assert_eq!(sites.share_error(site), 0.0);
        assert_eq!(site.mean_bytes(), size as f64);
        assert_eq!(site.file, "harness/core/tests/sites.rs");
        assert!(site.call.ends_with("with_capacity"), "{site:?}");
    }
}

fn estimated_with_another() {
    let sites = sites_of_a_child(16);
    for (name, times, size) in EACH {
        let site = site_in(&sites, name);
        let error = (sites.share(site) - times as f64 / 100.0).abs();
        // Two and a half times the 95% bound: one seed in a million; and ours is fixed.
        assert!(error < 2.5 * sites.share_error(site), "{name}: {error} off, bound {}", sites.share_error(site));
        assert_eq!(site.mean_bytes(), size as f64);
    }
}

fn site_in<'a>(sites: &'a Sites, function: &str) -> &'a Site {
    let found = sites.sites.iter().find(|site| site.function.ends_with(&format!("sites::{function}")));
    found.unwrap_or_else(|| panic!("{function} is not among {:#?}", sites.sites))
}

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

fn child() {
    let session = session().expect("a segment");
    let phase = session.begin_phase(PhaseKind::Measure as u64);
    for _ in 0..ROUNDS {
        (0..60).for_each(|_| black_box(often as fn())());
        (0..30).for_each(|_| black_box(sometimes as fn())());
        (0..10).for_each(|_| black_box(seldom as fn())());
    }
    session.close_phase(&phase, 1, 0);
    phase.end();
    println!("done");
    // Stays until its parent has seen where its code is.
    let _ = std::io::stdin().read(&mut [0]);
}

fn sites_of_a_child(period: u64) -> Sites {
    let segment = create_file(c"segment", layout::segment_bytes(4)).expect("a memory file");
    let table = create_file(c"stacks", Capacity::TRIAL.bytes()).expect("a memory file");
    let words = Mapping::new(segment.as_fd()).expect("a mapping");
    layout::format(words.words(), 4, Level::Count, 64);
    let mapping = Mapping::new(table.as_fd()).expect("a mapping");
    stacks::format(mapping.words(), Capacity::TRIAL, &Settings::calls(period));
    let mut child = Command::new(std::env::current_exe().expect("this executable"))
        .env(CHILD, "1")
        .env("HEAPGATE_SEGMENT", inherited(&segment))
        .env("HEAPGATE_STACKS", inherited(&table))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "done\n");
    let modules = Modules::of(child.id()).expect("the child is there");
    drop(child.stdin.take());
    assert!(child.wait().expect("waited for").success());
    let samples = StackTable::new(mapping.words()).expect("a table").read();
    gather(&samples, &modules, Counts::default(), &mut Symbols::default())
}

/// Lets children have `file`; returns its name for them.
fn inherited(file: &File) -> String {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open; the flag only decides that children inherit it. This process has one thread.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    format!("fd:{fd}")
}
