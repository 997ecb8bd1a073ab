//! The comparison of a running service, of real processes that are published.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use heapgate_segment::clock::ClockKind;
use heapgate_segment::groups::{GroupGauge, GroupSettings};
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{InterruptedSplit, Level, Operation, Slot};
use heapgate_segment::published::{self, Created, Entry};
use heapgate_segment::writer::{Attachment, Writer};

use crate::common::processes::Running;
use crate::common::{Place, Ran};

fn live(place: &Place, arguments: &str) -> Ran {
    let mut command = place.command(&format!("ab {arguments}"));
    Ran::of(command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH"))
}

#[test]
fn sides_of_a_running_service_are_compared_and_nothing_is_made_up() {
    let place = Place::new();
    let none = live(&place, "--live tokenizer").ends_with(2).stderr;
    assert!(none.contains("no published process of service tokenizer"), "{none}");

    let start = |group, version| {
        Running::published(&place, "tokenizer", &[("HEAPGATE_GROUP", group), ("HEAPGATE_VERSION", version)])
    };
    let _old = start("control", "1");
    let one = live(&place, "--live tokenizer").ends_with(4).stderr;
    assert!(one.contains("fewer than two sides (control)"), "{one}");

    let _new = start("lax", "2");
    // They do nothing, so no window has a pair.
    let by_group = live(&place, "--live tokenizer --window 0.2s --duration 1 --json").ends_with(4).json();
    assert_eq!((&by_group["control"], &by_group["winner"]), (&"control".into(), &serde_json::Value::Null));
    assert_eq!(by_group["comparisons"].as_array().map(Vec::len), Some(4), "{by_group:#}");
    assert_eq!(by_group["comparisons"][0]["pairs"], 0);
    let lax = &by_group["last_window"]["lax"];
    assert_eq!((&lax["processes"], lax.get("requests")), (&1.into(), None), "no requests are said, none are shown");

    let by_version = live(&place, "--live tokenizer --by version --window 0.2s --duration 1").ends_with(4).stdout;
    assert!(by_version.contains("improved by 15% or more: undecided"), "{by_version}");
    assert!(by_version.contains("No winner yet."), "{by_version}");
    let wrong = live(&place, "--live tokenizer --control x").ends_with(2).stderr;
    assert!(wrong.contains("there are control, lax"), "{wrong}");
}

/// A service of two groups, in this process: threads of the second take `factor` times as long in the allocator, and for requests.
struct Service {
    writer: Writer,
    slots: [&'static Slot; 2],
    factor: f64,
}

impl Service {
    const GROUPS: [&str; 2] = ["control", "other"];

    fn publish(place: &Place, factor: f64) -> Self {
        let (folder, start_time) = (place.path("run"), published::own_start_time().expect("/proc"));
        std::fs::create_dir_all(&folder).expect("made");
        let created = published::create(&folder, 2, Level::Exact, 1).expect("created");
        // A `Writer` wants memory for its process's life.
        let created: &'static mut Created = Box::leak(Box::new(created));
        let (base, bytes) = created.mapping.raw();
        // SAFETY: a mapping is page-aligned, readable and writable for `bytes` bytes; this one is never unmapped, and its words
        // are accessed as atomics only.
        let writer = unsafe { Writer::from_raw(base, bytes) }.expect("a segment");
        let pid = std::process::id();
        // Ticks are nanoseconds.
        let interrupted_split = InterruptedSplit::Available;
        assert!(writer.attach(Attachment { pid, clock: ClockKind::Monotonic, interrupted_split }));
        let (service, version) = ("tokenizer", "1");
        writer.identify(&Identity { service, version, allocator: "", start_time, published_unix_ns: 1 });
        for (number, name) in (1..).zip(Self::GROUPS) {
            let (dirty_decay_ms, muzzy_decay_ms) = (0, 0);
            let settings = GroupSettings { name, share: 0.5, dirty_decay_ms, muzzy_decay_ms, whole_process: false };
            writer.group(number).define(&settings);
            writer.group(number).set_arenas(1);
            writer.group(number).set_gauge(GroupGauge::Resident, 64 << 20);
        }
        created.file.appear(&Entry::new(&folder, service, pid, start_time)).expect("named");
        let slots = [1, 2].map(|group| writer.claim_first(group as u64, group).expect("a slot"));
        Self { writer, slots, factor }
    }

    /// Serves until `stop`: calls of both groups in turn, of random lengths, and resident memory that is never quite the same.
    fn serve(&self, stop: &AtomicBool) {
        /// Enough for a P99 of each window, also where this thread seldom runs.
        const CALLS: u32 = 100;
        let mut state = 41_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        while !stop.load(Relaxed) {
            for (number, (slot, factor)) in (1..).zip(self.slots.into_iter().zip([1.0, self.factor])) {
                for _ in 0..CALLS {
                    if slot.count_alloc(64) {
                        slot.settle(self.writer.sums());
                    }
                    let ns = 80.0 * (1.0 + random()) * factor;
                    slot.record::<false>(Operation::Alloc, ns as u64, false, 1);
                }
                // Fewer than a P99 takes, however fast this loop is.
                let ns = 1e6 * (1.0 + random()) * factor;
                self.writer.requests(number).record(ns as u64);
                let resident = 64e6 * (1.0 + 0.02 * random());
                self.writer.group(number).set_gauge(GroupGauge::Resident, resident as u64);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What `heapgate ab --live` finds of it meanwhile.
    fn compare(&self, place: &Place, arguments: &str) -> Ran {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.serve(&stop));
            let ran = live(place, &format!("--live tokenizer --window 0.1s --json {arguments}"));
            stop.store(true, Relaxed);
            ran
        })
    }
}

#[test]
fn the_group_that_is_slower_loses_once_the_evidence_is_there() {
    let place = Place::new();
    let service = Service::publish(&place, 2.0);
    let early = service.compare(&place, "--duration 1").ends_with(4).json();
    assert_eq!(early["winner"], serde_json::Value::Null, "{early:#}");
    let late = service.compare(&place, "--duration 90 --until-decided").ends_with(0).json();
    assert_eq!(late["winner"], "control", "{late:#}");
    let stalls = &late["comparisons"][0];
    assert_eq!((&stalls["metric"], &stalls["finding"]), (&"stall_per_call".into(), &"worse".into()), "{late:#}");
    assert!(stalls["change"].as_f64().is_some_and(|change| (change - 1.0).abs() < 0.1), "{stalls}");
    assert_eq!(late["comparisons"][2]["metric"], "resident");
    assert_ne!(late["comparisons"][2]["finding"], "worse", "{late:#}");
    let requests = &late["comparisons"][3];
    assert_eq!((&requests["metric"], &requests["finding"]), (&"request_time".into(), &"worse".into()), "{late:#}");
    assert_eq!(late["comparisons"].as_array().map(Vec::len), Some(4), "{late:#}");
}

#[test]
fn of_two_groups_that_are_alike_none_wins() {
    let place = Place::new();
    // As long as it takes to be sure that none is 15% from the other: on a busy machine few windows have calls of both.
    let report = Service::publish(&place, 1.0).compare(&place, "--duration 90 --until-decided").ends_with(0).json();
    assert_eq!(report["winner"], serde_json::Value::Null, "{report:#}");
    let comparisons = report["comparisons"].as_array().expect("a list");
    assert!(comparisons.iter().all(|comparison| comparison["pairs"].as_u64() > Some(32)), "{report:#}");
    assert!(
        comparisons.iter().all(|comparison| ["open", "same"].map(Some).contains(&comparison["finding"].as_str())),
        "{report:#}"
    );
}
