//! Finding the segment: before `main`, from the environment; or later, when the program asks for it.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use heapgate_segment::clock::ClockKind;
use heapgate_segment::layout::{self, LayoutError, Level, SAMPLES_STACKS, Sums};
use heapgate_segment::map::Mapping;
use heapgate_segment::reader::Reader;
use heapgate_segment::stacks::{STACKS_VARIABLE, StackTable, TableError};
use heapgate_segment::writer::{Attachment, Phase, Writer};

use crate::{rseq, stacks, thread};

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

/// Whether a thread is attaching or has attached: it happens once.
static ATTACHING: AtomicBool = AtomicBool::new(false);

fn attach_to(file: BorrowedFd<'_>) -> Result<(), AttachError> {
    if ATTACHING.swap(true, AcqRel) {
        return Err(AttachError::Taken);
    }
    let result = attach_once(file);
    if result.is_err() {
        ATTACHING.store(false, Release);
    }
    result
}

/// Called by one thread at a time, and never again once it has succeeded.
fn attach_once(file: BorrowedFd<'_>) -> Result<(), AttachError> {
    let mapping = Mapping::new(file).map_err(AttachError::Map)?;
    let (base, bytes) = mapping.raw();
    // SAFETY: a Mapping is page-aligned, readable and writable for `bytes` bytes; on success it is never unmapped
    // (`forget` below), and on failure the writer is dropped with it. It is shared with processes that use atomics of
    // the same layout.
    let writer = unsafe { Writer::from_raw(base, bytes) }.map_err(AttachError::Layout)?;
    let reader = Reader::new(writer.words()).map_err(AttachError::Layout)?;
    let exit_key = exit_key()?;
    let clock = ClockKind::detect();
    let interrupted_split = rseq::detect();
    if !writer.attach(Attachment { pid: std::process::id(), clock, interrupted_split }) {
        // SAFETY: the key was made above and no thread has used it.
        unsafe { libc::pthread_key_delete(exit_key) };
        return Err(AttachError::Taken);
    }
    // SAFETY: `in_forked_child` is async-signal-safe: stores to atomics and thread-locals without destructors.
    hook(unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) })?;
    CPU_CLOCK.store(clock != ClockKind::Monotonic, Relaxed);
    std::mem::forget(mapping);
    let state = STATE.get_or_init(|| State { writer, reader, exit_key });
    LEVEL.store(std::ptr::from_ref(state.writer.level_word()).cast_mut(), Release);
    Ok(())
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
    thread::disown();
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
}

/// The descriptor that the environment variable `name` names as `fd:N`, if it is set; `Some(None)` if it names none that
/// is open. Before `main` only.
fn inherited(name: &CStr) -> Option<Option<BorrowedFd<'static>>> {
    // SAFETY: the name is a C string. The environment is the C library's own; that nobody changes it meanwhile is what
    // every program's constructors rely on.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv returned a C string, which stays valid until the environment is changed.
    let value = unsafe { CStr::from_ptr(value) };
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
fn say(message: &str) {
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

/// The segment as the measured program itself sees it: to mark phases.
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

    /// This process's own figures, as an agent outside sees them.
    #[must_use]
    pub fn reader(&self) -> Reader<'static> {
        self.reader
    }

    /// If a supervisor wants it: waits until it lets this process go on. A forked child, which nobody supervises, does
    /// not wait.
    pub fn hold(&self) {
        if !FORKED.load(Relaxed) {
            self.writer.hold();
        }
    }
}
