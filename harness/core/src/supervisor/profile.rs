//! One child with what a profile needs: it leaves raw addresses, which are read here after its end, whatever that was.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use heapgate_segment::reader::Reader;
use heapgate_segment::stacks::{self, STACKS_VARIABLE, StackSamples};

use super::child::{self, Given, Stop};
use super::stacks::Stacks;
use super::{Settings, SuperviseError};
use crate::plan::Planned;
use crate::profile::heap::{self, Dump, Dumps};
use crate::report::Trial;
use crate::sites::{Modules, Symbols};

/// The environment variable that has a child sample its CPU time: `fd:N,HZ,PHASES`: an inherited file, samples per second,
/// and `measure` or `all`.
pub const CPU_VARIABLE: &str = "HEAPGATE_CPU_PROFILE";
/// The environment variable that has a child dump jemalloc's heap profile: the folder for the dumps.
pub const HEAP_VARIABLE: &str = "HEAPGATE_HEAP_PROFILE";

/// What a child is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Probe {
    /// Samples of its CPU time, so many per second.
    Cpu {
        /// Samples per second of CPU time.
        frequency_hz: u32,
        /// In all phases, or in the measured one.
        all_phases: bool,
    },
    /// Dumps of jemalloc's heap profiler; the plan's environment has switched that on.
    JemallocHeap,
    /// Stacks taken in the allocator, as at the end of the process.
    Stacks(stacks::Settings),
    /// The same, as at the end of the measured phase.
    StacksMeasured(stacks::Settings),
}

/// What a child left.
#[derive(Debug)]
pub struct Profiled {
    /// Its trial; `None` if it was stopped.
    pub trial: Option<Trial>,
    /// Where its code was.
    pub modules: Modules,
    /// What was gathered.
    pub traces: Traces,
}

/// What was gathered, raw.
#[derive(Debug)]
pub enum Traces {
    /// [`crate::profile::cpu`] reads it.
    Cpu(String),
    /// Dumps of jemalloc's profiler.
    JemallocHeap(Dumps),
    /// The table of stacks.
    Stacks(StackSamples),
}

/// Runs one trial of `planned` under `probe`, until its end or until `stop` is set. What was gathered by then is there
/// in any case.
///
/// # Errors
/// If the child can't be started.
pub fn profile(
    planned: &Planned,
    settings: &Settings,
    probe: Probe,
    stop: &AtomicBool,
) -> Result<Profiled, SuperviseError> {
    crate::sys::wait::keep_ended_children();
    let mut modules = Modules::default();
    let mut run = |given: &Given<'_>| {
        child::run(planned, 0, settings, stop, &mut Symbols::default(), Some((given, &mut modules)))
    };
    let (trial, traces) = match probe {
        Probe::Cpu { frequency_hz, all_phases } => {
            let mut file = tempfile::tempfile().map_err(SuperviseError::Messages)?;
            let phases = if all_phases { "all" } else { "measure" };
            let value = format!("fd:{},{frequency_hz},{phases}", file.as_raw_fd());
            let trial =
                run(&Given { environment: vec![(CPU_VARIABLE.to_owned(), value)], files: vec![&file], at: None })?;
            (trial, Traces::Cpu(read_back(&mut file).map_err(SuperviseError::Messages)?))
        }
        Probe::JemallocHeap => {
            let folder = tempfile::tempdir().map_err(SuperviseError::Messages)?;
            let value = folder.path().to_string_lossy().into_owned();
            let trial =
                run(&Given { environment: vec![(HEAP_VARIABLE.to_owned(), value)], files: Vec::new(), at: None })?;
            (trial, Traces::JemallocHeap(read_dumps(folder.path())))
        }
        Probe::Stacks(asked) | Probe::StacksMeasured(asked) => {
            let stacks = Stacks::new(&asked)?;
            let value = format!("fd:{}", stacks.file.as_raw_fd());
            let environment = vec![(STACKS_VARIABLE.to_string_lossy().into_owned(), value)];
            let measured = RefCell::new(None);
            let is_wanted = matches!(probe, Probe::StacksMeasured(_));
            let take = |stop, _: Reader<'_>| {
                if is_wanted && stop == Stop::Measured {
                    *measured.borrow_mut() = Some(stacks.read());
                }
            };
            let trial = run(&Given { environment, files: vec![&stacks.file], at: Some(&take) })?;
            (trial, Traces::Stacks(measured.into_inner().unwrap_or_else(|| stacks.read())))
        }
    };
    Ok(Profiled { trial, modules, traces })
}

fn read_back(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn read_dumps(folder: &Path) -> Dumps {
    let mut problems = Vec::new();
    let mut read = |name: &str| {
        let text = match std::fs::read_to_string(folder.join(name)) {
            Ok(text) => text,
            // The child did not come so far.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                problems.push(format!("{name} can't be read: {error}"));
                return None;
            }
        };
        Dump::parse(&text).map_err(|error| problems.push(format!("{name}: {error}"))).ok()
    };
    let [begin, end, peak] = heap::DUMPS.map(&mut read);
    let live = std::fs::read_to_string(folder.join(heap::PEAK_BYTES)).ok().and_then(|text| text.parse().ok());
    Dumps { begin, end, peak, peak_live_bytes: live, problems }
}
