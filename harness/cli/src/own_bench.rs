//! A bench of the user's: built, and asked to describe itself.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use heapgate_bench::{DESCRIBE, PROTOCOL};
use heapgate_core::hash::fnv1a;
use heapgate_core::report::Build;
use heapgate_segment::layout::ABI_VERSION;
use serde::Deserialize;

use crate::cargo::{self, Wanted};
use crate::fail::Failure;
use crate::source::{Described, Source};

/// Describing itself takes a bench a few milliseconds. A program that knows nothing of it may do anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What must be known before the rest can be understood.
#[derive(Debug, Deserialize)]
struct Versions {
    heapgate_bench: String,
    protocol: u64,
    segment_abi: u64,
}

/// The rest.
#[derive(Debug, Deserialize)]
struct Description {
    switches_allocators: bool,
    variants: Vec<Described>,
}

/// Builds a bench and learns what it can run.
///
/// # Errors
/// If there is no such bench, it can't be built, it is not one of heapgate's kind, or it is of another version.
pub fn open(wanted: Wanted<'_>) -> Result<Source, Failure> {
    let built = cargo::build(wanted)?;
    let said = ask(&built.executable, &built.directory).unwrap_or_default();
    let (versions, description) = understand(wanted.bench, &said).map_err(Failure::usage)?;
    let build = built.fingerprint(&versions.heapgate_bench);
    Ok(Source {
        variants: description.variants,
        program: built.executable,
        directory: Some(built.directory),
        build,
        switches_allocators: description.switches_allocators,
        bench: Some(wanted.bench.to_owned()),
        name: "the present tree".to_owned(),
    })
}

/// Learns what `program` can run: a bench that is built already, or another heapgate.
///
/// # Errors
/// If it is not one of heapgate's kind, or it is of another version.
pub fn describe(program: &Path) -> Result<Source, Failure> {
    let name = program.display().to_string();
    let here = std::env::current_dir()?;
    let program = here.join(program);
    let said = ask(&program, &here).unwrap_or_default();
    let (versions, description) = understand(&name, &said).map_err(Failure::usage)?;
    // Of a program alone nothing is known but what it is: its own hash stands for the commit.
    let hash = fnv1a(std::fs::read(&program)?);
    let build = Build { heapgate: versions.heapgate_bench, commit: format!("file {hash:016x}"), ..Build::default() };
    Ok(Source {
        variants: description.variants,
        program,
        directory: None,
        build,
        switches_allocators: description.switches_allocators,
        bench: None,
        name,
    })
}

/// What the bench prints when it is asked for its description; `None` if it does not end.
fn ask(program: &Path, directory: &Path) -> Option<String> {
    let mut child = Command::new(program)
        .arg(DESCRIBE)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        // What can't be read is no description, which is then said.
        let _ = stdout.read_to_end(&mut said);
        let _ = send.send(said);
    });
    let said = receive.recv_timeout(PATIENCE).ok();
    // It has closed its output, or it is to end now.
    let _ = child.kill();
    let _ = child.wait();
    Some(String::from_utf8_lossy(&said?).into_owned())
}

fn understand(bench: &str, said: &str) -> Result<(Versions, Description), String> {
    let line = said.lines().find(|line| line.starts_with("{\"heapgate_bench\":"));
    let versions: Option<Versions> = line.and_then(|line| serde_json::from_str(line).ok());
    let (Some(line), Some(versions)) = (line, versions) else {
        return Err(format!(
            "bench '{bench}' does not describe itself: it needs `harness = false` in Cargo.toml and `heapgate_bench::main!`; see docs/own-workloads.md"
        ));
    };
    for (what, theirs, ours) in [
        ("describes itself in version", versions.protocol, PROTOCOL),
        ("counts into segments of version", versions.segment_abi, ABI_VERSION),
    ] {
        if theirs != ours {
            let newer = if theirs > ours { "heapgate" } else { "heapgate-bench" };
            return Err(format!(
                "bench '{bench}' (heapgate-bench {}) {what} {theirs}, and this heapgate ({}) knows {ours}: update {newer}",
                versions.heapgate_bench,
                env!("CARGO_PKG_VERSION"),
            ));
        }
    }
    match serde_json::from_str(line) {
        Ok(description) => Ok((versions, description)),
        Err(error) => Err(format!("bench '{bench}' describes itself in a way that can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(protocol: u64, abi: u64) -> String {
        format!(
            "noise\n{{\"heapgate_bench\":\"0.9\",\"protocol\":{protocol},\"segment_abi\":{abi},\"switches_allocators\":true,\"variants\":[]}}\n"
        )
    }

    #[test]
    fn a_description_is_found_among_other_lines() {
        let (versions, description) = understand("x", &said(PROTOCOL, ABI_VERSION)).unwrap();
        assert_eq!((versions.heapgate_bench.as_str(), description.switches_allocators), ("0.9", true));
    }

    #[test]
    fn another_version_is_named_with_what_to_update() {
        let newer = understand("x", &said(PROTOCOL, ABI_VERSION + 1)).unwrap_err();
        assert!(newer.contains("segments of version") && newer.ends_with("update heapgate"), "{newer}");
        let older = understand("x", &said(PROTOCOL - 1, ABI_VERSION)).unwrap_err();
        assert!(older.contains("heapgate-bench 0.9") && older.ends_with("update heapgate-bench"), "{older}");
    }

    #[test]
    fn what_is_no_description_is_said_with_what_is_missing() {
        for said in ["", "running 0 tests", "{\"heapgate_bench\":1}", "{\"heapgate_bench\":\"0.9\"}"] {
            assert!(understand("x", said).unwrap_err().contains("heapgate_bench::main!"), "{said}");
        }
        let broken = said(PROTOCOL, ABI_VERSION).replace("variants", "others");
        assert!(understand("x", &broken).unwrap_err().contains("can't be read"));
    }
}
