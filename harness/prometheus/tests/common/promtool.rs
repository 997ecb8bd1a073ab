//! Prometheus's own tool, on an exposition. Shared with the agent's tests.

use std::io::Write;
use std::process::{Command, Stdio};

/// Lets Prometheus's own tool check an exposition. Skips itself, loudly, where that is not installed, unless
/// `HEAPGATE_REQUIRE_PROMTOOL` is set.
#[track_caller]
pub fn promtool(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match started {
        Ok(promtool) => promtool,
        Err(error) if std::env::var_os("HEAPGATE_REQUIRE_PROMTOOL").is_none() => {
            let _ = writeln!(std::io::stderr(), "\nSKIPPED, NOT TESTED: promtool (Debian's prometheus): {error}");
            return;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
}
