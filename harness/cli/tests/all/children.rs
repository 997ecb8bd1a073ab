//! Whatever ends a trial's process is an outcome, with the telemetry up to that instant; the rest of the matrix goes
//! on.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use crate::common::processes::{Running, alone_with_sigkill, children_of, is_heapgate, send, stop, wait_for};
use crate::common::segment::Segment;
use crate::common::{PARTIAL, Place, RECORDED, REPORT, Ran, outcomes, reached, skip, trials};
use serde_json::Value;

/// The measured phase, as numbered in the segment.
const MEASURE: u64 = 2;

fn start(place: &Place, arguments: &str) -> Running {
    Running::new(place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start"))
}

/// Whether the child that is attached measures, and has counted something.
fn is_measuring(segment: &Segment) -> bool {
    segment.reader().phases().last().is_some_and(|phase| {
        phase.kind == MEASURE && !phase.ended && phase.end.since(&phase.begin).allocation_calls() > 0
    })
}

/// Kills the first child of `supervisor` that is found measuring, and returns whether there was one.
fn kill_one_that_measures(supervisor: &mut Running) -> bool {
    while !supervisor.has_ended() {
        let Some(segment) = Segment::of_supervisor(supervisor.pid()) else { continue };
        let child = segment.reader().pid().filter(|_| is_measuring(&segment));
        if let Some(child) = child.filter(|child| children_of(supervisor.pid()).contains(child)) {
            // It may have gone on meanwhile: looked at once more while it can't.
            stop(child);
            if is_measuring(&segment) {
                send(child, libc::SIGKILL);
                return true;
            }
            send(child, libc::SIGCONT);
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn a_killed_child_is_an_outcome_with_what_it_had_counted() {
    let _alone = alone_with_sigkill();
    let place = Place::new();
    // A second of measuring, or so: five chances to find one at it.
    let mut supervisor =
        start(&place, "run tokenize/wordpiece-heap -a jemalloc -n 5 --steps 16 --param document=repeated");
    assert!(kill_one_that_measures(&mut supervisor), "no child was seen measuring");
    let ran = Ran::from(supervisor.output()).ends_with(5).says(&["killed by SIGKILL"]);
    assert!(ran.stdout.contains("killed by SIGKILL"), "{}", ran.stdout);

    let report = place.json(REPORT);
    assert_eq!(report["complete"], true);
    let (killed, others): (Vec<&Value>, Vec<&Value>) =
        trials(&report).iter().partition(|trial| trial["outcome"]["kind"] == "killed");
    assert_eq!((killed.len(), others.len()), (1, 4));
    assert!(others.iter().all(|trial| trial["outcome"]["kind"] == "completed"), "the others went on");
    let (phases, allocations) = reached(killed[0]);
    assert!(phases.starts_with(&["setup", "warmup", "measure"]), "{phases:?}");
    assert!(killed[0]["phases"][2]["counts"]["alloc_calls"].as_u64() > Some(0) && allocations > 0);
    assert!(killed[0]["lifetime_peak_rss_bytes"].as_u64() > Some(0));
}

/// Two variants of which one needs ten times the memory of the other.
const SMALL_AND_LARGE: &str =
    "tokenize/wordpiece-slices tokenize/hf-wordpiece -a system -n 1 --steps 1 --param document=corpus";

/// Checks that of those the large one ran out of memory by `limit` and the small one did not.
#[track_caller]
fn only_the_large_one_ran_out_of_memory(place: &Place, limit: &str) {
    let report = place.json(REPORT);
    assert_eq!((trials(&report).len(), &report["complete"]), (2, &Value::Bool(true)));
    for trial in trials(&report) {
        if trial["cell"]["variant"] == "hf-wordpiece" {
            assert_eq!(trial["outcome"]["kind"], "out-of-memory", "{}", trial["outcome"]);
            assert_eq!(trial["outcome"]["limit"], limit);
            let (phases, allocations) = reached(trial);
            assert!(phases.len() >= 2 && allocations > 1000, "{phases:?}, {allocations} allocations");
        } else {
            assert_eq!(trial["outcome"]["kind"], "completed");
        }
    }
}

#[test]
fn a_child_beyond_its_memory_limit_is_out_of_memory() {
    let place = Place::new();
    let ran = place.run(&format!("run {SMALL_AND_LARGE} --memory-limit 192MiB")).ends_with(5);
    assert!(ran.stdout.contains("out of memory (rlimit)"), "{}", ran.stdout);
    only_the_large_one_ran_out_of_memory(&place, "rlimit");
}

/// A cgroup for memory, of version 1; removed with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str, limit_bytes: u64) -> std::io::Result<Self> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/memory/heapgate-test-{}-{name}", std::process::id()));
        if !folder.parent().is_some_and(|root| root.join("memory.limit_in_bytes").exists()) {
            return Err(std::io::Error::other("there is no /sys/fs/cgroup/memory"));
        }
        // What a process of this number may have left.
        let _ = std::fs::remove_dir(&folder);
        std::fs::create_dir(&folder)?;
        let group = Self(folder);
        std::fs::write(group.0.join("memory.limit_in_bytes"), limit_bytes.to_string())?;
        Ok(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_child_beyond_its_cgroups_limit_is_out_of_memory() {
    let _alone = alone_with_sigkill();
    let group = match Cgroup::new("one", 128 << 20) {
        Ok(group) => group,
        Err(error) => return skip(&format!("out of memory by a cgroup, since none can be made here: {error}")),
    };
    let place = Place::new();
    let ran = place.run(&format!("run {SMALL_AND_LARGE} --cgroup {}", group.0.display())).ends_with(5);
    assert!(ran.stdout.contains("out of memory (kernel)"), "{}", ran.stdout);
    only_the_large_one_ran_out_of_memory(&place, "kernel");
}

#[test]
fn a_child_that_is_killed_in_a_cgroup_is_not_out_of_memory_for_another_that_is() {
    let _alone = alone_with_sigkill();
    let (roomy, tight) = match (Cgroup::new("roomy", 4 << 30), Cgroup::new("tight", 128 << 20)) {
        (Ok(roomy), Ok(tight)) => (roomy, tight),
        (Err(error), _) | (_, Err(error)) => {
            return skip(&format!("two cgroups at one time, since none can be made here: {error}"));
        }
    };
    let place = Place::new();
    let long = "run tokenize/wordpiece-heap -a jemalloc -n 1 --steps 1000000 --param document=repeated";
    let supervisor = start(&place, &format!("{long} --cgroup {}", roomy.0.display()));
    let child = wait_for("an attached child", || Segment::of_supervisor(supervisor.pid())?.reader().pid());
    // Meanwhile the kernel kills another, for want of memory.
    let other = Place::new();
    other.run(&format!("run {SMALL_AND_LARGE} --cgroup {}", tight.0.display())).ends_with(5);
    only_the_large_one_ran_out_of_memory(&other, "kernel");
    send(child, libc::SIGKILL);
    Ran::from(supervisor.output()).ends_with(5);
    assert_eq!(outcomes(&place.json(REPORT)), ["killed"]);
}

#[test]
fn a_child_that_panics_of_refused_memory_is_out_of_memory() {
    let place = Place::new();
    let mut panicked = 0;
    // From too little to be loaded in, over too little for the segment, to more than decompression takes, which panics
    // where `try_reserve` is refused. Where these lie depends on the size of the program.
    for mib in (32..128).step_by(3) {
        let corpus = "run tokenize/wordpiece-heap -a system -n 1 --steps 1 --param document=corpus";
        place.run(&format!("{corpus} --memory-limit {mib}MiB"));
        let report = place.json(REPORT);
        let outcome = &trials(&report)[0]["outcome"];
        if outcome["stderr"].to_string().contains("panicked") {
            assert_eq!((&outcome["kind"], &outcome["limit"]), (&"out-of-memory".into(), &"rlimit".into()), "{outcome}");
            panicked += 1;
        }
        if panicked == 2 {
            break;
        }
    }
    assert!(panicked > 0, "none was seen");
}

#[test]
fn a_child_that_takes_too_long_is_timed_out_with_what_it_had_counted() {
    let place = Place::new();
    let endless = "run tokenize/wordpiece-heap -a jemalloc -n 2 --steps 1000000 --param document=repeated";
    // Enough to have counted something in, though the machine be stolen from for seconds.
    let ran = place.run(&format!("{endless} --timeout 5")).ends_with(5);
    assert!(ran.stdout.contains("timed out after 5 s"), "{}", ran.stdout);
    let report = place.json(REPORT);
    assert_eq!(outcomes(&report), ["timed-out"; 2], "the second was tried too");
    for trial in trials(&report) {
        let (phases, allocations) = reached(trial);
        assert!(phases.starts_with(&["setup"]) && allocations > 0, "{phases:?}, {allocations} allocations");
    }
}

#[test]
fn a_traced_trial_writes_its_lines_and_the_report_says_so() {
    let place = Place::new();
    let run = |variables: &str| {
        place.shell(&format!(
            "HEAPGATE_RUNTIME_DIR=$PWD/run {variables} $heapgate run {} --color never",
            crate::common::QUICK
        ))
    };
    let notes = || trials(&place.json(REPORT))[0]["notes"].to_string();
    // The trial's last line, and heapgate's own, which is instrumented too.
    let last =
        |log: &str| log.lines().filter(|line| line.starts_with("heapgate-trace") && line.contains(" last=1 ")).count();

    let plain = run("HEAPGATE_TRACE=0").ends_with(0);
    assert_eq!(last(&plain.stderr), 0);
    assert!(!notes().contains("traced"), "{}", notes());

    let traced = run("HEAPGATE_TRACE=1 HEAPGATE_TRACE_INTERVAL=10ms").ends_with(0);
    assert_eq!(last(&traced.stderr), 2, "{}", traced.stderr);
    assert!(notes().contains("traced (HEAPGATE_TRACE=1)") && !notes().contains("it printed"), "{}", notes());

    run("HEAPGATE_TRACE=1 HEAPGATE_TRACE_FILE=log").ends_with(0);
    assert_eq!(last(&place.read("log")), 2);
    assert!(notes().contains("traced (HEAPGATE_TRACE=1)"), "{}", notes());
}

#[test]
fn a_region_that_cannot_be_had_is_noted_and_the_trial_goes_on() {
    let place = Place::new();
    // Enough to work in, and too little to reserve a region in.
    place
        .run(&format!("run {} --memory-limit 200MiB", crate::common::QUICK.replace("jemalloc", "region")))
        .ends_with(0);
    let report = place.json(REPORT);
    assert_eq!(outcomes(&report), ["completed"]);
    let notes = trials(&report)[0]["notes"].to_string();
    assert!(notes.contains("no region: its address range is unavailable"), "{notes}");
    let status = trials(&report)[0]["phases"][3]["region"]["status"].to_string();
    assert!(status.contains("unavailable"), "{status}");
}

#[test]
fn an_interrupt_stops_the_child_and_keeps_finished_trials() {
    let place = Place::new();
    place.write(REPORT, &RECORDED.report);
    let many = crate::common::QUICK.replace("-n 1", "-n 10000");
    let mut command = place.command(&format!("run {many}"));
    let mut supervisor = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start");
    let mut lines = BufReader::new(supervisor.stderr.take().expect("piped")).lines();
    let mut supervisor = Running::new(supervisor);
    for _ in 0..2 {
        lines.next().expect("a line for each trial").expect("UTF-8");
    }
    let child = wait_for("a child", || children_of(supervisor.pid()).pop());
    send(supervisor.pid(), libc::SIGINT);
    let said: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
    wait_for("the supervisor's end", || supervisor.has_ended().then_some(()));
    assert_eq!(supervisor.output().status.code(), Some(130));
    assert!(!is_heapgate(child), "the child was left behind");

    assert_eq!(place.read(REPORT), RECORDED.report, "the report before stays");
    let report = place.json(PARTIAL);
    assert!(trials(&report).len() >= 2);
    assert!(outcomes(&report).iter().all(|outcome| *outcome == "completed"));
    assert_eq!(report["complete"], false);
    let last = said.last().expect("a last word");
    assert_eq!(last, &format!("interrupted; {} finished trials are in {PARTIAL}", trials(&report).len()));
    place.run(&format!("diff {PARTIAL} {PARTIAL}")).ends_with(4);
    // Whoever looks in the usual place is told.
    std::fs::remove_file(place.path(REPORT)).expect("remove");
    place.run(&format!("gate --report {REPORT}")).ends_with(2).says(&["left its trials in", PARTIAL]);
}

#[test]
fn an_interrupt_does_not_wait_for_a_long_trial() {
    let place = Place::new();
    let endless = "run tokenize/wordpiece-heap -a jemalloc -n 1 --steps 1000000 --param document=repeated";
    let supervisor = start(&place, endless);
    let child = wait_for("a child", || children_of(supervisor.pid()).pop());
    send(supervisor.pid(), libc::SIGTERM);
    Ran::from(supervisor.output()).ends_with(130).says(&["interrupted; no finished trial was kept"]);
    assert!(!is_heapgate(child), "the child was left behind");
    assert!(!place.has(REPORT) && !place.has(PARTIAL));
}

#[test]
fn a_supervisor_that_is_killed_takes_its_child_along_and_leaves_the_report_before() {
    let place = Place::new();
    place.write(REPORT, &RECORDED.report);
    let endless = "run tokenize/wordpiece-heap -a jemalloc -n 1 --steps 1000000 --param document=repeated";
    let supervisor = start(&place, endless);
    let child = wait_for("a child", || children_of(supervisor.pid()).into_iter().find(|&child| is_heapgate(child)));
    // The child asks for the signal between fork and exec, so once it attaches the kernel knows.
    wait_for("an attached child", || Segment::of_supervisor(supervisor.pid())?.reader().pid());
    drop(supervisor);
    wait_for("the child's end", || (!is_heapgate(child)).then_some(()));
    assert_eq!(place.read(REPORT), RECORDED.report);
}
