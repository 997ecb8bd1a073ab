//! Finding the segment: before `main`, from the environment; or later, when the program asks for it.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use heapgate_segment::arenas;
use heapgate_segment::clock::ClockKind;
use heapgate_segment::layout::{self, Gauge, LayoutError, Level, SAMPLES_STACKS, Sums};
use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::reader::Reader;
use heapgate_segment::stacks::{STACKS_VARIABLE, StackTable, TableError};
use heapgate_segment::writer::{Attachment, Phase, Writer};

use crate::{publish, rseq, stacks, thread, trace};

/// The environment variable that names the segment: `fd:N`, an inherited descriptor of a memory file. It is removed
/// when it was read, and the descriptor closed, so that programs started by this one don't find them.
pub const SEGMENT_VARIABLE: &str = match layout::SEGMENT_VARIABLE.to_str() {
    Ok(name) => name,
    Err(_) => panic!("the name is ASCII"),
};

/// The level of a process that has no segment.
static NO_LEVEL: AtomicU64 = AtomicU64::new(Level::Off as u64);

/// The word that every call looks at. It is the segment's, once there is one; then whoever may write the segment sets
/// the level.
static LEVEL: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const NO_LEVEL).cast_mut());

static STATE: OnceLock<State> = OnceLock::new();

/// What calls need to know of the segment.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader<'static>,
    pub(crate) exit_key: libc::pthread_key_t,
}

/// Whether the clock is the CPU's own counter. The two kinds that an architecture can have differ by one branch.
static CPU_CLOCK: AtomicBool = AtomicBool::new(false);

/// The clock that calls are timed by.
#[inline(always)]
pub(crate) fn clock() -> ClockKind {
    const OWN: ClockKind = if cfg!(target_arch = "aarch64") { ClockKind::VirtualCounter } else { ClockKind::Tsc };
    if CPU_CLOCK.load(Relaxed) { OWN } else { ClockKind::Monotonic }
}

/// The level in force, as the word it is.
#[inline(always)]
pub(crate) fn level() -> u64 {
    // SAFETY: LEVEL points to NO_LEVEL or to the level word of a segment that stays mapped until the process ends.
    // Acquire pairs with the store in `attach`: a call that sees the segment's word sees STATE and all it holds.
    unsafe { (*LEVEL.load(Acquire)).load(Relaxed) }
}

/// The segment, once there is one.
#[inline(always)]
pub(crate) fn state() -> Option<&'static State> {
    STATE.get()
}

/// The sums of the segment. Only for calls that have seen a level above `Off`.
#[inline(always)]
pub(crate) fn sums() -> &'static Sums {
    match STATE.get() {
        Some(state) => state.writer.sums(),
        // Not reached: the level comes from the segment. A panic in an allocator is worse than a count in the wrong
        // place.
        None => &NO_SUMS,
    }
}

static NO_SUMS: Sums = Sums::new();

/// One call in how many is timed.
#[inline(always)]
pub(crate) fn sample_period() -> u64 {
    STATE.get().map_or(1, |state| state.writer.sample_period())
}

/// Why a process could not attach to a segment. It runs on unmeasured.
#[derive(Debug)]
pub enum AttachError {
    /// The descriptor is not a memory file of fixed size, or it can't be mapped.
    Map(io::Error),
    /// What it holds is not a segment of this version.
    Layout(LayoutError),
    /// Another process writes it, or this one is attached already.
    Taken,
    /// The C library refused a thread-exit hook or a fork handler.
    Hook(io::Error),
    /// What was to be a table of stacks is none of this version.
    Table(TableError),
    /// Stacks can't be taken here; all else is measured.
    Stacks(&'static str),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => write!(f, "the segment can't be mapped: {error}"),
            Self::Layout(error) => error.fmt(f),
            Self::Taken => f.write_str("the segment belongs to another process, or this one has a segment already"),
            Self::Hook(error) => write!(f, "no hook for the ends of threads and for fork: {error}"),
            Self::Table(error) => error.fmt(f),
            Self::Stacks(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for AttachError {}

/// Counts into the segment that `file` holds, from now until the process ends.
///
/// What was allocated before is not known: if it is freed later, live figures fall below the truth by it. To be
/// complete, name the segment in the environment instead.
///
/// # Errors
/// Says why not; the process runs on unmeasured.
pub fn attach(file: OwnedFd) -> Result<(), AttachError> {
    attach_to(file.as_fd())
}

/// Counts into a segment of this process's own, that nobody else can find.
pub(crate) fn attach_private(slots: usize, level: Level, sample_period: u64) -> Result<(), AttachError> {
    let make = || -> io::Result<Mapping> {
        let file = create_file(c"heapgate", layout::segment_bytes(slots))?;
        let mapping = Mapping::new(file.as_fd())?;
        layout::format(mapping.words(), slots, level, sample_period);
        Ok(mapping)
    };
    Ready::new(|| make().map_err(AttachError::Map)).map(Ready::start)
}

/// Whether a thread is attaching or has attached: it happens once.
static ATTACHING: AtomicBool = AtomicBool::new(false);

fn attach_to(file: BorrowedFd<'_>) -> Result<(), AttachError> {
    Ready::new(|| Mapping::new(file).map_err(AttachError::Map)).map(Ready::start)
}

/// A process that has done all that can fail, and counts nothing yet.
pub(crate) struct Ready {
    mapping: Mapping,
    writer: Writer,
    exit_key: libc::pthread_key_t,
    clock: ClockKind,
}

impl Ready {
    /// Attaches to the segment that `mapping` gives. One thread at a time gets as far as asking for it, and none after
    /// one has succeeded.
    pub(crate) fn new<E: From<AttachError>>(mapping: impl FnOnce() -> Result<Mapping, E>) -> Result<Self, E> {
        if ATTACHING.swap(true, AcqRel) {
            return Err(AttachError::Taken.into());
        }
        let result = mapping().and_then(|mapping| Ok(Self::on(mapping)?));
        if result.is_err() {
            ATTACHING.store(false, Release);
        }
        result
    }

    fn on(mapping: Mapping) -> Result<Self, AttachError> {
        let (base, bytes) = mapping.raw();
        // SAFETY: a Mapping is page-aligned, readable and writable for `bytes` bytes; once the process counts it is never
        // unmapped (`start`), and before, the writer is dropped with it. It is shared with processes that use atomics of
        // the same layout.
        let writer = unsafe { Writer::from_raw(base, bytes) }.map_err(AttachError::Layout)?;
        let exit_key = exit_key()?;
        let clock = ClockKind::detect();
        let interrupted_split = rseq::detect();
        if !writer.attach(Attachment { pid: std::process::id(), clock, interrupted_split }) {
            // SAFETY: the key was made above and no thread has used it.
            unsafe { libc::pthread_key_delete(exit_key) };
            return Err(AttachError::Taken);
        }
        // SAFETY: `in_forked_child` is async-signal-safe: stores to atomics and thread-locals without destructors, and
        // calls of the kernel.
        hook(unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) })?;
        Ok(Self { mapping, writer, exit_key, clock })
    }

    /// From now on, calls are counted. Nothing is allocated or freed here: what was before is not known, and its end
    /// would be counted.
    pub(crate) fn start(self) {
        CPU_CLOCK.store(self.clock != ClockKind::Monotonic, Relaxed);
        let Self { mapping, writer, exit_key, .. } = self;
        // Never unmapped: threads count until the process ends.
        let mapping = std::mem::ManuallyDrop::new(mapping);
        // SAFETY: the slice is valid as long as the mapping is, which is now the process's life.
        let words: &'static [AtomicU64] = unsafe { &*std::ptr::from_ref(mapping.words()) };
        // The writer has found these words to be a segment.
        let Ok(reader) = Reader::new(words) else { return };
        let state = STATE.get_or_init(|| State { writer, reader, exit_key });
        arenas::install(writer);
        LEVEL.store(std::ptr::from_ref(state.writer.level_word()).cast_mut(), Release);
    }
}

impl Ready {
    /// Where the segment is, and its size in bytes.
    pub(crate) fn raw(&self) -> (NonNull<u8>, usize) {
        self.mapping.raw()
    }

    /// The segment.
    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }

    /// Gives up before the start: nobody counts into this segment any more, and another may be attached.
    pub(crate) fn give_up(self) {
        // SAFETY: no thread has used the key: threads claim slots when they count.
        unsafe { libc::pthread_key_delete(self.exit_key) };
        ATTACHING.store(false, Release);
    }
}

/// A key whose destructor gives back a thread's slot. The program must not unload this code afterwards (`dlclose` of a
/// library that contains it).
fn exit_key() -> Result<libc::pthread_key_t, AttachError> {
    /// glibc keeps the values of this many keys in the thread's descriptor, and allocates for others, which must not
    /// happen in a call.
    const KEYS_WITHOUT_ALLOCATION: libc::pthread_key_t = 32;
    let mut key = 0;
    // SAFETY: `key` is valid for the call to fill in; `at_exit` stays in memory, see above.
    hook(unsafe { libc::pthread_key_create(&raw mut key, Some(thread::at_exit)) })?;
    if key < KEYS_WITHOUT_ALLOCATION {
        return Ok(key);
    }
    // SAFETY: the key was made above and no thread has used it.
    unsafe { libc::pthread_key_delete(key) };
    Err(AttachError::Hook(io::Error::other("the program has too many thread-specific keys; attach earlier")))
}

fn hook(result: i32) -> Result<(), AttachError> {
    if result == 0 { Ok(()) } else { Err(AttachError::Hook(io::Error::from_raw_os_error(result))) }
}

/// A forked child shares the segment's memory with its parent, so it must not write it: its level is off for good.
unsafe extern "C" fn in_forked_child() {
    LEVEL.store((&raw const NO_LEVEL).cast_mut(), Release);
    FORKED.store(true, Relaxed);
    arenas::disown();
    thread::disown();
    publish::disown();
}

/// Whether this process is a forked child of the one that attached.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Relaxed)
}

/// Whether this process is a forked child of the one that attached.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`.
extern "C" fn before_main() {
    let segment = inherited(layout::SEGMENT_VARIABLE).map(|file| {
        let file = file.ok_or_else(|| AttachError::Map(not_open("HEAPGATE_SEGMENT")))?;
        attach_to(file)?;
        Ok(file)
    });
    let table = inherited(STACKS_VARIABLE).filter(|_| matches!(segment, Some(Ok(_)))).map(|file| {
        let file = file.ok_or_else(|| AttachError::Map(not_open("HEAPGATE_STACKS")))?;
        attach_stacks(file)?;
        Ok(file)
    });
    for (name, result) in [(layout::SEGMENT_VARIABLE, segment), (STACKS_VARIABLE, table)] {
        // Also what was not heeded: it is not for this process's children.
        if has_one_thread() {
            // SAFETY: no other thread is there to read the environment.
            unsafe { libc::unsetenv(name.as_ptr()) };
        }
        let Some(result) = result else { continue };
        match result {
            // SAFETY: it held what is ours, so whoever set the variable gave it to us to own.
            Ok(file) => drop(unsafe { OwnedFd::from_raw_fd(file.as_raw_fd()) }),
            Err::<_, AttachError>(error) if name == STACKS_VARIABLE => say(&format!("heapgate: {error}\n")),
            Err(error) => say(&format!("heapgate: {error}; running on unmeasured\n")),
        }
    }
    publish::before_main();
    trace::before_main();
}

/// A variable of the environment, without allocating. Before `main` only.
pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name is a C string. The environment is the C library's own; that nobody changes it meanwhile is what
    // every program's constructors rely on.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: getenv returned null or a C string, which stays valid until the environment is changed.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}

/// The descriptor that the environment variable `name` names as `fd:N`, if it is set; `Some(None)` if it names none that
/// is open. Before `main` only.
fn inherited(name: &CStr) -> Option<Option<BorrowedFd<'static>>> {
    let value = environment(name)?;
    let fd: Option<i32> = value.to_str().ok().and_then(|text| text.strip_prefix("fd:")?.parse().ok());
    // SAFETY: F_GETFD takes any number, and says whether it is an open descriptor.
    let fd = fd.filter(|&fd| fd > 2 && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0);
    // SAFETY: it is open, and nothing closes it before `before_main` has taken or refused it.
    Some(fd.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) }))
}

fn not_open(variable: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{variable} does not name an open descriptor"))
}

/// Samples stacks into the table that `file` holds. After the segment is attached: its level word says when.
fn attach_stacks(file: BorrowedFd<'_>) -> Result<(), AttachError> {
    let mapping = Mapping::new(file).map_err(AttachError::Map)?;
    // Never unmapped: threads sample until the process ends.
    let mapping: &'static Mapping = Box::leak(Box::new(mapping));
    let table = StackTable::new(mapping.words()).map_err(AttachError::Table)?;
    state().map_or(Ok(()), |state| stacks::set_table(table, state.writer)).map_err(AttachError::Stacks)
}

/// Whether the C library knows that this process has one thread: in a library that is loaded late, or beside another
/// constructor, it may not.
fn has_one_thread() -> bool {
    // SAFETY: dlsym takes a handle and a C string; glibc (2.32) documents the symbol as a `char`, valid while it is
    // loaded.
    unsafe {
        let single = libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()).cast::<u8>();
        !single.is_null() && *single != 0
    }
}

/// Writes to standard error. Before `main` a pipe that nobody reads would still end the process, and a panic has
/// nowhere to go: so nothing is said then, and nothing is made of a failure.
pub(crate) fn say(message: &str) {
    // SAFETY: signal and write take any arguments of their types; the buffer is valid for its length. The old handling
    // is put back.
    unsafe {
        let old = libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::write(2, message.as_ptr().cast(), message.len());
        libc::signal(libc::SIGPIPE, old);
    }
}

/// The C runtime calls what this section lists before `main`.
#[used]
#[cfg_attr(all(target_os = "linux", not(miri)), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = before_main;

/// The segment as the measured program itself sees it: to mark phases, to add figures, to read its own.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    writer: Writer,
    reader: Reader<'static>,
}

/// This process's segment, if it has one. A forked child has none.
#[must_use]
pub fn session() -> Option<Session> {
    state().filter(|_| !FORKED.load(Relaxed)).map(|state| Session { writer: state.writer, reader: state.reader })
}

impl Session {
    /// Marks the beginning of a phase of `kind`.
    ///
    /// # Panics
    /// If there are more than [`heapgate_segment::layout::MAX_PHASES`] phases.
    pub fn begin_phase(&self, kind: u64) -> Phase {
        let phase = self.writer.begin_phase(kind, thread::current().inspect(|slot| thread::flush(slot)));
        stacks::phase_began(self.writer, kind);
        phase
    }

    /// Takes the totals of a phase: what happens from here on is not the phase's.
    pub fn close_phase(&self, phase: &Phase, units: u64, checksum: u64) {
        stacks::phase_closes(self.writer);
        phase.close(units, checksum, thread::current().inspect(|slot| thread::flush(slot)));
    }

    /// Puts a figure that only the process knows into the segment, as it is now: its allocator's, its regions'. One store;
    /// how often is the program's affair (see [`crate::every`]).
    pub fn set_gauge(&self, gauge: Gauge, value: u64) {
        self.writer.set_gauge(gauge, value);
    }

    /// This process's own figures, as an agent outside sees them.
    #[must_use]
    pub fn reader(&self) -> Reader<'static> {
        self.reader
    }

    /// Whether calls are counted.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        level() & !SAMPLES_STACKS != Level::Off as u64
    }

    /// Bytes that all threads of this process have asked for so far; by `realloc`, the whole new size. Allocates nothing.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.writer.allocated_bytes()
    }

    /// If a supervisor wants it: waits until it lets this process go on. A forked child, which nobody supervises, does
    /// not wait.
    pub fn hold(&self) {
        if !FORKED.load(Relaxed) {
            self.writer.hold();
        }
    }
}
