//! A process that can't be published runs on unmeasured, and says so once; the call returns an error.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use heapgate_alloc::segment::layout::{self, Level};
use heapgate_alloc::segment::map::create_file;

use crate::child::{Child, Place, command};

/// A process is refused with each of `words`, by the environment and by the call.
fn refused(place: &Place, variables: &[(&str, &str)], words: &[&str]) {
    let contains_all = |text: &str| {
        for word in words {
            assert!(text.contains(word), "'{word}' is not in: {text}");
        }
    };
    let by_environment: Vec<_> = [("HEAPGATE_PUBLISH", "tokenizer")].iter().chain(variables).copied().collect();
    let ended = Child::start(place, "nothing", &by_environment).end();
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(0), 1), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("heapgate: ") && ended.stderr.contains("running on unmeasured"),
        "{}",
        ended.stderr
    );
    contains_all(&ended.stderr);

    let mut child = command(place, "refused", variables);
    let ended = output(&mut child);
    assert_eq!((ended.2, ended.1.as_str()), (Some(0), ""));
    contains_all(&ended.0);
}

/// What a child that waits for nothing says.
fn output(command: &mut Command) -> (String, String, Option<i32>) {
    let ended = command.stdin(std::process::Stdio::null()).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(ended.stdout), text(ended.stderr), ended.status.code())
}

fn with_runtime(folder: &Path) -> [(&str, &str); 1] {
    [("HEAPGATE_RUNTIME_DIR", folder.to_str().expect("UTF-8"))]
}

pub fn a_missing_folder() {
    let place = Place::new();
    let folder = place.path("not/there");
    refused(&place, &with_runtime(&folder), &["not/there", "No such file", "set HEAPGATE_RUNTIME_DIR"]);
    refused(&place, &[("HEAPGATE_RUNTIME_DIR", "relative")], &["relative is no absolute path"]);
}

pub fn a_folder_of_another_user() {
    let place = Place::new();
    fs::create_dir(place.runtime()).expect("made");
    if chown(place.runtime(), Some(12_345), None).is_err() {
        return skip("a folder of another user: only root can give one away");
    }
    refused(&place, &[], &["belongs to user 12345"]);
}

pub fn a_folder_that_others_may_write() {
    let place = Place::new();
    fs::create_dir(place.runtime()).expect("made");
    fs::set_permissions(place.runtime(), Permissions::from_mode(0o777)).expect("its owner may");
    refused(&place, &[], &["may be written by others (mode 777); chmod 700 it"]);
}

pub fn a_file_in_the_folders_place() {
    let place = Place::new();
    fs::write(place.runtime(), "").expect("written");
    refused(&place, &[], &["is no folder"]);
}

pub fn a_full_disk() {
    // Room for some pages, not for a segment: what is not allocated at once would be missing at some later store.
    on_a_file_system_of_its_own("a full disk", 0, c"size=1m,mode=700", |place| {
        refused(place, &[], &["no file of ", " bytes can be made in ", "No space left on device"]);
    });
}

pub fn a_read_only_file_system() {
    on_a_file_system_of_its_own("a read-only file system", libc::MS_RDONLY, c"mode=700", |place| {
        refused(place, &[], &["Read-only file system"]);
    });
}

pub fn a_folder_that_may_not_be_written() {
    let place = Place::new();
    fs::create_dir(place.runtime()).expect("made");
    fs::set_permissions(place.runtime(), Permissions::from_mode(0o500)).expect("its owner may");
    if fs::write(place.runtime().join("probe"), "").is_ok() {
        return skip("a folder that may not be written: this user may write everywhere");
    }
    refused(&place, &[], &["Permission denied"]);
}

/// Does `check` with a small file system in the place of the runtime folder; nothing must be left on it.
fn on_a_file_system_of_its_own(what: &str, flags: libc::c_ulong, options: &std::ffi::CStr, check: fn(&Place)) {
    let place = Place::new();
    fs::create_dir(place.runtime()).expect("made");
    fs::set_permissions(place.runtime(), Permissions::from_mode(0o700)).expect("its owner may");
    let target = std::ffi::CString::new(place.runtime().to_str().expect("UTF-8")).expect("no zero byte");
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: all are C strings.
    let mounted = unsafe { libc::mount(tmpfs, target.as_ptr(), tmpfs, flags, options.as_ptr().cast()) };
    if mounted != 0 {
        return skip(&format!("{what}: this user may mount no small one"));
    }
    let result = std::panic::catch_unwind(|| {
        check(&place);
        assert_eq!(fs::read_dir(place.runtime()).expect("readable").count(), 0, "nothing is left");
    });
    // SAFETY: the path is a C string.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

pub fn a_limit_on_the_size_of_files() {
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let mut child = command(&place, "refused", &[]);
    let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: 100_000 };
    // SAFETY: setrlimit is async-signal-safe; `limit` is the closure's own.
    unsafe {
        child.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            Ok(())
        })
    };
    let (said, stderr, code) = output(&mut child);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "no signal ends it");
    assert!(said.contains("File too large"), "{said}");
}

pub fn a_name_that_is_no_name() {
    let place = Place::new();
    let ended = Child::start(&place, "nothing", &[("HEAPGATE_PUBLISH", "../up")]).end();
    assert_eq!(ended.stderr.lines().count(), 1);
    assert!(ended.stderr.contains("'../up' can't name a service"), "{}", ended.stderr);
}

pub fn a_level_that_is_none() {
    let place = Place::new();
    refused(&place, &[("HEAPGATE_LEVEL", "all")], &["HEAPGATE_LEVEL is 'all': it can be off, count, sampled"]);
    refused(&place, &[("HEAPGATE_SAMPLE_PERIOD", "0")], &["HEAPGATE_SAMPLE_PERIOD is '0': it can be a number from 1"]);
}

pub fn a_trial_of_heapgates() {
    let place = Place::new();
    let segment = || {
        let file = create_file(c"test", layout::segment_bytes(4)).expect("a memory file");
        let mapping = heapgate_alloc::segment::map::Mapping::new(std::os::fd::AsFd::as_fd(&file)).expect("mapped");
        layout::format(mapping.words(), 4, Level::Count, 1);
        file
    };
    let with = |file: &fs::File, command: &mut Command| {
        use std::os::unix::process::CommandExt;
        let fd = file.as_raw_fd();
        command.env("HEAPGATE_SEGMENT", "fd:100");
        // SAFETY: dup2 is async-signal-safe. The number is no other descriptor's in a child that has just been started.
        unsafe {
            command.pre_exec(
                move || if libc::dup2(fd, 100) == 100 { Ok(()) } else { Err(std::io::Error::last_os_error()) },
            )
        };
    };
    let file = segment();
    let mut child = command(&place, "nothing", &[("HEAPGATE_PUBLISH", "tokenizer")]);
    with(&file, &mut child);
    let ended = Child::of(child).end();
    assert_eq!(
        ended.stderr,
        "heapgate: HEAPGATE_PUBLISH is not heeded: this process is a trial, and has its segment already\n"
    );

    let file = segment();
    let mut child = command(&place, "refused", &[]);
    with(&file, &mut child);
    let (said, stderr, code) = output(&mut child);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(said.contains("has a segment of another kind already"), "{said}");
    assert!(!place.runtime().exists());
}

pub fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\nSKIPPED, NOT TESTED: {what}");
}
