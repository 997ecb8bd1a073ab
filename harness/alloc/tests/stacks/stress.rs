//! Threads that allocate in every way at once, under signals, while their stacks are taken.

use std::ffi::CStr;
use std::hint::black_box;
use std::panic::{catch_unwind, panic_any, set_hook};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use heapgate_alloc::segment::layout::Level;
use heapgate_alloc::segment::stacks::{Settings, Stack, StackSamples};
use libtest_mimic::Failed;

use crate::common::{holds, run_taking, same};
use crate::{IN_HANDLER, calls, deep, measured};

/// How long the stress test goes on, at each of its levels, seconds: a few by default.
const STRESS_VARIABLE: &str = "HEAPGATE_STRESS_SECONDS";

pub fn stress_for() -> Duration {
    let seconds = std::env::var(STRESS_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn allocate_in_handler(_: i32) {
    let layout = std::alloc::Layout::array::<u8>(IN_HANDLER).expect("a small size");
    // SAFETY: the size is not 0; the block is never touched, and freed as it was allocated.
    unsafe { std::alloc::dealloc(black_box(std::alloc::alloc(layout)), layout) };
}

pub fn stress() {
    set_hook(Box::new(|_| {}));
    let workers: [fn(); 8] = [allocate, allocate, hand_over, unwind, unwind, open_libraries, come_and_go, fork];
    let handler = allocate_in_handler as extern "C" fn(i32);
    // SAFETY: the handler allocates through our own allocator only, which for its size is async-signal-safe. Restarting
    // system calls keeps waitpid and dlopen from failing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut());
    }
    measured(|| {
        every(200);
        std::thread::scope(|scope| {
            for worker in workers {
                scope.spawn(move || {
                    while !STOP.load(Relaxed) {
                        worker();
                    }
                });
            }
            std::thread::sleep(stress_for());
            STOP.store(true, Relaxed);
        });
        every(0);
    });
}

/// A signal every so many µs of CPU time, to whichever thread is running; none at 0.
fn every(us: i64) {
    let interval = libc::timeval { tv_sec: 0, tv_usec: us };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: `timer` is valid for the call.
    unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) };
}

fn allocate() {
    for depth in 0..40 {
        deep(depth);
    }
    let text: Vec<String> = (0..20).map(|i| format!("{i}")).collect();
    black_box(text.concat());
}

/// Frees, and reallocates, what others have allocated.
fn hand_over() {
    let (to, from) = std::sync::mpsc::channel::<Vec<u64>>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for mut given in from {
                given.reserve_exact(100);
                drop(black_box(given));
            }
        });
        (0..200).for_each(|number| to.send(vec![number; 3]).expect("it listens"));
        drop(to);
    });
}

/// Threads that are gone as soon as they have allocated.
fn come_and_go() {
    let threads: Vec<_> = (0..4).map(|depth| std::thread::spawn(move || deep(depth))).collect();
    threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
}

/// Allocates while it is unwound.
struct AllocatesOnDrop(u32);

impl Drop for AllocatesOnDrop {
    fn drop(&mut self) {
        deep(self.0);
    }
}

fn unwind() {
    fn fall(depth: u32) {
        let _guard = AllocatesOnDrop(depth);
        if depth == 0 {
            panic_any(depth);
        }
        fall(black_box(depth - 1));
    }
    assert!(catch_unwind(|| fall(12)).is_err());
}

/// Maps and unmaps code, which changes what unwinding reads.
fn open_libraries() {
    const LIBRARIES: [&CStr; 4] = [c"libthread_db.so.1", c"libanl.so.1", c"libBrokenLocale.so.1", c"libutil.so.1"];
    for name in LIBRARIES {
        // SAFETY: these libraries are glibc's own, without constructors that matter; each is closed as it was opened.
        unsafe {
            let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
            deep(3);
            if !library.is_null() {
                libc::dlclose(library);
            }
        }
    }
}

fn fork() {
    // SAFETY: the child allocates, which glibc allows after fork, and ends without destructors; the parent waits for it.
    unsafe {
        match libc::fork() {
            0 => {
                deep(5);
                libc::_exit(0);
            }
            child if child > 0 => {
                let mut status = 0;
                while libc::waitpid(child, &raw mut status, 0) < 0 {}
                assert_eq!(status, 0, "the forked child");
            }
            _ => {}
        }
    }
}

pub fn survives() -> Result<(), Failed> {
    let exact = Settings { stall_threshold_ns: 2000, asks_kernel: true, ..Settings::exact() };
    let rare = Settings { call_period: 50, byte_period: 10_000, ..exact };
    for (level, settings) in [(Level::Count, exact), (Level::Exact, exact), (Level::Exact, rare)] {
        let ran = run_taking("stress", level, &settings);
        holds(&format!("the child ends well: {}", ran.status), ran.status.success())?;
        let samples = ran.samples();
        let StackSamples { samples: taken, nested, full, untracked, stalls_full, .. } = samples;
        let slow: u64 = samples.stalls.iter().map(|stall| stall.calls).sum();
        let sum = |of: fn(&Stack) -> f64| samples.stacks.iter().map(of).sum::<f64>();
        println!(
            "{} calls: {taken} samples, {nested} nested, {full} full, {untracked} untracked, {} freed, {} temporaries, \
             {} live, {slow} slow calls, {stalls_full} full",
            calls(&ran),
            sum(|s| s.freed),
            sum(|s| s.temporaries),
            sum(|s| s.live_objects)
        );
        let kept: u64 = samples.stacks.iter().map(|stack| stack.samples).sum();
        same("each sample was kept, or found no room", kept + full, taken)?;
        holds("slow calls are taken where calls are timed", (slow > 0) == (level == Level::Exact))?;
        if settings == rare {
            continue;
        }
        holds("each allocation was sampled, or fell into a sample", taken + nested >= calls(&ran))?;
        if level == Level::Count {
            same("and no other", taken + nested, calls(&ran))?;
        }
        // What lives at the end was made in the measured phase and outlives it: next to nothing.
        same(
            "each tracked object ended or lives",
            sum(|s| s.freed) + sum(|s| s.live_objects),
            (kept - untracked) as f64,
        )?;
        holds("all threads' objects end", sum(|s| s.live_objects) < 100.0)?;
        holds("signals came while samples were taken", nested > 0)?;
    }
    Ok(())
}
