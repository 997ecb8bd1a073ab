//! The history as users meet it: every run is appended, whatever the store does no verdict changes, and nothing is lost.

use std::process::Stdio;

use crate::common::postgres::Server;
use crate::common::processes::{Running, send, stop, wait_for};
use crate::common::{PARTIAL, Place, QUICK, RECORDED, REPORT, Ran, TIMELESS, skip};

const HISTORY: &str = ".heapgate/history.sqlite";

/// The recorded report, as if it had begun at another time, with another commit.
fn report(number: u64) -> String {
    let mut report: serde_json::Value = serde_json::from_str(&RECORDED.report).expect("JSON");
    report["created_unix_s"] = (1_760_000_000 + number * 86_400).into();
    report["fingerprint"]["build"]["commit"] = format!("{number:07x}").into();
    report.to_string()
}

/// Sequence numbers and times of the runs in the only series of a metric.
#[track_caller]
fn runs(place: &Place, more: &str) -> Vec<(u64, u64)> {
    let shown = place.run(&format!("history peak_rss_bytes --json {more}")).ends_with(0).json();
    let series = shown["series"].as_array().expect("series");
    assert_eq!(series.len(), 1, "{shown}");
    let points = series[0]["points"].as_array().expect("points");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    points.iter().map(|p| (number(&p["sequence"]), number(&p["unix_s"]))).collect()
}

fn imported(numbers: &[u64]) -> Place {
    let place = Place::new();
    for number in numbers {
        place.write(&format!("{number}.json"), &report(*number));
    }
    let files: Vec<String> = numbers.iter().map(|number| format!("{number}.json")).collect();
    place.run(&format!("history --import {}", files.join(" "))).ends_with(0);
    place
}

#[test]
fn every_complete_run_is_appended() {
    let place = Place::new();
    place.run(&format!("run {QUICK}")).ends_with(0);
    place.run(&format!("run {QUICK}")).ends_with(0);
    // There is no baseline, so nothing is decided; it was measured all the same.
    place.run(&format!("gate {QUICK}")).ends_with(4);
    place.run(&format!("run {QUICK} --store none")).ends_with(0);
    assert_eq!(runs(&place, "").iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 3]);
    let shown = place.run("history peak_rss_bytes tokenize/wordpiece-heap").ends_with(0).stdout;
    assert!(shown.contains("tokenize/wordpiece-heap jemalloc") && shown.contains("3 runs"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

#[test]
fn a_planted_regression_is_not_appended() {
    let place = Place::new();
    let ran = place.run(&format!("run {QUICK} --inject extra-allocs=1")).ends_with(0);
    ran.says(&["a planted regression is not appended"]);
    assert!(!place.has(HISTORY));
}

#[test]
fn the_same_report_is_imported_once() {
    let place = imported(&[1, 2]);
    let again = place.run("history --import 2.json 1.json").ends_with(0);
    again.says(&["0 reports appended", "2 there already"]);
    assert_eq!(runs(&place, "").len(), 2);
}

#[test]
fn a_change_of_level_is_marked_with_its_commit() {
    let place = Place::new();
    for number in 1..=30 {
        let mut report: serde_json::Value = serde_json::from_str(&report(number)).expect("JSON");
        for trial in report["trials"].as_array_mut().expect("trials") {
            // Noise of a percent, and from the 16th on a step of ten.
            let factor = 1.0 + 0.002 * (number * 7 % 5) as f64 + if number < 16 { 0.0 } else { 0.1 };
            let bytes = (2e7 * factor).round() as u64;
            let phases = trial["phases"].as_array_mut().expect("phases");
            let measure = phases.iter_mut().find(|phase| phase["kind"] == "measure").expect("a measured phase");
            measure["process"]["peak_rss_bytes"] = bytes.into();
            trial["metrics"]["peak_rss_bytes"] = (bytes as f64).into();
        }
        place.write(&format!("{number}.json"), &report.to_string());
    }
    let files: Vec<String> = (1..=30).map(|number| format!("{number}.json")).collect();
    place.run(&format!("history --import {}", files.join(" "))).ends_with(0);
    let shown = place.run("history peak_rss_bytes --json").ends_with(0).json();
    let changes = shown["series"][0]["changes"].as_array().expect("changes");
    assert_eq!(changes.iter().map(|c| &c["index"]).collect::<Vec<_>>(), [15], "{changes:?}");
    let shown = place.run("history peak_rss_bytes").ends_with(0).stdout;
    let change = shown.lines().find(|line| line.contains("0000010")).unwrap_or_else(|| panic!("no commit:\n{shown}"));
    assert!(change.contains("+10"), "{shown}");
}

#[test]
fn a_gate_takes_its_baseline_from_the_last_runs() {
    let place = Place::new();
    place.write("heapgate.toml", TIMELESS);
    for _ in 0..4 {
        place.run(&format!("run {QUICK}")).ends_with(0);
    }
    // What few runs can't decide is a run all the same.
    let few = place.run(&format!("gate {QUICK} --from-history 20")).ends_with(4).stdout;
    let few = few.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(few.contains("the history has 4 runs with it") && few.contains("`heapgate run`"), "{few}");
    place.run(&format!("run {QUICK}")).ends_with(0);
    let passed = place.run(&format!("gate {QUICK} --from-history 20")).ends_with(0).stdout;
    assert!(passed.contains("the last 6 runs, since 20"), "{passed}");
    let verdict =
        place.run(&format!("gate {QUICK} --from-history 5 --inject extra-allocs=1 --json")).ends_with(3).json();
    assert_eq!(verdict["compared_with"][0]["history"]["runs"], 5);
    let failed = verdict["lines"].as_array().expect("lines").iter().filter(|l| l["decision"]["kind"] == "fail");
    assert!(failed.map(|l| &l["metric"]).any(|m| m == "allocations_per_unit"));
    // The same of a report, which is not its own baseline.
    place.run(&format!("run {QUICK}")).ends_with(0);
    place.run(&format!("gate --report {REPORT} --from-history 20")).ends_with(0);
    assert_eq!(runs(&place, "").len(), 8);
}

#[test]
fn a_gate_by_the_history_needs_one_on_this_class() {
    let place = Place::new();
    let store = "--from-history 5 --store none";
    place.run(&format!("gate {QUICK} {store}")).ends_with(2).says(&["--from-history", "name a store"]);
    place.run(&format!("gate {QUICK} --from-history 5 --baselines kept")).ends_with(2).says(&["--baselines"]);
    place.run(&format!("gate {QUICK} --from-history 5 --budget 1m")).ends_with(2).says(&["--budget"]);
    place.run(&format!("gate {QUICK} --from-history 4")).ends_with(2).says(&["--from-history"]);
    assert!(!place.has(REPORT), "nothing was run");
    for number in 1..=6 {
        let other = report(number).replacen("\"cpus\":", "\"cpus\":6", 1);
        place.write(&format!("{number}.json"), &other);
    }
    place.run("history --import 1.json 2.json 3.json 4.json 5.json 6.json").ends_with(0);
    place.write("report.json", &report(7));
    let verdict = place.run("gate --report report.json --from-history 5 --json").ends_with(4).json();
    assert_eq!(verdict["problems"][0]["kind"], "no-baseline");
    make_newer(&place);
    place.run(&format!("gate {QUICK} --from-history 5")).ends_with(2).says(&["schema version 9"]);
    assert!(!place.has(REPORT), "nothing was run");
}

#[test]
fn shards_are_appended_when_they_are_merged() {
    let place = Place::new();
    for index in 1..=2 {
        let shard = format!("run {QUICK} -a system --shard {index}/2 -o {index}.json");
        place.run(&shard).ends_with(0);
    }
    assert!(!place.has(HISTORY));
    place.run("merge 1.json 2.json -o all.json").ends_with(0);
    let all =
        |store: &str| place.run(&format!("history {store} --json")).ends_with(0).json()["classes"][0]["runs"].clone();
    assert_eq!(all(""), 1);
    place.run("merge 1.json 2.json -o all.json").ends_with(0).says(&["in .heapgate/history.sqlite already"]);
    place.run("merge 1.json 2.json -o all.json --store other.sqlite").ends_with(0);
    assert_eq!(all("--store other.sqlite"), 1);
    place.run("merge 1.json 2.json -o all.json --store none").ends_with(0);
    // Runs that were whole are in the history by themselves.
    place.run("merge all.json -o again.json --store third.sqlite").ends_with(0);
    assert!(!place.has("third.sqlite"));
}

#[test]
fn a_report_that_is_wrong_imports_none() {
    let place = imported(&[1]);
    place.write("2.json", &report(2));
    place.write("wrong.json", &report(3).replacen("\"schema_version\":1", "\"schema_version\":9", 1));
    let ran = place.run("history --import 2.json wrong.json").ends_with(2);
    ran.says(&["wrong.json", "schema version 9"]);
    assert_eq!(runs(&place, "").len(), 1);
}

#[test]
fn a_clock_that_jumps_reorders_nothing_and_is_told() {
    let place = imported(&[5, 9, 2, 10]);
    let days: Vec<u64> = runs(&place, "").iter().map(|r| (r.1 - 1_760_000_000) / 86_400).collect();
    assert_eq!(days, [5, 9, 2, 10]);
    let shown = place.run("history peak_rss_bytes").ends_with(0).stdout;
    assert!(shown.contains("the clock goes back from 2025-10-18 (run 2) to 2025-10-11 (run 3)"), "{shown}");
    assert_eq!(runs(&place, "--last 2").iter().map(|r| r.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(runs(&place, "--since 2025-10-18").iter().map(|r| r.0).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn a_page_is_written_with_every_commit() {
    let place = imported(&[1, 2, 3]);
    place.run("history peak_rss_bytes --html page.html").ends_with(0);
    let page = place.read("page.html");
    assert!(["0000001", "0000002", "0000003"].iter().all(|commit| page.contains(commit)), "{page}");
    place.run("history peak_rss_bytes --html missing/page.html").ends_with(1).says(&["missing/page.html"]);
}

#[test]
fn names_that_are_wrong_are_told_with_what_there_is() {
    let place = imported(&[1]);
    place.run("history peak_rss").ends_with(2).says(&["unknown metric 'peak_rss'", "heapgate list metrics"]);
    place.run("history peak_rss_bytes decode").ends_with(2).says(&["no peak_rss_bytes of decode", "1 run"]);
    place.run("history peak_rss_bytes --class other").ends_with(2).says(&["on other", "1 run", "--all-classes"]);
    place.run("history peak_rss_bytes --since 2025-02-30").ends_with(2).says(&["a day such as"]);
    place.run("history peak_rss_bytes --store mysql://h/d").ends_with(2).says(&["'mysql://h/d' is no store"]);
    place.run("history peak_rss_bytes --store other.sqlite").ends_with(2).says(&["other.sqlite", "no history yet"]);
    assert!(!place.has("other.sqlite"));
}

/// Makes the recorded history one of schema version 9.
fn make_newer(place: &Place) {
    /// Where the head of a SQLite file has `PRAGMA user_version`, big-endian (sqlite.org/fileformat.html, 1.3.12).
    const USER_VERSION: usize = 60;
    let mut bytes = std::fs::read(place.path(HISTORY)).expect("read");
    bytes[USER_VERSION..USER_VERSION + 4].copy_from_slice(&9u32.to_be_bytes());
    std::fs::write(place.path(HISTORY), bytes).expect("write");
}

#[test]
fn a_newer_store_is_refused_with_both_versions() {
    let place = imported(&[1]);
    make_newer(&place);
    let words = ["schema version 9", "reads version 1", "use a newer heapgate", HISTORY];
    place.run("history peak_rss_bytes").ends_with(2).says(&words);
    place.run("history --import 1.json").ends_with(2).says(&words);
}

#[test]
fn a_store_that_fails_changes_no_verdict_and_loses_no_run() {
    let place = imported(&[1]);
    let good = std::fs::read(place.path(HISTORY)).expect("read");
    make_newer(&place);
    let ran = place.run(&format!("run {QUICK}")).ends_with(0);
    let ran = ran.says(&["warning: the run is not in the history", "schema version 9", ".heapgate/spool/"]);
    assert!(ran.stderr.contains("report: ") && place.has(REPORT), "{}", ran.stderr);
    std::fs::write(place.path(HISTORY), good).expect("write");
    place.run("history --send").ends_with(0).says(&["1 run that had waited was sent"]);
    assert_eq!(runs(&place, "").len(), 2);
    place.run("history --send").ends_with(0).says(&["no run waits"]);
}

#[test]
fn a_store_in_a_folder_without_rights_is_a_warning() {
    let place = imported(&[1]);
    place.shell("mkdir locked && cp .heapgate/history.sqlite locked && chmod 755 . && chmod 555 locked");
    place.shell("chmod 444 locked/history.sqlite; mkdir open && chmod 777 open");
    // Rights don't bind the superuser, so heapgate is then run as nobody.
    let nobody = "$(test $(id -u) = 0 && echo setpriv --reuid=65534 --regid=65534 --clear-groups)";
    if place.shell(&format!("! {nobody} touch locked/new && {nobody} $heapgate --version")).code != Some(0) {
        return skip("a store without rights, since heapgate can't be run without any here");
    }
    let run = |arguments: &str| place.shell(&format!("cd open && {nobody} $heapgate {arguments}"));
    let ran = run(&format!("run {QUICK} --store ../locked/history.sqlite"));
    let read = run("history peak_rss_bytes --store ../locked/history.sqlite");
    let missing = run(&format!("run {QUICK} --store ../locked/other.sqlite"));
    // Or the folder can't be removed.
    place.shell("chmod 755 locked");
    ran.ends_with(0).says(&["warning", "locked/history.sqlite", "choose another place with --store"]);
    assert!(read.ends_with(0).stdout.contains("1 run"), "what can't be written can be read");
    missing.ends_with(0).says(&["warning", "locked/other.sqlite"]);
    assert_eq!(std::fs::read_dir(place.path("open/.heapgate/spool")).expect("runs that wait").count(), 2);
}

#[test]
fn two_that_append_at_once_both_succeed() {
    let place = imported(&[1]);
    for number in 2..10 {
        place.write(&format!("{number}.json"), &report(number));
    }
    let children: Vec<_> = (2..10)
        .map(|number| {
            let mut command = place.command(&format!("history --import {number}.json --store new/h.sqlite"));
            command.stderr(std::process::Stdio::piped()).spawn().expect("start")
        })
        .collect();
    for child in children {
        Ran::from(child.wait_with_output().expect("ends")).ends_with(0);
    }
    assert_eq!(runs(&place, "--store new/h.sqlite").len(), 8);
}

#[test]
fn the_settings_name_the_store_and_the_flag_wins() {
    let place = imported(&[1]);
    place.write("heapgate.toml", "store = \"kept/team.sqlite\"\n");
    place.run("history --import 1.json").ends_with(0).says(&["kept/team.sqlite"]);
    assert!(place.has("kept/team.sqlite"));
    place.run(&format!("history --import 1.json --store {HISTORY}")).ends_with(0).says(&["1 there already"]);
}

#[test]
fn a_server_that_goes_away_during_a_run_gets_it_later() {
    let Some(mut server) = Server::start() else { return };
    let place = Place::new();
    let store = format!("--store {}", server.url());
    place.run(&format!("run {QUICK} {store}")).ends_with(0);
    let mut command = place.command(&format!("run {} {store}", QUICK.replace("-n 1", "-n 8")));
    // One that has ended before it could be stopped is in the history, and is made again.
    let mut ended = 0;
    let started = loop {
        let mut started = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start"));
        wait_for("a trial's end", || (place.has(PARTIAL) || started.has_ended()).then_some(()));
        stop(started.pid());
        if place.has(PARTIAL) {
            break started;
        }
        Ran::from(started.output()).ends_with(0);
        ended += 1;
    };
    server.stop();
    send(started.pid(), libc::SIGCONT);
    let ran = Ran::from(started.output()).ends_with(0);
    let ran = ran.says(&["warning: the run is not in the history", "127.", ".heapgate/spool/", "--send"]);
    assert!(!ran.stderr.contains("hush"), "a password:\n{}", ran.stderr);
    assert!(place.has(REPORT));
    let lost = place.run(&format!("history peak_rss_bytes {store}")).ends_with(1);
    assert!(!lost.says(&["cannot be opened", "check that the server runs"]).stderr.contains("hush"));
    server.start_again();
    // It goes with the next run, and before it.
    let ran = place.run(&format!("run {QUICK} {store}")).ends_with(0);
    ran.says(&["1 run that had waited was sent"]);
    let reps = place.run(&format!("history peak_rss_bytes --json {store}")).ends_with(0).json();
    let reps: Vec<u64> = reps["series"][0]["points"]
        .as_array()
        .expect("points")
        .iter()
        .map(|p| p["reps"].as_u64().expect("a number"))
        .collect();
    assert_eq!(reps, [vec![1], vec![8; ended + 1], vec![1]].concat());
    assert_eq!(std::fs::read_dir(place.path(".heapgate/spool")).expect("a folder").count(), 0);
}
