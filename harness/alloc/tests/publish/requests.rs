//! A running process is asked for its call stacks.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::{Duration, Instant};

use heapgate_alloc::segment::layout::Level;
use heapgate_alloc::segment::mailbox::{MAILBOX_OFFSET, MAILBOX_WORDS, Request};
use heapgate_alloc::segment::published::{self, Buffer, Entry, RequestError};
use heapgate_alloc::segment::size_class::size_class_of;
use heapgate_alloc::segment::stacks::{Settings, Stack, StackSamples};

use crate::OBJECT;
use crate::child::{Child, Place};

const SHORT: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3600);
const NEVER: &dyn Fn() -> bool = &|| false;

fn entry(place: &Place) -> Entry {
    let entries = published::list(&place.runtime()).expect("the folder was made");
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    entry.clone()
}

/// How long a test waits for what a child does; only one that fails comes to it.
const PATIENCE: Duration = Duration::from_secs(100);

/// Objects that the worker has allocated so far.
fn made(entry: &Entry) -> u64 {
    let mut buffer = Buffer::new();
    entry.read(&mut buffer).expect("readable");
    buffer.reader().expect("a segment").totals().size_class(size_class_of(OBJECT as u64)).0
}

/// Holds once the worker has allocated some hundred objects while its stacks are taken; of a process that may get no turn for a
/// while, no time says that.
fn enough(entry: &Entry) -> impl Fn() -> bool + use<'_> {
    let (begin, before) = (Instant::now(), Cell::new(None));
    move || {
        assert!(begin.elapsed() < PATIENCE, "the worker does not work");
        if before.get().is_none() && entry.stacks_path().exists() {
            before.set(Some(made(entry)));
        }
        before.get().is_some_and(|before| made(entry) > before + 300)
    }
}

/// Objects of the worker's size: estimated calls, freed, live.
fn of_worker(samples: &StackSamples) -> [f64; 3] {
    let worker = |thread: u32| samples.threads[thread as usize] == "worker";
    let stacks = samples.stacks.iter().filter(|stack| worker(stack.thread) && !stack.frames.is_empty());
    stacks
        .filter(|stack| (stack.bytes / stack.calls - OBJECT as f64).abs() < 1.0)
        .fold([0.0; 3], |sum, stack| [sum[0] + stack.calls, sum[1] + stack.freed, sum[2] + stack.live_objects])
}

pub fn stacks_of_a_running_process_are_taken_for_a_time_and_again() {
    let place = Place::new();
    let child = Child::start(&place, "profiled", &[]);
    let entry = entry(&place);
    let every = Settings { stall_threshold_ns: 1, ..Settings::exact() };
    let samples = entry.sample_stacks(&every, HOUR, &enough(&entry)).expect("it answers");
    let [calls, freed, live] = of_worker(&samples);
    // Of the one in 64 calls that is timed at level sampled.
    assert!(calls > 10.0 && samples.stalls.iter().all(|stall| stall.calls % 64 == 0), "{calls}: {:?}", samples.stalls);
    // An object that was there before is not known; one may live at the end.
    assert!(live <= 1.0 && freed + live == calls, "{calls} {freed} {live}");
    assert!(samples.stacks.iter().all(|stack| stack.phase == 0), "a service has no phases");

    let seldom = Settings { call_period: 8, byte_period: 1 << 20, ..Settings::NOTHING };
    let again = entry.sample_stacks(&seldom, HOUR, &enough(&entry)).expect("it answers again");
    assert!((again.settings.call_period, again.settings.byte_period) == (8, 1 << 20) && again.samples > 0);
    // Each of small objects stands for 7 or 8, and one of the first would stand for itself.
    let small = |stack: &&Stack| stack.bytes / stack.calls <= OBJECT as f64;
    let stand_for = |stack: &Stack| stack.calls / stack.samples as f64;
    assert!(again.stacks.iter().filter(small).all(|stack| stand_for(stack) > 7.0), "something is left of the first");
    assert!(again.stalls.is_empty());
    // A time that was given is kept to.
    assert!(entry.sample_stacks(&every, SHORT, NEVER).is_ok());
    assert!(!entry.stacks_path().exists(), "what was read is removed");
    assert_eq!(child.end().stderr, "");
}

pub fn cpu_time_of_a_running_process_is_sampled_where_it_was_built_for_that() {
    let place = Place::new();
    let child = Child::start(&place, "profiled", &[]);
    let entry = entry(&place);
    let asked = |hz, time| entry.sample_cpu(hz, time, NEVER);
    if cfg!(feature = "profile-cpu") {
        for _ in 0..2 {
            let text = asked(100, SHORT).expect("it answers");
            assert!(text.starts_with("begin  100\n") && text.contains("\nend "), "{text}");
            assert!(!entry.cpu_path().exists(), "what was read is removed");
        }
        for (hz, time, why) in [(0, SHORT, "1 to 1000"), (1001, SHORT, "1 to 1000"), (100, Duration::ZERO, "1 ms to")] {
            let refused = asked(hz, time).expect_err("makes no sense").to_string();
            assert!(refused.contains(why), "{refused}");
        }
        // The two don't disturb each other.
        let stacks = entry.sample_stacks(&Settings::exact(), HOUR, &enough(&entry));
        assert!(of_worker(&stacks.expect("it answers"))[0] > 0.0);
    } else {
        let refused = asked(100, SHORT).expect_err("not built for it").to_string();
        assert!(refused.contains("feature profile-cpu"), "{refused}");
    }
    assert_eq!(child.end().stderr, "");
}

pub fn what_was_taken_until_it_was_cancelled_or_killed_is_there() {
    let place = Place::new();
    let mut child = Child::start(&place, "profiled", &[]);
    let entry = entry(&place);
    let samples = entry.sample_stacks(&Settings::exact(), HOUR, &enough(&entry)).expect("what there was");
    assert!(of_worker(&samples)[0] > 0.0);

    let enough = enough(&entry);
    let mut mode = 0;
    let killed = entry.sample_stacks(&Settings::exact(), HOUR, &|| {
        if enough() {
            // SAFETY: kill takes numbers; the child is not waited for yet, so its number is its own.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGKILL) };
        }
        false
    });
    if let Ok(file) = entry.stacks_path().metadata() {
        mode = file.permissions().mode();
    }
    assert!(of_worker(&killed.expect("what there was"))[0] > 0.0);
    assert_eq!(mode, 0, "removed by who has read it");
    child.kill();
    assert!(matches!(entry.sample_stacks(&Settings::exact(), SHORT, NEVER), Err(RequestError::Ended)));
}

pub fn what_makes_no_sense_is_refused_and_whoever_takes_no_requests_says_so() {
    let place = Place::new();
    let child = Child::start(&place, "profiled", &[]);
    let entry_of_child = entry(&place);
    let refusal = |settings: &Settings, time| match entry_of_child.sample_stacks(settings, time, NEVER) {
        Err(RequestError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refusal(&Settings::NOTHING, SHORT).contains("neither allocations nor slow calls"));
    assert!(refusal(&Settings::exact(), Duration::ZERO).contains("1 ms to 3600 s"));
    assert!(refusal(&Settings::exact(), Duration::MAX).contains("1 ms to 3600 s"));
    assert!(refusal(&Settings::calls(u64::MAX), SHORT).contains("at most"));
    entry_of_child.set_level(Level::Count).expect("set");
    assert!(refusal(&Settings::stalls(1), SHORT).contains("no call is timed"));
    let unknown = Request { command: 77, ..Request::default() };
    let answer = entry_of_child.request(&unknown, SHORT, NEVER);
    assert!(answer.expect_err("refused").to_string().contains("no command 77"));
    drop(child);

    let place = Place::new();
    let _child = Child::start(&place, "publish", &[]);
    let refused = entry(&place).sample_stacks(&Settings::exact(), SHORT, NEVER).expect_err("not built for it");
    assert!(refused.to_string().contains("Publication::profiling()"), "{refused}");
}

pub fn a_stopped_process_ends_in_an_error_and_one_client_asks_at_a_time() {
    let place = Place::new();
    let child = Child::start(&place, "profiled", &[]);
    let entry = entry(&place);
    let file = OpenOptions::new().write(true).open(&entry.path).expect("it is ours");
    // SAFETY: flock takes an open descriptor.
    let lock = |how| assert_eq!(unsafe { libc::flock(file.as_raw_fd(), how) }, 0);
    lock(libc::LOCK_EX);
    let busy = entry.sample_stacks(&Settings::exact(), SHORT, NEVER);
    assert!(matches!(busy, Err(RequestError::Busy(_))), "{busy:?}");
    lock(libc::LOCK_UN);
    // SAFETY: kill takes numbers; the child lives.
    let signal = |signal| assert_eq!(unsafe { libc::kill(child.id().cast_signed(), signal) }, 0);
    signal(libc::SIGSTOP);
    // Its threads run for a while yet; the kernel tells a parent when all have stopped.
    let mut status = 0;
    // SAFETY: `status` is valid for the call to fill in; one that has stopped is still there to be waited for.
    let waited = unsafe { libc::waitpid(child.id().cast_signed(), &raw mut status, libc::WUNTRACED) };
    assert!(waited > 0 && libc::WIFSTOPPED(status));
    let stopped = entry.request(&Request::default(), SHORT, NEVER);
    assert!(matches!(stopped, Err(RequestError::Hangs(_))), "{stopped:?}");
    signal(libc::SIGCONT);
    assert!(entry.sample_stacks(&Settings::exact(), SHORT, NEVER).is_ok(), "it goes on");
}

pub fn whatever_is_written_into_the_mailbox_the_process_goes_on() {
    let place = Place::new();
    let child = Child::start(&place, "profiled", &[]);
    let entry = entry(&place);
    let file = OpenOptions::new().write(true).open(&entry.path).expect("it is ours");
    let mut word = 1_u64;
    for round in 0..6_u64 {
        for index in 1..MAILBOX_WORDS as u64 {
            word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(round);
            let value = [word, u64::MAX, round][(round % 3) as usize];
            file.write_all_at(&value.to_ne_bytes(), MAILBOX_OFFSET as u64 + index * 8).expect("written");
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let stacks = entry.sample_stacks(&Settings::exact(), HOUR, &enough(&entry));
    assert!(of_worker(&stacks.expect("it answers"))[0] > 0.0);
    assert_eq!(child.end().stderr, "");
}
