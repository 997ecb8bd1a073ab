//! A process may die at any instant: what it had counted is there, readable, and consistent.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::processes::{Running, wait_for};
use crate::common::segment::Segment;
use heapgate_segment::layout::Level;
use heapgate_segment::reader::{Reader, Totals};

const KILLS: u64 = 200;
/// Phases that have begun when the measured one has.
const UP_TO_MEASURED: usize = 3;
const POLL: Duration = Duration::from_millis(3);

/// What a process had counted when it was looked at.
struct Reading {
    totals: Totals,
    /// For each phase: its number, whether it has ended, and what was counted up to its beginning and its end.
    phases: Vec<(u64, bool, Totals, Totals)>,
}

impl Reading {
    /// Phases first: what is counted after them can only be more.
    fn take(reader: Reader<'_>) -> Self {
        let phases =
            reader.phases().into_iter().map(|phase| (phase.kind, phase.ended, phase.begin, phase.end)).collect();
        Self { phases, totals: reader.totals() }
    }

    /// Checks that nothing was freed that had not been allocated, and that no count goes back from one mark to the
    /// next.
    fn check(&self) {
        let mut marks = vec![Totals::default()];
        for (_, _, begin, end) in &self.phases {
            marks.extend([begin.clone(), end.clone()]);
        }
        marks.push(self.totals.clone());
        for mark in &marks {
            assert!(mark.objects_freed() <= mark.objects_allocated(), "{:?}", counts(mark));
            assert!(mark.bytes_freed() <= mark.bytes_allocated(), "{:?}", counts(mark));
        }
        for pair in marks.windows(2) {
            not_less(&pair[0], &pair[1]);
        }
        let numbers: Vec<u64> = self.phases.iter().map(|phase| phase.0).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        assert!(self.phases.iter().rev().skip(1).all(|phase| phase.1), "only the last phase may be open");
    }

    /// Checks that this one follows from `earlier`.
    fn follows(&self, earlier: &Self) {
        not_less(&earlier.totals, &self.totals);
        assert!(earlier.phases.len() <= self.phases.len());
        for (before, now) in earlier.phases.iter().zip(&self.phases) {
            assert_eq!(counts(&before.2), counts(&now.2), "a phase's beginning changed");
            if before.1 {
                assert_eq!((counts(&before.3), before.1), (counts(&now.3), now.1), "an ended phase changed");
            } else {
                not_less(&before.3, &now.3);
            }
        }
    }
}

fn counts(totals: &Totals) -> [u64; 10] {
    [
        totals.objects_allocated(),
        totals.objects_freed(),
        totals.bytes_allocated(),
        totals.bytes_freed(),
        totals.alloc_zeroed_calls(),
        totals.alloc_zeroed_bytes(),
        totals.realloc_calls(),
        totals.realloc_new_bytes(),
        totals.realloc_old_bytes(),
        totals.failed_calls(),
    ]
}

#[track_caller]
fn not_less(earlier: &Totals, later: &Totals) {
    let (earlier, later) = (counts(earlier), counts(later));
    assert!(earlier.iter().zip(&later).all(|(earlier, later)| earlier <= later), "{earlier:?} then {later:?}");
}

/// Numbers that are the same in each run of the test: a multiplicative sequence, spread evenly.
fn random(index: u64) -> u64 {
    index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// A trial: workload, allocator, level.
type Program = (&'static str, &'static str, Level);

/// Starts a trial. Three steps of warm-up and twelve measured: about as long as what comes before them.
fn start_trial((variant, allocator, level): Program) -> (Segment, Running) {
    let segment = Segment::new(level);
    let mut command = Command::new(crate::common::HEAPGATE);
    command.args(["trial", variant, "--param", "document=repeated", "--steps", "12"]);
    command.env("HEAPGATE_ALLOCATOR", allocator).env("TOKENIZERS_PARALLELISM", "false");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    segment.give_to(&mut command);
    let process = Running::new(command.spawn().expect("start"));
    (segment, process)
}

/// How long it takes here, now, from before `main` into the measured phase.
fn time_to_measure(program: Program) -> Duration {
    let start = Instant::now();
    let (segment, _process) = start_trial(program);
    wait_for("the measured phase", || (segment.reader().phases().len() >= UP_TO_MEASURED).then_some(()));
    start.elapsed()
}

/// Starts a trial, looks at it now and then, kills it after `life`, and returns the last reading.
fn kill_after(life: Duration, program: Program) -> Reading {
    let start = Instant::now();
    let (segment, process) = start_trial(program);
    let mut last = Reading::take(segment.reader());
    while start.elapsed() < life {
        sleep(POLL.min(life.saturating_sub(start.elapsed())));
        let reading = Reading::take(segment.reader());
        reading.check();
        reading.follows(&last);
        last = reading;
    }
    // By SIGKILL, and waits.
    drop(process);
    let dead = Reading::take(segment.reader());
    dead.check();
    dead.follows(&last);
    assert_eq!(counts(&dead.totals), counts(&segment.reader().totals()), "the dead don't count");
    dead
}

#[test]
fn counts_survive_200_kills_at_random_instants() {
    let programs = [
        ("tokenize/wordpiece-heap", "jemalloc", Level::Exact),
        ("tokenize/wordpiece-heap", "system", Level::Count),
        ("tokenize/hf-wordpiece", "jemalloc", Level::Exact),
        ("tokenize/wordpiece-heap", "region", Level::Sampled),
        ("tokenize/tiktoken-cl100k", "system", Level::Exact),
    ];
    // Half of them die before the measured phase, if the machine stays as fast as it is.
    let latest = programs.map(|program| 2 * time_to_measure(program));
    // By the number of phases that were reached.
    let mut reached = [0; 5];
    for kill in 0..KILLS {
        let index = kill as usize % programs.len();
        let life = Duration::from_nanos(random(kill) % latest[index].as_nanos() as u64);
        let dead = kill_after(life, programs[index]);
        reached[dead.phases.len()] += 1;
    }
    println!("killed before the first phase, in set-up, warm-up, measurement, drain: {reached:?}");
    assert!(reached[1..].iter().sum::<u64>() > KILLS / 10, "most died before they counted: {reached:?}");
}
