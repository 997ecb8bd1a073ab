//! What the tests share: a scenario runs in a process of its own, from a segment in its environment, as in real use;
//! the test looks at the segment it leaves.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, ExitStatus};

use heapgate_alloc::segment::layout::{self, Level};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::segment::reader::{Reader, Totals};
use heapgate_alloc::segment::stacks::{self, Capacity, Settings, StackSamples, StackTable};

/// Names the scenario for a child.
pub const SCENARIO: &str = "HEAPGATE_TEST_SCENARIO";

/// A segment and the child that counted into it.
pub struct Ran {
    mapping: Mapping,
    stacks: Option<Mapping>,
    pub status: ExitStatus,
}

/// Runs this executable again, as `scenario`, with a segment of `slots` slots.
#[allow(dead_code, reason = "each test file uses a part")]
pub fn run(scenario: &str, level: Level, slots: usize) -> Ran {
    start(scenario, level, slots, None)
}

/// As [`run`], with a table that one allocation in `period` of the measured phase is sampled into.
#[allow(dead_code, reason = "each test file uses a part")]
pub fn run_sampled(scenario: &str, level: Level, period: u64) -> Ran {
    run_taking(scenario, level, &Settings::calls(period))
}

/// As [`run`], with a table that is taken into what `settings` say.
#[allow(dead_code, reason = "each test file uses a part")]
pub fn run_taking(scenario: &str, level: Level, settings: &Settings) -> Ran {
    let file = create_file(c"stacks", Capacity::TRIAL.bytes()).expect("a memory file");
    let mapping = Mapping::new(file.as_fd()).expect("a mapping");
    stacks::format(mapping.words(), Capacity::TRIAL, settings);
    start(scenario, level, 64, Some((file, mapping)))
}

fn start(scenario: &str, level: Level, slots: usize, stacks: Option<(File, Mapping)>) -> Ran {
    let file = create_file(c"test", layout::segment_bytes(slots)).expect("a memory file");
    let mapping = Mapping::new(file.as_fd()).expect("a mapping");
    layout::format(mapping.words(), slots, level, 64);
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.env(SCENARIO, scenario).env("HEAPGATE_SEGMENT", inherited(&file));
    if let Some((file, _)) = &stacks {
        command.env("HEAPGATE_STACKS", inherited(file));
    }
    let status = command.status().expect("the child starts");
    Ran { mapping, stacks: stacks.map(|(_, mapping)| mapping), status }
}

/// Lets children have `file`; returns its name for them.
fn inherited(file: &File) -> String {
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open; the flag only decides that children inherit it. Tests run one at a time.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    format!("fd:{fd}")
}

impl Ran {
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.mapping.words()).expect("a segment")
    }

    #[allow(dead_code, reason = "each test file uses a part")]
    pub fn samples(&self) -> StackSamples {
        let words = self.stacks.as_ref().expect("run with a table").words();
        StackTable::new(words).expect("a table").read()
    }

    pub fn totals(&self) -> Totals {
        self.reader().totals()
    }
}

/// Fails with a message that names both sides.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), libtest_mimic::Failed> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}").into()) }
}

/// Fails with a message.
pub fn holds(what: &str, truth: bool) -> Result<(), libtest_mimic::Failed> {
    if truth { Ok(()) } else { Err(what.to_owned().into()) }
}
