//! A published process is found and read from outside, alive and dead; where it can't be published it runs on and says so
//! once. And the trace line. Each scenario is a real process.

#[path = "publish/child.rs"]
mod child;
#[path = "publish/refused.rs"]
mod refused;
#[path = "publish/requests.rs"]
mod requests;
#[path = "publish/trace.rs"]
mod trace;

use std::alloc::System;

use child::{Child, Place, SCENARIO};
use heapgate_alloc::Telemetry;
use heapgate_alloc::segment::layout::{Gauge, Level, Operation};
use heapgate_alloc::segment::published::{self, Buffer};
use heapgate_alloc::segment::size_class::size_class_of;
use libtest_mimic::{Arguments, Trial};

#[global_allocator]
static ALLOCATOR: Telemetry<System> = Telemetry::new(System);

/// Of a size that nothing else in a child has.
pub const OBJECT: usize = 12_345;
/// How many of them a child keeps.
pub const OBJECTS: u64 = 1000;

fn main() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        return child::run(&scenario);
    }
    macro_rules! trials {
        ($($function:path)*) => { vec![$(Trial::test(stringify!($function).replace(' ', ""), || { $function(); Ok(()) })),*] };
    }
    let tests = trials![
        a_published_process_is_read_alive_and_after_it_was_killed
        the_environment_publishes_a_program_that_knows_nothing_of_it
        a_second_call_adds_labels_and_keeps_the_name
        a_forked_child_is_not_published_and_does_not_keep_its_parent_alive
        an_executed_program_takes_its_predecessors_place
        refused::a_missing_folder
        refused::a_folder_of_another_user
        refused::a_folder_that_others_may_write
        refused::a_file_in_the_folders_place
        refused::a_full_disk
        refused::a_read_only_file_system
        refused::a_folder_that_may_not_be_written
        refused::a_limit_on_the_size_of_files
        refused::a_name_that_is_no_name
        refused::a_level_that_is_none
        refused::a_trial_of_heapgates
        requests::stacks_of_a_running_process_are_taken_for_a_time_and_again
        requests::cpu_time_of_a_running_process_is_sampled_where_it_was_built_for_that
        requests::what_was_taken_until_it_was_cancelled_or_killed_is_there
        requests::what_makes_no_sense_is_refused_and_whoever_takes_no_requests_says_so
        requests::a_stopped_process_ends_in_an_error_and_one_client_asks_at_a_time
        requests::whatever_is_written_into_the_mailbox_the_process_goes_on
        trace::lines_come_and_say_what_was_counted
        trace::a_process_that_publishes_itself_later_is_published
        trace::lines_go_to_a_file
        trace::a_file_that_takes_no_lines_is_said_once
        trace::a_forked_child_writes_no_line
        trace::an_interval_that_is_none_is_refused
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

fn a_published_process_is_read_alive_and_after_it_was_killed() {
    let place = Place::new();
    let mut child = Child::start(&place, "publish", &[]);
    let entries = published::list(&place.runtime()).expect("the folder was made");
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.name.as_str(), entry.pid), ("tokenizer", child.id()));
    assert!(entry.is_alive() && entry.is_in_proc());

    let (id, mut buffer) = (child.id(), Buffer::new());
    let mut look = || {
        entry.read(&mut buffer).expect("readable");
        let reader = buffer.reader().expect("a segment");
        assert_eq!(
            (reader.service(), reader.version(), reader.allocator()),
            ("tokenizer".into(), "1.2.3".into(), "system".into())
        );
        assert_eq!((reader.pid(), reader.start_time()), (Some(id), Some(entry.start_time)));
        assert_eq!((reader.level(), reader.sample_period(), reader.was_off()), (Level::Sampled, 64, false));
        assert_eq!(reader.gauge(Gauge::JemallocActive), Some(4242));
        assert!(reader.published_unix_ns() > 1_700_000_000_000_000_000);
        let totals = reader.totals();
        assert_eq!(totals.size_class(size_class_of(OBJECT as u64)), (OBJECTS, 0));
        assert!(totals.live_bytes() >= (OBJECT as u64 * OBJECTS).cast_signed());
        totals
    };
    let alive = look();
    let mut own = child.ask("figures");
    own.retain(|c| c != '\n');
    assert_eq!(
        own,
        format!("{} {}", alive.size_class(size_class_of(OBJECT as u64)).0, "tokenizer"),
        "as the process sees it"
    );
    child.kill();
    assert!(!entry.is_alive());
    let dead = look();
    assert!(dead.allocation_calls() >= alive.allocation_calls());
    assert!(dead.clean(Operation::Alloc).sum::<u64>() > 0, "one call in 64 was timed");
    entry.remove().expect("removed");
    assert_eq!(published::list(&place.runtime()).expect("listed"), []);
}

fn the_environment_publishes_a_program_that_knows_nothing_of_it() {
    let place = Place::new();
    let variables = [
        ("HEAPGATE_PUBLISH", "from-outside"),
        ("HEAPGATE_LEVEL", "exact"),
        ("HEAPGATE_SAMPLE_PERIOD", "7"),
        ("HEAPGATE_VERSION", "v9"),
        ("HEAPGATE_ALLOCATOR", "system"),
    ];
    let child = Child::start(&place, "nothing", &variables);
    let reading = place.read("from-outside");
    let reader = reading.reader().expect("a segment");
    assert_eq!((reader.version(), reader.allocator()), ("v9".into(), "system".into()));
    assert_eq!((reader.level(), reader.sample_period()), (Level::Exact, 7));
    let totals = reader.totals();
    assert!(totals.allocation_calls() > 0, "before main, too");
    assert_eq!(totals.size_class(size_class_of(OBJECT as u64)), (OBJECTS, 0));
    // From before main, nothing is freed that was not seen allocated.
    assert!(totals.live_objects() >= OBJECTS.cast_signed());
    assert_eq!(child.end().stderr, "");
}

fn a_second_call_adds_labels_and_keeps_the_name() {
    let place = Place::new();
    let child = Child::start(&place, "publish", &[("HEAPGATE_PUBLISH", "operator"), ("HEAPGATE_VERSION", "theirs")]);
    let reading = place.read("operator");
    let reader = reading.reader().expect("a segment");
    assert_eq!(
        (reader.service(), reader.version(), reader.allocator()),
        ("operator".into(), "theirs".into(), "system".into())
    );
    assert_eq!(child.end().stderr, "");
}

fn a_forked_child_is_not_published_and_does_not_keep_its_parent_alive() {
    let place = Place::new();
    let mut child = Child::start(&place, "fork", &[]);
    assert!(child.ask("fork").starts_with("forked: a forked child of a measured process can't be published"));
    let entries = published::list(&place.runtime()).expect("the folder was made");
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let mut buffer = Buffer::new();
    entry.read(&mut buffer).expect("readable");
    let class = buffer.reader().expect("a segment").totals().size_class(size_class_of(OBJECT as u64));
    assert_eq!(class.0, OBJECTS, "what the forked child allocated is not its parent's");
    assert!(entry.is_alive());
    // The forked child goes on: it waits until the test's end of the pipe is closed.
    child.kill();
    assert!(!entry.is_alive());
}

fn an_executed_program_takes_its_predecessors_place() {
    let place = Place::new();
    let child = Child::start(&place, "exec", &[("HEAPGATE_PUBLISH", "one")]);
    let reading = place.read("one");
    let totals = reading.reader().expect("a segment").totals();
    assert_eq!(totals.size_class(size_class_of(OBJECT as u64)), (OBJECTS, 0), "its own, not its predecessor's");
    assert_eq!(child.end().stderr, "");
}
