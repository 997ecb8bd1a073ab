//! What tests of the command line share: a temporary folder, the real executable started in it, and what that printed.
//!
//! `segment` makes a segment and watches a process through it, `processes` finds, publishes and ends processes, `server` starts
//! programs that serve, at an `address`, `postgres` a database. Used by every file beside this folder.

#[path = "../../../../store/tests/common/address.rs"]
pub mod address;
#[path = "../../../../store/tests/common/server.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest")]
pub mod postgres;
pub mod processes;
pub mod segment;
pub mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// heapgate's executable.
pub const HEAPGATE: &str = env!("CARGO_BIN_EXE_heapgate");

/// A selection whose trials take a tenth of a second: it needs no corpus.
pub const QUICK: &str = "tokenize/wordpiece-heap -a jemalloc -n 1 --steps 2 --param document=repeated";

/// The same five times: with fewer than four on each side, no noisy metric can pass.
pub const ENOUGH: &str = "tokenize/wordpiece-heap -a jemalloc -n 5 --steps 2 --param document=repeated";

/// Settings by which a gate depends on no time: how fast the machine serves page faults and locks differs by more than the limit
/// while other tests come and go beside it. Whether times are judged right is `ci/selftest`'s to find out, side by side.
pub const TIMELESS: &str = "[limits]\nstall_distribution_ns = { soft = false }\nstall_p95_ns = { hard = false }\n";

/// Metrics that must be the same in every repetition.
pub const EXACT: [&str; 7] = [
    "allocations_per_unit",
    "reallocations_per_unit",
    "allocated_bytes_per_unit",
    "peak_live_objects",
    "peak_live_bytes",
    "left_objects",
    "left_bytes",
];

/// Where `run` leaves its report.
pub const REPORT: &str = ".heapgate/report.json";

/// Where the trials of a run are until it has ended.
pub const PARTIAL: &str = ".heapgate/report.json.partial";

/// A temporary folder that heapgate is started in.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes a file, with its folders.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("make folder");
        std::fs::write(path, text).expect("write file");
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A command to be started in this folder, with nothing of the user's settings in its environment. Arguments are
    /// separated by white space.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = plain(HEAPGATE, self.0.path());
        command.args(arguments.split_whitespace());
        command
    }

    /// Runs heapgate to its end.
    pub fn run(&self, arguments: &str) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Runs a shell script, with `$heapgate` for the executable.
    pub fn shell(&self, script: &str) -> Ran {
        Ran::of(plain("sh", self.0.path()).args(["-c", script]))
    }
}

/// `program` in `folder`, without variables that change what heapgate does or prints.
fn plain(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null()).env("heapgate", HEAPGATE);
    for variable in ["COLUMNS", "HEAPGATE_ALLOCATOR", "HEAPGATE_DATA", "NO_COLOR", "RUST_BACKTRACE"] {
        command.env_remove(variable);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

/// What a command that has ended left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.output().expect("start"))
    }

    /// Checks the exit code, and shows everything if it is another.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that the error says each of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is not in:\n{}", self.stderr);
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A report of [`ENOUGH`] and the baseline that was recorded from it, as texts.
pub struct Recorded {
    pub report: String,
    pub baseline: String,
    /// Where the baseline lies, from the folder of the baselines.
    pub baseline_path: String,
}

/// One for all tests of a file: each puts the texts into a place of its own.
pub static RECORDED: LazyLock<Recorded> = LazyLock::new(|| {
    let place = Place::new();
    place.run(&format!("run {ENOUGH}")).ends_with(0);
    place.run(&format!("baseline record --report {REPORT}")).ends_with(0);
    let class =
        std::fs::read_dir(place.path("baselines")).expect("recorded").next().expect("one class").expect("named");
    let baseline_path = format!("{}/tokenize.json", class.file_name().into_string().expect("UTF-8"));
    Recorded { report: place.read(REPORT), baseline: place.read(&format!("baselines/{baseline_path}")), baseline_path }
});

/// The trials of a report.
#[track_caller]
pub fn trials(report: &Value) -> &[Value] {
    report["trials"].as_array().expect("a report has trials")
}

/// How each trial ended, in order.
pub fn outcomes(report: &Value) -> Vec<&str> {
    trials(report).iter().map(|trial| trial["outcome"]["kind"].as_str().expect("an outcome has a kind")).collect()
}

/// The phases a trial reached, and the allocations seen in all of them.
pub fn reached(trial: &Value) -> (Vec<&str>, u64) {
    let phases = trial["phases"].as_array().expect("a trial has phases");
    let kinds = phases.iter().map(|phase| phase["kind"].as_str().expect("a phase has a kind")).collect();
    (kinds, phases.iter().map(|phase| phase["counts"]["alloc_calls"].as_u64().expect("a count")).sum())
}

/// Says that something was not tested, where the test harness can't hide it: it captures only what the macros print.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED, NOT TESTED: {why}");
}
