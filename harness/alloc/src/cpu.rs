//! Samples of CPU time by pprof-rs: a timer of the process's CPU time (`ITIMER_PROF`) interrupts whichever thread is running,
//! whose stack is taken. Only raw addresses leave the process; names are found by who reads them.
//!
//! Needs the feature `profile-cpu`. Nothing is paid before [`Sampler::start`]; the first start in a process's life loads its
//! own debugging information, which pprof-rs does to be ready for signals.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pprof::{ProfilerGuard, ProfilerGuardBuilder};

/// pprof-rs at work, until it is dropped. There is one at a time.
pub struct Sampler {
    guard: ProfilerGuard<'static>,
    phase: &'static str,
    frequency_hz: u32,
    /// CPU time of this process when it began.
    began_ns: u64,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { phase, frequency_hz, .. } = self;
        f.debug_struct("Sampler").field("phase", phase).field("frequency_hz", frequency_hz).finish_non_exhaustive()
    }
}

/// Whether the signal's handler was pprof-rs's before: it leaves the signal ignored.
static WAS_OURS: AtomicBool = AtomicBool::new(false);

impl Sampler {
    /// Begins to take samples, `frequency_hz` per second of CPU time.
    ///
    /// # Errors
    /// Says why there are none: the program uses the signal (SIGPROF) or the timer itself, or profiles itself already.
    pub fn start(phase: &'static str, frequency_hz: u32) -> Result<Self, String> {
        let hz = i32::try_from(frequency_hz).ok().filter(|&hz| hz > 0).ok_or("a frequency is at least 1 Hz")?;
        if is_timer_in_use() || !WAS_OURS.load(Relaxed) && ![libc::SIG_DFL, libc::SIG_IGN].contains(&handler()) {
            return Err("the program takes the signal SIGPROF itself: it is profiled by other means already".to_owned());
        }
        // On a thread of its own, to which jemalloc gives an arena of its own: its tables are hundreds of megabytes, and in the
        // arena that the program uses they make it map and fault in more pages than it otherwise does.
        let build = move || ProfilerGuardBuilder::default().frequency(hz).blocklist(unsafe_libraries()).build();
        let failed = |why: &str| format!("the CPU profiler can't start: {why}");
        let starter = std::thread::Builder::new().name("heapgate-cpu".to_owned()).spawn(build);
        let built = starter.map_err(|error| failed(&error.to_string()))?.join();
        let guard = built.map_err(|_| failed("it panicked"))?.map_err(|error| failed(&error.to_string()))?;
        WAS_OURS.store(true, Relaxed);
        Ok(Self { guard, phase, frequency_hz, began_ns: cpu_ns() })
    }

    /// Appends all samples so far to `file`, in the form that `heapgate_core::profile::cpu` reads: whole, or with an error.
    /// Samples of the thread called `without`, which writes, are left out.
    ///
    /// # Errors
    /// If samples can't be read back, or not be written.
    pub fn write(&self, file: &mut impl io::Write, without: &str) -> io::Result<()> {
        let spent_ns = cpu_ns().saturating_sub(self.began_ns);
        let report = self.guard.report().build_unresolved().map_err(|error| io::Error::other(error.to_string()))?;
        let mut text = format!("begin {} {}\n", self.phase, self.frequency_hz);
        let handler = handler();
        for (stack, count) in &report.data {
            let thread = String::from_utf8_lossy(&stack.thread_name[..stack.thread_name_length]);
            if thread == without {
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
        file.write_all(text.as_bytes())
    }
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

/// The address of the handler of the profiler's signal.
fn handler() -> usize {
    // SAFETY: an action of zeros is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null new action leaves the old one in force, which is written to `action`.
    unsafe { libc::sigaction(libc::SIGPROF, std::ptr::null(), &raw mut action) };
    action.sa_sigaction
}

/// Whether somebody has set the timer that samples are taken by.
fn is_timer_in_use() -> bool {
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut timer = libc::itimerval { it_interval: none, it_value: none };
    // SAFETY: `timer` is an itimerval to be written.
    let known = unsafe { libc::getitimer(libc::ITIMER_PROF, &raw mut timer) } == 0;
    known && (timer.it_value.tv_sec, timer.it_value.tv_usec) != (0, 0)
}

/// CPU time of this process so far; 0 where the kernel doesn't say.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to be written.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if result == 0 { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 } else { 0 }
}
