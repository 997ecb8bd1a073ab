//! Asking a published process for something: the client's end of its mailbox.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use core::fmt;

use super::buffer::{read_whole, words_of};
use super::entry::open;
use super::{Entry, ReadError};
use crate::layout::{self, OWNERS_OFFSET};
use crate::mailbox::{ARGUMENTS, Answer, Command, MAILBOX_OFFSET, MAILBOX_VERSION, MAILBOX_WORDS, Request, word};
use crate::setting::{Change, Setting};
use crate::stacks::{Capacity, Settings, StackSamples, StackTable, TableError};

/// How long to wait for another client: a setting is changed in a moment, and a program that has asked and starts another
/// shares its lock with that until the other's code is loaded.
const FREE_WITHIN: Duration = Duration::from_millis(500);

/// How long a process may take to take a request up: its thread looks ten times a second, and a machine may be busy.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);

/// How long it may take for what takes no time, and beyond the time that it was asked for.
const DONE_WITHIN: Duration = Duration::from_secs(5);

/// And for a change of a setting: a purge of some GiB takes seconds.
const CHANGED_WITHIN: Duration = Duration::from_secs(10);

/// Between looks, at first: a setting is changed at once.
const LOOK_SOON: Duration = Duration::from_millis(1);
/// And at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Most bytes of a file of stacks that are read.
const MAX_STACKS_BYTES: u64 = 16 * Capacity::SERVICE.bytes() as u64;

/// Most bytes of a file of samples of CPU time that are read: those of an hour are a few MiB.
const MAX_CPU_BYTES: u64 = 64 << 20;

/// How the names of files of stacks end.
const STACKS_SUFFIX: &str = ".stacks";
/// And of those of samples of CPU time.
const CPU_SUFFIX: &str = ".cpu";

/// Why a process gave no answer, or none that helps.
#[derive(Debug)]
pub enum RequestError {
    /// Its segment can't be read, or written.
    File(ReadError),
    /// It has ended.
    Ended,
    /// It takes no requests.
    NotTaken,
    /// It takes those of another version.
    Version(u64),
    /// Somebody else is asking it; the process id that they gave.
    Busy(u64),
    /// It does not take requests up, though it lives: it is stopped, or its threads get no time.
    Hangs(Duration),
    /// It took the request up, and did not answer.
    NoAnswer(Duration),
    /// It refused, and says why.
    Refused(String),
    /// Its file of stacks can't be read.
    Stacks(io::Error),
    /// Its file of stacks is none.
    Table(TableError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Ended => f.write_str("the process has ended"),
            Self::NotTaken => f.write_str(
                "the process takes no requests: it has to ask for them, by heapgate_alloc::Publication::profiling() for stacks, by \
                 heapgate_alloc::control::Control (feature `control`) for settings",
            ),
            Self::Version(found) => {
                write!(f, "the process takes requests of version {found}, this build has {MAILBOX_VERSION}")
            }
            Self::Busy(pid) => write!(f, "process {pid} is asking it just now; try again when that has ended"),
            Self::Hangs(waited) => write!(
                f,
                "the process lives, but took no request within {} s: it is stopped, or gets no CPU time",
                waited.as_secs()
            ),
            Self::NoAnswer(waited) => {
                write!(f, "the process took the request, and did not answer within {} s", waited.as_secs())
            }
            Self::Refused(why) => write!(f, "the process refused: {why}"),
            Self::Stacks(error) => write!(f, "its file of stacks can't be read: {error}"),
            Self::Table(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<ReadError> for RequestError {
    fn from(error: ReadError) -> Self {
        Self::File(error)
    }
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        Self::File(error.into())
    }
}

impl Entry {
    /// Asks its process, and waits for the answer: until it is taken up, and then for `takes`, the time that what is asked
    /// for takes, and some seconds. `None` if `is_cancelled` said so before.
    ///
    /// # Errors
    /// If it has ended, takes no requests, is being asked by another, hangs, or refuses.
    pub fn request(
        &self,
        request: &Request,
        takes: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Answer>, RequestError> {
        let client = Client::of(self)?;
        let sequence = client.send(request)?;
        let taken = client.wait(word::TAKEN, sequence, TAKEN_WITHIN, is_cancelled);
        let done = taken.and_then(|taken| match taken {
            Seen::Yes => client.wait(word::ANSWERED, sequence, takes.saturating_add(DONE_WITHIN), is_cancelled),
            Seen::Late(waited) => Err(RequestError::Hangs(waited)),
            Seen::Cancelled => Ok(Seen::Cancelled),
        })?;
        match done {
            Seen::Cancelled => Ok(None),
            Seen::Late(waited) => Err(RequestError::NoAnswer(waited)),
            Seen::Yes => {
                let answer = Answer::of(&client.mailbox()?);
                if answer.status == 0 { Ok(Some(answer)) } else { Err(RequestError::Refused(answer.text.to_string())) }
            }
        }
    }

    /// Has its process make `change`. Returns the value that it reads back.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn set_setting(&self, change: &Change) -> Result<i64, RequestError> {
        let Change { setting, value, text } = change;
        self.ask_setting(Command::SetSetting, *setting, *value, text)
    }

    /// Asks its process for the value that a setting has.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn get_setting(&self, setting: Setting) -> Result<i64, RequestError> {
        self.ask_setting(Command::GetSetting, setting, 0, "")
    }

    fn ask_setting(&self, command: Command, setting: Setting, value: i64, text: &str) -> Result<i64, RequestError> {
        let mut request = Request { command: command as u64, text: text.into(), ..Request::default() };
        request.arguments[..2].copy_from_slice(&[setting as u64, value.cast_unsigned()]);
        let answer = self.request(&request, CHANGED_WITHIN, &|| false)?;
        // Never cancelled.
        Ok(answer.unwrap_or_default().values[0].cast_signed())
    }

    /// Has its process take stacks as `settings` say (their scope is of trials, and not heeded) for `time`, or until
    /// `is_cancelled`, and reads them. Where its code lies, who needs names reads from `/proc/PID/maps`, best before and
    /// after.
    ///
    /// # Errors
    /// As [`Self::request`]; or if what the process left can't be read.
    pub fn sample_stacks(
        &self,
        settings: &Settings,
        time: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<StackSamples, RequestError> {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Settings { call_period, byte_period, stall_threshold_ns, track_frees, seed, .. } = *settings;
        let arguments = [call_period, byte_period, stall_threshold_ns, u64::from(track_frees), seed, ms];
        self.sample(Command::SampleStacks, arguments, time, is_cancelled, &|| self.read_stacks())
    }

    /// Has its process take samples of CPU time, `frequency_hz` per second of it, for `time`, or until `is_cancelled`. Returns
    /// them as `heapgate_core::profile::cpu` reads them.
    ///
    /// # Errors
    /// As [`Self::sample_stacks`].
    pub fn sample_cpu(
        &self,
        frequency_hz: u32,
        time: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<String, RequestError> {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let arguments = [u64::from(frequency_hz), ms, 0, 0, 0, 0];
        self.sample(Command::SampleCpu, arguments, time, is_cancelled, &|| self.read_cpu())
    }

    /// Asks for something that is taken into a file, reads that, and has it removed.
    fn sample<T>(
        &self,
        command: Command,
        arguments: [u64; ARGUMENTS],
        time: Duration,
        is_cancelled: &dyn Fn() -> bool,
        read: &dyn Fn() -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let request =
            |command: Command, arguments| Request { command: command as u64, arguments, ..Request::default() };
        if !self.is_alive() {
            return Err(RequestError::Ended);
        }
        let taken = match self.request(&request(command, arguments), time, is_cancelled) {
            Ok(Some(_)) => read(),
            // Cancelled: what it has taken so far is to be whole. One that does not know the command ends it as well.
            Ok(None) => {
                let _ = self.request(&request(Command::EndSampling, Default::default()), Duration::ZERO, &|| false);
                read()
            }
            // What it had taken until then.
            Err(RequestError::Ended) => read().map_err(|_| RequestError::Ended),
            // Nothing was begun, or it is another's.
            Err(error @ (RequestError::NotTaken | RequestError::Busy(_) | RequestError::Version(_))) => {
                return Err(error);
            }
            Err(error) => Err(error),
        };
        let removed = self.request(&request(Command::RemoveStacks, Default::default()), Duration::ZERO, &|| false);
        if removed.is_err() {
            // It has ended, or hangs.
            let _ = std::fs::remove_file(self.stacks_path());
            let _ = std::fs::remove_file(self.cpu_path());
        }
        taken
    }

    /// Where its process puts the samples of CPU time that it takes.
    #[must_use]
    pub fn cpu_path(&self) -> std::path::PathBuf {
        self.path.with_extension(&CPU_SUFFIX[1..])
    }

    fn read_cpu(&self) -> Result<String, RequestError> {
        let bytes = self.read_file(&self.cpu_path(), MAX_CPU_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where its process puts the stacks that it takes.
    #[must_use]
    pub fn stacks_path(&self) -> std::path::PathBuf {
        self.path.with_extension(&STACKS_SUFFIX[1..])
    }

    /// What its process has taken so far of the stacks that it was asked for: meanwhile, by another thread than the one that
    /// asks.
    ///
    /// # Errors
    /// If there is nothing, or it can't be read.
    pub fn read_stacks(&self) -> Result<StackSamples, RequestError> {
        let read = self.read_file(&self.stacks_path(), MAX_STACKS_BYTES)?;
        let words: Vec<AtomicU64> = words_of(&read).map(AtomicU64::new).collect();
        StackTable::new(&words).map(|table| table.read()).map_err(RequestError::Table)
    }

    fn read_file(&self, path: &Path, most: u64) -> Result<Vec<u8>, RequestError> {
        let stacks = |error: ReadError| match error {
            ReadError::Io(error) => RequestError::Stacks(error),
            other => RequestError::Stacks(io::Error::other(other.to_string())),
        };
        let file = open(path, false).map_err(stacks)?;
        let bytes = file.metadata().map_err(RequestError::Stacks)?.len();
        if bytes > most {
            return Err(RequestError::Stacks(io::Error::other(format!("it has {bytes} bytes"))));
        }
        // Read, not mapped: who may write it can cut it short.
        let mut read = vec![0; bytes as usize];
        read_whole(&file, &mut read, 0).map_err(RequestError::Stacks)?;
        Ok(read)
    }
}

enum Seen {
    Yes,
    Late(Duration),
    Cancelled,
}

/// Who asks: alone, as long as this lives.
struct Client<'a> {
    entry: &'a Entry,
    file: File,
}

impl<'a> Client<'a> {
    fn of(entry: &'a Entry) -> Result<Self, RequestError> {
        let client = Self { file: open(&entry.path, true)?, entry };
        client.check_owner()?;
        if !entry.is_alive() {
            return Err(RequestError::Ended);
        }
        match client.word(word::OPEN)? {
            0 => return Err(RequestError::NotTaken),
            MAILBOX_VERSION => {}
            other => return Err(RequestError::Version(other)),
        }
        // Another kind of lock than the process's own, which says that it lives; the kernel ends it with this client.
        let begin = Instant::now();
        // SAFETY: flock takes an open descriptor.
        while unsafe { libc::flock(client.file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock if begin.elapsed() < FREE_WITHIN => std::thread::sleep(LOOK_EVERY),
                io::ErrorKind::WouldBlock => return Err(RequestError::Busy(client.word(word::CLIENT_PID)?)),
                _ => return Err(error.into()),
            }
        }
        Ok(client)
    }

    fn check_owner(&self) -> Result<(), RequestError> {
        let mut head = [0; OWNERS_OFFSET];
        read_whole(&self.file, &mut head, 0)?;
        let words: Vec<_> = words_of(&head).map(AtomicU64::new).collect();
        layout::check_header(&words).map_err(ReadError::Layout)?;
        Ok(self.entry.check_owner(&words)?)
    }

    fn mailbox(&self) -> Result<Vec<u64>, RequestError> {
        let mut bytes = [0; MAILBOX_WORDS * 8];
        read_whole(&self.file, &mut bytes, MAILBOX_OFFSET as u64)?;
        Ok(words_of(&bytes).collect())
    }

    fn word(&self, index: usize) -> Result<u64, RequestError> {
        Ok(self.mailbox()?.get(index).copied().unwrap_or(0))
    }

    /// Returns the sequence.
    fn send(&self, request: &Request) -> Result<u64, RequestError> {
        let write = |index: usize, words: &[u64]| {
            let bytes: Vec<u8> = words.iter().copied().flat_map(u64::to_ne_bytes).collect();
            self.file.write_all_at(&bytes, (MAILBOX_OFFSET + index * 8) as u64)
        };
        let mailbox = self.mailbox()?;
        let before =
            [word::SEQUENCE, word::TAKEN, word::ANSWERED].map(|index| mailbox.get(index).copied().unwrap_or(0));
        let sequence = before.into_iter().max().unwrap_or(0).wrapping_add(1).max(1);
        // Nothing is asked for while it is written: a process that has been stopped may take up at any time what one who went
        // away had asked for.
        write(word::SEQUENCE, &[0])?;
        write(word::CLIENT_PID, &request.words(u64::from(std::process::id())))?;
        write(word::SEQUENCE, &[sequence])?;
        Ok(sequence)
    }

    /// Waits until the word at `index` is `expected`.
    fn wait(
        &self,
        index: usize,
        expected: u64,
        time: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Seen, RequestError> {
        let begin = Instant::now();
        let mut look_after = LOOK_SOON;
        loop {
            // Alive first: what a process did before it ended is there.
            let is_alive = self.entry.is_alive();
            if self.word(index)? == expected {
                return Ok(Seen::Yes);
            }
            if !is_alive {
                return Err(RequestError::Ended);
            }
            if is_cancelled() {
                return Ok(Seen::Cancelled);
            }
            if begin.elapsed() >= time {
                return Ok(Seen::Late(begin.elapsed()));
            }
            std::thread::sleep(look_after);
            look_after = (look_after * 2).min(LOOK_EVERY);
        }
    }
}
