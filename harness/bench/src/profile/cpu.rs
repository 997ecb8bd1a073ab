//! Samples of CPU time by pprof-rs: a timer of the process's CPU time interrupts whichever thread is running, whose stack
//! is taken. Every two seconds, and at a phase's end, all stacks so far are written, so that a process that is killed has
//! left most.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use crate::workload::Error;

/// How much is lost at most of a process that is killed.
const WRITTEN_EVERY: Duration = Duration::from_secs(2);
/// The name of the thread that writes, whose own time is left out.
const WRITER: &str = "heapgate-cpu";

/// Where samples go, and how many are taken.
pub(super) struct Cpu {
    file: Arc<Mutex<File>>,
    frequency_hz: i32,
    /// Whether all phases are sampled, or the measured one.
    pub(super) all_phases: bool,
    running: Option<Running>,
}

struct Running {
    profiler: Arc<Profiler>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    writer: JoinHandle<()>,
}

impl Cpu {
    /// `asked`: `fd:N,HZ,measure`, or `all` for all phases.
    pub(super) fn new(asked: &str) -> Result<Self, Error> {
        let wrong = || Error::Library(format!("{}={asked}: not of the form fd:N,HZ,PHASES", super::CPU_VARIABLE));
        let mut words = asked.strip_prefix("fd:").ok_or_else(wrong)?.split(',');
        let mut word = || words.next().ok_or_else(wrong);
        let (fd, hz, phases) = (word()?, word()?, word()?);
        let fd: RawFd = fd.parse().ok().filter(|fd| *fd > 2).ok_or_else(wrong)?;
        let frequency_hz = hz.parse().ok().filter(|hz| (1..=1_000_000).contains(hz)).ok_or_else(wrong)?;
        // SAFETY: fcntl takes any number for a descriptor, and refuses those that are none.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            return Err(wrong());
        }
        // SAFETY: an open descriptor that the supervisor made for this alone: nothing else in this process uses or
        // closes it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self { file: Arc::new(Mutex::new(file)), frequency_hz, all_phases: phases == "all", running: None })
    }

    pub(super) fn begin(&mut self, phase: &'static str) -> Result<(), Error> {
        let guard = start(self.frequency_hz)?;
        let profiler = Arc::new(Profiler { guard, phase, frequency_hz: self.frequency_hz, began_ns: cpu_ns() });
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let writer = {
            let (profiler, stop, file) = (Arc::clone(&profiler), Arc::clone(&stop), Arc::clone(&self.file));
            std::thread::Builder::new().name(WRITER.to_owned()).spawn(move || {
                let (flag, changed) = &*stop;
                let mut stopped = flag.lock().unwrap_or_else(PoisonError::into_inner);
                while !*stopped {
                    let waited = changed.wait_timeout(stopped, WRITTEN_EVERY);
                    let (flag, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    stopped = flag;
                    // A failure is told when the phase's end is written.
                    if timeout.timed_out() && !*stopped {
                        let _ = profiler.write(&file);
                    }
                }
            })
        };
        let writer = writer.map_err(|error| Error::Library(format!("no thread for the CPU profile: {error}")))?;
        self.running = Some(Running { profiler, stop, writer });
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        let Some(Running { profiler, stop, writer }) = self.running.take() else { return Ok(()) };
        *stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        stop.1.notify_all();
        let _ = writer.join();
        profiler.write(&self.file).map_err(|error| Error::Library(format!("the CPU profile can't be written: {error}")))
    }
}

/// Has pprof-rs begin. On a thread of its own, to which jemalloc gives an arena of its own: its tables are hundreds of megabytes, and
/// in the arena that the workload uses they make it map and fault in more pages than it otherwise does.
fn start(frequency_hz: i32) -> Result<ProfilerGuard<'static>, Error> {
    let build = move || ProfilerGuardBuilder::default().frequency(frequency_hz).blocklist(unsafe_libraries()).build();
    let failed = |why: &str| Error::Library(format!("the CPU profiler can't start: {why}"));
    let starter = std::thread::Builder::new().name(WRITER.to_owned()).spawn(build);
    let built = starter.map_err(|error| failed(&error.to_string()))?.join();
    built.map_err(|_| failed("it panicked"))?.map_err(|error| failed(&error.to_string()))
}

/// Where a stack must not be taken. The vdso's tables are wrong in some distributions. With an old C library the unwinder
/// takes a lock that the interrupted code may hold; since 2.35 (`_dl_find_object`) it takes none.
fn unsafe_libraries() -> &'static [&'static str] {
    if libc_is_at_least_2_35() { &["vdso"] } else { &["libc.", "libc-", "libgcc", "pthread", "vdso"] }
}

#[cfg(target_env = "gnu")]
fn libc_is_at_least_2_35() -> bool {
    // SAFETY: the function has no requirement, and returns a C string that is never freed.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    let numbers = version.to_str().unwrap_or("").split_once('.');
    let numbers = numbers.and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    numbers.is_some_and(|version| version >= (2, 35))
}

#[cfg(not(target_env = "gnu"))]
fn libc_is_at_least_2_35() -> bool {
    false
}

/// pprof-rs at work.
struct Profiler {
    guard: ProfilerGuard<'static>,
    phase: &'static str,
    frequency_hz: i32,
    /// CPU time of this process when it began.
    began_ns: u64,
}

impl Profiler {
    /// Appends what was sampled so far, in the form that `heapgate_core::profile::cpu` reads.
    fn write(&self, file: &Mutex<File>) -> Result<(), String> {
        let spent_ns = cpu_ns().saturating_sub(self.began_ns);
        let report = self.guard.report().build_unresolved().map_err(|error| error.to_string())?;
        let mut text = format!("begin {} {}\n", self.phase, self.frequency_hz);
        let handler = handler();
        for (stack, count) in &report.data {
            let thread = String::from_utf8_lossy(&stack.thread_name[..stack.thread_name_length]);
            if thread == WRITER {
                continue;
            }
            let thread = thread.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
            // Writing to a String never fails.
            let _ = write!(text, "{count} {}", if thread.is_empty() { "?" } else { &thread });
            // The innermost are the profiler's: up to its signal handler, and the kernel's way back from that.
            let own = stack.frames.iter().position(|frame| frame.symbol_address() as usize == handler);
            let mut frames = stack.frames.iter().map(|frame| frame.ip() as usize).skip(own.map_or(0, |at| at + 2));
            // Where it was interrupted, not where a call returns to: readers look at the byte before.
            if let Some(interrupted) = frames.next() {
                let _ = write!(text, " {:x}", interrupted.wrapping_add(1));
            }
            for address in frames {
                let _ = write!(text, " {address:x}");
            }
            text.push('\n');
        }
        let _ = writeln!(text, "end {spent_ns}");
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }
}

/// The address of the handler of the profiler's signal.
fn handler() -> usize {
    // SAFETY: an action of zeros is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null new action leaves the old one in force, which is written to `action`.
    unsafe { libc::sigaction(libc::SIGPROF, std::ptr::null(), &raw mut action) };
    action.sa_sigaction
}

/// CPU time of this process so far; 0 where the kernel doesn't say.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to be written.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if result == 0 { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 } else { 0 }
}
