//! One published file: its name, and whether its process lives.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use std::{fmt, fs};

use core::mem::offset_of;

use super::{Buffer, MAX_PUBLISHED_SLOTS, ReadError, SUFFIX, Settled};
use crate::arenas::{ARENAS_BYTES, ArenaReading};
use crate::layout::{self, Header, LayoutError, Level, OWNERS_OFFSET, SAMPLES_STACKS};
use crate::reader::arena_counts;

/// A published file, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// The service's name.
    pub name: String,
    /// Its process id, in the namespace where it runs.
    pub pid: u32,
    /// When it started: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

/// Most bytes of a service's name.
const MAX_NAME_BYTES: usize = layout::MAX_TEXT_BYTES;

/// Why a text can't be a service's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        write!(
            f,
            "'{}' can't name a service: 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 - _ . with a letter or digit first",
            name.escape_debug()
        )
    }
}

impl std::error::Error for NameError {}

/// Checks a service's name: it becomes a part of a file's name and a label.
///
/// # Errors
/// If it is empty or too long, or has characters other than `A-Z a-z 0-9 - _ .`, or begins with none of the first three
/// sorts.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let may_begin = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let fits = may_begin && is_sound && name.len() <= MAX_NAME_BYTES;
    if fits { Ok(()) } else { Err(NameError(name.chars().take(2 * MAX_NAME_BYTES).collect())) }
}

impl Entry {
    /// The file of process `pid`, started at `start_time`, in `folder`.
    #[must_use]
    pub fn new(folder: &Path, name: &str, pid: u32, start_time: u64) -> Self {
        let path = folder.join(format!("{name}.{pid}.{start_time}{SUFFIX}"));
        Self { path, name: name.to_owned(), pid, start_time }
    }

    /// The file at `path`, if its name is one of a published file.
    #[must_use]
    pub fn from_path(path: PathBuf) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        // From the right: a name may have dots.
        let (stem, start_time) = stem.rsplit_once('.')?;
        let (name, pid) = stem.rsplit_once('.')?;
        check_name(name).ok()?;
        let (name, pid, start_time) = (name.to_owned(), number(pid)?, number(start_time)?);
        Some(Self { pid: u32::try_from(pid).ok().filter(|&pid| pid > 0)?, path, name, start_time })
    }

    /// Reads it into `buffer`. A buffer can be used for any number of files.
    ///
    /// # Errors
    /// If it is gone, is not a segment, or not that of the process it is named after.
    pub fn read(&self, buffer: &mut Buffer) -> Result<(), ReadError> {
        buffer.fill(self, None)
    }

    /// As [`Self::read`], but of threads that have long made no call only as much is read as tells that they still haven't.
    /// `settled` is what was remembered of this file; `now` is the time of this reading.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_again(&self, buffer: &mut Buffer, settled: &mut Settled, now: Instant) -> Result<(), ReadError> {
        buffer.fill(self, Some((settled, now)))
    }

    /// Reads its registry of arenas: what [`Self::read`] leaves out, since few ask for it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_arenas(&self) -> Result<ArenaReading, ReadError> {
        let file = open(&self.path, false)?;
        let read = |bytes: usize, offset: usize| {
            let mut read = vec![0; bytes];
            super::buffer::read_whole(&file, &mut read, offset as u64)?;
            Ok::<Vec<AtomicU64>, ReadError>(super::buffer::words_of(&read).map(AtomicU64::new).collect())
        };
        let header = read(OWNERS_OFFSET, 0)?;
        let shape = layout::check_header(&header)?;
        if shape.slots > MAX_PUBLISHED_SLOTS {
            return Err(LayoutError::BadField("slot count").into());
        }
        self.check_owner(&header)?;
        let table = read(ARENAS_BYTES, shape.arenas_offset())?;
        let word =
            |offset: usize| header.get(offset / 8).map_or(0, |word| word.load(core::sync::atomic::Ordering::Relaxed));
        Ok(ArenaReading::of(&table, arena_counts(word)))
    }

    /// Whether its process lives. Its last figures can be read either way.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_in_proc() || self.is_locked()
    }

    /// Whether `/proc/PID` here is its process: only then do figures from there belong to it. Process ids are used
    /// again; and those of a process in a container are others outside.
    #[must_use]
    pub fn is_in_proc(&self) -> bool {
        read_stat(&format!("/proc/{}/stat", self.pid))
            .is_some_and(|stat| stat.start_time == self.start_time && !stat.is_dead)
    }

    /// Whether a process holds the lock that the writer takes.
    fn is_locked(&self) -> bool {
        let Ok(file) = open(&self.path, false) else { return false };
        let mut lock = whole_file(libc::F_RDLCK);
        // SAFETY: F_OFD_GETLK takes an open descriptor and a flock that it fills in.
        let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        asked == 0 && i32::from(lock.l_type) != libc::F_UNLCK
    }

    /// Changes how much its process records, as [`crate::control::Control::set_level`] does.
    ///
    /// # Errors
    /// If it can't be opened for writing, or is not a segment of that process.
    pub fn set_level(&self, level: Level) -> Result<(), ReadError> {
        let file = open(&self.path, true)?;
        let mut head = [0; OWNERS_OFFSET];
        super::buffer::read_whole(&file, &mut head, 0)?;
        let words: Vec<_> = super::buffer::words_of(&head).map(AtomicU64::new).collect();
        layout::check_header(&words)?;
        self.check_owner(&words)?;
        let word = |offset: usize| super::buffer::words_of(&head[offset..offset + 8]).next().unwrap_or(0);
        let before = word(offset_of!(Header, level));
        if level == Level::Off || Level::from_word(before) == Level::Off {
            file.write_all_at(&1_u64.to_ne_bytes(), offset_of!(Header, was_off) as u64)?;
        }
        let after = (before & SAMPLES_STACKS) | level as u64;
        Ok(file.write_all_at(&after.to_ne_bytes(), offset_of!(Header, level) as u64)?)
    }

    /// Whether the header in `words` is of the process that the file is named after.
    pub(super) fn check_owner(&self, words: &[AtomicU64]) -> Result<(), ReadError> {
        let word =
            |offset: usize| words.get(offset / 8).map_or(0, |word| word.load(core::sync::atomic::Ordering::Relaxed));
        let start_time = offset_of!(Header, identity) + offset_of!(layout::SharedIdentity, start_time);
        let (pid, start_time) = (word(offset_of!(Header, pid)), word(start_time));
        if (pid, start_time) == (u64::from(self.pid), self.start_time) {
            Ok(())
        } else {
            Err(ReadError::OtherProcess { pid, start_time })
        }
    }

    /// Removes the file, and those of stacks and samples if one was left. A process that lives goes on counting into it, unseen.
    ///
    /// # Errors
    /// What the system said; that it is gone already is none.
    pub fn remove(&self) -> io::Result<()> {
        // Few have it, and what is left of a process can be looked at by name.
        let _ = fs::remove_file(self.stacks_path());
        let _ = fs::remove_file(self.cpu_path());
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Opens a file that others may have put there: no link, and without waiting where it is a pipe.
pub(super) fn open(path: &Path, write: bool) -> Result<File, ReadError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(ReadError::NotAFile) }
}

/// A lock of `kind` on all of a file.
pub(super) fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: an all-zero `flock` is a valid value of that plain C struct.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) start_time: u64,
    /// It has ended, and nobody has asked how.
    pub(super) is_dead: bool,
}

pub(super) fn read_stat(path: &str) -> Option<Stat> {
    // One line, of at most 52 numbers and a short name.
    let mut bytes = [0; 2048];
    let length = File::open(path).ok()?.read_at(&mut bytes, 0).ok()?;
    parse_stat(&bytes[..length])
}

fn parse_stat(line: &[u8]) -> Option<Stat> {
    // The second field is a name in parentheses, of any bytes; the third, the state, comes after its end.
    let end = line.iter().rposition(|&byte| byte == b')')?;
    let mut fields = line[end + 1..].split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty());
    let is_dead = matches!(fields.next()?, b"Z" | b"X" | b"x");
    let start_time = number(str::from_utf8(fields.nth(22 - 4)?).ok()?)?;
    Some(Stat { start_time, is_dead })
}

/// Digits without a sign or leading zeros: one number has one spelling.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Option<Entry> {
        Entry::from_path(Path::new("/run").join(name))
    }

    #[test]
    fn a_name_is_read_back_as_it_was_made() {
        for name in ["tokenizer", "a", "api-v2.1_eu", "9", "7.8.heapgate"] {
            let made = Entry::new(Path::new("/run"), name, 4242, 99_887);
            assert_eq!(Entry::from_path(made.path.clone()), Some(made));
        }
    }

    #[test]
    fn other_files_are_no_published_ones() {
        for name in [
            "",
            ".heapgate",
            "a.heapgate",
            "a.1.heapgate",
            "a.1.2",
            "a.1.2.heapgat",
            ".1.2.heapgate",
            "a.0.2.heapgate",
            "a.-1.2.heapgate",
            "a.+1.2.heapgate",
            "a.01.2.heapgate",
            "a.1.02.heapgate",
            "a.4294967296.2.heapgate",
            ".a.1.2.heapgate",
            "a b.1.2.heapgate",
            "a\n.1.2.heapgate",
            "a.1.18446744073709551616.heapgate",
        ] {
            assert_eq!(entry(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for name in ["", "..", "/etc", "a/b", "a\0b", "-a", ".a", "ö", "a b", long.as_str()] {
            assert!(check_name(name).unwrap_err().to_string().contains("can't name a service"), "{name:?}");
        }
        assert_eq!(check_name(&long[1..]), Ok(()));
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 7654321 1000 200";
        for (name, state, is_dead) in [("cat", "S", false), (") R 1 (", "R", false), ("a b\n)", "Z", true)] {
            let line = format!("17 ({name}) {state} {rest}\n");
            assert_eq!(parse_stat(line.as_bytes()), Some(Stat { start_time: 7_654_321, is_dead }), "{line}");
        }
        for line in
            ["", "17 (cat", "17 (cat)", "17 (cat) S 1 2 3", "17 (cat) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 9 0 x"]
        {
            assert_eq!(parse_stat(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn this_process_is_found_and_another_of_its_number_is_not() {
        let own = super::super::own_start_time().unwrap();
        let this = Entry::new(Path::new("/nowhere"), "x", std::process::id(), own);
        assert!(this.is_alive() && this.is_in_proc());
        assert!(!Entry { start_time: own + 1, ..this }.is_alive());
    }
}
