//! Wrong names, values and files: each ends in its exit code, and in an error that names the culprit and the way out.

use crate::common::{Place, QUICK, RECORDED, REPORT, outcomes};
use heapgate_core::baseline::BASELINE_SCHEMA_VERSION;
use heapgate_core::report::SCHEMA_VERSION;
use serde_json::Value;

/// Judges the good report against a baseline of which the text was changed: that must be inconclusive, never a pass;
/// must say `words`; and must leave the file alone.
#[track_caller]
fn refused(changed: &str, words: &[&str]) {
    let place = Place::new();
    let path = format!("baselines/{}", RECORDED.baseline_path);
    place.write("report.json", &RECORDED.report);
    place.write(&path, changed);
    let verdict = place.run("gate --report report.json --json").ends_with(4).json();
    assert_eq!(verdict["decision"], "inconclusive");
    let problem = &verdict["problems"][0];
    assert_eq!(problem["kind"], "baseline-unusable", "{problem}");
    let said = problem["text"].as_str().expect("a text");
    for word in words.iter().chain(&[path.as_str()]) {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    assert_eq!(place.read(&path), changed);
}

#[track_caller]
fn changed(from: &str, to: &str) -> String {
    assert!(RECORDED.baseline.contains(from), "{from}");
    RECORDED.baseline.replacen(from, to, 1)
}

/// The member of a file with its schema's version.
fn version(version: u32) -> String {
    format!("\"schema_version\": {version}")
}

const RECORD_AGAIN: &str = "record it again with `heapgate baseline record`";

#[test]
fn the_baseline_that_was_recorded_passes() {
    // So that what is refused below is refused for what was changed.
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    place.run("gate --report report.json").ends_with(0);
}

#[test]
fn a_truncated_baseline_is_told_with_the_place_where_it_breaks_off() {
    refused(&RECORDED.baseline[..RECORDED.baseline.len() / 2], &["it breaks off at line", RECORD_AGAIN]);
}

#[test]
fn an_empty_baseline_is_told() {
    refused("", &["the file is empty", RECORD_AGAIN]);
}

#[test]
fn a_baseline_of_an_older_schema_is_told_with_both_versions() {
    let older = changed(&version(BASELINE_SCHEMA_VERSION), &version(BASELINE_SCHEMA_VERSION - 1));
    let [found, reads] = [BASELINE_SCHEMA_VERSION - 1, BASELINE_SCHEMA_VERSION];
    refused(&older, &[&format!("schema version {found}"), &format!("reads version {reads}"), RECORD_AGAIN]);
}

#[test]
fn a_baseline_of_a_newer_schema_is_told_with_the_heapgate_that_reads_it() {
    let newer = changed(&version(BASELINE_SCHEMA_VERSION), &version(BASELINE_SCHEMA_VERSION + 1)).replacen(
        concat!("\"heapgate\": \"", env!("CARGO_PKG_VERSION")),
        "\"heapgate\": \"7.8.9",
        1,
    );
    refused(&newer, &[&format!("schema version {}", BASELINE_SCHEMA_VERSION + 1), "use heapgate 7.8.9"]);
}

#[test]
fn a_report_in_the_place_of_a_baseline_is_told() {
    refused(&RECORDED.report, &["JSON of something else", RECORD_AGAIN]);
}

#[test]
fn a_baseline_that_was_edited_by_hand_is_told() {
    refused(
        &changed("\"allocations_per_unit\": [4", "\"allocations_per_unit\": [5"),
        &["was changed after it was recorded", RECORD_AGAIN],
    );
}

#[test]
fn no_baseline_is_no_pass() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    let verdict = place.run("gate --report report.json --json").ends_with(4).json();
    assert_eq!(verdict["problems"][0]["kind"], "no-baseline");
}

#[test]
fn recording_replaces_a_damaged_baseline() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), "{");
    place.run("baseline record --report report.json").ends_with(0);
    place.run("gate --report report.json").ends_with(0);
}

#[test]
fn a_report_that_cannot_be_read_is_a_usage_error_that_names_it() {
    let place = Place::new();
    place.write("good.json", &RECORDED.report);
    place.write("cut.json", &RECORDED.report[..RECORDED.report.len() / 2]);
    let of_version = |other| RECORDED.report.replacen(&version(SCHEMA_VERSION), &version(other), 1);
    place.write("newer.json", &of_version(SCHEMA_VERSION + 1));
    place.write("older.json", &of_version(SCHEMA_VERSION - 1));
    let (newer, older) =
        (format!("schema version {}", SCHEMA_VERSION + 1), format!("schema version {}", SCHEMA_VERSION - 1));
    place.write("baseline.json", &RECORDED.baseline);
    for (file, words) in [
        ("missing.json", "there is no such file; check the path"),
        ("cut.json", "it breaks off at line"),
        ("newer.json", newer.as_str()),
        ("older.json", older.as_str()),
        ("baseline.json", "JSON of something else"),
    ] {
        for arguments in [
            format!("diff {file} good.json"),
            format!("diff good.json {file}"),
            format!("gate --report {file}"),
            format!("baseline record --report {file}"),
            format!("baseline promote {file}"),
            format!("baseline promote good.json,{file}"),
        ] {
            let ran = place.run(&arguments).ends_with(2).says(&[file, words, "heapgate run"]);
            assert_eq!(ran.stdout, "", "{arguments}");
        }
    }
    assert!(!place.has("baselines"));
}

/// The good report with a change that no parser minds.
fn report_with(change: impl FnOnce(&mut Value)) -> String {
    let mut report: Value = serde_json::from_str(&RECORDED.report).expect("JSON");
    change(&mut report);
    report.to_string()
}

#[test]
fn a_report_that_cannot_be_true_is_refused_wherever_it_is_named() {
    let measure = |report: &mut Value, change: fn(&mut Value)| {
        let phases = report["trials"][1]["phases"].as_array_mut().expect("phases");
        change(phases.iter_mut().find(|phase| phase["kind"] == "measure").expect("one"));
    };
    let twice = report_with(|r| {
        let first = r["trials"][0].clone();
        r["trials"].as_array_mut().expect("trials").push(first);
    });
    let cases = [
        (twice, "repetition 1 is there twice"),
        (report_with(|r| measure(r, |p| p["wall_s"] = (-1.0).into())), "wall_s is -1, which is negative"),
        (
            report_with(|r| measure(r, |p| p["counts"]["alloc_calls"] = u64::MAX.into())),
            "alloc_calls is 18446744073709552000, more than",
        ),
        (report_with(|r| measure(r, |p| p["process"]["rss_bytes"] = (-5).into())), "JSON of something else"),
        (report_with(|r| r["trials"][0]["steal_share"] = 1.5.into()), "steal_share is 1.5, more than 1"),
        (
            report_with(|r| r["trials"][0]["metrics"]["peak_rss_bytes"] = 1.0.into()),
            "peak_rss_bytes is given as 1, but",
        ),
        (RECORDED.report.replacen("\"wall_s\": ", "\"wall_s\": NaN, \"x\": ", 1), "it is not JSON"),
        (
            RECORDED.report.replacen("\"wall_s\": ", "\"wall_s\": 1e999, \"x\": ", 1),
            "it is not JSON: number out of range",
        ),
    ];
    for (text, words) in cases {
        let place = Place::new();
        place.write("bad.json", &text);
        place.write("good.json", &RECORDED.report);
        for arguments in [
            "gate --report bad.json",
            "diff good.json bad.json",
            "baseline record --report bad.json",
            "baseline promote bad.json",
        ] {
            place.run(arguments).ends_with(2).says(&["bad.json", words]);
        }
        assert!(!place.has("baselines"), "{words}");
    }
}

#[test]
fn a_repetition_that_is_missing_is_no_pass_and_makes_no_baseline() {
    let place = Place::new();
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    let part = report_with(|r| {
        let trials = r["trials"].as_array_mut().expect("trials");
        trials.retain(|trial| trial["rep"] != 0);
    });
    place.write("part.json", &part);
    let verdict = place.run("gate --report part.json --json").ends_with(4).json();
    assert_eq!(verdict["problems"][0]["kind"], "run-incomplete");
    let words = "repetition 1 is not in the report, though a later one is";
    assert!(verdict["problems"][0]["text"].as_str().expect("a text").contains(words), "{verdict}");
    for verb in ["promote", "record --report"] {
        place.run(&format!("baseline {verb} part.json")).ends_with(4).says(&["tokenize/wordpiece-heap", words]);
    }
    assert_eq!(place.read(&format!("baselines/{}", RECORDED.baseline_path)), RECORDED.baseline);
}

#[test]
fn cells_with_fewer_repetitions_than_others_are_told() {
    let place = Place::new();
    let unequal = report_with(|r| {
        let mut more = r["trials"][0].clone();
        more["rep"] = 0.into();
        more["cell"]["variant"] = "wordpiece-slices".into();
        r["trials"].as_array_mut().expect("trials").push(more);
    });
    place.write("unequal.json", &unequal);
    let words = "1 repetition of 1 cell, 5 repetitions of 1 cell";
    place.run("baseline promote unequal.json").ends_with(0).says(&[words]);
    let verdict = place.run("gate --report unequal.json --json").json();
    assert!(verdict["notes"].to_string().contains(words), "{verdict}");
}

/// The recorded baseline with another date, as a heapgate on a machine with another clock would have written it.
fn recorded_on(place: &Place, unix_s: u64) {
    let mut baseline: heapgate_core::baseline::Baseline = serde_json::from_str(&RECORDED.baseline).expect("a baseline");
    baseline.recorded_unix_s = unix_s;
    baseline.save(&place.path("baselines")).expect("saved");
}

#[test]
fn a_baseline_of_the_future_is_told_and_never_has_a_negative_age() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    for unix_s in [40_000_000_000, u64::MAX] {
        recorded_on(&place, unix_s);
        let list = place.run("baseline list --json").ends_with(0).json();
        assert_eq!(list[0]["age_days"], Value::Null);
        assert!(place.run("baseline list").ends_with(0).stdout.contains("in the future"));
        let check = place.run("baseline check --json --max-age 1 --min-reps 1").ends_with(4).json();
        assert!(check["concerns"].to_string().contains("in-the-future"), "{check}");
        // The figures are as good as they were.
        let verdict = place.run("gate --report report.json --json").ends_with(0).json();
        assert!(verdict["notes"].to_string().contains("one of the two is wrong"), "{verdict}");
        assert_eq!(place.run("baseline prune --older-than 0").ends_with(0).stdout, "nothing to remove\n");
    }
}

#[test]
fn an_accepted_change_of_an_unknown_workload_metric_allocator_or_date_is_told_with_its_line() {
    let whole = "\n[[accept]]\nworkload = \"tokenize\"\nmetric = \"peak_rss_bytes\"\nup_to = \"12%\"\nuntil = \"2020-12-31\"\nreason = \"larger\"\nallocator = \"jemalloc\"\n";
    for (from, to, words) in [
        ("\"tokenize\"", "\"tokenise\"", ["heapgate.toml:2:", "unknown workload 'tokenise'"]),
        ("peak_rss_bytes", "peak_rss_byte", ["heapgate.toml:4:", "did you mean peak_rss_bytes?"]),
        ("\"jemalloc\"", "\"jemaloc\"", ["heapgate.toml:2:", "'jemaloc'"]),
        ("2020-12-31", "2020-02-31", ["heapgate.toml:6:", "there is no such day"]),
        ("2020-12-31", "9020-12-31", ["heapgate.toml:2:", "a limit to change, not an exception"]),
        ("reason = \"larger\"\n", "", ["heapgate.toml:2:", "[[accept]] lacks reason"]),
    ] {
        let place = Place::new();
        place.write("heapgate.toml", &whole.replace(from, to));
        misused(&place, &format!("gate {QUICK}"), &words);
    }
}

/// Checks that `arguments` are a usage error that says `words`, before anything was run or written.
#[track_caller]
fn misused(place: &Place, arguments: &str, words: &[&str]) {
    let ran = place.run(arguments).ends_with(2).says(words);
    assert_eq!(ran.stdout, "");
    assert!(!place.has(".heapgate"), "something was written");
}

#[test]
fn an_unknown_metric_in_the_settings_is_told_with_file_line_and_near_names() {
    let place = Place::new();
    place.write("heapgate.toml", "reps = 1\n\n[limits]\npeak_rss_byte = { soft = \"5%\" }\n");
    for verb in ["run", "gate", "baseline record"] {
        misused(
            &place,
            &format!("{verb} {QUICK}"),
            &["heapgate.toml:4", "'peak_rss_byte'", "did you mean peak_rss_bytes? `heapgate list"],
        );
    }
}

#[test]
fn an_unknown_workload_in_the_settings_is_told_with_those_there_are() {
    let place = Place::new();
    place.write("heapgate.toml", "[workload.\"tokenize/hf\".limits]\npeak_rss_bytes = { soft = \"5%\" }\n");
    misused(&place, &format!("gate {QUICK}"), &["heapgate.toml:1:", "'tokenize/hf'", "tokenize/hf-wordpiece"]);
}

#[test]
fn settings_that_were_named_must_be_there() {
    misused(
        &Place::new(),
        &format!("run {QUICK} --config nowhere.toml"),
        &["nowhere.toml", "no such file", "leave it out"],
    );
}

#[test]
fn a_cgroup_or_cpu_that_is_not_there_is_told_with_the_way_out() {
    let place = Place::new();
    place.write("folder/file", "");
    for (flags, words) in [
        ("--cgroup nowhere", ["--cgroup nowhere: there is no such folder", "make the cgroup first"]),
        ("--cgroup folder", ["--cgroup folder: it is no cgroup", "below /sys/fs/cgroup"]),
        ("--cgroup folder/file", ["--cgroup folder/file: it is no cgroup", "below /sys/fs/cgroup"]),
        ("--cpus 0,999", ["--cpus 999: there is no such CPU", "this machine has 0"]),
        ("--cpus 99999", ["--cpus 99999: there is no such CPU", "this machine has 0"]),
    ] {
        for verb in ["run", "gate", "baseline record"] {
            misused(&place, &format!("{verb} {QUICK} {flags}"), &words);
        }
    }
}

#[test]
fn a_report_to_judge_or_record_goes_with_no_flag_that_says_what_to_run() {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    for flags in [
        "tokenize",
        "-a jemalloc",
        "--param document=verse",
        "--text other.txt",
        "--text other.txt --lossy",
        "-n 1",
        "--steps 2",
        "--seed 0",
        "--level exact",
        "--sample-period 64",
        "--slots 8",
        "--timeout 9",
        "--memory-limit 1GiB",
        "--cgroup folder",
        "--nice 0",
        "--cpus 0",
        "-o other.json",
        "--inject extra-allocs=1",
    ] {
        for verb in ["gate", "baseline record"] {
            misused(
                &place,
                &format!("{verb} --report report.json {flags}"),
                &["--report <FILE>", "cannot be used with"],
            );
        }
    }
    assert!(!place.has("baselines"));
}

#[test]
fn an_unknown_workload_or_variant_is_told_with_those_there_are() {
    for name in ["tokenise", "tokenize/wordpiece", "tokenize/", "/"] {
        misused(&Place::new(), &format!("run {name}"), &[&format!("'{name}'"), "tokenize/wordpiece-heap"]);
    }
}

#[test]
fn an_unknown_allocator_or_option_is_told_with_those_there_are() {
    let place = Place::new();
    misused(&place, "run -a mimalloc", &["'mimalloc'", "system, jemalloc, region, region+system"]);
    misused(&place, "run -a jemalloc:dirty=0", &["'dirty'", "dirty_decay_ms"]);
    misused(&place, "run -a system:narenas=1", &["'system' takes no options", "jemalloc"]);
    misused(&place, "run -a jemalloc:narenas", &["'narenas'", "name=value"]);
}

#[test]
fn a_value_that_jemalloc_refuses_is_told_in_its_own_words() {
    let words = ["jemalloc:narenas=many", "Invalid conf value: narenas:many"];
    misused(&Place::new(), "run tokenize/wordpiece-heap -a jemalloc:narenas=many", &words);
}

#[test]
fn an_unknown_parameter_or_value_is_told_with_those_there_are() {
    let place = Place::new();
    misused(&place, "run --param colour=verse", &["'colour'", "document"]);
    misused(&place, "run --param document=page", &["'page'", "verse, book"]);
    misused(&place, "run --param document", &["document", "NAME=VALUE"]);
}

#[test]
fn a_text_that_is_of_no_use_is_told_before_anything_runs() {
    let place = Place::new();
    place.write("folder/empty.txt", "");
    std::fs::write(place.path("latin-1.txt"), b"caf\xe9 au lait").expect("write");
    let missing = place.path("nowhere.txt");
    for (flags, words) in [
        ("--text nowhere.txt", [missing.to_str().expect("it is"), "not found; check the path"]),
        ("--text folder", ["folder: it is a folder", "name a file"]),
        ("--text folder/empty.txt", ["empty.txt: it is empty", "name a file with text"]),
        ("--text latin-1.txt", ["latin-1.txt: it is not UTF-8 from byte 3 on", "--lossy puts U+FFFD there"]),
        ("--text nowhere.txt --lossy", ["nowhere.txt: not found", "check the path"]),
        ("--text latin-1.txt --param document=verse", ["--text says what the document is", "--param document=verse"]),
        ("--lossy", ["--text <FILE>", "required"]),
    ] {
        for verb in ["run", "gate", "baseline record"] {
            misused(&place, &format!("{verb} tokenize/wordpiece-heap -n 1 {flags}"), &words);
        }
    }
    place.write("good.txt", "In the beginning");
    misused(&place, "run prompt/join -n 1 --text good.txt", &["--text", "none of these workloads takes text"]);
    misused(&place, "run tokenise --text good.txt", &["'tokenise'", "tokenize/wordpiece-heap"]);
}

#[test]
fn a_text_is_tokenized_and_named_in_the_cell_and_a_lossy_one_too() {
    let place = Place::new();
    std::fs::write(place.path("latin-1.txt"), b"In the beginning, caf\xe9").expect("write");
    let run = "run tokenize/wordpiece-heap tokenize/hf-wordpiece -a jemalloc -n 1 --text latin-1.txt --lossy";
    place.run(run).ends_with(0);
    let report = place.json(REPORT);
    assert_eq!(outcomes(&report), ["completed"; 2]);
    let text = place.path("latin-1.txt");
    for trial in crate::common::trials(&report) {
        let params = &trial["cell"]["params"];
        assert!(params["document"] == "file" && params["lossy"] == "yes", "{params}");
        assert_eq!(params["text"].as_str(), text.to_str());
    }
    let units = |trial: &serde_json::Value| {
        let phases = trial["phases"].as_array().expect("phases");
        phases.iter().find(|p| p["kind"] == "measure").expect("one")["units"].clone()
    };
    // The replacement character is dropped: in the beginning , caf (two pieces).
    let all: Vec<_> = crate::common::trials(&report).iter().map(units).collect();
    assert!(all.len() == 2 && all[0] == all[1] && all[0].as_u64() >= Some(5), "{all:?}");
}

#[test]
fn a_file_without_its_document_kind_and_the_kind_without_a_file_are_told() {
    let place = Place::new();
    place.write("good.txt", "In the beginning");
    for (params, word) in [
        ("--param text=good.txt", "it goes with document=file"),
        ("--param document=file", "document=file needs a file"),
        ("--param lossy=yes", "it goes with document=file"),
    ] {
        place.run(&format!("run {QUICK_VARIANT} {params}")).ends_with(5).says(&[word, "--text FILE"]);
    }
}

const QUICK_VARIANT: &str = "tokenize/wordpiece-heap -a jemalloc -n 1 --steps 1";

/// Runs two variants on a document that can't be had, `what` being wrong with it.
fn without_corpus(place: &Place, data: Option<&str>, words: &[&str]) {
    let selection =
        "tokenize/wordpiece-heap tokenize/wordpiece-slices -a jemalloc -n 2 --steps 1 --param document=linux-doc";
    let mut command = place.command(&format!("run {selection}"));
    if let Some(folder) = data {
        command.env("HEAPGATE_DATA", place.path(folder));
    }
    crate::common::Ran::of(&mut command).ends_with(5).says(words);
    let report = place.json(REPORT);
    // Each says why, and the matrix is gone through all the same.
    assert_eq!(outcomes(&report), ["failed"; 4]);
    assert_eq!(report["complete"], true);
    for trial in crate::common::trials(&report) {
        let said = trial["outcome"]["stderr"].as_str().expect("kept");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn a_document_that_was_not_fetched_is_told_with_its_path_and_how_to_fetch_it() {
    let place = Place::new();
    without_corpus(&place, None, &["workloads/data/fetched/linux-doc.txt: not found", "run ci/fetch-data"]);
    let place = Place::new();
    place.write("data/other.txt", "");
    without_corpus(&place, Some("data"), &["data/linux-doc.txt: not found", "run ci/fetch-data"]);
}

#[test]
fn a_document_that_is_damaged_is_told_with_its_path_and_how_to_get_it_anew() {
    let place = Place::new();
    place.write("data/linux-doc.txt", "");
    std::fs::write(place.path("data/linux-doc.txt"), [0xff, 0xfe]).expect("write");
    without_corpus(&place, Some("data"), &["data/linux-doc.txt", "UTF-8", "remove it and run ci/fetch-data again"]);
}
