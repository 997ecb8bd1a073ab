//! Arenas and scopes that are never released, of real processes.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::common::{Place, Ran, skip};
use crate::planted::{ARENAS, LEAKED_OF, Planted, SERVICE};

/// A workload whose steps take a millisecond and leave nothing, looked at over as many as fill all windows.
const STEADY: &str = "prompt/format -a jemalloc --steps 96 --json";

fn leaks(place: &Place, arguments: &str) -> Ran {
    let mut command = place.command(&format!("leaks {arguments}"));
    Ran::of(command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH"))
}

#[test]
fn one_arena_in_ten_thousand_is_named_with_its_line_thread_and_bytes() {
    let place = Place::new();
    Planted::start(&place, "leak", "count").end();
    let found = leaks(&place, &format!("{SERVICE} --json")).ends_with(3).json();
    let process = &found[0];
    assert_eq!((process["running"].as_bool(), process["created"].as_u64()), (Some(false), Some(ARENAS + 1 + 8 + 1)));
    assert_eq!(process["leaks"].as_array().map(Vec::len), Some(1), "{found:#}");
    let leak = &process["leaks"][0];
    assert!(leak["place"].as_str().is_some_and(|place| place.contains("tests/all/planted.rs:")), "{leak:#}");
    assert_eq!(leak["reason"], "outlived");
    let items = leak["items"].as_array().expect("each");
    assert_eq!(items.len() as u64, ARENAS / LEAKED_OF);
    for item in items {
        assert_eq!(item["thread_name"], "worker", "{item}");
        // The cache and the pool came first.
        assert_eq!(item["id"].as_u64().map(|id| id % LEAKED_OF), Some(4_710 + 1 + 9), "{item}");
        assert!(item["bytes"].as_u64().is_some_and(|bytes| bytes > 100_000 && bytes < 300_000), "{item}");
    }
    let table = leaks(&place, SERVICE).ends_with(3).stdout;
    for part in ["planted (", ", ended): 3 never released", "planted.rs:", "by worker (", "escaped: "] {
        assert!(table.contains(part), "'{part}' is not in:\n{table}");
    }
}

#[test]
fn a_process_without_leaks_names_none_and_its_open_scope_is_named_once_it_is_old() {
    let place = Place::new();
    let planted = Planted::start(&place, "no leak", "count");
    let pid = planted.pid();
    let found = leaks(&place, &format!("--pid {pid} --json")).ends_with(0).json();
    assert_eq!(found[0]["leaks"], serde_json::json!([]), "{found:#}");
    assert_eq!((found[0]["open"].as_u64(), found[0]["open_scopes"].as_u64()), (Some(9), Some(1)));
    // The cache, the pool and the scope that it waits in are older than that.
    let old = leaks(&place, &format!("--pid {pid} --older-than 0.001s --json")).ends_with(3).json();
    let kinds: Vec<_> = old[0]["leaks"].as_array().expect("rows").iter().map(|leak| &leak["kind"]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "scope").count(), 1, "{old:#}");
    assert_eq!(kinds.len(), 3, "{old:#}");
    leaks(&place, &format!("--pid {pid} --older-than 1h")).ends_with(0);
    // Twelve looks are enough to say how live bytes go.
    let watched = leaks(&place, &format!("--pid {pid} --for 0.1s --json")).ends_with(0).json();
    assert_eq!(watched[0]["live_bytes"]["grows"], false, "{watched:#}");
    planted.end();
    leaks(&place, "").ends_with(0);
}

#[test]
fn a_log_of_trace_lines_says_whether_live_bytes_grew() {
    let place = Place::new();
    let planted = Planted::start(&place, "no leak", "count");
    let pid = planted.pid();
    let line = |n: u64, live: u64| {
        format!(
            "heapgate-trace v=1 t=2026-01-01T00:00:{n:02}.000Z pid={pid} service=planted level=count up_s={n}.000 threads=1 \
             live_objects=1 live_bytes={live} allocs=1 reallocs=0 frees=0 alloc_bytes=1 rss_bytes=1 interval_s=1.000 timed=0 \
             interrupted=0 stall_p99_ns=- stall_max_ns=- last=0\n"
        )
    };
    let log = |live: &dyn Fn(u64) -> u64| (0..36).map(|n| line(n, live(n))).collect::<String>();
    place.write("grows.log", &log(&|n| 1_000 + n * 100));
    place.write("level.log", &log(&|n| 1_000 + n % 3 * 100));
    place.write("damaged.log", &line(1, 1).replace("pid=", "p=")[..]);
    for (file, grows) in [("grows.log", true), ("level.log", false)] {
        let found = leaks(&place, &format!("--pid {pid} --trace {file} --json")).ends_with(0).json();
        assert_eq!(found[0]["live_bytes"]["grows"], grows, "{found:#}");
    }
    leaks(&place, &format!("--pid {pid} --trace none.log")).ends_with(2).says(&["none.log"]);
    leaks(&place, &format!("--pid {pid} --trace damaged.log")).ends_with(2).says(&["damaged.log", "line 1", "pid"]);
}

#[test]
fn what_cannot_be_looked_at_is_said_with_what_to_do() {
    let place = Place::new();
    leaks(&place, "").ends_with(2).says(&["no process is published", "HEAPGATE_PUBLISH"]);
    let planted = Planted::start(&place, "no leak", "count");
    let own = std::process::id();
    leaks(&place, &format!("--pid {own}")).ends_with(2).says(&["is not published", "heapgate-alloc", "--folder"]);
    leaks(&place, "--pid 4194999").ends_with(2).says(&["there is no process 4194999"]);
    leaks(&place, "--pid 0").ends_with(2).says(&["--pid"]);
    leaks(&place, "nobody").ends_with(2).says(&["no service 'nobody'", "top --once", "list workloads"]);
    leaks(&place, "--folder /proc/self/mem planted").ends_with(2).says(&["/proc/self/mem"]);
    leaks(&place, "planted --pid 1").ends_with(2).says(&["--pid"]);
    leaks(&place, "planted --steps 9").ends_with(2).says(&["--steps", "published process"]);
    leaks(&place, "prompt/format --for 1s").ends_with(2).says(&["--for", "workload"]);
    leaks(&place, "prompt/format --steps 7").ends_with(2).says(&["8 steps at the least"]);
    leaks(&place, "prompt/none").ends_with(2).says(&["unknown workload"]);
    leaks(&place, "prompt/format -a system --heap-profile").ends_with(2).says(&["-a jemalloc"]);
    leaks(&place, "prompt/format --inject extra-allocs=oops").ends_with(2).says(&["oops"]);
    leaks(&place, "none.json").ends_with(2).says(&["none.json"]);
    let file = planted.entry().path;
    let whole = std::fs::read(&file).expect("read");
    std::fs::write(&file, &whole[..100_000]).expect("written");
    leaks(&place, "planted").ends_with(2).says(&["cut short", &file.display().to_string()]);

    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return skip("reading another user's process: this test is not root, and can't become another user");
    }
    // Another user may list the folder, and read no file in it.
    std::fs::write(&file, whole).expect("written");
    for folder in [place.path("."), place.path("run")] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("set");
    }
    let mut command = place.command("leaks planted --folder");
    let refused = Ran::of(command.arg(planted.folder()).uid(65_534));
    refused.ends_with(2).says(&["Permission denied", "another user"]);
}

/// What `name` says of the only finding's witnesses.
fn agrees(finding: &serde_json::Value, name: &str) -> Option<bool> {
    let witnesses = finding["witnesses"].as_array().expect("witnesses");
    witnesses.iter().find(|witness| witness["source"] == name)?["agrees"].as_bool()
}

#[test]
fn a_workload_that_leaks_is_told_from_one_that_does_not_by_line_and_rate() {
    let place = Place::new();
    let clean = leaks(&place, STEADY).ends_with(0).json();
    assert_eq!(
        (&clean[0]["growing"], &clean[0]["leaks"]),
        (&serde_json::json!([]), &serde_json::json!([])),
        "{clean:#}"
    );
    assert_eq!((clean[0]["windows"].as_u64(), clean[0]["steps"].as_u64()), (Some(12), Some(96)));

    let found = leaks(&place, &format!("{STEADY} --heap-profile --exact --inject leak=20%")).ends_with(3).json();
    let sites = found[0]["growing"].as_array().expect("sites");
    assert_eq!(sites.len(), 1, "{found:#}");
    assert!(sites[0]["place"].as_str().is_some_and(|place| place.contains("inject/plant.rs:")), "{found:#}");
    assert_eq!(sites[0]["released"], false);
    // Every allocation is taken: the site's rate is that of all live bytes, which are counted.
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let live = &found[0]["live_bytes"];
    let per_step = number(&live["bytes_per_window"]) / (96.0 / 12.0);
    assert!((number(&sites[0]["bytes_per_step"]) / per_step - 1.0).abs() < 0.02, "{found:#}");
    assert!((number(&sites[0]["objects_per_step"]) * 16.0 / per_step - 1.0).abs() < 0.02, "{found:#}");
    assert_eq!(agrees(&sites[0], "live-bytes"), Some(true));
    assert_eq!(agrees(&sites[0], "jemalloc-profile"), Some(true), "{found:#}");
    let few = leaks(&place, &STEADY.replace("96", "8")).ends_with(0).json();
    assert_eq!(few[0]["windows"], 8);
}

#[test]
fn one_arena_in_ten_thousand_of_a_workload_is_named_and_corroborated() {
    let place = Place::new();
    let run = "tokenize/wordpiece-slices -a jemalloc --steps 24 --param document=repeated --json --inject";
    let clean = leaks(&place, &format!("{run} arenas=0")).ends_with(0).json();
    let made = clean[0]["created"].as_u64().expect("counted");
    assert!(made >= ARENAS, "{made}");
    assert_eq!(
        (&clean[0]["leaks"], &clean[0]["growing"]),
        (&serde_json::json!([]), &serde_json::json!([])),
        "{clean:#}"
    );
    let found = leaks(&place, &format!("{run} arenas=1e-4")).ends_with(3).json();
    let leak = &found[0]["leaks"][0];
    assert!(leak["place"].as_str().is_some_and(|place| place.contains("inject/arenas.rs:")), "{found:#}");
    assert_eq!(
        (leak["items"].as_array().map(|all| all.len() as u64), &leak["items"][0]["id"]),
        (Some(made / LEAKED_OF), &serde_json::json!(LEAKED_OF))
    );
    assert_eq!((agrees(leak, "heap-sites"), agrees(leak, "live-bytes")), (Some(true), Some(true)), "{found:#}");
}

#[test]
fn a_line_that_grows_in_a_process_is_named_with_its_rate_and_one_that_is_steady_is_not() {
    let place = Place::new();
    let look = |what| {
        let planted = Planted::start(&place, what, "count");
        let found = leaks(&place, &format!("--pid {} --for 1.2s --every 1 --json", planted.pid()));
        planted.end();
        found
    };
    let steady = look("allocate").ends_with(0).json();
    assert_eq!(steady[0]["growing"], serde_json::json!([]), "{steady:#}");
    let found = look("grow").ends_with(3).json();
    let site = &found[0]["growing"][0];
    assert!(site["function"].as_str().is_some_and(|name| name.ends_with("one_that_leaks")), "{found:#}");
    let rate = |name: &str| site[name].as_f64().expect("a rate");
    assert!((rate("bytes_per_s") / rate("objects_per_s") - 500.0).abs() < 1.0, "{found:#}");
    assert_eq!((&site["released"], agrees(site, "live-bytes")), (&serde_json::Value::Null, Some(true)));
}

#[test]
fn a_report_says_whether_live_bytes_grew_and_where_to_look() {
    let place = Place::new();
    place.run("run prompt/format -a jemalloc -n 1 --steps 2").ends_with(0);
    let mut report = place.json(".heapgate/report.json");
    leaks(&place, ".heapgate/report.json").ends_with(2).says(&["80 ms", "heapgate leaks prompt/format"]);
    // The same, as a longer one would be.
    let trial = &mut report["trials"][0];
    let phases = trial["phases"].as_array().expect("phases");
    let measured = phases.iter().find(|phase| phase["kind"] == "measure").expect("measured");
    let [start, wall] = ["start_s", "wall_s"].map(|name| measured[name].as_f64().expect("s") * 1e3);
    let drain = phases.iter().position(|phase| phase["kind"] == "drain").expect("drained");
    let at = |moment: u32| start + wall * f64::from(moment) / 24.5;
    trial["rss_series"] = (0..24).map(|moment| serde_json::json!([at(moment), 1_000_000])).collect();
    let mut look = |left: u64, live: &dyn Fn(u32) -> u32| {
        let trial = &mut report["trials"][0];
        trial["live_series"] = (0..24).map(|moment| serde_json::json!([1, live(moment)])).collect();
        trial["phases"][drain]["live"]["bytes"] = serde_json::json!(left);
        trial["metrics"]["left_bytes"] = serde_json::json!(left as f64);
        place.write("longer.json", &report.to_string());
        leaks(&place, "longer.json")
    };
    look(0, &|moment| 5_000 + moment % 3 * 100).ends_with(0);
    look(100, &|moment| 5_000 + moment * 100).ends_with(0);
    look(100_000, &|moment| 5_000 + moment * 100).ends_with(4);
    let found = look(2_400, &|moment| 5_000 + moment * 100).ends_with(3);
    for part in ["live bytes grew", "leaks prompt/format -a jemalloc"] {
        assert!(found.stdout.replace('\n', " ").to_lowercase().contains(part), "'{part}' is not in:\n{}", found.stdout);
    }
}
