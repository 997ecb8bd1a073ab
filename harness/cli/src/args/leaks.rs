//! `heapgate leaks`

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use heapgate_core::config::parse_time;
use heapgate_core::exit;
use heapgate_core::leaks::{self, Findings, Look, Settings, WINDOWS};
use heapgate_core::render::leaks as render;
use heapgate_segment::clock::monotonic_ns;
use heapgate_segment::published::{self, Buffer, Entry, ReadError};
use serde::Serialize;

use super::{Global, print};
use crate::fail::Failure;
use crate::trace_line::{self, Found};

/// Name the arenas and region scopes of a published process that are never released
///
/// Published is what was started with HEAPGATE_PUBLISH=NAME, or calls heapgate_alloc::publish. A process that has ended is
/// shown as it was at its end, until its file is cleared away.
///
/// An open arena is named if it has lived ten times as long as any that its line of the source released (and 10 s, while the
/// process runs), or if its line releases none and goes on making them. A scope is named if it has been open for a minute.
/// --older-than takes the place of these rules. Ends with 3 if anything was named, with 0 if nothing was: docs/leaks.md.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Leaks {
    /// The service's name [default: all published processes]
    #[arg(value_name = "SERVICE", conflicts_with = "pid")]
    service: Option<String>,
    /// The process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Take whatever is open for longer for a leak, and nothing else
    #[arg(long, value_name = "TIME", value_parser = time)]
    older_than: Option<Duration>,
    /// Look for so long, and say whether live bytes grew meanwhile
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Trace lines of the process (HEAPGATE_TRACE=1): say whether live bytes grew over them
    #[arg(long, value_name = "FILE", conflicts_with = "duration")]
    trace: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Folder of the published processes [default: this user's]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate leaks tokenizer                     what it has not released
  heapgate leaks --pid 4242 --for 1m           and whether its live bytes grow
  heapgate leaks --older-than 1h --json        of all services, whatever is older
  heapgate leaks tokenizer --trace service.log with the trace lines of that log";

fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).map_err(|error| error.to_string())
}

/// One process's, in JSON.
#[derive(Serialize)]
struct Process<'a> {
    service: &'a str,
    pid: u32,
    running: bool,
    #[serde(flatten)]
    findings: &'a Findings,
}

impl Leaks {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = match self.folder {
            Some(ref folder) => folder.clone(),
            None => published::runtime_folder().map_err(Failure::usage)?,
        };
        let entries = self.entries(&folder)?;
        let trace = self.trace.as_deref().map(read_trace).transpose()?;
        let mut found = Vec::with_capacity(entries.len());
        for (entry, (looks, running)) in entries.iter().zip(look_at(&entries, self.duration, self.named())?) {
            // One of many that has gone since they were listed.
            if looks.is_empty() {
                continue;
            }
            let settings = Settings { running, older_than: self.older_than };
            let mut findings = leaks::find(&looks, settings);
            if let Some(trace) = &trace {
                findings.live_bytes = leaks::live_trend(&windows(trace, entry.pid));
                if findings.live_bytes.is_none() {
                    eprintln!(
                        "heapgate: the log has fewer than {WINDOWS} trace lines of process {} with live bytes",
                        entry.pid
                    );
                }
            }
            found.push((entry, running, findings));
        }
        let processes = found.iter().map(|(entry, running, findings)| Process {
            service: &entry.name,
            pid: entry.pid,
            running: *running,
            findings,
        });
        if self.json {
            print(&serde_json::to_string_pretty(&processes.collect::<Vec<_>>())?)?;
        } else {
            let options = global.options(false);
            let tables = found.iter().map(|(entry, running, findings)| {
                let ended = if *running { "" } else { ", ended" };
                render::table(&format!("{} ({}{ended})", entry.name, entry.pid), findings, options)
            });
            print(&tables.collect::<Vec<_>>().join("\n"))?;
        }
        let any = found.iter().any(|(_, _, findings)| !findings.leaks.is_empty());
        Ok(if any { exit::REGRESSION } else { exit::PASS })
    }

    /// Whether one process was asked for: then it is an error that it can't be read.
    fn named(&self) -> bool {
        self.pid.is_some() || self.service.is_some()
    }

    /// The published files of the processes that are meant.
    fn entries(&self, folder: &Path) -> Result<Vec<Entry>, Failure> {
        let mut entries = match published::list(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Failure::usage(format!("{} can't be read: {error}", folder.display()))),
            Ok(entries) => entries,
        };
        let shown = folder.display();
        if let Some(pid) = self.pid {
            entries.retain(|entry| entry.pid == pid);
            // Of two of one number, the one that lives.
            entries.sort_by_key(|entry| (std::cmp::Reverse(entry.is_alive()), std::cmp::Reverse(entry.start_time)));
            entries.truncate(1);
            if entries.is_empty() {
                return Err(Failure::usage(match name_of(pid) {
                    Some(name) => format!(
                        "process {pid} ({name}) is not published in {shown}: build it with heapgate-alloc and start it with \
                         HEAPGATE_PUBLISH=NAME; if it publishes elsewhere, name the folder with --folder"
                    ),
                    None => format!("there is no process {pid}, and none of that id is published in {shown}"),
                }));
            }
        } else if let Some(service) = &self.service {
            entries.retain(|entry| entry.name == *service);
            if entries.is_empty() {
                return Err(Failure::usage(format!(
                    "no service '{}' is published in {shown}; `heapgate top --once` lists those that are",
                    service.escape_debug()
                )));
            }
        } else if entries.is_empty() {
            return Err(Failure::usage(format!(
                "no process is published in {shown}: start one with HEAPGATE_PUBLISH=NAME, or name its folder with --folder"
            )));
        }
        Ok(entries)
    }
}

/// The name of a running process.
fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().escape_debug().to_string())
}

/// Looks at each, at [`WINDOWS`] moments of `duration`, or once; and says whether each runs.
fn look_at(entries: &[Entry], duration: Option<Duration>, named: bool) -> Result<Vec<(Vec<Look>, bool)>, Failure> {
    let times = if duration.is_some() { WINDOWS } else { 1 };
    let pause = duration.unwrap_or_default() / u32::try_from(times.saturating_sub(1).max(1)).unwrap_or(1);
    let mut buffer = Buffer::new();
    let mut all: Vec<(Vec<Look>, bool)> = entries.iter().map(|_| (Vec::new(), false)).collect();
    for turn in 0..times {
        if turn > 0 {
            std::thread::sleep(pause);
        }
        for (entry, (looks, running)) in entries.iter().zip(&mut all) {
            match look(entry, &mut buffer) {
                Ok((look, alive)) => {
                    looks.push(look);
                    *running = alive;
                }
                Err(error) if named => return Err(unreadable(entry, &error)),
                Err(error) => eprintln!("heapgate: warning: {}", unreadable(entry, &error)),
            }
        }
    }
    Ok(all)
}

fn look(entry: &Entry, buffer: &mut Buffer) -> Result<(Look, bool), ReadError> {
    // Before the reading: a process that ends meanwhile has left all that it did.
    let running = entry.is_alive();
    entry.read(buffer)?;
    let reader = buffer.reader()?;
    let (_, live_bytes) = reader.live();
    let live_bytes = (!reader.was_off()).then_some(live_bytes);
    let reading = entry.read_arenas()?;
    let at_ns = if running { monotonic_ns() } else { reading.last_ns };
    Ok((Look { at_ns, live_bytes, reading }, running))
}

fn unreadable(entry: &Entry, error: &ReadError) -> Failure {
    let advice = match error {
        ReadError::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
            "; it belongs to another user: run heapgate as that user, or as root"
        }
        _ => "",
    };
    Failure::usage(format!("{} can't be read: {error}{advice}", entry.path.display()))
}

/// Process ids and live bytes of the trace lines in a log, in order.
fn read_trace(path: &Path) -> Result<Vec<(u64, f64)>, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{} can't be read: {error}", path.display()));
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut found, mut bytes, mut number) = (Vec::new(), Vec::new(), 0u64);
    loop {
        bytes.clear();
        if lines.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            return Ok(found);
        }
        number += 1;
        let line = String::from_utf8_lossy(&bytes);
        match trace_line::parse(line.trim_end_matches(['\n', '\r'])) {
            Ok(Found::Json(json)) => {
                let json: serde_json::Value = serde_json::from_str(&json)?;
                if let (Some(pid), Some(live)) = (json["pid"].as_u64(), json["live_bytes"].as_f64()) {
                    found.push((pid, live));
                }
            }
            Ok(Found::OtherLine) => {}
            Err(error) => return Err(Failure::usage(format!("{}, line {number}: {error}", path.display()))),
        }
    }
}

/// The lowest live bytes in each of [`WINDOWS`] equal parts of a process's lines; fewer where there are fewer lines.
fn windows(trace: &[(u64, f64)], pid: u32) -> Vec<f64> {
    let live: Vec<f64> = trace.iter().filter(|line| line.0 == u64::from(pid)).map(|line| line.1).collect();
    let count = WINDOWS.min(live.len());
    let part = |window: usize| &live[live.len() * window / count..live.len() * (window + 1) / count];
    (0..count).map(|window| part(window).iter().copied().fold(f64::INFINITY, f64::min)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_cut_into_windows_of_which_each_gives_its_lowest_value() {
        let trace: Vec<(u64, f64)> = (0..25).flat_map(|n| [(7, f64::from(n)), (8, 0.0)]).collect();
        let windows = windows(&trace, 7);
        assert_eq!((windows.len(), windows[0], windows[11]), (WINDOWS, 0.0, 22.0));
        assert_eq!(super::windows(&trace[..3], 7), [0.0, 1.0]);
        assert_eq!(super::windows(&trace, 9), [0.0; 0]);
    }
}
