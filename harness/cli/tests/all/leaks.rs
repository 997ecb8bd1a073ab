//! Arenas and scopes that are never released, of real processes.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::common::{Place, Ran, skip};
use crate::planted::{ARENAS, LEAKED_OF, Planted, SERVICE};

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
    leaks(&place, "nobody").ends_with(2).says(&["no service 'nobody'", "top --once"]);
    leaks(&place, "--folder /proc/self/mem planted").ends_with(2).says(&["/proc/self/mem"]);
    leaks(&place, "planted --pid 1").ends_with(2).says(&["--pid"]);
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
