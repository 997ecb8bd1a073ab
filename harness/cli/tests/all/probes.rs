//! The probes in real executables, and what bpftrace sees through them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use heapgate_segment::histogram::bucket_bounds;
use heapgate_segment::layout::Operation;
use heapgate_segment::probes::ALL;
use heapgate_segment::published::{Buffer, Entry};
use object::{Object, ObjectSection};
use serde_json::Value;

use crate::common::processes::{send, wait_for};
use crate::common::{HEAPGATE, Place, skip};
use crate::planted::{CALLS, Planted};

/// Name, number of arguments and whether there is a semaphore, of every probe in an executable.
fn probes_of(executable: &Path) -> BTreeSet<(String, usize, bool)> {
    let bytes = std::fs::read(executable).expect("read");
    let file = object::File::parse(&*bytes).expect("an executable");
    let mut notes = file.section_by_name(".note.stapsdt").expect("probes").data().expect("read");
    let mut found = BTreeSet::new();
    // Note by note: sizes of name and description, type 3, "stapsdt", the description, padded to 4.
    while notes.len() >= 12 {
        let word = |at: usize| u32::from_le_bytes(notes[at..at + 4].try_into().expect("four")) as usize;
        let (name, size) = (word(0).next_multiple_of(4), word(4));
        let description = &notes[12 + name..12 + name + size];
        // Three addresses: of the probe, of a section to tell how it was moved, and of the semaphore.
        let semaphore = description[16..24].iter().any(|&byte| byte != 0);
        let mut texts = description[24..].split(|&byte| byte == 0).map(|text| str::from_utf8(text).expect("ASCII"));
        assert_eq!(texts.next(), Some("heapgate"));
        let probe = texts.next().expect("a name").to_owned();
        found.insert((probe, texts.next().expect("arguments").split_whitespace().count(), semaphore));
        notes = &notes[12 + name + size.next_multiple_of(4)..];
    }
    found
}

#[test]
fn the_probes_in_executables_are_those_that_are_documented() {
    let documented: BTreeSet<_> =
        ALL.iter().map(|probe| (probe.name.to_owned(), probe.arguments.len(), probe.has_semaphore)).collect();
    // This one has all that there are in it; heapgate has those of what its workloads use.
    assert_eq!(probes_of(&Planted::executable()), documented);
    let own = probes_of(Path::new(HEAPGATE));
    assert!(own.is_subset(&documented) && own.iter().any(|probe| probe.0 == "stall_done"), "{own:?}");
}

/// Whether bpftrace can be used here; where it must be, that it can't is an error.
fn bpftrace_works() -> bool {
    const TRACEFS: &str = "/sys/kernel/tracing";
    let required = std::env::var_os("HEAPGATE_REQUIRE_BPFTRACE").is_some_and(|set| set == "1");
    let missing = || {
        // SAFETY: takes nothing and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Some("this is not root");
        }
        if Command::new("bpftrace").arg("--version").output().is_err() {
            return Some("bpftrace is not installed");
        }
        let is_mounted = || Path::new(TRACEFS).join("uprobe_events").exists();
        if !is_mounted() {
            let _ = Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]).status();
        }
        (!is_mounted()).then_some("tracefs is not mounted, and can't be")
    };
    let missing = missing();
    if let Some(why) = missing {
        assert!(!required, "HEAPGATE_REQUIRE_BPFTRACE=1, and {why}");
        skip(&format!("what bpftrace sees of the probes: {why}"));
    }
    missing.is_none()
}

/// A tracer that is attached, ended with the test.
struct Tracer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Tracer {
    fn attach(planted: &Planted, script: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards/bpftrace").join(script);
        let mut child = Command::new("bpftrace")
            .args(["-f", "json", "-B", "line", "-p", &planted.pid().to_string()])
            .arg(script)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        // What it says once its probes are in place.
        while !line.contains("attached\\n") {
            line.clear();
            assert!(output.read_line(&mut line).expect("read") > 0, "bpftrace did not attach");
        }
        Self { child, output }
    }

    /// Ends it; what it had counted, by map.
    fn end(mut self) -> BTreeMap<String, Value> {
        send(self.child.id(), libc::SIGINT);
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("read");
        assert!(self.child.wait().expect("waited").success(), "{text}");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        // The last of each: what is printed now and then comes before what is printed at the end.
        lines
            .filter(|line| line["type"] == "map" || line["type"] == "hist")
            .filter_map(|line| line["data"].as_object().cloned())
            .flatten()
            .collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Timed calls by operation, interrupted, and the power of two of their ticks.
type Histogram = BTreeMap<(u64, u64, u32), u64>;

fn of_segment(entry: &Entry) -> Histogram {
    const OPERATIONS: [Operation; 4] =
        [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc];
    let mut buffer = Buffer::new();
    entry.read(&mut buffer).expect("read");
    let totals = buffer.reader().expect("a segment").totals();
    let mut histogram = Histogram::new();
    for operation in OPERATIONS {
        let (clean, cut) = (totals.clean(operation), totals.interrupted(operation));
        for (bucket, (clean, cut)) in clean.zip(cut).enumerate() {
            // Buckets never straddle a power of two.
            let power = bucket_bounds(bucket).0.checked_ilog2().map_or(0, |power| power + 1);
            for (interrupted, count) in [(0, clean), (1, cut)] {
                if count > 0 {
                    *histogram.entry((operation as u64, interrupted, power)).or_default() += count;
                }
            }
        }
    }
    histogram
}

fn of_bpftrace(ticks: &Value) -> Histogram {
    let mut histogram = Histogram::new();
    for (key, buckets) in ticks.as_object().expect("by operation and interrupted") {
        let (operation, interrupted) = key.split_once(',').expect("two");
        for bucket in buckets.as_array().expect("buckets") {
            let low = bucket["min"].as_u64().unwrap_or(0);
            let count = bucket["count"].as_u64().expect("a count");
            let key = (operation.parse().expect("a number"), interrupted.parse().expect("0 or 1"));
            if count > 0 {
                *histogram.entry((key.0, key.1, low.checked_ilog2().map_or(0, |power| power + 1))).or_default() +=
                    count;
            }
        }
    }
    histogram
}

#[test]
fn bpftraces_histogram_of_a_run_is_the_segments() {
    if !bpftrace_works() {
        return;
    }
    let place = Place::new();
    let mut planted = Planted::start(&place, "calls", "exact");
    let tracer = Tracer::attach(&planted, "stalls.bt");
    let before = of_segment(&planted.entry());
    planted.go();
    let mut segment = of_segment(&planted.entry());
    let seen = of_bpftrace(&tracer.end()["@ticks"]);
    for (key, count) in before {
        *segment.get_mut(&key).expect("counts only grow") -= count;
    }
    segment.retain(|_, count| *count > 0);
    let calls = |histogram: &Histogram| histogram.values().sum::<u64>();
    assert!(calls(&segment) >= 2 * CALLS, "{segment:?}");
    assert_eq!(seen, segment, "{} and {} calls", calls(&seen), calls(&segment));
}

#[test]
fn bpftrace_sees_scopes_with_their_lines_and_escapes() {
    if !bpftrace_works() {
        return;
    }
    let place = Place::new();
    let mut planted = Planted::start(&place, "calls", "count");
    let tracer = Tracer::attach(&planted, "scopes.bt");
    planted.go();
    let maps = tracer.end();
    let scopes = maps["@scopes"].as_object().expect("by line");
    let of_file: u64 =
        scopes.iter().filter(|(key, _)| key.contains("planted.rs")).filter_map(|(_, n)| n.as_u64()).sum();
    assert_eq!(of_file, CALLS / 1_000, "{scopes:?}");
    let escaped = maps["@escaped_bytes"].as_object().expect("by line");
    assert_eq!(escaped.values().filter_map(Value::as_u64).sum::<u64>(), CALLS / 1_000 * 80, "{escaped:?}");
}

#[test]
fn a_tracers_histogram_becomes_metrics_of_the_agent() {
    if !bpftrace_works() {
        return;
    }
    let place = Place::new();
    place.write("text/.keep", "");
    let mut planted = Planted::start(&place, "calls", "exact");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards/bpftrace/to-textfile");
    let pid = planted.pid().to_string();
    let mut converter = Command::new(script);
    converter.arg(&pid).arg(place.path("text")).stdout(Stdio::null());
    let mut converter = crate::common::processes::Running::new(converter.spawn().expect("started"));
    let file = place.path(&format!("text/heapgate-probes-{pid}.prom"));
    // Its first figures, of nothing yet, come once it is attached.
    wait_for("the first figures", || file.exists().then_some(()));
    planted.go();
    // The tracer ends with the process, and its last figures are written then.
    planted.end();
    wait_for("the end of the tracer", || converter.has_ended().then_some(()));
    let text = std::fs::read_to_string(file).expect("read");
    let count = |op: &str| -> u64 {
        let counts = text.lines().filter(|line| line.starts_with("heapgate_probe_stall_seconds_count{"));
        let counts = counts.filter(|line| line.contains(&format!("op=\"{op}\"")));
        counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    let zeroed = count("alloc_zeroed");
    assert!((CALLS..2 * CALLS).contains(&zeroed) && count("dealloc") >= CALLS, "{text}");
    assert!(text.contains("le=\"+Inf\"") && text.contains("le=\"0.0001\""), "{text}");
}
