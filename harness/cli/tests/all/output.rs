//! What is printed: JSON that keeps its schema, and text that suits pipes, terminals, and NO_COLOR.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::path::Path;

use crate::common::{Place, QUICK, RECORDED, REPORT};
use serde_json::Value;

/// A published schema.
fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("a schema")).expect("JSON")
}

/// Checks that `value` has what `schema` requires and nothing that it doesn't know.
#[track_caller]
fn has_the_members_of(schema: &Value, value: &Value) {
    let members = value.as_object().expect("an object");
    for required in schema["required"].as_array().expect("required members") {
        assert!(members.contains_key(required.as_str().expect("a name")), "{required} is missing");
    }
    for name in members.keys() {
        assert!(schema["properties"].get(name).is_some(), "{name} is not in the schema");
    }
}

#[test]
fn run_prints_the_report_that_it_wrote_and_that_the_schema_describes() {
    let place = Place::new();
    let printed = place.run(&format!("run {QUICK} --json")).ends_with(0).json();
    assert_eq!(printed, place.json(REPORT));
    let schema = schema("report-v1.json");
    assert_eq!(printed["schema_version"], schema["properties"]["schema_version"]["const"]);
    has_the_members_of(&schema, &printed);
    has_the_members_of(&schema["$defs"]["Trial"], &printed["trials"][0]);
    has_the_members_of(&schema["$defs"]["Phase"], &printed["trials"][0]["phases"][2]);
}

#[test]
fn gate_and_diff_print_verdicts_that_the_schema_describes() {
    let place = gated();
    let schema = schema("verdict-v2.json");
    for arguments in ["gate --report report.json --json", "diff report.json report.json --json"] {
        let verdict = place.run(arguments).ends_with(0).json();
        assert_eq!(verdict["schema_version"], schema["properties"]["schema_version"]["const"]);
        assert_eq!(verdict["decision"], "pass");
        has_the_members_of(&schema, &verdict);
        has_the_members_of(&schema["$defs"]["Line"], &verdict["lines"][0]);
    }
}

#[test]
fn a_report_on_standard_output_is_written_once_and_leaves_nothing_beside_it() {
    let place = Place::new();
    let ran = place.shell(&format!("$heapgate run {QUICK} -o /dev/stdout --json | head -c 100000; ls -A /dev >&2"));
    let reports: Vec<Value> =
        serde_json::Deserializer::from_str(&ran.stdout).into_iter().map(|report| report.expect("JSON")).collect();
    assert_eq!(reports.len(), 2, "as the output, and as JSON for the table:\n{}", ran.stdout);
    assert_eq!(reports[0], reports[1]);
    assert!(!ran.stderr.contains(".partial"), "{}", ran.stderr);
}

#[test]
fn results_go_to_standard_output_and_progress_to_standard_error() {
    let place = Place::new();
    let ran = place.run(&format!("run {QUICK}")).ends_with(0);
    assert!(ran.stdout.contains("tokenize/wordpiece-heap") && !ran.stdout.contains("[1/1]"), "{}", ran.stdout);
    assert!(ran.stderr.starts_with("[1/1] tokenize/wordpiece-heap jemalloc #1  "), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("report: .heapgate/report.json\n"), "{}", ran.stderr);
}

#[test]
fn a_failed_trial_is_named_once_in_its_line_of_progress() {
    let ran =
        Place::new().run(&QUICK.replace("repeated", "linux-doc").replace("tokenize", "run tokenize")).ends_with(5);
    let line = ran.stderr.lines().next().expect("a line");
    assert_eq!(line.matches("tokenize/wordpiece-heap").count(), 1, "{line}");
    assert!(line.contains("failed with exit code 5") && line.contains("run ci/fetch-data"), "{line}");
}

/// A place with a report and its baseline.
fn gated() -> Place {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    place
}

const ESCAPE: char = '\x1b';

#[test]
fn what_is_piped_has_no_escape_codes_and_fits_80_columns() {
    let place = gated();
    // Every decision is in one of them.
    place.write("strict.toml", "[limits]\npeak_rss_bytes = { hard = \"1 MiB\" }\nleft_rss_bytes = { soft = \"0%\" }\n");
    let quick = format!("run {QUICK}");
    for (arguments, code) in [
        (quick.as_str(), 0),
        ("gate --report report.json", 0),
        ("gate --report report.json --verbose", 0),
        ("gate --report report.json --verbose --config strict.toml", 3),
        ("gate --report report.json --baselines none", 4),
        ("gate --report report.json --baselines none --verbose", 4),
        ("diff report.json report.json --verbose", 0),
        ("list", 0),
    ] {
        let ran = place.run(arguments).ends_with(code);
        assert!(!ran.stdout.contains(ESCAPE) && !ran.stderr.contains(ESCAPE), "{arguments}");
        for line in ran.stdout.lines() {
            assert!(line.chars().count() <= 80, "{arguments}: {line}");
        }
    }
}

#[test]
fn colours_can_be_asked_for_in_a_pipe() {
    let place = gated();
    assert!(place.run("gate --report report.json --color always").ends_with(0).stdout.contains(ESCAPE));
}

/// What a command prints on a terminal.
fn on_a_terminal(place: &Place, arguments: &str, no_color: Option<&str>) -> String {
    let (mut ours, mut theirs) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: both numbers are valid for the call to fill in; the rest may be null.
    let result = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(result, 0, "no terminal: {}", std::io::Error::last_os_error());
    // SAFETY: the call has just made both, and nobody else knows them.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
    let mut command = place.command(arguments);
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let mut child = command.stdout(theirs).spawn().expect("start");
    // The command holds the other end of the terminal, which must be gone for reading to end.
    drop(command);
    let mut printed = Vec::new();
    // A terminal that nobody has open any more is an error to Linux, not an end.
    let _ = ours.read_to_end(&mut printed);
    assert!(child.wait().expect("wait").success());
    String::from_utf8(printed).expect("UTF-8")
}

#[test]
fn a_terminal_has_colours_unless_they_are_refused() {
    let place = gated();
    let gate = "gate --report report.json";
    assert!(on_a_terminal(&place, gate, None).contains(ESCAPE));
    assert!(on_a_terminal(&place, gate, Some("")).contains(ESCAPE), "an empty NO_COLOR is none");
    assert!(!on_a_terminal(&place, gate, Some("1")).contains(ESCAPE));
    assert!(!on_a_terminal(&place, &format!("{gate} --color never"), None).contains(ESCAPE));
    assert!(
        on_a_terminal(&place, &format!("{gate} --color always"), Some("1")).contains(ESCAPE),
        "a flag goes before it"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let ran = gated().shell("{ $heapgate list; echo \"ended with $?\" >&2; } | head -n 1");
    assert_eq!(ran.stdout, "Workloads\n");
    assert!(ran.stderr.contains("ended with 0"), "{}", ran.stderr);
}

#[test]
fn trace_lines_of_a_real_process_become_json_and_other_lines_are_counted() {
    let place = Place::new();
    // heapgate itself is instrumented.
    let log = "HEAPGATE_RUNTIME_DIR=$PWD/run HEAPGATE_TRACE=1 $heapgate list metrics >/dev/null 2>log; echo 'another line' >>log";
    place.shell(log).ends_with(0);
    let ran = place.run("trace --parse log").ends_with(0).says(&["1 trace lines, 1 other lines"]);
    let line = ran.json();
    assert_eq!((&line["v"], &line["last"], &line["level"]), (&2.into(), &true.into(), &"sampled".into()));
    assert!(line["allocs"].as_u64() > Some(100), "{line}");
    assert_eq!(line["service"], Value::Null);
    assert_eq!(place.shell("$heapgate trace --parse <log").ends_with(0).stdout, ran.stdout);

    let sound = place.read("log");
    for (from, to, says) in [("v=2", "v=3", "version 3, newer"), ("last=1", "las", "'las' where last should be")] {
        place.write("broken", &format!("one\n{sound}{}", sound.replace(from, to)));
        let ran = place.run("trace --parse broken").ends_with(2).says(&["broken, line 4: ", says]);
        assert_eq!(ran.stdout.lines().count(), 1, "what precedes it is printed");
    }
    place.run("trace --parse none").ends_with(2).says(&["none can't be read"]);
    place.run("trace log").ends_with(2).says(&["--parse"]);
}

#[test]
fn a_report_is_shown_as_table_figures_or_page_and_decides_nothing() {
    let place = gated();
    let report = place.json("report.json");
    let table = place.run("report report.json").ends_with(0).stdout;
    assert!(table.contains("tokenize/wordpiece-heap") && !table.contains("PASS"), "{table}");
    let figures = place.run("report report.json --json").ends_with(0).json();
    has_the_members_of(&schema("figures-v1.json"), &figures);
    assert_eq!(figures["cells"][0]["repetitions"], crate::common::trials(&report).len());
    assert_eq!(figures.get("verdict"), None);

    // A regression that the gate fails is shown, with exit code 0.
    place.write("heapgate.toml", "[limits]\npeak_rss_bytes = { hard = \"1 KiB\" }\n");
    place.run("gate --report report.json --html gate.html").ends_with(3);
    let shown = place.run("report report.json --baselines baselines --html page.html --markdown out.md").ends_with(0);
    assert!(shown.stdout.contains("FAIL"), "{}", shown.stdout);
    let figures = place.run("report report.json --baselines baselines --json").ends_with(0).json();
    assert_eq!(figures["verdict"]["decision"], "fail");
    for page in ["gate.html", "page.html"] {
        let page = place.read(page);
        assert!(page.contains("<span class=\"word fail\">FAIL</span>"));
        assert!(page.contains("baseline, undisturbed"), "the stored baseline's histogram");
    }
    assert!(place.read("out.md").contains("FAIL"));

    place.run("report report.json --html nowhere/page.html").ends_with(1).says(&["nowhere/page.html"]);
    place.run("report report.json --html same --markdown same").ends_with(2).says(&["name two"]);
    place.run("report missing.json").ends_with(2).says(&["missing.json"]);
}

#[test]
fn a_run_leaves_its_page_that_is_compared_with_nothing() {
    let place = Place::new();
    place.run(&format!("run {QUICK} --html out/page.html")).ends_with(1).says(&["out/page.html"]);
    let ran = place.run(&format!("run {QUICK} -o same --html same")).ends_with(2).says(&["name two"]);
    assert!(!ran.stderr.contains("[1/1]") && !place.has("same") && !place.has(REPORT), "nothing was run");
    place.run(&format!("run {QUICK} --html page.html")).ends_with(0);
    let page = place.read("page.html");
    assert!(page.starts_with("<!doctype html>") && page.contains("tokenize/wordpiece-heap jemalloc"), "its cell");
    assert!(!page.contains(">PASS</span>"), "there is no verdict");
    place.run(&format!("report {REPORT} --html again.html")).ends_with(0);
    assert!(page == place.read("again.html"), "it is the page of the report");
}
