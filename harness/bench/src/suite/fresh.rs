//! One trial in a fresh process of this executable, which counts into a segment that is read when it has ended.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use heapgate_alloc::SEGMENT_VARIABLE;
use heapgate_alloc::segment::layout::{self, DEFAULT_SLOTS, Level};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::segment::reader::Reader;

use super::cells::Cell;
use super::figures::{self, Figures};

/// One thread and no surprises, as under heapgate's supervisor: exact counts must be the same with and without it.
const SINGLE_THREADED: [(&str, &str); 3] =
    [("RAYON_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_NUM_THREADS", "1")];

/// Runs one trial.
///
/// # Errors
/// Says how it failed, with what it printed.
pub(super) fn run(cell: &Cell) -> Result<Figures, String> {
    let no_segment = |error| format!("no shared memory for the telemetry: {error}");
    let file = create_file(c"heapgate", layout::segment_bytes(DEFAULT_SLOTS)).map_err(no_segment)?;
    let mapping = Mapping::new(file.as_fd()).map_err(no_segment)?;
    layout::format(mapping.words(), DEFAULT_SLOTS, Level::Exact, 1);
    let reader = Reader::new(mapping.words()).expect("just formatted");

    let program = std::env::current_exe().map_err(|error| format!("this executable can't be found: {error}"))?;
    let fd = file.as_raw_fd();
    let mut command = Command::new(program);
    // What would put another allocator, or other settings, in the place of the one under test.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MALLOC_")) {
        command.env_remove(name);
    }
    command.args(arguments(cell)).envs(SINGLE_THREADED).env_remove("LD_PRELOAD").env_remove("GLIBC_TUNABLES");
    command.envs(cell.allocator.environment());
    command.env(SEGMENT_VARIABLE, format!("fd:{fd}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: the closure runs in the forked child before exec, and makes two system calls: no allocation, no lock. `fd`
    // is open in the child too, since `file` lives until the child has ended. Errors are made from errno.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::fcntl(fd, libc::F_SETFD, 0))
        });
    }
    let output = command.output().map_err(|error| format!("no child process: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}\n{}", ended(output.status), said.trim()));
    }
    // What it says though it succeeded is for the user: a warning, for instance that it runs unmeasured.
    if reader.pid().is_none() {
        return Err(format!("ran without telemetry: its global allocator is not heapgate's. {}", said.trim()));
    }
    figures::read(reader, cell.variant.figures.len())
        .ok_or_else(|| format!("ended before its last phase did. {}", said.trim()))
}

fn check(result: i32) -> std::io::Result<()> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn arguments(cell: &Cell) -> Vec<String> {
    let mut arguments = vec!["trial".to_owned(), cell.name()];
    for (name, value) in cell.params.iter() {
        arguments.extend(["--param".to_owned(), format!("{name}={value}")]);
    }
    if let Some(steps) = cell.steps {
        arguments.extend(["--steps".to_owned(), steps.to_string()]);
    }
    if let Some(inject) = cell.inject {
        arguments.extend(["--inject".to_owned(), format!("extra-allocs={}", inject.extra_allocs)]);
    }
    arguments
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended, nobody knows how".to_owned(),
    }
}
