//! Finding the segment: before `main`, from the environment; or later, when the program asks for it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use heapgate_segment::clock::ClockKind;
use heapgate_segment::layout::{LayoutError, Level, Sums};
use heapgate_segment::map::Mapping;
use heapgate_segment::writer::{Attachment, Phase, Writer};

use crate::{rseq, thread};

/// The environment variable that names the segment: `fd:N`, an inherited descriptor of a memory file. It is removed when it
/// was read, and the descriptor closed, so that programs started by this one don't find them.
pub const SEGMENT_VARIABLE: &str = "HEAPGATE_SEGMENT";

/// The level of a process that has no segment.
static NO_LEVEL: AtomicU64 = AtomicU64::new(Level::Off as u64);

/// The word that every call looks at. It is the segment's, once there is one; then whoever may write the segment sets the level.
static LEVEL: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const NO_LEVEL).cast_mut());

static STATE: OnceLock<State> = OnceLock::new();

/// What calls need to know of the segment.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) writer: Writer,
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
    // SAFETY: LEVEL points to NO_LEVEL or to the level word of a segment that stays mapped until the process ends. Acquire pairs with the
    // store in `attach`: a call that sees the segment's word sees STATE and all it holds.
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
        // Not reached: the level comes from the segment. A panic in an allocator is worse than a count in the wrong place.
        None => NO_SUMS.get_or_init(Sums::default),
    }
}

static NO_SUMS: OnceLock<Sums> = OnceLock::new();

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
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => write!(f, "the segment can't be mapped: {error}"),
            Self::Layout(error) => error.fmt(f),
            Self::Taken => f.write_str("the segment belongs to another process, or this one has a segment already"),
            Self::Hook(error) => write!(f, "no hook for the ends of threads and for fork: {error}"),
        }
    }
}

impl std::error::Error for AttachError {}

/// Counts into the segment that `file` holds, from now until the process ends.
///
/// What was allocated before is not known: if it is freed later, live figures fall below the truth by it. To be complete, name the
/// segment in the environment instead.
///
/// # Errors
/// Says why not; the process runs on unmeasured.
pub fn attach(file: OwnedFd) -> Result<(), AttachError> {
    let mapping = Mapping::new(file.as_fd()).map_err(AttachError::Map)?;
    let (base, bytes) = mapping.raw();
    // SAFETY: a Mapping is page-aligned, readable and writable for `bytes` bytes; on success it is never unmapped (`forget` below),
    // and on failure the writer is dropped with it. It is shared with processes that use atomics of the same layout.
    let writer = unsafe { Writer::from_raw(base, bytes) }.map_err(AttachError::Layout)?;
    if STATE.get().is_some() {
        return Err(AttachError::Taken);
    }
    let clock = ClockKind::detect();
    let mut exit_key = 0;
    // SAFETY: `exit_key` is valid for the call to fill in; `at_exit` stays in memory as long as this crate does.
    hook(unsafe { libc::pthread_key_create(&raw mut exit_key, Some(thread::at_exit)) })?;
    // SAFETY: `in_forked_child` is an async-signal-safe function: stores to atomics and thread-locals without destructors.
    hook(unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) })?;
    let interrupted_split = rseq::detect();
    if !writer.attach(Attachment { pid: std::process::id(), clock, interrupted_split }) {
        return Err(AttachError::Taken);
    }
    if STATE.set(State { writer, exit_key }).is_err() {
        return Err(AttachError::Taken);
    }
    CPU_CLOCK.store(clock != ClockKind::Monotonic, Relaxed);
    std::mem::forget(mapping);
    LEVEL.store(std::ptr::from_ref(writer.level_word()).cast_mut(), Release);
    Ok(())
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

/// Runs before `main`, while the process has one thread.
extern "C" fn before_main() {
    let variable = c"HEAPGATE_SEGMENT";
    // SAFETY: no other thread exists yet that could change the environment.
    let value = unsafe { libc::getenv(variable.as_ptr()) };
    if value.is_null() {
        return;
    }
    // SAFETY: getenv returned a C string, which stays valid until the environment is changed, below.
    let named = unsafe { std::ffi::CStr::from_ptr(value) }.to_str().unwrap_or("").strip_prefix("fd:");
    let fd: Option<i32> = named.and_then(|number| number.parse().ok());
    // SAFETY: as for getenv.
    unsafe { libc::unsetenv(variable.as_ptr()) };
    let result = match fd {
        // SAFETY: whoever set the variable gave us this descriptor to own. If it is not open or something else, mapping it fails.
        Some(fd) if fd > 2 => attach(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(AttachError::Map(io::Error::new(
            io::ErrorKind::InvalidInput,
            "HEAPGATE_SEGMENT is not of the form fd:N",
        ))),
    };
    if let Err(error) = result {
        eprintln!("heapgate: {error}; running on unmeasured");
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
}

/// This process's segment, if it has one. A forked child has none.
#[must_use]
pub fn session() -> Option<Session> {
    state().filter(|_| !FORKED.load(Relaxed)).map(|state| Session { writer: state.writer })
}

impl Session {
    /// Marks the beginning of a phase of `kind`.
    ///
    /// # Panics
    /// If there are more than [`heapgate_segment::layout::MAX_PHASES`] phases.
    pub fn begin_phase(&self, kind: u64) -> Phase {
        self.writer.begin_phase(kind, thread::current())
    }

    /// Takes the totals of a phase: what happens from here on is not the phase's.
    pub fn close_phase(&self, phase: &Phase, units: u64, checksum: u64) {
        phase.close(units, checksum, thread::current());
    }

    /// If a supervisor wants it: waits until it lets this process go on.
    pub fn hold(&self) {
        self.writer.hold();
    }
}
