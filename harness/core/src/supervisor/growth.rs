//! One child that holds still between steps, so that what is alive is seen grow, or not, by the stack that made it.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicBool;

use heapgate_segment::arenas::ArenaReading;
use heapgate_segment::clock::monotonic_ns;
use heapgate_segment::reader::Reader;
use heapgate_segment::stacks::{self, STACKS_VARIABLE, StackSamples};

use super::child::{self, Given, Stop};
use super::profile::{HEAP_VARIABLE, read_dumps};
use super::stacks::Stacks;
use super::{Settings, SuperviseError};
use crate::plan::Planned;
use crate::profile::heap::Dumps;
use crate::report::Trial;
use crate::sites::{Modules, Symbols};

/// The environment variable that has a child hold still so many times in its measured phase; as in `heapgate_bench`.
const SLICES_VARIABLE: &str = "HEAPGATE_SLICES";

/// What a child is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Which allocations have their stacks taken; they are followed to their end, whenever that is.
    pub sampling: stacks::Settings,
    /// At how many moments of the measured phase is looked, at most: no more than it has steps.
    pub slices: usize,
    /// Whether jemalloc's profiler, which the plan's environment has switched on, dumps at the ends of the measured phase.
    pub jemalloc_heap: bool,
}

/// What was alive at one moment of the measured phase, between two steps.
#[derive(Debug)]
pub struct Slice {
    /// Live objects and bytes of the whole process, exact.
    pub live: (i64, i64),
    /// By stack, as far as they were sampled.
    pub stacks: StackSamples,
}

/// What was seen of a child.
#[derive(Debug, Default)]
pub struct Watched {
    /// Its trial; `None` if it was stopped.
    pub trial: Option<Trial>,
    /// Where its code was.
    pub modules: Modules,
    /// The moments, oldest first.
    pub slices: Vec<Slice>,
    /// What its stacks had alive at its end, after everything was dropped.
    pub left: StackSamples,
    /// Its arenas at its end.
    pub arenas: ArenaReading,
    /// When that was, `CLOCK_MONOTONIC`, ns.
    pub ended_at_ns: u64,
    /// Dumps of jemalloc's profiler, if they were asked for.
    pub dumps: Option<Dumps>,
}

/// Runs one trial of `planned` and looks at it while it works.
///
/// # Errors
/// If the child can't be started.
pub fn watch(
    planned: &Planned,
    settings: &Settings,
    asked: Asked,
    stop: &AtomicBool,
) -> Result<Watched, SuperviseError> {
    crate::sys::wait::keep_ended_children();
    let stacks = Stacks::new(&asked.sampling)?;
    let folder = asked.jemalloc_heap.then(tempfile::tempdir).transpose().map_err(SuperviseError::Messages)?;
    let mut environment = vec![
        (STACKS_VARIABLE.to_string_lossy().into_owned(), format!("fd:{}", stacks.file.as_raw_fd())),
        (SLICES_VARIABLE.to_owned(), asked.slices.to_string()),
    ];
    environment.extend(folder.iter().map(|f| (HEAP_VARIABLE.to_owned(), f.path().to_string_lossy().into_owned())));
    let seen = RefCell::new(Watched::default());
    let look = |stop: Stop, reader: Reader<'_>| {
        let mut seen = seen.borrow_mut();
        match stop {
            Stop::Slice => seen.slices.push(Slice { live: reader.live(), stacks: stacks.read() }),
            Stop::Measured => {}
            Stop::Ended => {
                (seen.left, seen.arenas, seen.ended_at_ns) = (stacks.read(), reader.arenas(), monotonic_ns());
            }
        }
    };
    let given = Given { environment, files: vec![&stacks.file], at: Some(&look) };
    let mut modules = Modules::default();
    let trial = child::run(planned, 0, settings, stop, &mut Symbols::default(), Some((&given, &mut modules)))?;
    let dumps = folder.map(|folder| read_dumps(folder.path()));
    Ok(Watched { trial, modules, dumps, ..seen.into_inner() })
}
