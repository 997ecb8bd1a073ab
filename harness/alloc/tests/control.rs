//! A process is steered while it runs: from outside, by itself, and by its soft limit; and it counts exactly meanwhile. Each
//! scenario is a real process with jemalloc.

#[path = "control/by_agent.rs"]
mod by_agent;
#[path = "control/child.rs"]
mod child;
#[path = "control/held.rs"]
mod held;

use std::path::Path;
use std::time::{Duration, Instant};

use by_agent::ByAgent;
use child::{Child, SCENARIO};
use heapgate_alloc::Telemetry;
use heapgate_alloc::segment::layout::Level;
use heapgate_alloc::segment::mailbox::{Command, Request};
use heapgate_alloc::segment::published::RequestError;
use heapgate_alloc::segment::setting::{Change, Setting};
use heapgate_alloc::segment::size_class::size_class_of;
use heapgate_alloc::segment::text::Text;
use libtest_mimic::{Arguments, Trial};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: ByAgent = ByAgent(Telemetry::new(Jemalloc));

/// Of a size class that nothing else in a child has.
pub const OBJECT: usize = 12_345;

/// jemalloc keeps every page for good, unless it is told otherwise.
const KEEP: (&str, &str) = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1");

fn main() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        return child::run(&scenario);
    }
    macro_rules! trials {
        ($($function:path)*) => { vec![$(Trial::test(stringify!($function), || { $function(); Ok(()) })),*] };
    }
    let tests = trials![
        what_is_asked_for_is_what_jemalloc_has_then
        what_is_refused_says_why_and_changes_nothing
        a_process_without_control_says_so
        a_process_that_is_stopped_or_has_ended_ends_in_an_error
        groups_keep_the_decay_that_they_were_given
        requests_are_counted_for_the_group_that_finished_them
        the_heap_profiler_is_switched_and_dumps_where_it_was_asked_for_at_the_start
        a_held_agent_holds_nothing_else_up
        the_agent_allocates_nothing_while_it_acts
        counts_are_exact_under_a_thousand_random_changes
        memory_that_can_be_purged_stays_below_the_soft_limit
        a_leak_ends_in_the_callback_and_not_in_purging
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

fn what_is_asked_for_is_what_jemalloc_has_then() {
    let mut child = Child::start("serve", &[]);
    // Dirty pages that jemalloc would keep for ten seconds.
    child.ask("garbage");
    let given_back = child.set(Setting::Purge, 1).expect("purged");
    assert!(given_back > 16 << 20, "{given_back}");
    for (setting, value) in [
        (Setting::DirtyDecayMs, 0),
        (Setting::DirtyDecayMs, -1),
        (Setting::MuzzyDecayMs, 5000),
        (Setting::BackgroundThread, 1),
        (Setting::BackgroundThread, 0),
        (Setting::Level, Level::Exact as i64),
        (Setting::SoftLimitBytes, 1 << 40),
    ] {
        assert_eq!(child.set(setting, value).expect("acknowledged"), value, "{setting}");
        assert_eq!(child.get(setting).expect("known"), value, "{setting}");
    }
    // As the process sees it itself: the default of new arenas, and all that there are.
    assert_eq!(child.ask("decays"), "-1 5000");
    assert_eq!(child.ask("set dirty_decay_ms 250"), "250");
    let steering = child.steering();
    assert_eq!(steering.value(Setting::DirtyDecayMs), Some(250));
    assert_eq!(steering.value(Setting::SoftLimitBytes), Some(1 << 40));
    assert_eq!((steering.changes(Setting::DirtyDecayMs), steering.all_changes()), (3, 9));
    assert_eq!((steering.refusals, steering.soft_limit_step), (0, 0));
}

fn what_is_refused_says_why_and_changes_nothing() {
    let mut child = Child::start("serve", &[]);
    let refusal = |result: Result<i64, RequestError>| match result {
        Err(RequestError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let decay = child.get(Setting::DirtyDecayMs).expect("known");
    for value in [-2, 3_600_001, i64::MAX, i64::MIN] {
        let why = refusal(child.set(Setting::DirtyDecayMs, value));
        assert!(why.contains("dirty_decay_ms can't be") && why.contains("-1 to 3600000"), "{why}");
    }
    assert_eq!(child.get(Setting::DirtyDecayMs).expect("known"), decay);
    assert!(refusal(child.set(Setting::SoftLimitBytes, 4096)).contains("1 MiB at least"));
    assert!(refusal(child.set(Setting::TraceIntervalMs, 100)).contains("HEAPGATE_TRACE=1"));
    assert!(refusal(child.set(Setting::HeapProfile, 1)).contains("opt.prof"));
    assert!(refusal(child.get(Setting::Purge)).contains("action"));
    let unknown = Request {
        command: Command::SetSetting as u64,
        arguments: [999, u64::MAX, 3, 4, 5, 6],
        text: Text::of("x".repeat(1000)),
    };
    assert!(refusal(child.request(&unknown)).contains("no setting number 999"));
    let nonsense = Request { command: u64::MAX, ..Request::default() };
    assert!(refusal(child.request(&nonsense)).contains("no command"));
    assert_eq!(child.steering().all_changes(), 0);
    assert!(child.steering().refusals >= 7);
    assert_eq!(
        child.ask("set dirty_decay_ms -7"),
        "dirty_decay_ms can't be -7; it takes ms from -1 to 3600000 (-1: pages are never given back; 0: at once)"
    );
}

fn a_process_without_control_says_so() {
    let child = Child::start("publish", &[]);
    let error = child.set(Setting::DirtyDecayMs, 0).expect_err("it takes none");
    assert!(matches!(error, RequestError::NotTaken), "{error:?}");
    assert!(error.to_string().contains("control"), "{error}");
}

fn a_process_that_is_stopped_or_has_ended_ends_in_an_error() {
    let mut child = Child::start("serve", &[]);
    child.signal(libc::SIGSTOP);
    let error = child.set(Setting::DirtyDecayMs, 0).expect_err("it is stopped");
    assert!(matches!(error, RequestError::Hangs(_)), "{error:?}");
    child.signal(libc::SIGCONT);
    // What nobody waits for any more is done all the same, and the next answer is to the next question.
    assert_eq!(child.set(Setting::MuzzyDecayMs, 77).expect("it goes on"), 77);
    child.kill();
    let error = child.set(Setting::DirtyDecayMs, 0).expect_err("it has ended");
    assert!(matches!(error, RequestError::Ended), "{error:?}");
}

fn groups_keep_the_decay_that_they_were_given() {
    let mut child = Child::start("serve", &[]);
    child.ask("groups");
    let decays = |child: &mut Child| -> Vec<(String, i64, i64)> {
        child.ask("refresh");
        let groups = child.read().reader().expect("a segment").groups();
        groups.into_iter().map(|group| (group.name, group.dirty_decay_ms, group.muzzy_decay_ms)).collect()
    };
    let of = |name: &str, dirty, muzzy| (name.to_owned(), dirty, muzzy);
    assert_eq!(decays(&mut child), [of("control", 10_000, 0), of("strict", 0, 0), of("dirty", 77, 0)]);
    child.set(Setting::DirtyDecayMs, 5000).expect("acknowledged");
    child.set(Setting::MuzzyDecayMs, 400).expect("acknowledged");
    // The control has what the process has, and so have the others what they did not ask for otherwise.
    assert_eq!(decays(&mut child), [of("control", 5000, 400), of("strict", 0, 0), of("dirty", 77, 400)]);
    // A thread that is bound after the change gets an arena with the group's decay, too: nothing goes wrong with it.
    assert_eq!(child.ask("bind strict"), "bound");
}

fn requests_are_counted_for_the_group_that_finished_them() {
    let found = |child: &Child| -> Vec<(String, Option<(u64, u64)>)> {
        let buffer = child.read();
        let reader = buffer.reader().expect("a segment");
        let requests = |group| reader.group_requests(group).map(|requests| (requests.count(), requests.sum_ns));
        reader.groups().iter().map(|group| (group.name.clone(), requests(group))).collect()
    };
    let of = |name: &str, requests| (name.to_owned(), requests);
    let mut child = Child::start("serve", &[]);
    assert_eq!(child.ask("finish control 7"), "finished", "without groups nothing is counted, and nothing goes wrong");
    child.ask("groups");
    for request in ["finish control 7", "finish dirty 1", "finish dirty 2"] {
        child.ask(request);
    }
    let dirty = of("dirty", Some((2, 3_000_000)));
    assert_eq!(found(&child), [of("control", Some((1, 7_000_000))), of("strict", None), dirty]);

    let mut child = Child::start("serve", &[("HEAPGATE_GROUP", "lax")]);
    assert_eq!(found(&child), [of("lax", None)]);
    child.ask("finish - 7");
    assert_eq!(found(&child), [of("lax", Some((1, 7_000_000)))]);
}

fn the_heap_profiler_is_switched_and_dumps_where_it_was_asked_for_at_the_start() {
    let child = Child::start("serve", &[("_RJEM_MALLOC_CONF", "prof:true,prof_active:false,lg_prof_sample:12")]);
    assert_eq!(child.get(Setting::HeapProfile).expect("known"), 0);
    assert_eq!(child.set(Setting::HeapProfile, 1).expect("on"), 1);
    let path = child.folder().join("a.heap");
    let dump: Change = format!("heap_profile_dump={}", path.display()).parse().expect("a change");
    assert_eq!(child.entry.set_setting(&dump).expect("written"), 1);
    let profile = std::fs::read_to_string(&path).expect("a profile");
    assert!(profile.starts_with("heap_v2/4096"), "{profile}");
    assert_eq!(child.set(Setting::HeapProfile, 0).expect("off"), 0);
    let nowhere: Change = "heap_profile_dump=/no/such/folder/a.heap".parse().expect("a change");
    let Err(RequestError::Refused(why)) = child.entry.set_setting(&nowhere) else { panic!("it is written nowhere") };
    assert!(why.contains("prof.dump"), "{why}");
    let steering = child.steering();
    assert_eq!((steering.changes(Setting::HeapProfile), steering.changes(Setting::HeapProfileDump)), (2, 1));
}

/// In the midst of a purge, in an arena that half of the program's threads allocate from.
fn a_held_agent_holds_nothing_else_up() {
    for is_released in [true, false] {
        let mut child = Child::start("serve", &[KEEP]);
        child.get(Setting::DirtyDecayMs).expect("it has started");
        child.ask("watch agent");
        child.ask("held arena");
        let entry = child.entry.clone();
        let asked = std::thread::spawn(move || {
            let mut purge = Request { command: Command::SetSetting as u64, ..Request::default() };
            purge.arguments[..2].copy_from_slice(&[Setting::Purge as u64, 1]);
            entry.request(&purge, Duration::from_secs(600), &|| false)
        });
        // It does so when the agent is held, and says so before that is released.
        assert_eq!(child.ask("work"), "done");
        assert!(!asked.is_finished());
        assert_eq!(child.read().reader().expect("a segment").steering().expect("it is steered").all_changes(), 0);
        if is_released {
            child.ask("release agent");
            asked.join().expect("no panic").expect("purged");
            assert_eq!(child.set(Setting::DirtyDecayMs, 5).expect("it goes on"), 5);
        } else {
            assert_eq!(child.end(), "", "a program ends as ever");
            assert!(matches!(asked.join().expect("no panic"), Err(RequestError::Ended)));
        }
    }
}

/// So it can't come back to the allocator that it changes, or to one of its locks.
fn the_agent_allocates_nothing_while_it_acts() {
    let all = [("_RJEM_MALLOC_CONF", "prof:true,prof_active:false"), ("HEAPGATE_TRACE", "1")];
    let mut child = Child::start("serve", &all);
    child.get(Setting::DirtyDecayMs).expect("it has started");
    child.ask("watch agent");
    child.ask("leak");
    for setting in Setting::ALL {
        let range = setting.range();
        for value in [*range.start(), *range.end(), 1000, 5, range.start() - 1, i64::MAX] {
            // What is no value of it is refused; a soft limit of a PiB is no reason to do anything.
            let _ = child.set(setting, value);
        }
        let _ = child.get(setting);
    }
    let dump = |path: &Path| Change {
        setting: Setting::HeapProfileDump,
        value: 1,
        text: path.to_str().expect("text").to_owned(),
    };
    child.entry.set_setting(&dump(&child.folder().join("a.heap"))).expect("written");
    child.entry.set_setting(&dump(Path::new("/no/such/folder/a.heap"))).expect_err("it is written nowhere");
    let unknown =
        Request { command: Command::SetSetting as u64, arguments: [999; 6], text: Text::of("x".repeat(1000)) };
    assert!(child.request(&unknown).is_err());
    assert!(child.request(&Request { command: u64::MAX, ..Request::default() }).is_err());
    let before = child.steering();
    assert!(before.all_changes() > 20 && before.refusals > 20, "{before:?}");
    // All steps of the soft limit at once, and one back.
    child.set(Setting::SoftLimitBytes, 64 << 20).expect("acknowledged");
    child.wait_for(|steering| {
        steering.soft_limit_step == 4 && steering.soft_limit_asks > 1 && steering.soft_limit_purges > 1
    });
    child.ask("drop");
    child.wait_for(|steering| steering.soft_limit_step < 4);
    assert_eq!(child.ask("calls"), "0");
    // That it is this thread's calls that are counted: profiles allocate, and change nothing of the allocator.
    let stacks =
        Request { command: Command::SampleStacks as u64, arguments: [1, 1, 0, 0, 1, 10], ..Request::default() };
    assert!(child.request(&stacks).is_err(), "this program takes none");
    assert_ne!(child.ask("calls"), "0");
}

/// From outside and from inside at once, while eight threads allocate and free. Level `off` is left out: it does not count.
fn counts_are_exact_under_a_thousand_random_changes() {
    const CHANGES: u32 = 1000;
    let mut child = Child::start("load", &[]);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..CHANGES / 2 {
        let (setting, value) = child::random_change(&mut random);
        child.set(setting, value).unwrap_or_else(|error| panic!("{setting} = {value}: {error}"));
    }
    let answer = child.ask("end");
    let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [made_inside, allocated, freed] = numbers[..] else { panic!("{answer}") };
    assert_eq!(made_inside, u64::from(CHANGES / 2));
    let buffer = child.read();
    let reader = buffer.reader().expect("a segment");
    assert_eq!(reader.totals().size_class(size_class_of(OBJECT as u64)), (allocated, freed));
    let steering = reader.steering().expect("it is steered");
    assert_eq!((steering.all_changes(), steering.refusals), (u64::from(CHANGES), 0));
    assert_eq!(child.end(), "");
}

fn memory_that_can_be_purged_stays_below_the_soft_limit() {
    let mut child = Child::start("serve", &[KEEP, ("HEAPGATE_SOFT_LIMIT", "128MiB")]);
    assert_eq!(child.get(Setting::SoftLimitBytes).expect("set"), 128 << 20);
    // Eight arenas come to hold 32 MiB each, of which one is alive at a time.
    child.ask("churn");
    let steering = child.steering();
    assert!(steering.soft_limit_steps > 0 && steering.soft_limit_step > 0, "{steering:?}");
    let highest: u64 = child.ask("peak").parse().expect("a number");
    assert!(highest < 192 << 20, "{highest}");
    // What was asked for comes back when memory is calm again; also what is asked for meanwhile.
    assert!((0..=1000).contains(&child.set(Setting::DirtyDecayMs, 20_000).expect("acknowledged")));
    child.wait_for(|steering| steering.soft_limit_step == 0);
    assert_eq!(child.get(Setting::DirtyDecayMs).expect("known"), 20_000);
    assert_eq!(child.get(Setting::MuzzyDecayMs).expect("known"), -1);
}

fn a_leak_ends_in_the_callback_and_not_in_purging() {
    let mut child = Child::start("serve", &[("HEAPGATE_SOFT_LIMIT", "64MiB")]);
    child.ask("hold callback");
    child.ask("leak");
    // All of it is there, and nothing rises any more: as it does, another purge may be worth it.
    let (before, begin) = (child.steering(), Instant::now());
    child.wait_for(|steering| steering.soft_limit_asks >= before.soft_limit_asks + 3);
    let (steering, seconds) = (child.steering(), begin.elapsed().as_secs());
    assert_eq!(steering.soft_limit_step, 4);
    // 0.25 s, and twice as long after each that was in vain: fewer than one a look by far, whatever the machine does.
    let purges = steering.soft_limit_purges - before.soft_limit_purges;
    assert!(purges <= 4 + seconds, "{purges} in {seconds} s: {steering:?}");
    // The callback was called, and has not returned: nobody waits for it, and it is not called again.
    assert_eq!(child.ask("asked"), "1");
    child.set(Setting::Purge, 1).expect("acknowledged");
    child.ask("release callback");
    child.ask("drop");
    child.wait_for(|steering| steering.soft_limit_step == 0);
    assert_eq!(child.ask("relieved"), "true");
}
