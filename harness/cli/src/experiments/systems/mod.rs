//! Experiments on what is around workloads: heapgate's own commands, as a user gives them. One file each; here is what they
//! share: starting heapgate, and ending it.

pub mod budget;
pub mod gate;
pub mod leaks;
pub mod probes;
pub mod rollout;
pub mod settings;
pub mod trace;

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use heapgate_core::experiment::Stage;
use serde_json::Value;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// heapgate with `arguments`, which white space separates, in the stage's folder.
fn command(stage: &Stage, arguments: &str) -> Command {
    let mut command = Command::new(&stage.program);
    command.args(arguments.split_whitespace()).current_dir(&stage.folder).stdin(Stdio::null());
    command.env("HEAPGATE_RUNTIME_DIR", stage.folder.join("run"));
    for name in ["HEAPGATE_PUBLISH", "HEAPGATE_TRACE", "HEAPGATE_ALLOCATOR", "HEAPGATE_SOFT_LIMIT"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end, which has to be one of `codes`.
fn run(stage: &Stage, arguments: &str, codes: &[i32]) -> Result<Output, String> {
    let output = command(stage, arguments).output().map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(code) if codes.contains(&code) => Ok(output),
        _ => Err(format!(
            "`heapgate {arguments}`: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
        )),
    }
}

/// What it printed.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Result<Value, String> {
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// A process that ends with the scenario.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Result<Self, String> {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(|error| error.to_string())
    }

    fn rss_bytes(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/statm", self.0.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let pages: Option<u64> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        pages.map(|pages| pages * 4096).ok_or_else(|| format!("{path}: {text}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `is_there` gives something.
fn wait_for<T>(what: &str, mut is_there: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match is_there() {
            Some(found) => return Ok(found),
            None if Instant::now() > deadline => return Err(format!("{what}: not within {} s", PATIENCE.as_secs())),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
