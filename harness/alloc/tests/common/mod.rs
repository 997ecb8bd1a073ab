//! What the tests share: a scenario runs in a process of its own, from a segment in its environment, as in real use;
//! the test looks at the segment it leaves.

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, ExitStatus};

use heapgate_alloc::segment::layout::{self, Level};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::segment::reader::{Reader, Totals};

/// Names the scenario for a child.
pub const SCENARIO: &str = "HEAPGATE_TEST_SCENARIO";

/// A segment and the child that counted into it.
pub struct Ran {
    mapping: Mapping,
    pub status: ExitStatus,
}

/// Runs this executable again, as `scenario`, with a segment of `slots` slots.
pub fn run(scenario: &str, level: Level, slots: usize) -> Ran {
    let file = create_file(c"test", layout::segment_bytes(slots)).expect("a memory file");
    let mapping = Mapping::new(file.as_fd()).expect("a mapping");
    layout::format(mapping.words(), slots, level, 64);
    let fd = file.as_raw_fd();
    // SAFETY: `fd` is open; the flag only decides that children inherit it. Tests run one at a time.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    let status = Command::new(std::env::current_exe().expect("this executable"))
        .env(SCENARIO, scenario)
        .env("HEAPGATE_SEGMENT", format!("fd:{fd}"))
        .status()
        .expect("the child starts");
    Ran { mapping, status }
}

impl Ran {
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.mapping.words()).expect("a segment")
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
