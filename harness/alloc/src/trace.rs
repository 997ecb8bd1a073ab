//! The trace line: `HEAPGATE_TRACE=1` makes any instrumented process write a line of its figures now and then.
//!
//! A thread of its own writes it, made by the C library, so that nothing passes through the allocator; all signals are
//! blocked in it. The last line is written by `exit`.

use std::ffi::CStr;
use std::fmt::{self, Write as _};
use std::ptr::null_mut;
#[cfg(feature = "control")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heapgate_segment::clock::{Anchor, monotonic_ns};
use heapgate_segment::histogram::{BUCKETS, bucket_bounds};
use heapgate_segment::layout::MAX_TEXT_BYTES;
use heapgate_segment::map::wait;
#[cfg(feature = "control")]
use heapgate_segment::map::wake;
use heapgate_segment::setting::{
    LONGEST_TRACE_INTERVAL_MS as LONGEST_INTERVAL_MS, SHORTEST_TRACE_INTERVAL_MS as SHORTEST_INTERVAL_MS, Setting,
};
use heapgate_segment::trace_line::{FIELDS, MAX_BYTES, NONE, PREFIX, VERSION};

use crate::attach::{self, State, clock, environment, say, state};
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

/// A line in memory of its own. What doesn't fit is an error, and the line is left out.
struct Line {
    bytes: [u8; MAX_BYTES],
    length: usize,
    field: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// A figure, or that it is not known.
struct Known<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(NONE),
        }
    }
}

/// Nanoseconds as seconds with three decimals.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 / 1_000_000;
        write!(f, "{}.{:03}", ms / 1000, ms % 1000)
    }
}

impl Line {
    fn new() -> Self {
        Self { bytes: [0; MAX_BYTES], length: 0, field: 0 }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// What the process's figures are now. It allocates nothing.
    fn of(state: &State, last: &mut Last, is_last: bool) -> Self {
        let mut line = Self::new();
        if line.write_fields(state, last, is_last).is_err() {
            // Not reached: the fields are shorter than that.
            line.length = 0;
        }
        line
    }

    /// Writes the next field.
    fn put(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        debug_assert_eq!(FIELDS[self.field].0, name, "fields are written in their order");
        self.field += 1;
        write!(self, " {name}={value}")
    }

    fn write_fields(&mut self, state: &State, last: &mut Last, is_last: bool) -> fmt::Result {
        let reader = state.reader;
        let now = Anchor::now(clock());
        let stalls = Stalls::since(state, last, now);
        let tally = reader.tally();
        let live = Some(tally.live()).filter(|_| !reader.was_off());
        let mut name = [0; MAX_TEXT_BYTES];
        let service = reader.service_in(&mut name);

        write!(self, "{PREFIX}{VERSION}")?;
        self.put("t", Utc(unix_ms()))?;
        // SAFETY: getpid has no requirement.
        self.put("pid", unsafe { libc::getpid() })?;
        self.put("service", if service.is_empty() { NONE } else { service })?;
        self.put("level", reader.level().name())?;
        self.put("up_s", Seconds(now.ns.saturating_sub(state.writer.attached_at().ns)))?;
        self.put("threads", reader.threads_now())?;
        self.put("live_objects", Known(live.map(|live| live.objects)))?;
        self.put("live_bytes", Known(live.map(|live| live.bytes)))?;
        self.put("allocs", tally.objects_allocated)?;
        self.put("reallocs", tally.realloc_calls)?;
        self.put("frees", tally.objects_freed)?;
        self.put("alloc_bytes", tally.bytes_allocated)?;
        self.put("rss_bytes", Known(rss_bytes()))?;
        self.put("interval_s", Seconds(stalls.interval_ns))?;
        self.put("timed", stalls.timed)?;
        self.put("interrupted", stalls.interrupted)?;
        self.put("stall_p99_ns", Known(stalls.p99_ns))?;
        self.put("stall_max_ns", Known(stalls.max_ns))?;
        self.put("last", u8::from(is_last))?;
        let steering = reader.steering();
        let value = |setting| Known(steering.and_then(|steering| steering.value(setting)));
        self.put("dirty_decay_ms", value(Setting::DirtyDecayMs))?;
        self.put("muzzy_decay_ms", value(Setting::MuzzyDecayMs))?;
        self.put("soft_limit_bytes", value(Setting::SoftLimitBytes))?;
        self.put("soft_limit_step", Known(steering.map(|steering| steering.soft_limit_step)))?;
        self.put("setting_changes", Known(steering.map(|steering| steering.all_changes())))?;
        self.write_str("\n")
    }
}

/// Timed calls since the last line.
struct Stalls {
    interval_ns: u64,
    /// Calls that were not interrupted, each with the number of calls that it stands for.
    timed: u64,
    interrupted: u64,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

impl Stalls {
    fn since(state: &State, last: &mut Last, now: Anchor) -> Self {
        let mut clean = [0; BUCKETS];
        let interrupted = state.reader.add_latencies(&mut clean);
        let mut since = [0; BUCKETS];
        for ((since, now), before) in since.iter_mut().zip(&clean).zip(&last.clean) {
            *since = u64::wrapping_sub(*now, *before);
        }
        let timed = since.iter().fold(0, |sum, &count| u64::wrapping_add(sum, count));
        let ns_per_tick = state.writer.attached_at().ticks_per_second(now).map(|rate| 1e9 / rate);
        // The highest value of a bucket, so that no call that counts took longer.
        let ns = |bucket: usize| ns_per_tick.map(|ns| ((bucket_bounds(bucket).1 - 1) as f64 * ns) as u64);
        let max_ns = since.iter().rposition(|&count| count > 0).and_then(ns);
        let p99_ns = nearest_rank(&since, timed, 99, 100).and_then(ns);
        let result = Self {
            interval_ns: now.ns.saturating_sub(last.at_ns),
            timed,
            interrupted: interrupted.wrapping_sub(last.interrupted),
            p99_ns,
            max_ns,
        };
        (last.clean, last.interrupted, last.at_ns) = (clean, interrupted, now.ns);
        result
    }
}

/// The bucket of the call below which, with it, are `part` in `whole` of all.
fn nearest_rank(counts: &[u64; BUCKETS], all: u64, part: u64, whole: u64) -> Option<usize> {
    let rank = (u128::from(all) * u128::from(part)).div_ceil(u128::from(whole));
    let mut below = 0;
    counts.iter().position(|&count| {
        below += u128::from(count);
        below >= rank && rank > 0
    })
}

/// Resident memory of this process: the second field of `/proc/self/statm`, in pages.
pub(crate) fn rss_bytes() -> Option<u64> {
    let mut bytes = [0_u8; 128];
    // SAFETY: the path is a C string; read gets a buffer valid for its length; the descriptor is closed once.
    let length = unsafe {
        let fd = libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let length = libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(fd);
        length
    };
    let text = str::from_utf8(&bytes[..usize::try_from(length).ok()?]).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf takes any number.
    Some(pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?)
}

fn unix_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill in.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Milliseconds since 1970 as a time of day in UTC, in the form of RFC 3339.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Howard Hinnant's civil_from_days, for days since 1970; years begin in March there.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc(ms).to_string(), text);
        }
    }

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

    #[test]
    fn a_rank_is_the_first_bucket_that_reaches_it() {
        let mut counts = [0; BUCKETS];
        assert_eq!(nearest_rank(&counts, 0, 99, 100), None);
        counts[3] = 98;
        counts[7] = 1;
        counts[9] = 1;
        assert_eq!(nearest_rank(&counts, 100, 99, 100), Some(7));
        assert_eq!(nearest_rank(&counts, 100, 98, 100), Some(3));
        counts[9] = 2;
        assert_eq!(nearest_rank(&counts, 101, 99, 100), Some(9));
    }

    #[test]
    fn the_longest_line_fits() {
        let mut line = Line::new();
        let _ = write!(line, "{PREFIX}{VERSION}");
        for (name, _) in FIELDS {
            line.put(name, "x".repeat(if name == "service" { MAX_TEXT_BYTES } else { 24 })).expect("room");
        }
        assert!(line.length < MAX_BYTES);
    }
}
