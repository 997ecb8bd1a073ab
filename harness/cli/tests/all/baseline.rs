//! The life of a baseline: recorded, promoted into, listed, checked, pruned, written by one at a time; changes that are
//! accepted for a time; several reports compared as one.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::{ENOUGH, Place, RECORDED, Ran, TIMELESS};
use heapgate_core::render::human::date;
use serde_json::Value;

const OTHER: &str = "tokenize/wordpiece-slices -a jemalloc -n 5 --steps 2 --param document=repeated";

fn baseline_file() -> String {
    format!("baselines/{}", RECORDED.baseline_path)
}

/// A place with the recorded report and its baseline.
fn recorded() -> Place {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&baseline_file(), &RECORDED.baseline);
    place
}

/// The recorded report of another machine or time.
fn report_with(change: impl FnOnce(&mut Value)) -> String {
    let mut report: Value = serde_json::from_str(&RECORDED.report).expect("JSON");
    change(&mut report);
    report.to_string()
}

#[test]
fn a_part_that_is_promoted_leaves_the_other_cells_as_they_were() {
    let place = recorded();
    place.run(&format!("run {OTHER} -o other.json")).ends_with(0);
    let before = place.read(&baseline_file());
    let dry = place.run("baseline promote other.json --dry-run").ends_with(0);
    assert!(dry.stdout.contains("1 cell new, 1 cell not in the report and kept"), "{}", dry.stdout);
    assert!(dry.stdout.contains("would be written, 2 cells"), "{}", dry.stdout);
    assert_eq!(place.read(&baseline_file()), before);

    place.run("baseline promote other.json --note because").ends_with(0);
    let stored = place.json(&baseline_file());
    let variants: Vec<&Value> =
        stored["cells"].as_array().expect("cells").iter().map(|cell| &cell["cell"]["variant"]).collect();
    assert_eq!(variants, ["wordpiece-heap", "wordpiece-slices"]);
    assert!(stored["cells"][0]["origin"]["recorded_unix_s"].is_u64(), "{}", stored["cells"][0]["origin"]);
    assert_eq!(stored["cells"][1]["origin"], Value::Null);
    assert!(stored["recorded_by"].as_str().expect("a text").ends_with("because"));
    place.run("gate --report report.json").ends_with(0);
    place.run("gate --report other.json").ends_with(0);
    assert!(!place.has("baselines/.lock"), "the lock is left");
}

#[test]
fn a_promotion_shows_exact_metrics_before_and_after() {
    let place = recorded();
    place.run(&format!("run {ENOUGH} --inject extra-allocs=1 -o worse.json")).ends_with(0);
    place.run("gate --report worse.json").ends_with(3);
    let ran = place.run("baseline promote worse.json").ends_with(0);
    let line = ran.stdout.lines().find(|line| line.contains("allocations_per_unit")).expect("in the table");
    assert!(line.contains('+'), "{line}");
    assert!(
        ran.stdout.lines().all(|line| line.starts_with("baselines/") || line.chars().count() <= 80),
        "{}",
        ran.stdout
    );
    place.run("gate --report worse.json").ends_with(0);
    let json = place.run("baseline promote report.json --dry-run --json").ends_with(0).json();
    let exact = &json[0]["cells"][0]["exact"][0];
    assert_eq!((&json[0]["written"], &exact["metric"]), (&false.into(), &"allocations_per_unit".into()));
    assert!(exact["before"].as_f64() > exact["after"].as_f64(), "{exact}");
}

#[test]
fn what_is_damaged_is_not_merged_into() {
    let place = recorded();
    place.write(&baseline_file(), &RECORDED.baseline[..500]);
    place.run("baseline promote report.json").ends_with(2).says(&["it breaks off", "record it again"]);
    assert_eq!(place.read(&baseline_file()).len(), 500);
}

#[test]
fn who_records_is_never_empty() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    let by = |git: &str, note: &str| {
        place.write("gitconfig", git);
        let mut command = place.command(&format!("baseline record --report report.json {note}"));
        command.env("GIT_CONFIG_GLOBAL", place.path("gitconfig")).env("GIT_CONFIG_NOSYSTEM", "1");
        Ran::of(&mut command).ends_with(0);
        let list = place.run("baseline list --json").ends_with(0).json();
        list[0]["recorded_by"].as_str().expect("a text").to_owned()
    };
    let ada = "[user]\n\tname = Ada\n\temail = ada@example.org\n";
    assert_eq!(by(ada, ""), "Ada <ada@example.org>");
    assert_eq!(by(ada, "--note because"), "Ada <ada@example.org>: because");
    assert_eq!(by("", "--note because"), "because");
    assert!(by("", "").starts_with("unknown (no --note"));
}

#[test]
fn the_list_shows_what_can_be_read_and_names_the_rest() {
    let place = recorded();
    place.write("baselines/x86_64-other/decode.json", "{");
    let ran = place.run("baseline list").ends_with(2).says(&["x86_64-other/decode.json", "it breaks off"]);
    assert!(ran.stdout.contains("(this machine's class)") && ran.stdout.contains("tokenize"), "{}", ran.stdout);
}

#[test]
fn a_check_names_what_is_to_be_done_and_ends_with_4() {
    let place = recorded();
    let ran = place.run("baseline check").ends_with(4);
    let text = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["5 repetitions, of 10 wanted", "run by default, and without a baseline", "no baseline of decode"] {
        assert!(text.contains(words), "{}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    place.write("baselines/x86_64-other/decode.json", "{");
    let check = place.run("baseline check --json").ends_with(2).json();
    assert_eq!((&check["baselines"], &check["concerns"][0]["kind"]), (&2.into(), &"unreadable".into()));
}

/// The recorded baseline with another variant that doesn't exist any more.
fn with_a_gone_cell(place: &Place) {
    let gone = report_with(|report| {
        for trial in report["trials"].as_array_mut().expect("trials") {
            trial["cell"]["variant"] = "wordpiece-old".into();
        }
    });
    place.write("gone.json", &gone);
    place.run("baseline promote gone.json").ends_with(0);
}

#[test]
fn pruning_shows_what_it_would_remove_and_does_it_when_told() {
    let place = recorded();
    assert_eq!(place.run("baseline prune --yes").ends_with(0).stdout, "nothing to remove\n");
    with_a_gone_cell(&place);
    let check = place.run("baseline check --json").ends_with(4).json();
    assert!(check["concerns"].to_string().contains("there is no such variant any more"), "{check}");
    let before = place.read(&baseline_file());
    let shown = place.run("baseline prune").ends_with(0).stdout;
    assert!(shown.contains("would remove 1 cell") && shown.contains("tokenize/wordpiece-old jemalloc"), "{shown}");
    assert!(shown.contains("do it with --yes"), "{shown}");
    assert_eq!(place.read(&baseline_file()), before);
    place.run("baseline prune --yes").ends_with(0);
    assert_eq!(place.json(&baseline_file())["cells"].as_array().expect("cells").len(), 1);
    place.run("gate --report report.json").ends_with(0);
}

#[test]
fn whole_files_of_a_class_are_pruned_even_where_they_can_not_be_read() {
    let place = recorded();
    place.write("baselines/x86_64-other/decode.json", "{");
    place.run("baseline prune").ends_with(2).says(&["x86_64-other/decode.json"]);
    place
        .run("baseline prune --class none")
        .ends_with(2)
        .says(&["there is no baseline of class 'none'", "x86_64-other"]);
    let json = place.run("baseline prune --class x86_64-other --yes --json").ends_with(0).json();
    assert_eq!((&json[0]["whole"], &json[0]["removed"]), (&true.into(), &true.into()));
    assert!(!place.has("baselines/x86_64-other") && place.has(&baseline_file()));
    assert_eq!(place.run("baseline prune --older-than 1 --yes").ends_with(0).stdout, "nothing to remove\n");
}

/// Holds the lock of the baselines in `place` as another process would, which would be number `pid`.
fn held(place: &Place, pid: &str) -> File {
    place.write("baselines/.lock", pid);
    let file = File::options().write(true).open(place.path("baselines/.lock")).expect("made");
    file.lock().expect("locked");
    file
}

#[test]
fn a_writer_that_waited_in_vain_says_who_writes_and_leaves_all_as_it_was() {
    let place = recorded();
    let lock = held(&place, "4321\n");
    for arguments in ["baseline record --report report.json", "baseline promote report.json", "baseline prune --yes"]
        .map(|a| format!("{a} --wait 0"))
    {
        place.run(&arguments).ends_with(1).says(&["process 4321", "baselines", "--wait SECONDS"]);
    }
    assert_eq!(place.read(&baseline_file()), RECORDED.baseline);
    // Readers need no lock.
    place.run("gate --report report.json").ends_with(0);
    place.run("baseline list").ends_with(0);
    place.run("baseline promote report.json --dry-run").ends_with(0);
    drop(lock);
    place.run("baseline promote report.json --wait 0").ends_with(0);
}

#[test]
fn a_second_writer_waits_says_so_and_writes_when_it_can() {
    let place = recorded();
    let lock = held(&place, "4321\n");
    let mut command = place.command("baseline promote report.json --note later");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // It says that it waits after a second; only then is the lock let go.
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    std::io::BufRead::read_line(&mut stderr, &mut said).expect("read");
    assert!(said.contains("process 4321 is writing baselines in baselines; waiting for it, up to 60 s"), "{said}");
    assert!(child.try_wait().expect("asked").is_none(), "it did not wait");
    drop(lock);
    Ran::from(child.wait_with_output().expect("ended")).ends_with(0);
    assert_ne!(place.read(&baseline_file()), RECORDED.baseline);
}

#[test]
fn of_many_writers_at_once_no_cell_is_lost() {
    let place = Place::new();
    let variants = ["a", "b", "c", "d", "e", "f"];
    for variant in variants {
        let report = report_with(|report| {
            for trial in report["trials"].as_array_mut().expect("trials") {
                trial["cell"]["variant"] = variant.into();
            }
        });
        place.write(&format!("{variant}.json"), &report);
    }
    let children: Vec<_> = variants
        .iter()
        .map(|variant| {
            let mut command = place.command(&format!("baseline promote {variant}.json"));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
        })
        .collect();
    for child in children {
        Ran::from(child.wait_with_output().expect("ended")).ends_with(0);
    }
    assert_eq!(place.json(&baseline_file())["cells"].as_array().expect("cells").len(), variants.len());
}

fn accepting(up_to: &str, days_from_now: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let until = date(now.saturating_add_signed(days_from_now * 86_400));
    ["allocations_per_unit", "allocated_bytes_per_unit"]
        .map(|metric| {
            format!(
                "[[accept]]\nworkload = \"tokenize/wordpiece-heap\"\nmetric = \"{metric}\"\nup_to = \"{up_to}\"\nuntil = \"{until}\"\nreason = \"larger vocabulary, issue 123\"\n"
            )
        })
        .concat()
}

#[test]
fn a_known_change_is_accepted_until_its_day_and_its_size_and_then_fails_again() {
    let place = recorded();
    place.run(&format!("run {ENOUGH} --inject extra-allocs=1 -o worse.json")).ends_with(0);
    let verdict = |settings: String, code: i32| {
        place.write("heapgate.toml", &(settings + TIMELESS));
        place.run("gate --report worse.json --json").ends_with(code).json()
    };
    let accepted = verdict(accepting("900%", 30), 0);
    assert_eq!((&accepted["decision"], &accepted["tally"]["accepted"]), (&"pass".into(), &2.into()));
    let kinds: Vec<&Value> = accepted["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| &line["decision"])
        .filter(|d| d["kind"] == "accepted")
        .collect();
    assert!(kinds.iter().all(|d| d["why"] == "larger vocabulary, issue 123" && d["until"].is_string()), "{kinds:?}");

    assert!(verdict(accepting("0.1%", 30), 3)["lines"].to_string().contains("beyond the 0.1% that are accepted"));
    let over = verdict(accepting("900%", -2), 3);
    assert!(over["notes"].to_string().contains("which is over: larger vocabulary, issue 123"), "{over}");
    let unneeded = place.run("gate --report report.json --json").ends_with(0).json();
    assert!(unneeded["notes"].to_string().contains("which is over; remove it"), "{unneeded}");
    place.write("heapgate.toml", &accepting("900%", 30));
    let unneeded = place.run("gate --report report.json --json").ends_with(0).json();
    assert!(unneeded["notes"].to_string().contains("no longer needed; remove it"), "{unneeded}");
    place.write("heapgate.toml", &accepting("900%", 400));
    place
        .run("gate --report report.json")
        .ends_with(2)
        .says(&["a limit to change, not an exception", "heapgate.toml:1:"]);
}

#[test]
fn several_reports_of_a_side_are_more_repetitions() {
    let place = Place::new();
    for name in ["a/1", "a/2", "b/1"] {
        place.run(&format!("run {ENOUGH} -o {name}.json")).ends_with(0);
    }
    for before in ["a/*.json", "a/1.json,a/2.json", "a/[12].json"] {
        let verdict = place.run(&format!("diff {before} b/*.json --json")).json();
        let line = verdict["lines"].as_array().expect("lines").iter().find(|l| l["metric"] == "peak_rss_bytes");
        let sides = line.map(|line| (line["baseline"]["reps"].clone(), line["now"]["reps"].clone()));
        assert_eq!(sides, Some((10.into(), 5.into())), "{before}");
    }
    place.run("baseline promote a/1.json a/2.json").ends_with(0);
    assert_eq!(place.run("baseline list --json").json()[0]["fewest_repetitions"], 10);
    place.run("diff c/*.json b/1.json").ends_with(2).says(&["c/*.json", "no file matches"]);
    place
        .run("diff a/1.json,a/1.json b/1.json")
        .ends_with(2)
        .says(&["are the same measurement", "leave one of the files out"]);
}

#[test]
fn reports_of_one_side_are_of_one_build_and_machine_and_of_different_runs() {
    let place = Place::new();
    place.write("one.json", &RECORDED.report);
    place.write("copy.json", &RECORDED.report);
    place.write("build.json", &report_with(|r| r["fingerprint"]["build"]["rustc"] = "rustc 1.0.0".into()));
    let cpus = |r: &mut Value| {
        r["fingerprint"]["machine"]["cpus"] = 64.into();
        r["trials"][0]["wall_s"] = 3.0.into();
    };
    place.write("machine.json", &report_with(cpus));
    let same = ["one.json", "copy.json", "are the same measurement", "leave one of the files out"];
    place.run("diff one.json,copy.json one.json").ends_with(2).says(&same);
    let machine = ["one.json and machine.json are of different machine classes", "cpus", "64"];
    place.run("diff one.json one.json,machine.json").ends_with(4).says(&machine);
    let mut build: Value = serde_json::from_str(&place.read("build.json")).expect("JSON");
    build["trials"][0]["wall_s"] = 3.0.into();
    place.write("build.json", &build.to_string());
    let build = ["one.json and build.json are of different builds", "1.0.0"];
    place.run("baseline promote one.json build.json").ends_with(4).says(&build);
    assert!(!place.has("baselines"));
}
