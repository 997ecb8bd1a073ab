//! Wrong names, values and files: each ends in its exit code, and in an error that names the culprit and the way out.

mod common;

use common::{Place, QUICK, RECORDED, REPORT, outcomes};

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
    let older = changed("\"schema_version\": 1", "\"schema_version\": 0");
    refused(&older, &["schema version 0", "reads version 1", RECORD_AGAIN]);
}

#[test]
fn a_baseline_of_a_newer_schema_is_told_with_the_heapgate_that_reads_it() {
    let newer = changed("\"schema_version\": 1", "\"schema_version\": 2").replacen(
        concat!("\"heapgate\": \"", env!("CARGO_PKG_VERSION")),
        "\"heapgate\": \"7.8.9",
        1,
    );
    refused(&newer, &["schema version 2", "use heapgate 7.8.9"]);
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
    place.write("newer.json", &RECORDED.report.replacen("\"schema_version\": 1", "\"schema_version\": 2", 1));
    place.write("baseline.json", &RECORDED.baseline);
    for (file, words) in [
        ("missing.json", "there is no such file; check the path"),
        ("cut.json", "it breaks off at line"),
        ("newer.json", "schema version 2"),
        ("baseline.json", "JSON of something else"),
    ] {
        for arguments in [
            format!("diff {file} good.json"),
            format!("diff good.json {file}"),
            format!("gate --report {file}"),
            format!("baseline record --report {file}"),
        ] {
            let ran = place.run(&arguments).ends_with(2).says(&[file, words, "heapgate run"]);
            assert_eq!(ran.stdout, "", "{arguments}");
        }
    }
    assert!(!place.has("baselines"));
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
    misused(&place, "run --param text=verse", &["'text'", "document"]);
    misused(&place, "run --param document=page", &["'page'", "verse, book"]);
    misused(&place, "run --param document", &["document", "NAME=VALUE"]);
}

/// Runs two variants on a document that can't be had, `what` being wrong with it.
fn without_corpus(place: &Place, data: Option<&str>, words: &[&str]) {
    let selection =
        "tokenize/wordpiece-heap tokenize/wordpiece-slices -a jemalloc -n 2 --steps 1 --param document=linux-doc";
    let mut command = place.command(&format!("run {selection}"));
    if let Some(folder) = data {
        command.env("HEAPGATE_DATA", place.path(folder));
    }
    common::Ran::of(&mut command).ends_with(5).says(words);
    let report = place.json(REPORT);
    // Each says why, and the matrix is gone through all the same.
    assert_eq!(outcomes(&report), ["failed"; 4]);
    assert_eq!(report["complete"], true);
    for trial in common::trials(&report) {
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
