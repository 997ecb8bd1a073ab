//! Leaks of published processes, while they run or as they ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heapgate_core::leaks::growth::{self, SiteSeries, Span};
use heapgate_core::leaks::witness::Evidence;
use heapgate_core::leaks::{self, Look, WINDOWS, windows};
use heapgate_core::profile::stacks;
use heapgate_core::sites::{Modules, Symbols};
use heapgate_segment::clock::monotonic_ns;
use heapgate_segment::published::{self, Buffer, Entry, ReadError, RequestError};
use heapgate_segment::stacks::{Settings as Sampling, StackSamples};

use super::{Of, Subject};
use crate::fail::Failure;
use crate::trace_line::{self, Found};

/// Looks in each window: the lowest of four tells what stays from what comes and goes with requests.
const PER_WINDOW: usize = 4;

/// Which processes.
#[derive(Debug)]
pub enum Target {
    Pid(u32),
    Service(String),
    All,
}

/// What was asked for.
#[derive(Debug)]
pub struct Wish<'a> {
    pub target: Target,
    /// Where processes are published.
    pub folder: PathBuf,
    pub older_than: Option<Duration>,
    pub duration: Option<Duration>,
    pub trace: Option<&'a Path>,
    /// One allocation in how many is sampled meanwhile.
    pub every: Option<u64>,
}

/// What was seen of one process.
#[derive(Debug, Default)]
struct Watched {
    looks: Vec<Look>,
    running: bool,
    sites: Option<Vec<SiteSeries>>,
    notes: Vec<String>,
}

/// Whether a service of that name is published in `folder`.
pub fn has_service(folder: &Path, name: &str) -> bool {
    published::list(folder).is_ok_and(|entries| entries.iter().any(|entry| entry.name == name))
}

/// Looks at each.
///
/// # Errors
/// If there is no such process, or one that was named can't be read.
pub fn look(wish: Wish<'_>) -> Result<Vec<Subject>, Failure> {
    let named = !matches!(wish.target, Target::All);
    let entries = entries(&wish.target, &wish.folder)?;
    let trace = wish.trace.map(read_trace).transpose()?;
    if wish.every.is_some() && wish.duration.is_none() {
        return Err(Failure::usage("--every and --exact: they are of the stacks that are taken with --for"));
    }
    let all = look_at(&entries, wish.duration, wish.every, named)?;
    let mut found = Vec::with_capacity(entries.len());
    for (entry, seen) in entries.iter().zip(all) {
        // One of many that has gone since they were listed.
        if seen.looks.is_empty() {
            continue;
        }
        let Watched { looks, running, sites, mut notes } = seen;
        let settings = leaks::Settings { running, drained: false, older_than: wish.older_than };
        let mut findings = leaks::find(&looks, settings);
        if let Some(trace) = &trace {
            let live: Vec<f64> =
                trace.iter().filter(|line| line.0 == u64::from(entry.pid)).map(|line| line.1).collect();
            findings.live_bytes = leaks::live_trend(&windows(&live));
            if findings.live_bytes.is_none() {
                notes.push(format!(
                    "the log has fewer than {WINDOWS} trace lines of process {} with live bytes",
                    entry.pid
                ));
            }
        }
        if let Some(sites) = &sites {
            let seconds = wish.duration.unwrap_or_default().as_secs_f64();
            findings.growing = growth::grow(sites, Span { seconds, steps: None });
        }
        findings.corroborate(Evidence { sites: None, jemalloc: None, live_bytes: findings.live_bytes });
        found.push(Subject {
            of: Of::Process { service: entry.name.clone(), pid: entry.pid, running },
            findings,
            notes,
        });
    }
    Ok(found)
}

/// The published files of the processes that are meant.
fn entries(target: &Target, folder: &Path) -> Result<Vec<Entry>, Failure> {
    let mut entries = match published::list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Failure::usage(format!("{} can't be read: {error}", folder.display()))),
        Ok(entries) => entries,
    };
    let shown = folder.display();
    match target {
        Target::Pid(pid) => {
            entries.retain(|entry| entry.pid == *pid);
            // Of two of one number, the one that lives.
            entries.sort_by_key(|entry| (std::cmp::Reverse(entry.is_alive()), std::cmp::Reverse(entry.start_time)));
            entries.truncate(1);
            if entries.is_empty() {
                return Err(Failure::usage(match name_of(*pid) {
                    Some(name) => format!(
                        "process {pid} ({name}) is not published in {shown}: build it with heapgate-alloc and start it with \
                         HEAPGATE_PUBLISH=NAME; if it publishes elsewhere, name the folder with --folder"
                    ),
                    None => format!("there is no process {pid}, and none of that id is published in {shown}"),
                }));
            }
        }
        Target::Service(service) => {
            entries.retain(|entry| entry.name == *service);
            if entries.is_empty() {
                return Err(Failure::usage(format!(
                    "no service '{0}' is published in {shown}, and there is no workload of that name; `heapgate top --once` \
                     lists services, `heapgate list workloads` workloads",
                    service.escape_debug()
                )));
            }
        }
        Target::All if entries.is_empty() => {
            return Err(Failure::usage(format!(
                "no process is published in {shown}: start one with HEAPGATE_PUBLISH=NAME, or name its folder with --folder"
            )));
        }
        Target::All => {}
    }
    Ok(entries)
}

/// The name of a running process.
fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().escape_debug().to_string())
}

/// Looks at each once, or, for some time, [`PER_WINDOW`] times in each of [`WINDOWS`] parts of it; meanwhile those that let
/// themselves be asked take stacks.
fn look_at(
    entries: &[Entry],
    duration: Option<Duration>,
    every: Option<u64>,
    named: bool,
) -> Result<Vec<Watched>, Failure> {
    let mut all: Vec<Watched> = entries.iter().map(|_| Watched::default()).collect();
    let mut buffer = Buffer::new();
    let Some(duration) = duration else {
        look_once(entries, &mut all, &mut buffer, named)?;
        return Ok(all);
    };
    let sampling = Sampling {
        call_period: every.unwrap_or(stacks::DEFAULT_CALL_PERIOD),
        byte_period: if every.is_some() { 0 } else { stacks::DEFAULT_BYTE_PERIOD },
        track_frees: true,
        ..Sampling::NOTHING
    };
    let (times, ended) = (WINDOWS * PER_WINDOW, AtomicBool::new(false));
    let began = Instant::now();
    let mut moments: Vec<Vec<StackSamples>> = entries.iter().map(|_| Vec::new()).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = entries
            .iter()
            .map(|entry| {
                let (is_ended, sampling) = (|| ended.load(Relaxed), sampling);
                scope.spawn(move || entry.sample_stacks(&sampling, duration, &is_ended))
            })
            .collect();
        let mut looked = Ok(());
        for turn in 1..=times {
            let due = began + duration * turn as u32 / times as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            looked = look_once(entries, &mut all, &mut buffer, named);
            if looked.is_err() {
                break;
            }
            for (entry, moments) in entries.iter().zip(&mut moments) {
                // Until it has begun there is nothing to read, and once it has ended it is read to its end below.
                moments.extend(entry.read_stacks().ok());
            }
        }
        ended.store(true, Relaxed);
        for ((entry, asked), (seen, moments)) in entries.iter().zip(asked).zip(all.iter_mut().zip(&moments)) {
            match asked.join().expect("it does not panic") {
                Ok(_) => seen.sites = Some(sites(entry, moments)),
                Err(error) => seen.notes.push(not_taken(entry, &error)),
            }
        }
        looked
    })?;
    Ok(all)
}

fn sites(entry: &Entry, moments: &[StackSamples]) -> Vec<SiteSeries> {
    let modules = Modules::of(entry.pid).unwrap_or_default();
    growth::series(&moments.iter().collect::<Vec<_>>(), None, false, &modules, &mut Symbols::default())
}

fn not_taken(entry: &Entry, error: &RequestError) -> String {
    let name = &entry.name;
    match error {
        RequestError::NotTaken => format!(
            "it lets nobody take stacks, so which lines' objects grow is not known; where it publishes itself, write \
             heapgate_alloc::Publication::new(\"{name}\").profiling().publish()"
        ),
        error => format!("which lines' objects grow is not known: {error}"),
    }
}

fn look_once(entries: &[Entry], all: &mut [Watched], buffer: &mut Buffer, named: bool) -> Result<(), Failure> {
    for (entry, seen) in entries.iter().zip(all) {
        match look_at_one(entry, buffer) {
            Ok((look, alive)) => {
                seen.looks.push(look);
                seen.running = alive;
            }
            Err(error) if named => return Err(unreadable(entry, &error)),
            Err(error) => eprintln!("heapgate: warning: {}", unreadable(entry, &error)),
        }
    }
    Ok(())
}

fn look_at_one(entry: &Entry, buffer: &mut Buffer) -> Result<(Look, bool), ReadError> {
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
