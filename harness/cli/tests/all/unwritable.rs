//! A system that refuses: a report that can't be written, a disk that is full, shared memory that isn't to be had. What
//! was there before stays whole.

use crate::common::{Place, QUICK, RECORDED, Ran, skip};

/// Checks that a run with its report at `output` ends as heapgate's own failure, saying `words`, before anything was
/// measured.
#[track_caller]
fn not_written(place: &Place, output: &str, words: &[&str]) {
    let ran = place.run(&format!("run {QUICK} -o {output}")).ends_with(1).says(words);
    assert!(!ran.stderr.contains("[1/1]"), "measured in vain:\n{}", ran.stderr);
}

#[test]
fn a_report_below_a_file_is_refused_and_the_file_left_alone() {
    let place = Place::new();
    place.write("file", "precious");
    not_written(&place, "file/report.json", &["cannot write to file: it is not a folder; name another with -o"]);
    not_written(&place, "file/folder/report.json", &["cannot write to file: it is not a folder; name another with -o"]);
    assert_eq!(place.read("file"), "precious");
}

#[test]
fn a_report_where_nothing_can_be_written_is_refused_with_the_way_out() {
    // Nobody can make a folder in /proc.
    not_written(&Place::new(), "/proc/heapgate/report.json", &["/proc/heapgate", "choose another"]);
}

#[test]
fn a_report_in_a_folder_without_rights_is_refused_and_the_old_one_kept() {
    let place = Place::new();
    place.write("locked/report.json", &RECORDED.report);
    let locked = "chmod 755 . && chmod 555 locked";
    // Rights don't bind the superuser, so heapgate is then run as nobody.
    let nobody = "$(test $(id -u) = 0 && echo setpriv --reuid=65534 --regid=65534 --clear-groups)";
    if place.shell(&format!("{locked} && ! {nobody} touch locked/new && {nobody} $heapgate --version")).code != Some(0)
    {
        return skip("a folder without rights, since heapgate can't be run without any here");
    }
    let ran = place.shell(&format!("{nobody} $heapgate run {QUICK} -o locked/report.json"));
    // Or the folder can't be removed.
    place.shell("chmod 755 locked");
    let ran = ran.ends_with(1);
    ran.says(&["locked/report.json", "permission denied", "choose a folder you may write to"]);
    assert_eq!(place.read("locked/report.json"), RECORDED.report);
}

#[test]
fn a_report_on_a_full_device_is_refused_with_the_way_out() {
    not_written(&Place::new(), "/dev/full", &["/dev/full", "the disk is full", "free some space"]);
}

#[test]
fn a_folder_in_the_place_of_the_report_is_refused() {
    let place = Place::new();
    place.write("results/kept.txt", "precious");
    not_written(&place, "results", &["results", "it is a folder", "give the name of a file"]);
    assert_eq!(place.read("results/kept.txt"), "precious");
}

/// Runs `script` in the folder `disk`, a file system of 64 KiB that only it sees; `None` where that is not allowed.
fn on_a_small_disk(place: &Place, script: &str) -> Option<Ran> {
    const NO_MOUNT: i32 = 99;
    place.write("disk/below", "");
    let mount = format!("mount -t tmpfs -o size=64k none disk || exit {NO_MOUNT}; cd disk; {script}");
    let ran = place.shell(&format!("unshare --mount sh -c '{mount}' || exit $?"));
    if ran.code == Some(NO_MOUNT) || ran.stderr.contains("unshare failed") || ran.code == Some(127) {
        skip(&format!("a full or read-only disk, since no file system can be mounted here: {}", ran.stderr.trim()));
        return None;
    }
    Some(ran)
}

#[test]
fn a_read_only_file_system_is_told_and_keeps_the_report_of_the_run_before() {
    let place = Place::new();
    place.write("before.json", &RECORDED.report);
    let script = format!(
        "cp ../before.json report.json; mount -o remount,ro . || exit 98; \
         $heapgate run {QUICK} -o report.json; code=$?; cat report.json; exit $code"
    );
    let Some(ran) = on_a_small_disk(&place, &script) else { return };
    let ran = ran.ends_with(1).says(&["report.json", "the file system is read-only", "choose another place"]);
    assert_eq!(ran.stdout, RECORDED.report);
}

#[test]
fn a_disk_that_fills_up_stops_the_run_and_shows_and_keeps_what_was_measured() {
    // Each trial adds some kilobytes, so the disk is full long before the last.
    let quick = QUICK.replace("-n 1", "-n 100");
    let place = Place::new();
    place.write("before.json", "{}");
    let script = format!(
        "cp ../before.json report.json; $heapgate run {quick} -o report.json; code=$?; \
         cp report.json ../after.json; cp report.json.partial ../partial.json; ls -A >&2; exit $code"
    );
    let Some(ran) = on_a_small_disk(&place, &script) else { return };
    let ran = ran.ends_with(1).says(&["report.json", "the disk is full", "free some space"]);
    assert!(!ran.stderr.contains("\n.heapgate-"), "a temporary file was left:\n{}", ran.stderr);
    assert_eq!(place.read("after.json"), "{}", "the report before");
    let report = place.json("partial.json");
    assert_eq!(report["complete"], false);
    assert!(crate::common::outcomes(&report).iter().all(|outcome| *outcome == "completed"));
    let kept = crate::common::trials(&report).len();
    assert!(kept > 0);
    // The one that could not be saved is shown with the others, and the run went no further.
    assert!(ran.stdout.contains(&format!("per token, {} repetitions", kept + 1)), "{}", ran.stdout);
    assert!(ran.stdout.contains("cut off"), "{}", ran.stdout);
    assert_eq!(ran.stderr.lines().filter(|line| line.contains("/100] ")).count(), kept + 1);
    let ran = ran.says(&[&format!("the run was stopped, {kept} finished trials are in report.json.partial")]);
    assert_eq!(ran.stderr.matches("heapgate: ").count(), 1, "{}", ran.stderr);
    // It is one that heapgate reads, and knows to be a part.
    place.run("diff partial.json partial.json").ends_with(4);
}

#[test]
fn a_disk_that_is_full_leaves_the_report_of_the_run_before() {
    let place = Place::new();
    place.write("before.json", &RECORDED.report);
    let script = format!(
        "cp ../before.json report.json; head -c 100000 /dev/zero >filler 2>&-; \
         $heapgate run {QUICK} -o report.json; code=$?; ls -A >&2; cat report.json; exit $code"
    );
    let Some(ran) = on_a_small_disk(&place, &script) else { return };
    let ran = ran.ends_with(1).says(&["report.json", "the disk is full"]);
    assert_eq!(ran.stdout, RECORDED.report);
    assert!(!ran.stderr.contains("[1/1]") && !ran.stderr.contains("\n.heapgate-"), "{}", ran.stderr);
}

#[test]
fn a_disk_that_is_full_leaves_the_baseline_as_it_was() {
    let place = Place::new();
    place.write("before.json", &RECORDED.report);
    place.write("baseline.json", &RECORDED.baseline);
    let path = format!("baselines/{}", RECORDED.baseline_path);
    let script = format!(
        "mkdir -p $(dirname {path}); cp ../baseline.json {path}; head -c 100000 /dev/zero >filler 2>&-; \
         $heapgate baseline record --report ../before.json --note later >&2; code=$?; cat {path}; exit $code"
    );
    let Some(ran) = on_a_small_disk(&place, &script) else { return };
    assert_eq!(ran.ends_with(1).says(&["tokenize.json", "the disk is full"]).stdout, RECORDED.baseline);
}

#[test]
fn a_segment_that_cannot_be_had_is_told_with_the_way_out() {
    // 65,536 slots are 2 GiB; heapgate itself starts in less.
    let ran = Place::new().shell(&format!("ulimit -v 2000000; exec $heapgate run {QUICK} --slots 65536"));
    ran.ends_with(1).says(&["cannot make a shared-memory segment of", "bytes", "ask for fewer --slots"]);
}

#[test]
fn an_error_says_each_thing_once() {
    let ran = Place::new().shell(&format!("ulimit -v 2000000; exec $heapgate run {QUICK} --slots 65536")).ends_with(1);
    assert_eq!(ran.stderr.matches("os error 12").count(), 1, "{}", ran.stderr);
}
