//! The comparison of a running service, of real processes that are published.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{HEAPGATE, Place, Ran};

/// A process of the service, until it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// heapgate itself, which waits for the end of its standard input, with `variables` in its environment; `count`th of them.
fn start(place: &Place, count: usize, variables: [(&str, &str); 2]) -> Process {
    let child = Command::new(HEAPGATE)
        .arg("spin")
        .env("HEAPGATE_RUNTIME_DIR", place.path("run"))
        .env("HEAPGATE_PUBLISH", "tokenizer")
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let process = Process(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    let published = || std::fs::read_dir(place.path("run")).is_ok_and(|files| files.count() >= count);
    while !published() {
        assert!(Instant::now() < deadline, "it does not publish itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

fn live(place: &Place, arguments: &str) -> Ran {
    let mut command = place.command(&format!("ab {arguments}"));
    Ran::of(command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH"))
}

#[test]
fn sides_of_a_running_service_are_compared_and_nothing_is_made_up() {
    let place = Place::new();
    let none = live(&place, "--live tokenizer").ends_with(2).stderr;
    assert!(none.contains("no published process of service tokenizer"), "{none}");

    let _old = start(&place, 1, [("HEAPGATE_GROUP", "control"), ("HEAPGATE_VERSION", "1")]);
    let one = live(&place, "--live tokenizer").ends_with(4).stderr;
    assert!(one.contains("fewer than two sides (control)"), "{one}");

    let _new = start(&place, 2, [("HEAPGATE_GROUP", "lax"), ("HEAPGATE_VERSION", "2")]);
    // They do nothing, so no window has a pair.
    let by_group = live(&place, "--live tokenizer --window 0.2s --duration 1 --json").ends_with(4).json();
    assert_eq!((&by_group["control"], &by_group["winner"]), (&"control".into(), &serde_json::Value::Null));
    assert_eq!(by_group["comparisons"].as_array().map(Vec::len), Some(4), "{by_group:#}");
    assert_eq!(by_group["comparisons"][0]["pairs"], 0);
    assert_eq!(by_group["last_window"]["lax"]["processes"], 1);

    let by_version = live(&place, "--live tokenizer --by version --window 0.2s --duration 1").ends_with(4).stdout;
    assert!(by_version.contains("improved by 15% or more: undecided"), "{by_version}");
    assert!(by_version.contains("No winner yet."), "{by_version}");
    let wrong = live(&place, "--live tokenizer --control x").ends_with(2).stderr;
    assert!(wrong.contains("there are control, lax"), "{wrong}");
}
