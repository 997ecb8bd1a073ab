//! `heapgate profile` on the real binary: the right sites, every form readable, and what goes wrong said.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::processes::{Running, children_of, cpu_ticks, send, stop, wait_for};
use crate::common::{HEAPGATE, Place, Ran, skip};
use crate::planted::{Planted, SERVICE};
use serde_json::Value;

/// A workload of a few tenths of a second whose allocations are made in one file.
const QUICK: &str = "tokenize/wordpiece-heap --steps 2 --param document=repeated -o out";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What profile.json says, checked for every form that lies beside it.
fn model(place: &Place, folder: &str, graphs: &[&str]) -> Value {
    for graph in graphs {
        let svg = place.read(&format!("{folder}/{graph}.svg"));
        assert!(svg.contains("</svg>") && svg.contains("<script"), "{graph}.svg");
        let folded = place.read(&format!("{folder}/{graph}.folded"));
        for line in folded.lines() {
            let (stack, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(!stack.is_empty() && value.parse::<u64>().is_ok_and(|value| value > 0), "{line}");
        }
    }
    let firefox = place.json(&format!("{folder}/firefox.json"));
    assert!(firefox["threads"].as_array().is_some_and(|threads| !threads.is_empty()));
    place.json(&format!("{folder}/profile.json"))
}

#[test]
fn an_exact_allocation_profile_counts_every_call_at_its_line() {
    let place = Place::new();
    let ran = place.run(&format!("profile alloc {QUICK} --exact -a jemalloc --json")).ends_with(0);
    let json = ran.json();
    let (calls, exact) = (number(&json["totals"]["calls"]), number(&json["exact_totals"]["calls"]));
    assert_eq!(calls, exact);
    assert_eq!(json["totals"]["bytes"], json["exact_totals"]["bytes"]);
    assert_eq!(json["sites"][0]["file"], "workloads/src/tokenize/heap.rs");
    let errors = json["sites"][0]["standard_errors"].as_object().unwrap();
    assert!(errors.values().all(|error| number(error) == 0.0), "{errors:?}");
    let model = model(&place, "out", &["calls", "bytes", "temporaries"]);
    assert_eq!((&model["kind"], &model["complete"]), (&"alloc".into(), &true.into()));

    // Every tenth sampled: the same top site, its share within five standard errors.
    let sampled = place.run(&format!("profile alloc {QUICK} --every 10 -a jemalloc --json")).ends_with(0).json();
    let (all, some) = (&json["sites"][0], &sampled["sites"]);
    let same = some.as_array().unwrap().iter().find(|site| site["line"] == all["line"]).unwrap();
    let (exact, estimate) = (number(&all["values"]["calls"]), number(&same["values"]["calls"]));
    assert!((exact - estimate).abs() <= 5.0 * number(&same["standard_errors"]["calls"]), "{exact} {estimate}");
}

#[test]
fn the_heap_at_its_peak_is_the_same_by_jemalloc_and_by_the_telemetry() {
    let objects = |allocator: &str| {
        let place = Place::new();
        let ran = place.run(&format!("profile heap {QUICK} --exact -a {allocator} --json")).ends_with(0);
        let json = ran.json();
        model(&place, "out", &["peak_bytes", "peak_objects", "end_bytes", "allocated_bytes"]);
        for value in ["allocated_objects", "end_objects"] {
            let (sum, exact) = (number(&json["totals"][value]), number(&json["exact_totals"][value]));
            // What the process had before its first phase is not in the exact figure.
            assert!((sum - exact).abs() <= 0.02 * exact, "{allocator} {value}: {sum} {exact}");
        }
        (json["sites"][0]["file"].clone(), json["sites"][0]["line"].clone())
    };
    assert_eq!(objects("jemalloc"), objects("system"));
}

#[test]
fn all_kinds_make_one_page_and_every_form_is_readable() {
    let place = Place::new();
    // Long enough for some dozen samples of CPU time, of which there are 199 a second.
    let longer = QUICK.replace("--steps 2", "--steps 40");
    let ran = place.run(&format!("profile all {longer} -a system --threshold 1")).ends_with(0);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    for (kind, graphs) in [
        ("cpu", &["cpu", "samples"][..]),
        ("heap", &["peak_bytes"]),
        ("alloc", &["calls", "bytes"]),
        ("stall", &["stall", "calls"]),
    ] {
        let model = model(&place, &format!("out/{kind}"), graphs);
        assert_eq!(model["kind"], kind);
        if kind == "cpu" {
            // Not the profiler's own handler: the workload's code, or what that calls.
            assert!(ran.stdout.contains("tokenize/heap.rs"), "{}", ran.stdout);
            assert!(!place.read("out/cpu/cpu.folded").contains("perf_signal_handler"));
        }
        pprof_reads(&place.path(&format!("out/{kind}/profile.pb.gz")));
    }
    let page = place.read("out/profile.html");
    assert!(page.len() < 2_000_000 && page.matches("<iframe").count() >= 6, "{} bytes", page.len());
    for outside in ["src=\"http", "url(http", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// Has Go's own pprof, an independent reader, read a file.
fn pprof_reads(path: &Path) {
    let output = match Command::new("go").args(["tool", "pprof", "-symbolize=none", "-raw"]).arg(path).output() {
        Ok(output) => output,
        Err(_) if std::env::var_os("HEAPGATE_REQUIRE_GO").is_none() => {
            eprintln!("!! LOUDLY SKIPPED: no go, whose pprof is to read what is written");
            return;
        }
        Err(error) => panic!("go tool pprof: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Samples:") && text.contains("tokenize::heap::Heap"), "{text}");
}

#[test]
fn a_stripped_executable_gives_addresses_and_says_how_to_build() {
    let place = Place::new();
    let stripped = place.path("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(HEAPGATE).status();
    if !strip.is_ok_and(|status| status.success()) {
        eprintln!("!! LOUDLY SKIPPED: no strip");
        return;
    }
    let mut command = Command::new(&stripped);
    command
        .args(format!("profile alloc {QUICK} --json").split(' '))
        .current_dir(place.path(""))
        .env_remove("HEAPGATE_DATA");
    let json = Ran::of(&mut command).ends_with(0).json();
    let note = json["notes"][0].as_str().unwrap();
    assert!(note.contains("stripped") && note.contains("line-tables-only") && note.contains("build"), "{note}");
    let function = json["sites"][0]["function"].as_str().unwrap();
    assert!(function.starts_with("stripped+0x"), "{function}");
    // Enough to find the file with the names: the address in it, and its build id.
    let model = model(&place, "out", &["calls"]);
    let of_program = |module: &&Value| module["name"] == "stripped";
    let module = model["modules"].as_array().unwrap().iter().find(of_program).unwrap();
    let id = module["build_id"].as_str().unwrap();
    assert!(id.len() >= 16 && note.contains(id), "{module} {note}");
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let place = Place::new();
    place.run("profile alloc tokenize/hf-wordpeice").ends_with(2).says(&["did you mean tokenize/hf-wordpiece"]);
    place.run("profile alloc tokenize").ends_with(2).says(&["several variants", "tokenize/hf-wordpiece"]);
    place.run("profile alloc tokenize/wordpiece-heap -a mimalloc").ends_with(2).says(&["unknown allocator"]);
    place.run("profile alloc").ends_with(2).says(&["WORKLOAD"]);
    place.run("profile heap tokenize/wordpiece-heap --rate 1000").ends_with(2).says(&["power of two"]);
    place.write("file", "");
    let ran = place.run("profile alloc tokenize/wordpiece-heap -o file/out").ends_with(1);
    assert!(ran.says(&["file"]).stdout.is_empty());
}

#[test]
fn a_profile_without_samples_says_why() {
    let place = Place::new();
    let ran = place.run(&format!("profile stall {QUICK} --threshold 60000000"));
    ran.ends_with(4).says(&["nothing was sampled", "--threshold"]);
}

#[test]
fn stalls_are_told_by_what_jemalloc_did_meanwhile() {
    let place = Place::new();
    let calls = |allocator: &str| {
        place.run(&format!("profile stall {QUICK} --threshold 1 -a {allocator}")).ends_with(0);
        let model = place.json("out/profile.json");
        let of = |cause: &str| {
            let samples = model["samples"].as_array().unwrap().iter();
            samples.filter(|sample| sample["cause"] == cause).map(|sample| number(&sample["values"][1])).sum::<f64>()
        };
        ((of("fresh mapping"), of("purge")), model["notes"].to_string())
    };
    // Nothing is kept: what is freed goes back to the kernel at once, and comes anew from there.
    let ((fresh, purges), notes) = calls("jemalloc:retain=false,dirty_decay_ms=0,muzzy_decay_ms=0");
    assert!(fresh > 10.0 && purges > 10.0, "{fresh} {purges}");
    assert!(!notes.contains("purge") && !notes.contains("fresh mapping"), "{notes}");
    // What another allocator does nobody tells us, which is said.
    let (none, notes) = calls("system");
    assert_eq!(none, (0.0, 0.0));
    assert!(notes.contains("could not be told") && notes.contains("fresh mapping, purge"), "{notes}");
}

#[test]
fn a_process_of_another_user_is_refused_by_what_is_not_allowed() {
    // SAFETY: geteuid has no requirement.
    if unsafe { libc::geteuid() } != 0 {
        return skip("only root can become somebody else");
    }
    let place = Place::new();
    let planted = Planted::start(&place, "allocate", "exact");
    let as_nobody = || {
        const NOBODY: u32 = 65_534;
        let mut command =
            live(&place, &format!("alloc --pid {} --folder {}", planted.pid(), planted.folder().display()));
        command.uid(NOBODY).gid(NOBODY).env("HEAPGATE_RUNTIME_DIR", place.path("theirs"));
        command.output().ok().map(Ran::from)
    };
    let permit = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permitted");
    permit(&place.path(""), 0o755);
    let Some(ran) = as_nobody() else { return skip("another user can't start the executable that is tested") };
    ran.ends_with(2).says(&["can't be read", "ermission denied"]);
    // Though the file may be read, the process's memory map may not.
    permit(planted.folder(), 0o755);
    permit(&planted.entry().path, 0o644);
    as_nobody().expect("started").ends_with(2).says(&["/maps can't be read", "as the user of process"]);
    // Its own user is answered.
    Ran::of(&mut live(&place, &format!("alloc --pid {} --for 2s --exact", planted.pid()))).ends_with(0);
}

#[test]
fn an_interrupted_profile_keeps_what_was_gathered() {
    let place = Place::new();
    let arguments =
        "profile alloc tokenize/wordpiece-heap --param document=repeated --steps 1000000 --every 100 -o out";
    let child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
    let child = Running::new(child);
    // Its own child is well in the measured phase once it has worked for so long: seen by its CPU time, not by a clock.
    wait_for("a child that works", || children_of(child.pid()).into_iter().find(|&pid| cpu_ticks(pid) > 100));
    send(child.pid(), libc::SIGINT);
    let ran = Ran::from(child.output()).ends_with(130).says(&["interrupted", "out"]);
    assert!(ran.stdout.contains("interrupted") && ran.stdout.contains("tokenize/heap.rs"), "{}", ran.stdout);
    let model = model(&place, "out", &["calls"]);
    assert_eq!(model["complete"], false);
}

fn live(place: &Place, arguments: &str) -> Command {
    let mut command = place.command(&format!("profile {arguments}"));
    command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH");
    command
}

#[test]
fn a_live_process_names_the_line_that_allocates_and_the_one_that_stalls() {
    let place = Place::new();
    let planted = Planted::start(&place, "allocate", "exact");
    let pid = planted.pid();
    for (arguments, graphs) in [
        (format!("alloc --pid {pid} --for 2s --exact"), &["calls", "bytes"][..]),
        (format!("stall --service {SERVICE} --for 2s --threshold 1"), &["stall", "calls"]),
    ] {
        let json = Ran::of(&mut live(&place, &format!("{arguments} --json -o out"))).ends_with(0).json();
        let top = &json["sites"][0];
        assert!(top["function"].as_str().is_some_and(|name| name.contains("one_that_allocates")), "{json:#}");
        assert!(top["file"].as_str().is_some_and(|file| file.ends_with("tests/all/planted.rs")), "{json:#}");
        let model = model(&place, "out", graphs);
        assert_eq!((&model["complete"], &model["cell"]["workload"]), (&true.into(), &SERVICE.into()));
    }

    // An hour that is interrupted leaves what there was.
    let mut hour = live(&place, &format!("alloc --pid {pid} --for 1h --exact -o early"));
    let mut child = hour.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    stderr.read_line(&mut said).expect("text");
    assert!(said.contains("Ctrl-C"), "{said}");
    wait_for("the stacks", || planted.entry().stacks_path().exists().then_some(()));
    let before = planted.allocations();
    wait_for("some to be taken", || (planted.allocations() > before + 1_000).then_some(()));
    send(child.id(), libc::SIGINT);
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("ended").code(), Some(130), "{said}");
    assert_eq!(place.json("early/profile.json")["complete"], false);
    assert!(!planted.entry().stacks_path().exists(), "the file of stacks was left");

    // Nothing that takes a minute.
    let none = format!("stall --pid {pid} --for 0.1s --threshold 60000000 -o none");
    Ran::of(&mut live(&place, &none)).ends_with(4).says(&["nothing was sampled", "--threshold"]);
    for (arguments, words) in [
        (format!("heap --pid {pid}"), &["no heap profiles", "heapgate leaks"][..]),
        (format!("all --pid {pid}"), &["one kind at a time"]),
        (format!("alloc --pid {pid} tokenize/wordpiece-heap"), &["cannot be used with"]),
        (format!("alloc --pid {pid} --for 2h"), &["refused", "3600 s"]),
        ("alloc --service nobody".to_owned(), &["no service 'nobody'", "heapgate top"]),
        (format!("alloc --pid {}", std::process::id()), &["is not published", ".profiling()"]),
        ("alloc --pid 4194304".to_owned(), &["there is no process"]),
        (QUICK.replace("tokenize", "alloc --for 1s tokenize"), &["--pid"]),
    ] {
        Ran::of(&mut live(&place, &arguments)).ends_with(2).says(words);
    }

    // A stopped process answers nobody.
    stop(pid);
    Ran::of(&mut live(&place, &format!("alloc --pid {pid} --for 0.1s"))).ends_with(2).says(&["within"]);
    send(pid, libc::SIGCONT);
    planted.end();
    Ran::of(&mut live(&place, &format!("alloc --pid {pid}"))).ends_with(2).says(&["has ended"]);
}

#[test]
fn a_live_process_names_the_function_that_takes_the_cpus_time_and_does_so_again() {
    let place = Place::new();
    let planted = Planted::start(&place, "burn", "count");
    let pid = planted.pid();
    // Twice: what the first left behind does not refuse the second.
    for (arguments, output) in
        [(format!("cpu --pid {pid} --for 1s"), "one"), (format!("cpu --service {SERVICE} --for 2s"), "two")]
    {
        let json = Ran::of(&mut live(&place, &format!("{arguments} --json -o {output}"))).ends_with(0).json();
        let top = &json["sites"][0];
        assert!(top["function"].as_str().is_some_and(|name| name.contains("one_that_burns")), "{json:#}");
        assert!(top["file"].as_str().is_some_and(|file| file.ends_with("tests/all/planted.rs")), "{json:#}");
        let (burned, all) = (number(&top["values"]["samples"]), number(&json["totals"]["samples"]));
        assert!(burned > 0.9 * all, "{burned} of {all}");
        let model = model(&place, output, &["cpu", "samples"]);
        assert_eq!((&model["kind"], &model["complete"]), (&"cpu".into(), &true.into()));
        // The profiler's own threads don't show; but the one that starts it may, as it ends.
        let threads = model["threads"].as_array().expect("a list");
        assert!(threads.iter().all(|thread| thread == "worker" || thread == "heapgate-cpu"), "{threads:?}");
    }
    assert!(!planted.entry().cpu_path().exists(), "the file of samples was left");

    // Interrupted before the process writes by itself: what there was is asked for.
    let mut child = live(&place, &format!("cpu --pid {pid} --for 1h -o early"));
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    wait_for("the samples", || planted.entry().cpu_path().exists().then_some(()));
    let before = cpu_ticks(pid);
    wait_for("some work", || (cpu_ticks(pid) > before + 30).then_some(()));
    send(child.id(), libc::SIGINT);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("ended").code(), Some(130), "{said}");
    assert_eq!(place.json("early/profile.json")["complete"], false);
    planted.end();
}

#[test]
fn a_live_process_that_was_not_built_for_profiles_is_told_the_line_to_add() {
    let place = Place::new();
    let planted = Planted::start(&place, "no leak", "count");
    let ran = Ran::of(&mut live(&place, &format!("alloc --pid {}", planted.pid())));
    ran.ends_with(2).says(&["lets nobody take stacks", "Publication::new(\"planted\").profiling().publish()"]);
    planted.end();
}
