//! The trace line: `HEAPGATE_TRACE=1` makes any instrumented process write a line of its figures now and then.
//!
//! A thread of its own writes it, made by the C library, so that nothing passes through the allocator; all signals are
//! blocked in it. The last line is written by `exit`. `line` says what is in one.

mod line;

use std::ffi::CStr;
use std::fmt::Write as _;
use std::ptr::null_mut;
#[cfg(feature = "control")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heapgate_segment::clock::monotonic_ns;
use heapgate_segment::histogram::BUCKETS;
use heapgate_segment::map::wait;
#[cfg(feature = "control")]
use heapgate_segment::map::wake;
use heapgate_segment::setting::{
    LONGEST_TRACE_INTERVAL_MS as LONGEST_INTERVAL_MS, SHORTEST_TRACE_INTERVAL_MS as SHORTEST_INTERVAL_MS,
};

use line::Line;
#[cfg(feature = "control")]
pub(crate) use line::rss_bytes;

use crate::attach::{self, environment, say, state};
use crate::publish;
use crate::remembered::Remembered;

/// A line takes some 10 KiB; glibc takes the program's thread-local memory from this, too.
const STACK_BYTES: usize = 256 * 1024;

/// Standard error, where lines go if no file is named.
const STDERR: i32 = 2;

/// Where lines go, if it is a file.
static FILE: Remembered = Remembered::none();

/// Time between two lines, ms: the thread waits for a change of this word.
static INTERVAL_MS: AtomicU32 = AtomicU32::new(1000);

const _: () = assert!(LONGEST_INTERVAL_MS <= u32::MAX as u64);

/// Whether the thread runs.
#[cfg(feature = "control")]
static IS_ON: AtomicBool = AtomicBool::new(false);

/// What the last line said, so that the next can say what has come since.
static LAST: Mutex<Last> =
    Mutex::new(Last { clean: [0; BUCKETS], interrupted: 0, at_ns: 0, has_file: false, is_over: false });

struct Last {
    clean: [u64; BUCKETS],
    interrupted: u64,
    /// When that was; first, when tracing began. `CLOCK_MONOTONIC`.
    at_ns: u64,
    has_file: bool,
    /// No line comes after the last one.
    is_over: bool,
}

fn last() -> MutexGuard<'static, Last> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts tracing if the environment asks for it. After the segment is attached; allocates nothing if it is.
pub(crate) fn before_main() {
    match environment(c"HEAPGATE_TRACE").map(CStr::to_bytes) {
        None | Some(b"" | b"0") => return,
        Some(b"1") => {}
        Some(_) => return say("heapgate: HEAPGATE_TRACE can be 1 or 0; no trace lines\n"),
    }
    let interval = environment(c"HEAPGATE_TRACE_INTERVAL").filter(|value| !value.is_empty());
    if let Some(interval) = interval {
        let Some(ms) = interval.to_str().ok().and_then(parse_interval_ms) else {
            return say(
                "heapgate: HEAPGATE_TRACE_INTERVAL can be a whole number with ms, s or m, as in 500ms, from 10ms to a day; no \
                 trace lines\n",
            );
        };
        INTERVAL_MS.store(ms as u32, Relaxed);
    }
    let file = environment(c"HEAPGATE_TRACE_FILE").filter(|value| !value.is_empty());
    if let Some(file) = file {
        // Not waiting where it is a pipe that nobody reads.
        let flags =
            libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        // SAFETY: the path is a C string; the mode is what the variadic call reads.
        let fd = unsafe { libc::open(file.as_ptr(), flags, 0o644 as libc::c_uint) };
        if fd < 0 {
            let line = with_errno("heapgate: HEAPGATE_TRACE_FILE can't be opened, so there are no trace lines");
            return say(str::from_utf8(line.text()).unwrap_or_default());
        }
        FILE.remember(fd);
    }
    if state().is_none()
        && let Err(error) = publish::attach_unnamed()
    {
        return say(&format!("heapgate: {error}; running on unmeasured, without trace lines\n"));
    }
    let mut last = last();
    last.at_ns = monotonic_ns();
    last.has_file = file.is_some();
    drop(last);
    if !start_thread() {
        return say("heapgate: no thread can be started for the trace lines; there will be none\n");
    }
    #[cfg(feature = "control")]
    IS_ON.store(true, Relaxed);
    // SAFETY: `at_exit` stays in memory, as `attach::exit_key` wants of all of this code.
    unsafe { libc::atexit(at_exit) };
}

/// Time between two lines; `None` if none are written.
#[cfg(feature = "control")]
pub(crate) fn interval_ms() -> Option<u64> {
    IS_ON.load(Relaxed).then(|| INTERVAL_MS.load(Relaxed).into())
}

/// Changes it, from the last line on; false if no lines are written.
#[cfg(feature = "control")]
pub(crate) fn set_interval_ms(ms: u64) -> bool {
    let is_on = IS_ON.load(Relaxed);
    if is_on {
        INTERVAL_MS.store(ms.clamp(SHORTEST_INTERVAL_MS, LONGEST_INTERVAL_MS) as u32, Relaxed);
        wake(&INTERVAL_MS);
    }
    is_on
}

fn parse_interval_ms(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(factor)?;
    (SHORTEST_INTERVAL_MS..=LONGEST_INTERVAL_MS).contains(&ms).then_some(ms)
}

/// A thread of the C library's: std's allocates.
fn start_thread() -> bool {
    // SAFETY: all-zero values of these plain C types are valid for the calls below to fill in.
    let (mut all, mut before, mut attributes): (libc::sigset_t, libc::sigset_t, libc::pthread_attr_t) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
    let mut thread = 0;
    // SAFETY: each call gets pointers to what it fills in or reads, initialised by the call before; `run` is a function for
    // the process's life. The thread inherits the mask, so the program's signal handlers never run on it; this thread's
    // own is put back.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        libc::pthread_attr_init(&raw mut attributes);
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_attr_setstacksize(&raw mut attributes, STACK_BYTES);
        let mut result = libc::pthread_create(&raw mut thread, &raw const attributes, run, null_mut());
        if result == libc::EINVAL {
            // Too little for this program's thread-local memory: as much as any other thread gets.
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
            result = libc::pthread_create(&raw mut thread, &raw const attributes, run, null_mut());
        }
        libc::pthread_attr_destroy(&raw mut attributes);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, null_mut());
        result == 0
    }
}

extern "C" fn run(_: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: the name is a C string of fewer than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"heapgate-trace".as_ptr()) };
    let mut due = monotonic_ns();
    loop {
        due = sleep_after(due);
        let line = {
            let mut last = last();
            let Some(state) = state().filter(|_| !last.is_over) else { return null_mut() };
            (Line::of(state, &mut last, false), last.has_file)
        };
        let (line, has_file) = line;
        let Some(fd) = target(has_file) else {
            write(STDERR, b"heapgate: the file of the trace lines was closed by the program; no more are written\n");
            return null_mut();
        };
        if !write(fd, line.text()) {
            if has_file {
                write(STDERR, with_errno("heapgate: trace lines can't be written; no more are").text());
            }
            last().is_over = true;
            return null_mut();
        }
    }
}

/// Sleeps until the interval, as it is then, has gone by since `last`; returns when that was. A process that was stopped
/// doesn't make up for it.
fn sleep_after(last: u64) -> u64 {
    let begin = monotonic_ns();
    loop {
        let interval = INTERVAL_MS.load(Relaxed);
        let due = (last + u64::from(interval) * 1_000_000).max(begin);
        let now = monotonic_ns();
        if now >= due {
            return due;
        }
        wait(&INTERVAL_MS, interval, Some(Duration::from_nanos(due - now)));
    }
}

/// Where lines go; `None` if that was closed.
fn target(has_file: bool) -> Option<i32> {
    if has_file { FILE.get() } else { Some(STDERR) }
}

/// Writes `text` at once; false if that failed. A reader that is too slow gets fewer lines.
fn write(fd: i32, text: &[u8]) -> bool {
    // SAFETY: write takes any descriptor; the buffer is valid for its length.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    usize::try_from(written).is_ok_and(|written| written == text.len()) || (written < 0 && errno() == libc::EAGAIN)
}

fn errno() -> i32 {
    // SAFETY: the C library gives each thread its own.
    unsafe { *libc::__errno_location() }
}

/// `what`, and what the system said last, without allocating.
fn with_errno(what: &str) -> Line {
    let errno = errno();
    let mut line = Line::new();
    // Fits: `what` is one of ours.
    let _ = writeln!(line, "{what}: the system's error {errno}");
    line
}

/// The last line: when the program returns from `main` or calls `exit`. Not where it could wait: nobody may hold up an exit.
extern "C" fn at_exit() {
    if attach::is_forked() {
        return;
    }
    let Some(state) = state() else { return };
    let (line, has_file) = {
        // Held by the thread only while it makes a line, with signals blocked.
        let mut last = last();
        if last.is_over {
            return;
        }
        last.is_over = true;
        (Line::of(state, &mut last, true), last.has_file)
    };
    let Some(fd) = target(has_file) else { return };
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one valid pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) } == 1;
    // A pipe that nobody reads would end the process by a signal: POLLERR.
    if ready && poll.revents == libc::POLLOUT {
        write(fd, line.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_bounds() {
        for (text, ms) in
            [("1s", 1000), ("250ms", 250), ("2", 2000), ("3m", 180_000), ("10ms", 10), ("1440m", 86_400_000)]
        {
            assert_eq!(parse_interval_ms(text), Some(ms), "{text}");
        }
        for text in ["", "s", "1h", "9ms", "0", "-1s", "1.5s", "1 s", "1441m", "99999999999999999999s", "ö"] {
            assert_eq!(parse_interval_ms(text), None, "{text}");
        }
    }
}
