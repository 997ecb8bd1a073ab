//! The live page in headless Chromium: its figures are those of the JSON, it asks nobody else, and nothing is said on the
//! console. Needs `chromium` and `node`; skips itself without them, unless HEAPGATE_REQUIRE_CHROMIUM=1.
//!
//! With HEAPGATE_SCREENSHOTS=FOLDER it leaves pictures there.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Running, agent, loopback, own, publish};

/// A program in the PATH that can be started.
fn has(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

#[test]
fn the_page_shows_the_figures_of_the_json_and_asks_nobody_else() {
    if !(has("chromium") && has("node")) {
        assert!(std::env::var_os("HEAPGATE_REQUIRE_CHROMIUM").is_none(), "chromium or node is missing");
        // Where the test harness can't hide it: it captures only what the macros print.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED, NOT TESTED: the live page: chromium or node is missing");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pid, start_time) = own();
    let services = ["embedder", "tokenizer", "gateway"].map(|name| publish(folder.path(), name, pid, start_time));
    for (index, service) in services.iter().enumerate() {
        service.count(1_000 * (index as u64 + 1), 300);
        service.count(10, 40_000 * (index as u64 + 1));
    }
    services[1].count(1, 250_000_000);
    let server = Running::new(agent(folder.path(), |_| {}), loopback());

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/page.cjs");
    let url = format!("http://{}/", server.address);
    let mut node = Command::new("node");
    node.arg(script).args(["chromium", &url]).args(std::env::var_os("HEAPGATE_SCREENSHOTS"));
    let ended = AtomicBool::new(false);
    let ran = std::thread::scope(|scope| {
        // A service at work, while the page looks at it.
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                services[1].count(500, 300);
                services[1].count(3, 2_000_000);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let ran = node.stdin(Stdio::null()).output().expect("started");
        ended.store(true, Relaxed);
        ran
    });
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: Value = serde_json::from_slice(&ran.stdout).expect("JSON");

    assert_eq!(found["console"], Value::Array(vec![]), "messages on the console");
    for asked in found["requests"].as_array().expect("requests").iter().filter_map(Value::as_str) {
        assert!(asked.starts_with(&url) || asked.starts_with("data:") || asked == "about:blank", "{asked}");
    }
    let rows = found["rows"].as_array().expect("rows");
    let given = found["given"]["processes"].as_array().expect("processes");
    assert_eq!((rows.len(), given.len()), (3, 3));
    for process in given {
        let row = rows.iter().find(|row| row["id"] == process["id"]).expect("each process has a row");
        let about = row["about"].as_str().expect("text");
        for said in [process["service"].as_str().expect("text"), &format!("pid {pid}"), "version 1.2", "jemalloc"] {
            assert!(about.contains(said), "{said}: {about}");
        }
        for (metric, figure) in [
            ("live_objects", &process["live_objects"]),
            ("live_bytes", &process["live_bytes"]),
            ("rss_bytes", &process["rss_bytes"]),
            ("p99_ns", &process["stalls"]["p99_ns"]),
            ("max_ns", &process["stalls"]["max_ns"]),
            ("level", &process["level"]),
        ] {
            let shown = row["figures"][metric]["value"].as_str().expect("a value");
            let expected = figure.as_str().map_or_else(|| figure.to_string(), str::to_owned);
            let same = shown == expected || shown.parse::<f64>().ok() == expected.parse::<f64>().ok();
            assert!(same && !shown.is_empty(), "{metric}: {shown} on the page, {expected} in the JSON");
        }
    }
    let texts: Vec<_> = found["texts"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
    let expected = [
        "0 B",
        "1023 B",
        "1.50 KiB",
        "−2.00 KiB",
        "5.00 GiB",
        "unknown",
        "7 ns",
        "250 ns",
        "2.5 ms",
        "10 s",
        "none timed",
        "1,234,567",
    ];
    assert_eq!(texts, expected);
    let reading = found["reading"].as_str().expect("text");
    assert!(reading.contains(" calls, ") && reading.contains("the longest at most 2.5 ms"), "{reading}");
    assert_eq!(found["chosen"], rows[1]["id"], "by keyboard alone");
    assert!(found["cursor"].as_u64().is_some(), "the map's cursor moves by keyboard");
    assert!(found["columns"].as_u64().is_some_and(|columns| columns > 0));
    assert_eq!(found["control"], false, "levels can't be changed where that isn't allowed");
    for (name, overflow) in found["overflow"].as_object().expect("screens") {
        assert_eq!(overflow, 0, "{name}: wider than its screen");
    }
}
