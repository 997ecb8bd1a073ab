//! The history in SQLite.

mod common;

use std::fs;
use std::path::Path;

use heapgate_core::history::Place;
use heapgate_store::history::{Kept, Mode, Purpose, Spool, Store, StoreError, append, send};
use tempfile::TempDir;

fn place(folder: &TempDir) -> Place {
    Place::Sqlite(folder.path().join("kept/history.sqlite"))
}

fn path(place: &Place) -> &Path {
    let Place::Sqlite(path) = place else { panic!("a file") };
    path
}

fn on_a_new_one(behaviour: fn(&Place)) {
    behaviour(&place(&tempfile::tempdir().expect("a temporary folder")));
}

common::behaviours!(on_a_new_one);

#[test]
fn other_versions_are_refused_with_both() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = place(&folder);
    common::other_versions_are_refused_with_both(&place, |version| {
        let connection = rusqlite::Connection::open(path(&place)).expect("open");
        connection.pragma_update(None, "user_version", version).expect("set");
    });
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = place(&folder);
    fs::create_dir_all(path(&place).parent().expect("in a folder")).expect("make folder");
    let refused = |words: &str| {
        let before = fs::read(path(&place)).expect("read");
        for mode in [Mode::Read, Mode::Append] {
            let error = Store::open(&place, mode).expect_err("no history");
            assert!(matches!(error, StoreError::NotAHistory { .. }), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(fs::read(path(&place)).expect("read") == before, "changed");
    };
    fs::write(path(&place), "precious text, longer than the head of a database is: a hundred bytes. ".repeat(9))
        .expect("write");
    refused("not a database");
    fs::remove_file(path(&place)).expect("remove");
    let other = rusqlite::Connection::open(path(&place)).expect("open");
    other.execute_batch("CREATE TABLE runs (precious TEXT)").expect("create");
    drop(other);
    refused("another program");
}

#[test]
fn a_history_that_is_not_there_is_told_and_not_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = place(&folder);
    assert!(matches!(Store::open(&place, Mode::Read), Err(StoreError::Missing { .. })));
    assert!(!path(&place).exists());
    let as_folder = Place::Sqlite(folder.path().to_owned());
    let error = Store::open(&as_folder, Mode::Append).expect_err("a folder");
    assert!(error.to_string().contains("it is a folder"), "{error}");
}

#[test]
fn a_run_that_the_store_refuses_waits_and_is_sent_later() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (place, spool) = (place(&folder), Spool(folder.path().join("spool")));
    fs::create_dir_all(path(&place)).expect("a folder in its place");
    for number in 0..2 {
        let kept = append(&place, &spool, &common::report(number, 1), Purpose::Gate, Some("pass")).expect("kept");
        assert!(matches!(kept, Kept::Waits { .. }), "{kept:?}");
    }
    // Twice the same is one file.
    append(&place, &spool, &common::report(1, 1), Purpose::Gate, Some("pass")).expect("kept");
    assert_eq!(spool.files().expect("files").len(), 2);
    fs::remove_dir(path(&place)).expect("make room");
    let kept = append(&place, &spool, &common::report(2, 1), Purpose::Gate, None).expect("kept");
    assert!(matches!(&kept, Kept::Stored { sent: 2, problems, .. } if problems.is_empty()), "{kept:?}");
    assert_eq!(spool.files().expect("files").len(), 0);
    let mut store = common::open(&place);
    assert_eq!(common::peaks(&mut store)[0].len(), 3);
}

#[test]
fn a_run_waits_for_its_own_store_and_one_that_is_broken_stops_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spool = Spool(folder.path().join("spool"));
    let [ours, theirs] = ["ours", "theirs"].map(|name| Place::Sqlite(folder.path().join(name)));
    spool.keep(&ours, &common::report(0, 1), Purpose::Run, None).expect("kept");
    spool.keep(&theirs, &common::report(1, 1), Purpose::Run, None).expect("kept");
    fs::write(spool.0.join("broken.json"), "{\"store\": ").expect("write");
    let (sent, problems) = send(&ours, &spool).expect("sent");
    assert_eq!((sent, problems.len()), (1, 1), "{problems:?}");
    assert!(problems[0].to_string().contains("broken.json"), "{}", problems[0]);
    assert_eq!(spool.files().expect("files").len(), 2);
    assert!(!path(&theirs).exists());
}

#[test]
fn an_edited_run_that_waits_is_no_figure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spool = Spool(folder.path().join("spool"));
    let place = place(&folder);
    let file = spool.keep(&place, &common::report(0, 1), Purpose::Run, None).expect("kept");
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, text.replacen("\"schema_version\":1", "\"schema_version\":2", 1)).expect("write");
    let (sent, problems) = send(&place, &spool).expect("opened");
    assert_eq!((sent, problems.len()), (0, 1), "{problems:?}");
}
