//! The list of published processes, of real ones.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{HEAPGATE, Place, Ran};

/// A process that is published, until it is dropped.
struct Published(Child);

impl Drop for Published {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Published {
    /// heapgate itself, which waits for the end of its standard input.
    fn start(place: &Place) -> Self {
        let child = Command::new(HEAPGATE)
            .arg("spin")
            .env("HEAPGATE_RUNTIME_DIR", place.path("run"))
            .env("HEAPGATE_PUBLISH", "tokenizer")
            .env("HEAPGATE_VERSION", "1.4.2")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let process = Self(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        let published = || std::fs::read_dir(place.path("run")).is_ok_and(|mut files| files.next().is_some());
        while !published() {
            assert!(Instant::now() < deadline, "it does not publish itself");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }
}

fn top(place: &Place, arguments: &str) -> Ran {
    let mut command = place.command(&format!("top {arguments}"));
    Ran::of(command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH"))
}

#[test]
fn published_processes_are_listed_until_they_are_gone() {
    let place = Place::new();
    let empty = top(&place, "--once -i 0.1").ends_with(0).stdout;
    assert!(empty.starts_with("no published process in "), "{empty}");

    let process = Published::start(&place);
    let listed = top(&place, "--once -i 0.1 --json").ends_with(0).json();
    let found = &listed["processes"][0];
    assert_eq!(found["service"], "tokenizer");
    assert_eq!(found["version"], "1.4.2");
    assert_eq!(found["pid"], process.0.id());
    assert_eq!(found["alive"], true);
    assert!(found["live_bytes"].as_i64().expect("counted") > 0, "{listed}");
    assert!(found["rss_bytes"].as_u64().expect("in /proc") > 100_000, "{listed}");
    assert!(found["allocations_per_s"].is_number(), "{listed}");

    place.write("run/hostile.1.1.heapgate", "no segment");
    drop(process);
    let ran = top(&place, "--once -i 0.1").ends_with(0).says(&["warning: ", "hostile.1.1.heapgate"]);
    let line = ran.stdout.lines().find(|line| line.starts_with("tokenizer")).expect("its last state");
    assert!(line.contains(" dead "), "{}", ran.stdout);
}

#[test]
fn a_list_needs_a_terminal_or_once() {
    let place = Place::new();
    top(&place, "").ends_with(2).says(&["--once"]);
    top(&place, "--json").ends_with(2).says(&["--once"]);
    top(&place, "--once -i 0").ends_with(2).says(&["from 0.1 to 3600 s"]);
    top(&place, "--once -i 0.1 --folder /nowhere/at/all").ends_with(0);
}
