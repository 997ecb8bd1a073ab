//! Publishing this process's segment: under a name, in a folder where an agent finds it.

use std::env::VarError;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heapgate_segment::groups::{self, GroupSettings};
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{Level, MAX_SAMPLE_PERIOD, Shape};
use heapgate_segment::published::{self, Created, Entry, MAX_PUBLISHED_SLOTS, NameError, NewFile};
use heapgate_segment::writer::Writer;

use crate::agent;
use crate::attach::{self, AttachError, Ready, Session, State, say, session, state};

/// The environment variable that publishes a process before `main`, and names its service.
pub const PUBLISH_VARIABLE: &str = "HEAPGATE_PUBLISH";
/// The one that says how much is recorded: see [`Level::name`]. It overrides what the program says.
pub const LEVEL_VARIABLE: &str = "HEAPGATE_LEVEL";
/// The one that says one call in how many is timed at the sampled levels. It overrides what the program says.
pub const SAMPLE_PERIOD_VARIABLE: &str = "HEAPGATE_SAMPLE_PERIOD";
/// The one that gives the service's version, where the program doesn't.
pub const VERSION_VARIABLE: &str = "HEAPGATE_VERSION";
/// The one that makes all of the process one group, of a comparison across processes.
pub const GROUP_VARIABLE: &str = "HEAPGATE_GROUP";
/// The one that names the allocator, where the program doesn't.
const ALLOCATOR_VARIABLE: &str = "HEAPGATE_ALLOCATOR";

/// What costs a service little: by our measurements, timing one call in 64 shows beside counting in no workload.
const DEFAULT_SAMPLE_PERIOD: u64 = 64;

/// Slots of a published segment: 64 (2 MiB), as threads that allocate at once are seldom more where CPUs are few; with
/// more than 16 CPUs four a CPU, up to the most that are read (256, 8 MiB). Memory is taken for all of them, and threads
/// beyond share one.
fn default_slots() -> usize {
    const FEWEST: usize = 64;
    const PER_CPU: usize = 4;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (PER_CPU * cpus).clamp(FEWEST, MAX_PUBLISHED_SLOTS)
}

/// Why a process could not be published. It runs on; whether it is measured, the error says.
#[derive(Debug)]
pub enum PublishError {
    /// The name can't be that of a file.
    Name(NameError),
    /// A variable of the environment has no value that it can have.
    Variable {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
    /// There is no runtime folder, or it is not this user's alone.
    Folder(io::Error),
    /// No file can be made there.
    File {
        /// The runtime folder.
        folder: PathBuf,
        /// Size of the file.
        bytes: usize,
        /// What the system said.
        error: io::Error,
    },
    /// The process has a segment already that can't be published: it is a trial of heapgate's, or it watched itself
    /// ([`crate::ThreadWatch`]) before.
    Attached,
    /// It is published, but takes no requests: no thread can be started.
    Agent(io::Error),
    /// This is a forked child of a process that has a segment.
    Forked,
    /// The segment can't be used.
    Attach(AttachError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Variable { name, value, expected } => {
                write!(f, "{name} is '{}': it can be {expected}", value.escape_debug())
            }
            Self::Folder(error) => write!(f, "no folder to publish in: {error}"),
            Self::File { folder, bytes, error } => {
                write!(f, "no file of {bytes} bytes can be made in {}: {error}", folder.display())
            }
            Self::Attached => f.write_str(
                "this process has a segment of another kind already (it is a trial of heapgate's, or watches itself), \
                 and is not published",
            ),
            Self::Agent(error) => write!(f, "published, but no thread can be started that takes requests: {error}"),
            Self::Forked => f.write_str("a forked child of a measured process can't be published"),
            Self::Attach(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<AttachError> for PublishError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Taken => Self::Attached,
            error => Self::Attach(error),
        }
    }
}

/// Publishes this process as the service `name`, from now until it ends: an agent on the machine can read what it counts.
/// See [`Publication`] for more than a name, and for what an operator may set.
///
/// ```
/// # // Not in the folder of whoever runs this.
/// # unsafe { std::env::set_var("HEAPGATE_RUNTIME_DIR", std::env::temp_dir().join(format!("heapgate-doc-{}", std::process::id()))) };
/// if let Err(error) = heapgate_alloc::publish("tokenizer") {
///     eprintln!("heapgate: {error}; running on unmeasured");
/// }
/// # let _ = std::fs::remove_dir_all(std::env::var_os("HEAPGATE_RUNTIME_DIR").unwrap());
/// ```
///
/// # Errors
/// Says why not; the process runs on unmeasured.
pub fn publish(name: &str) -> Result<(), PublishError> {
    Publication::new(name).publish()
}

/// [`publish`], with the service's version as a label: `publish_as("tokenizer", env!("CARGO_PKG_VERSION"))`.
///
/// # Errors
/// Says why not; the process runs on unmeasured.
pub fn publish_as(name: &str, version: &str) -> Result<(), PublishError> {
    Publication::new(name).version(version).publish()
}

/// What a process is published as.
///
/// | variable | what |
/// | --- | --- |
/// | `HEAPGATE_PUBLISH=NAME` | publishes before `main`, so that every allocation is counted; without a line of code |
/// | `HEAPGATE_LEVEL` | `off`, `count`, `sampled` (the default), `exact-alloc`, `exact`: over what the program says |
/// | `HEAPGATE_SAMPLE_PERIOD` | one call in how many is timed at the sampled levels (64 is the default): over what the program says |
/// | `HEAPGATE_VERSION`, `HEAPGATE_ALLOCATOR` | labels, where the program gives none |
/// | `HEAPGATE_GROUP` | all of the process is this group, for a comparison with other processes (docs/live-ab.md) |
/// | `HEAPGATE_RUNTIME_DIR` | the folder: see [`heapgate_segment::published`] |
///
/// What was allocated before a program calls this is not known: if it is freed later, live figures fall below the truth by
/// it. So call it first in `main`, or use the variable. A forked child is not published, nor measured; programs that a
/// published one starts find the variables, and publish themselves.
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is published before `publish` is called"]
pub struct Publication<'a> {
    name: &'a str,
    version: &'a str,
    allocator: &'a str,
    level: Level,
    sample_period: u64,
    slots: Option<usize>,
    takes_requests: bool,
}

impl<'a> Publication<'a> {
    /// As the service `name`: `A-Z a-z 0-9 - _ .`, at most 64.
    pub const fn new(name: &'a str) -> Self {
        let (level, sample_period) = (Level::Sampled, DEFAULT_SAMPLE_PERIOD);
        Self { name, version: "", allocator: "", level, sample_period, slots: None, takes_requests: false }
    }

    /// The version, as the service calls it.
    pub const fn version(self, version: &'a str) -> Self {
        Self { version, ..self }
    }

    /// The name of the allocator below the telemetry.
    pub const fn allocator(self, allocator: &'a str) -> Self {
        Self { allocator, ..self }
    }

    /// How much is recorded.
    pub const fn level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// One call in how many is timed at the sampled levels.
    pub const fn sample_period(self, sample_period: u64) -> Self {
        Self { sample_period, ..self }
    }

    /// How many threads count each for itself, up to [`MAX_PUBLISHED_SLOTS`]; each takes 32 KiB. The default is 64, or with
    /// more than 16 CPUs four a CPU.
    pub const fn slots(self, slots: usize) -> Self {
        Self { slots: Some(slots), ..self }
    }

    /// Lets this user's programs ask this process to take call stacks, for a time (`heapgate profile --pid`), and, with the feature `profile-cpu`, samples of its CPU time: a thread of its
    /// own, `heapgate-agent`, looks for requests ten times a second. As long as nobody asks, calls cost what they did.
    pub const fn profiling(self) -> Self {
        Self { takes_requests: true, ..self }
    }

    /// Publishes this process. If it is published already (by the environment, or an earlier call), it keeps its name, and
    /// gets the labels that it doesn't have yet.
    ///
    /// # Errors
    /// Says why not; the process runs on unmeasured.
    pub fn publish(self) -> Result<(), PublishError> {
        // First: in the child, the lock may be held by a thread that is not there.
        if attach::is_forked() {
            return Err(PublishError::Forked);
        }
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish_own(&mut own)?;
        match state() {
            Some(state) if self.takes_requests => Self::take_requests(state),
            _ => Ok(()),
        }
    }

    fn publish_own(self, own: &mut Own) -> Result<(), PublishError> {
        let Some(state) = state() else {
            let ready = self.ready()?;
            own.note(Own::Published, &ready);
            ready.start();
            return Ok(());
        };
        match own {
            Own::Published => self.add_labels(state),
            Own::Unnamed(file) => {
                let (folder, entry) = self.entry()?;
                self.identify(&entry, state.writer)?;
                file.appear(&entry).map_err(|error| self.no_file(folder, error))?;
                *own = Own::Published;
                Ok(())
            }
            Own::Nothing => Err(PublishError::Attached),
        }
    }

    /// By the name that the process has: another may have published it before.
    fn take_requests(state: &State) -> Result<(), PublishError> {
        let name = state.reader.service();
        let (_, entry) = Publication::new(&name).entry()?;
        agent::start_profiling(entry).map_err(PublishError::Agent)
    }

    /// All but the start. What is allocated here is freed here.
    fn ready(&self) -> Result<Ready, PublishError> {
        let (folder, entry) = self.entry()?;
        let (ready, mut file) = self.create(&folder)?;
        let named = self
            .identify(&entry, ready.writer())
            .and_then(|()| file.appear(&entry).map_err(|error| self.no_file(folder, error)));
        match named {
            Ok(()) => Ok(ready),
            Err(error) => {
                ready.give_up();
                Err(error)
            }
        }
    }

    /// The folder, and the name of this process's file there.
    fn entry(&self) -> Result<(PathBuf, Entry), PublishError> {
        published::check_name(self.name).map_err(PublishError::Name)?;
        let folder = published::runtime_folder().map_err(PublishError::Folder)?;
        let start_time = published::own_start_time().map_err(PublishError::Folder)?;
        let entry = Entry::new(&folder, self.name, std::process::id(), start_time);
        Ok((folder, entry))
    }

    /// A segment in a file without a name, and this process attached to it.
    fn create(&self, folder: &Path) -> Result<(Ready, NewFile), PublishError> {
        let how = Recording::of_environment(self.level, self.sample_period)?;
        let slots = self.slot_count();
        let Created { file, mapping } = published::create(folder, slots, how.level, how.sample_period)
            .map_err(|error| self.no_file(folder.to_owned(), error))?;
        Ok((Ready::new(|| Ok::<_, PublishError>(mapping))?, file))
    }

    fn slot_count(&self) -> usize {
        self.slots.unwrap_or_else(default_slots).clamp(1, MAX_PUBLISHED_SLOTS)
    }

    fn no_file(&self, folder: PathBuf, error: io::Error) -> PublishError {
        PublishError::File { folder, bytes: Shape { slots: self.slot_count(), phases: 0 }.bytes(), error }
    }

    fn identify(&self, entry: &Entry, writer: Writer) -> Result<(), PublishError> {
        let or = |given: &str, name| if given.is_empty() { text(name) } else { Ok(Some(given.to_owned())) };
        self.join_group(writer)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        writer.identify(&Identity {
            service: self.name,
            version: &or(self.version, VERSION_VARIABLE)?.unwrap_or_default(),
            allocator: &or(self.allocator, ALLOCATOR_VARIABLE)?.unwrap_or_default(),
            start_time: entry.start_time,
            published_unix_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        });
        Ok(())
    }

    /// Makes all of the process one group, where the environment says so.
    fn join_group(&self, writer: Writer) -> Result<(), PublishError> {
        let Some(name) = text(GROUP_VARIABLE)? else { return Ok(()) };
        if groups::check_name(&name).is_err() {
            let expected = "1 to 32 of A-Z a-z 0-9 - _ . with a letter or digit first";
            return Err(PublishError::Variable { name: GROUP_VARIABLE, value: name, expected });
        }
        let settings =
            GroupSettings { name: &name, share: 1.0, dirty_decay_ms: 0, muzzy_decay_ms: 0, whole_process: true };
        writer.group(1).define(&settings);
        Ok(())
    }

    fn add_labels(&self, state: &State) -> Result<(), PublishError> {
        let reader = state.reader;
        let (service, version, allocator) = (reader.service(), reader.version(), reader.allocator());
        state.writer.identify(&Identity {
            service: &service,
            version: if version.is_empty() { self.version } else { &version },
            allocator: if allocator.is_empty() { self.allocator } else { &allocator },
            start_time: reader.start_time().unwrap_or(0),
            published_unix_ns: reader.published_unix_ns(),
        });
        Ok(())
    }
}

/// What of this process an agent could find.
enum Own {
    /// Nothing: it has no segment, or one of another kind.
    Nothing,
    /// A segment that has no name yet.
    Unnamed(NewFile),
    /// A published one.
    Published,
}

static OWN: Mutex<Own> = Mutex::new(Own::Nothing);

/// Where the file is mapped, if there is one.
static MAPPED: (AtomicPtr<u8>, AtomicUsize) = (AtomicPtr::new(std::ptr::null_mut()), AtomicUsize::new(0));

impl Own {
    /// Notes what becomes this process's.
    fn note(&mut self, own: Self, ready: &Ready) {
        let (base, bytes) = ready.raw();
        MAPPED.1.store(bytes, Relaxed);
        MAPPED.0.store(base.as_ptr(), Release);
        *self = own;
    }
}

/// In a forked child: the file is the parent's, and the lock that says that the parent lives must not outlive it here, as it
/// would with a mapping of the file. So other memory takes its place, which whoever knows the place may go on using.
/// Async-signal-safe.
pub(crate) fn disown() {
    let base = MAPPED.0.load(Acquire);
    if base.is_null() {
        return;
    }
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
    );
    // SAFETY: the range is a mapping of ours, all of it, which is never unmapped; this thread is the only one. What is there
    // afterwards is as readable and writable, and zero is a valid value of all that was there: atomics. If it fails, all is
    // as before.
    unsafe { libc::mmap(base.cast(), MAPPED.1.load(Relaxed), protection, flags, -1, 0) };
}

/// Publishes this process if the environment asks for it.
pub(crate) fn before_main() {
    // The look and the words allocate nothing: in a trial it would be counted.
    if attach::environment(c"HEAPGATE_PUBLISH").is_none_or(CStr::is_empty) {
        return;
    }
    if state().is_some() {
        return say("heapgate: HEAPGATE_PUBLISH is not heeded: this process is a trial, and has its segment already\n");
    }
    let ready = match text(PUBLISH_VARIABLE) {
        Ok(None) => return,
        Ok(Some(name)) => Publication::new(&name).ready(),
        Err(error) => Err(error),
    };
    match ready {
        Ok(ready) => {
            OWN.lock().unwrap_or_else(PoisonError::into_inner).note(Own::Published, &ready);
            ready.start();
        }
        Err(error) => say(&format!("heapgate: {error}; running on unmeasured\n")),
    }
}

/// Attaches a segment of this process's own, for a trace line without a service: one that can be published later, or,
/// where that can't be, one in memory.
pub(crate) fn attach_unnamed() -> Result<(), PublishError> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let publication = Publication::new("");
    let made = published::runtime_folder().map_err(PublishError::Folder).and_then(|folder| {
        // One with a hidden name would stay for good if the process is killed before it gets its own.
        publication.create(&folder).and_then(|(ready, file)| {
            if file.has_no_name() {
                return Ok((ready, file));
            }
            ready.give_up();
            Err(publication.no_file(folder, io::ErrorKind::Unsupported.into()))
        })
    });
    match made {
        Ok((ready, file)) => {
            own.note(Own::Unnamed(file), &ready);
            ready.start();
            Ok(())
        }
        Err(error @ PublishError::Variable { .. }) => Err(error),
        Err(error) => {
            drop(error); // before its end would be counted
            let how = Recording::of_environment(Level::Sampled, DEFAULT_SAMPLE_PERIOD)?;
            Ok(attach::attach_private(publication.slot_count(), how.level, how.sample_period)?)
        }
    }
}

/// How much is recorded, as the environment has it.
struct Recording {
    level: Level,
    sample_period: u64,
}

impl Recording {
    fn of_environment(level: Level, sample_period: u64) -> Result<Self, PublishError> {
        let wrong = |name, value, expected| PublishError::Variable { name, value, expected };
        let level = match text(LEVEL_VARIABLE)? {
            None => level,
            Some(name) => Level::ALL
                .into_iter()
                .find(|level| level.name() == name)
                .ok_or_else(|| wrong(LEVEL_VARIABLE, name, "off, count, sampled, exact-alloc or exact"))?,
        };
        let sample_period = match text(SAMPLE_PERIOD_VARIABLE)? {
            None => sample_period,
            Some(period) => {
                let number = period.parse().ok().filter(|number| (1..=MAX_SAMPLE_PERIOD).contains(number));
                number.ok_or_else(|| wrong(SAMPLE_PERIOD_VARIABLE, period, "a number from 1 to 65536"))?
            }
        };
        Ok(Self { level, sample_period })
    }
}

/// A variable of the environment; one that is empty counts as not set.
fn text(name: &'static str) -> Result<Option<String>, PublishError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => {
            Err(PublishError::Variable { name, value: value.to_string_lossy().into_owned(), expected: "text in UTF-8" })
        }
    }
}

/// Calls `refresh` now and then every `interval`, in a thread of its own, until the process ends: for figures that only the
/// process knows, as [`Session::set_gauge`] takes them. In a process without a segment it does nothing. What `refresh`
/// allocates is counted as any other thread's.
///
/// ```no_run
/// use heapgate_alloc::segment::layout::Gauge;
/// # fn active() -> u64 { 0 }
///
/// heapgate_alloc::every(std::time::Duration::from_secs(1), |session| {
///     session.set_gauge(Gauge::JemallocActive, active());
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If no thread can be started.
pub fn every(interval: Duration, mut refresh: impl FnMut(&Session) + Send + 'static) -> io::Result<()> {
    let Some(session) = session() else { return Ok(()) };
    let thread = std::thread::Builder::new().name("heapgate-gauges".to_owned());
    thread.spawn(move || {
        loop {
            refresh(&session);
            std::thread::sleep(interval);
        }
    })?;
    Ok(())
}
