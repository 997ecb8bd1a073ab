//! One trial in a fresh process of this executable, which counts into a segment that is read when it has ended.

use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use heapgate_alloc::SEGMENT_VARIABLE;
use heapgate_alloc::segment::layout::{self, DEFAULT_SLOTS, Level};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::segment::reader::Reader;
use heapgate_alloc::segment::trace_line;

use super::cells::Cell;
use super::figures::{self, Figures};
use super::{FAILED, TRIAL, USAGE};

/// One thread and no surprises, as under heapgate's supervisor: exact counts must be the same with and without it.
const SINGLE_THREADED: [(&str, &str); 3] =
    [("RAYON_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_NUM_THREADS", "1")];

/// What a trial that succeeded left.
#[derive(Debug)]
pub(super) struct Ran {
    pub figures: Figures,
    /// What it printed to standard error.
    pub said: String,
}

/// Why a trial failed, and the exit code that is due for it.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: u8,
    reason: String,
}

impl Failure {
    pub(super) fn new(reason: String) -> Self {
        Self { code: FAILED, reason }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Runs one trial.
///
/// # Errors
/// Says how it failed, with what it printed.
pub(super) fn run(cell: &Cell) -> Result<Ran, Failure> {
    let no_segment = |error| Failure::new(format!("no shared memory for the telemetry: {error}"));
    let file = create_file(c"heapgate", layout::segment_bytes(DEFAULT_SLOTS)).map_err(no_segment)?;
    let mapping = Mapping::new(file.as_fd()).map_err(no_segment)?;
    layout::format(mapping.words(), DEFAULT_SLOTS, Level::Exact, 1);
    let reader = Reader::new(mapping.words()).expect("just formatted");

    let program =
        std::env::current_exe().map_err(|error| Failure::new(format!("this executable can't be found: {error}")))?;
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
    let output = command.output().map_err(|error| Failure::new(format!("no child process: {error}")))?;
    let said = without_trace_lines(&output.stderr, &mut std::io::stderr());
    if !output.status.success() {
        // A parameter that only the set-up can judge is still the command line's mistake.
        let code = if output.status.code() == Some(i32::from(USAGE)) { USAGE } else { FAILED };
        return Err(Failure { code, reason: format!("{}\n{said}", ended(output.status)) });
    }
    if reader.pid().is_none() {
        return Err(Failure::new(format!("ran without telemetry: its global allocator is not heapgate's. {said}")));
    }
    match figures::read(reader, cell.variant.figures.len()) {
        Some(figures) => Ok(Ran { figures, said }),
        None => Err(Failure::new(format!("ended before its last phase did. {said}"))),
    }
}

/// What a child printed. The lines of a traced one (`HEAPGATE_TRACE=1`) are no messages; they go to `lines`, where they would have
/// gone had it not been watched.
fn without_trace_lines(printed: &[u8], lines: &mut dyn Write) -> String {
    let mut messages = Vec::new();
    for line in printed.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(trace_line::PREFIX.as_bytes()) {
            // One that can't be written is left out.
            let _ = lines.write_all(line);
        } else {
            messages.extend_from_slice(line);
        }
    }
    String::from_utf8_lossy(&messages).trim().to_owned()
}

fn check(result: i32) -> std::io::Result<()> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn arguments(cell: &Cell) -> Vec<String> {
    let mut arguments = vec![TRIAL.to_owned(), cell.name()];
    for (name, value) in cell.params.iter() {
        arguments.extend(["--param".to_owned(), format!("{name}={value}")]);
    }
    if let Some(steps) = cell.steps {
        arguments.extend(["--steps".to_owned(), steps.to_string()]);
    }
    arguments.extend(cell.inject.arguments());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_lines_are_passed_on_and_are_no_messages() {
        let printed = b"first\nheapgate-trace v=1 a\nlast heapgate-trace v=1 b\nheapgate-trace v=1 c";
        let mut lines = Vec::new();
        assert_eq!(without_trace_lines(printed, &mut lines), "first\nlast heapgate-trace v=1 b");
        assert_eq!(lines, b"heapgate-trace v=1 a\nheapgate-trace v=1 c");
    }
}
