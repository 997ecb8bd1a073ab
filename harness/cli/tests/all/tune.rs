//! Settings of a running process: heapgate itself, which spins and lets itself be steered.

use crate::common::processes::{Running, wait_for};
use crate::common::server::Server;
use crate::common::{Place, Ran};

/// A process that is steered if `control` is "1"; returns once it answers.
fn start(place: &Place, name: &str, control: &str) -> Running {
    let limit = if control == "1" { "8GiB" } else { "" };
    let variables = [("HEAPGATE_ALLOCATOR", "jemalloc"), ("HEAPGATE_CONTROL", control), ("HEAPGATE_SOFT_LIMIT", limit)];
    let service = Running::published(place, name, &variables);
    if control == "1" {
        let asked = format!("tune --pid {} --json", service.pid());
        wait_for("an answer", || (heapgate(place, &asked).code == Some(0)).then_some(()));
    }
    service
}

fn heapgate(place: &Place, arguments: &str) -> Ran {
    let mut command = place.command(arguments);
    Ran::of(command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH"))
}

#[test]
fn settings_of_one_process_and_of_all_of_a_service_are_changed_and_read_back() {
    let place = Place::new();
    let (one, two) = (start(&place, "tokenizer", "1"), start(&place, "tokenizer", "1"));
    let pid = one.pid();
    let set = heapgate(&place, &format!("tune --pid {pid} dirty_decay_ms=250 background_thread=true purge"));
    let text = set.ends_with(0).stdout;
    for words in ["dirty_decay_ms     10000 -> 250", "false -> true", "given back"] {
        assert!(text.contains(words), "{text}");
    }
    let all = heapgate(&place, "tune --all-of tokenizer --preset strict soft_limit=1GiB --json").ends_with(0).json();
    let processes = all["processes"].as_array().expect("a list");
    assert_eq!(processes.len(), 2, "{all}");
    for process in processes {
        let settings = process["settings"].as_array().expect("a list");
        let values: Vec<_> = settings.iter().map(|done| (&done["setting"], done["value"].as_i64())).collect();
        assert_eq!(values[0], (&"dirty_decay_ms".into(), Some(0)));
        assert_eq!(values[2], (&"soft_limit".into(), Some(1 << 30)));
        assert!(settings.iter().all(|done| done["acknowledged_ms"].as_f64().is_some_and(|ms| ms > 0.0)), "{all}");
    }
    let shown = heapgate(&place, &format!("tune --pid {pid}")).ends_with(0).stdout;
    assert!(shown.contains("dirty_decay_ms     0\n") && shown.contains("soft_limit         1 GiB\n"), "{shown}");
    assert!(shown.contains("heap_profile       -\n"), "{shown}");
    // The other end of the same limit: what a check of the budget finds.
    let checked = heapgate(&place, &format!("budget check --pid {} --sidecar 2GiB --json", two.pid())).json();
    assert_eq!(checked["limits"]["process"], 1_u64 << 30, "what is in force, not what it was started with");
}

#[test]
fn what_cannot_be_changed_is_an_error_that_says_why() {
    let place = Place::new();
    let (steered, not) = (start(&place, "steered", "1"), start(&place, "plain", "0"));
    for (arguments, code, words) in [
        (format!("--pid {} decay=5", steered.pid()), 2, "there are: dirty_decay_ms, muzzy_decay_ms"),
        (format!("--pid {} dirty_decay_ms=-2", steered.pid()), 2, "-1 to 3600000"),
        (format!("--pid {} --preset none", steered.pid()), 2, "lax, default, strict"),
        (format!("--pid {} heap_profile=true", steered.pid()), 1, "jemalloc's opt.prof is false"),
        (format!("--pid {} heap_profile=true --all-of plain", steered.pid()), 2, "cannot be used with"),
        (format!("--pid {} dirty_decay_ms=0", not.pid()), 2, "takes no requests"),
        ("--pid 4194304 dirty_decay_ms=0".to_owned(), 2, "process 4194304 is not published"),
        ("--all-of nobody purge".to_owned(), 2, "there are plain"),
        ("dirty_decay_ms=0".to_owned(), 2, "--pid"),
    ] {
        heapgate(&place, &format!("tune {arguments}")).ends_with(code).says(&[words]);
    }
    let (mut ended, pid) = (start(&place, "ended", "1"), steered.pid());
    ended.kill();
    heapgate(&place, &format!("tune --pid {} purge", ended.pid())).ends_with(2).says(&["has ended"]);
    // One refusal among several changes: the others are made.
    let mixed = heapgate(&place, &format!("tune --pid {pid} heap_profile=true muzzy_decay_ms=7 --json")).ends_with(1);
    assert_eq!(mixed.json()["processes"][0]["settings"][1]["value"], 7);
}

#[test]
fn a_setting_is_changed_through_the_agent_with_its_token_and_not_without() {
    let place = Place::new();
    let service = start(&place, "tokenizer", "1");
    place.write("token", "a-token-of-this-test\n");
    place.shell("chmod 600 token").ends_with(0);
    let run = place.path("run");
    let agent = |control: &'static str| {
        Server::start(
            |address| {
                let mut command = place.command(&format!("serve --listen {address} {control}"));
                command.env("HEAPGATE_RUNTIME_DIR", &run);
                command
            },
            |server| server.ask("GET /healthz", "").is_some(),
        )
    };
    let [open, closed] = ["--allow-control --control-token-file token", ""].map(agent);
    let processes = open.ask("GET /api/processes", "").expect("an answer");
    let id = processes.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let body = format!("{{\"process\": \"{id}\", \"setting\": \"dirty_decay_ms=250\"}}");
    let token = "X-Heapgate-Token: a-token-of-this-test\r\n";
    let change = |server: &Server, headers: &str| server.send("POST /api/setting", headers, &body).expect("an answer");
    let value = || {
        let shown = heapgate(&place, &format!("tune --pid {} --json", service.pid())).ends_with(0).json();
        shown["processes"][0]["settings"][0]["value"].as_i64()
    };
    assert!(change(&closed, token).contains("--allow-control"));
    assert!(change(&open, "").contains("403"));
    assert_eq!(value(), Some(10_000));
    let made = change(&open, token);
    assert!(made.contains(" 200 ") && made.contains("{\"setting\":\"dirty_decay_ms\",\"value\":250}"), "{made}");
    assert_eq!(value(), Some(250));
}

#[test]
fn a_measured_trial_is_not_steered_by_what_is_meant_for_services() {
    let place = Place::new();
    let trial = "embed/index-heap --steps 2 -n 1";
    let variables = [("HEAPGATE_CONTROL", "1"), ("HEAPGATE_SOFT_LIMIT", "nonsense")];
    // Which a process that takes it would end with.
    Ran::of(place.command("trial embed/index-heap --steps 1").envs(variables)).ends_with(2).says(&["no soft limit"]);
    Ran::of(place.command(&format!("run {trial}")).envs(variables)).ends_with(0);
}
