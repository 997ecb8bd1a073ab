//! Profiles of a published process while it runs: it takes the stacks itself, and they get their names here.

use std::io::{ErrorKind, IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heapgate_core::profile::view::View;
use heapgate_core::profile::{Gathered, Kind, Profile, Subject, cpu, folder, resolve, stacks};
use heapgate_core::render::{self, Options};
use heapgate_core::report::{Build, Cell, Fingerprint, Machine};
use heapgate_core::sites::{Modules, Symbols};
use heapgate_core::{exit, files};
use heapgate_segment::published::{self, Buffer, Entry, ReadError, RequestError};
use heapgate_segment::stacks::Settings as Sampling;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::print;
use crate::fail::Failure;
use crate::profile::{FOLDER, Rates};
use crate::run::unix_s;
use crate::signals;

/// The variant in a live profile's cell: no part of the program was chosen.
const VARIANT: &str = "live";

/// Which process.
#[derive(Debug)]
pub enum Target {
    Pid(u32),
    /// The only one of this name that runs.
    Service(String),
}

/// What was asked for.
#[derive(Debug)]
pub struct Wish {
    pub target: Target,
    /// Where processes are published; this user's folder if not said.
    pub published: Option<PathBuf>,
    pub kind: Kind,
    pub time: Duration,
    pub rates: Rates,
    pub view: View,
    pub folder: Option<PathBuf>,
}

/// Has the process take stacks, prints the `top` sites, and writes the files.
///
/// # Errors
/// If there is no such process, it takes no requests, its code can't be found, or nothing was sampled.
pub fn run(wish: Wish, top: usize, as_json: bool, options: Options) -> Result<u8, Failure> {
    let asked = Asked::of(wish.kind, wish.rates)?;
    let published = wish.published.map_or_else(published::runtime_folder, Ok).map_err(Failure::usage)?;
    let entry = find(&wish.target, &published)?;
    let cell = cell(&entry)?;
    let before = modules(&entry)?;
    let output =
        wish.folder.unwrap_or_else(|| Path::new(FOLDER).join(format!("{}-{}-{}", entry.name, entry.pid, wish.kind)));
    files::make_folder(&output)?;
    files::check_writable(&output.join("profile.json"))?;

    // The second Ctrl-C ends us at once; the process ends its sampling by itself.
    let stop = signals::stop_flag()?;
    let created_unix_s = unix_s();
    let began = Instant::now();
    let mut gathered = sample(&entry, wish.kind, &asked, wish.time, &stop)?;
    let took = began.elapsed();
    let is_stopped = stop.load(Relaxed);
    // What was loaded meanwhile is only in the later one; a process that has ended has none.
    let after = entry.is_in_proc().then(|| Modules::of(entry.pid)).flatten();
    let has_ended = after.is_none();
    let modules = after.unwrap_or(before);

    if gathered.samples.is_empty() {
        return Err(nothing(&entry, wish.kind, is_stopped));
    }
    gathered.notes.push(format!("process {}, while it ran, for {:.1} s", entry.pid, took.as_secs_f64()));
    if has_ended {
        gathered.notes.push("the process ended meanwhile; this is what it had sampled".to_owned());
    }
    gathered.notes.extend(modules.replaced().map(|path| {
        format!(
            "{} is no longer the file that the process runs (deleted, or replaced by another build): its functions have no \
             names; start the process anew, and profile that",
            path.display()
        )
    }));
    let subject = Subject {
        cell,
        // What the service was built from, nobody has told us.
        fingerprint: Fingerprint { build: Build::default(), machine: Machine::detect() },
        created_unix_s,
        complete: !is_stopped && !has_ended,
        ..Subject::default()
    };
    let profile = resolve(subject, gathered, &modules, &mut Symbols::default());
    keep(&profile, &output, wish.view)?;
    if as_json {
        print(&serde_json::to_string_pretty(&render::profile::json(&profile, top))?)?;
    } else {
        print(&(render::profile::table(&profile, top, options) + "\n"))?;
    }
    if is_stopped {
        eprintln!("interrupted; what was gathered is in {}", output.display());
        return Ok(exit::INTERRUPTED);
    }
    Ok(exit::PASS)
}

fn keep(profile: &Profile, output: &Path, view: View) -> Result<(), Failure> {
    folder::write(profile, output, view).map_err(Failure::internal)?;
    eprintln!("{}: {}", profile.kind, output.display());
    Ok(())
}

/// What the process is to take.
enum Asked {
    Cpu { frequency_hz: u32 },
    Stacks(Sampling),
}

impl Asked {
    fn of(kind: Kind, rates: Rates) -> Result<Self, Failure> {
        let Rates { frequency_hz, call_period, byte_period, threshold_ns, .. } = rates;
        match kind {
            Kind::Cpu => Ok(Self::Cpu { frequency_hz }),
            Kind::Alloc => {
                let sampling = Sampling { call_period, byte_period, track_frees: true, ..Sampling::NOTHING };
                Ok(Self::Stacks(sampling))
            }
            Kind::Stall => Ok(Self::Stacks(Sampling::stalls(threshold_ns))),
            Kind::Heap => Err(Failure::usage(
                "there are no heap profiles of a live process: what it has in use was allocated before anybody looked. \
                 `alloc` says which lines allocate, and what they don't free meanwhile; `heapgate leaks` what is never released",
            )),
        }
    }

    /// Asks `entry`'s process, and waits for what it takes.
    fn take(&self, entry: &Entry, time: Duration, is_cancelled: &dyn Fn() -> bool) -> Result<Gathered, RequestError> {
        match self {
            Self::Cpu { frequency_hz } => {
                Ok(cpu::gather(&entry.sample_cpu(*frequency_hz, time, is_cancelled)?, *frequency_hz))
            }
            Self::Stacks(sampling) => {
                let samples = entry.sample_stacks(sampling, time, is_cancelled)?;
                Ok(if sampling.stall_threshold_ns > 0 {
                    stacks::gather_stall(&samples)
                } else {
                    // How many calls there were while stacks were taken, only the samples know.
                    stacks::gather_alloc(&samples, [None; 2])
                })
            }
        }
    }
}

/// Why there is nothing, and what to do.
fn nothing(entry: &Entry, kind: Kind, is_stopped: bool) -> Failure {
    if is_stopped {
        let error = anyhow::anyhow!("{kind}: interrupted before anything was gathered");
        return Failure { error, code: exit::INTERRUPTED };
    }
    let why = match kind {
        Kind::Stall => "no call of the allocator took as long: look for longer (--for), or lower --threshold",
        Kind::Cpu => "it took too little CPU time: look for longer (--for), or more often (--frequency)",
        _ => "it allocates nothing, or too little: look for longer (--for), or more often (--every, --exact)",
    };
    Failure::inconclusive(format!("{} ({}) {kind}: nothing was sampled: {why}", entry.name, entry.pid))
}

/// The published file of the process that is meant.
fn find(target: &Target, folder: &Path) -> Result<Entry, Failure> {
    let shown = folder.display();
    let mut entries = match published::list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Failure::usage(format!("{shown} can't be read: {error}"))),
        Ok(entries) => entries,
    };
    match target {
        Target::Pid(pid) => {
            entries.retain(|entry| entry.pid == *pid);
            // Of two of one number, the one that lives.
            entries.sort_by_key(|entry| (!entry.is_alive(), std::cmp::Reverse(entry.start_time)));
            match entries.into_iter().next() {
                Some(entry) => alive(entry),
                None => Err(Failure::usage(unpublished(*pid, folder))),
            }
        }
        Target::Service(name) => {
            entries.retain(|entry| entry.name == *name);
            let ended = entries.len();
            entries.retain(Entry::is_alive);
            let name = name.escape_debug();
            match entries.as_slice() {
                [only] => Ok(only.clone()),
                [] if ended > 0 => Err(Failure::usage(format!("all processes of service '{name}' have ended"))),
                [] => Err(Failure::usage(format!(
                    "no service '{name}' is published in {shown}; `heapgate top --once` lists those that are"
                ))),
                several => {
                    let pids: Vec<String> = several.iter().map(|entry| entry.pid.to_string()).collect();
                    Err(Failure::usage(format!(
                        "service '{name}' has several processes; name one by --pid: {}",
                        pids.join(", ")
                    )))
                }
            }
        }
    }
}

fn alive(entry: Entry) -> Result<Entry, Failure> {
    if entry.is_alive() {
        return Ok(entry);
    }
    Err(Failure::usage(format!("process {} ({}) has ended", entry.pid, entry.name)))
}

fn unpublished(pid: u32, folder: &Path) -> String {
    let shown = folder.display();
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(
            "process {pid} ({}) is not published in {shown}: it needs heapgate_alloc::Telemetry as its global allocator, and \
             at its start {}; if it publishes elsewhere, name the folder with --folder",
            name.trim_end().escape_debug(),
            line_to_add("NAME")
        ),
        Err(_) => format!("there is no process {pid}, and none of that id is published in {shown}"),
    }
}

fn line_to_add(name: &str) -> String {
    format!("heapgate_alloc::Publication::new(\"{name}\").profiling().publish()")
}

/// What ran: the service, under its allocator.
fn cell(entry: &Entry) -> Result<Cell, Failure> {
    let mut buffer = Buffer::new();
    entry.read(&mut buffer).map_err(|error| unreadable(entry, &error))?;
    let reader = buffer.reader().map_err(|error| unreadable(entry, &error.into()))?;
    let or_unknown = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
    let params = [("pid", entry.pid.to_string()), ("version", reader.version())];
    Ok(Cell {
        workload: entry.name.clone(),
        variant: VARIANT.to_owned(),
        allocator: or_unknown(reader.allocator()),
        params: params
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    })
}

/// Where the code of the process is.
fn modules(entry: &Entry) -> Result<Modules, Failure> {
    let pid = entry.pid;
    if !entry.is_in_proc() {
        return Err(Failure::usage(format!(
            "process {pid} ({}) lives, but /proc/{pid} here is another, or none: it runs in a container; run heapgate in there",
            entry.name
        )));
    }
    Modules::of(pid).ok_or_else(|| {
        Failure::usage(format!(
            "/proc/{pid}/maps can't be read, and without it addresses have no names: run heapgate as the user of process \
             {pid}, or as root"
        ))
    })
}

/// Waits for the stacks, and shows how long it takes.
fn sample(entry: &Entry, kind: Kind, asked: &Asked, time: Duration, stop: &AtomicBool) -> Result<Gathered, Failure> {
    eprintln!(
        "{} ({}) {kind}: {:.1} s; Ctrl-C ends it and keeps what there is",
        entry.name,
        entry.pid,
        time.as_secs_f64()
    );
    let bar = stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{bar:24} {elapsed}").expect("a valid template");
        ProgressBar::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).with_style(style.progress_chars("━╸─"))
    });
    let began = Instant::now();
    let is_cancelled = || {
        if let Some(bar) = &bar {
            bar.set_position(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        stop.load(Relaxed)
    };
    let samples = asked.take(entry, time, &is_cancelled);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    samples.map_err(|error| match error {
        // Before there was anything to read.
        RequestError::Stacks(error) if stop.load(Relaxed) && error.kind() == ErrorKind::NotFound => {
            nothing(entry, kind, true)
        }
        RequestError::File(error) => unreadable(entry, &error),
        error => refused(entry, &error),
    })
}

fn refused(entry: &Entry, error: &RequestError) -> Failure {
    let advice = match error {
        RequestError::NotTaken => {
            format!(": it lets nobody take stacks; where it publishes itself, write {}", line_to_add(&entry.name))
        }
        RequestError::Refused(why) if why.contains("profiling()") => {
            format!(": {error}; write {}", line_to_add(&entry.name))
        }
        RequestError::Refused(why) if why.contains("profile-cpu") => {
            format!(": {error}; in its Cargo.toml, write heapgate-alloc = {{ …, features = [\"profile-cpu\"] }}")
        }
        RequestError::Refused(why) if why.contains("no command") => {
            format!(": {error}; it was built with an older heapgate-alloc: build it anew")
        }
        RequestError::Refused(why) if why.contains("level") => {
            format!(": {error} (start it with HEAPGATE_LEVEL=sampled or exact)")
        }
        error => format!(": {error}"),
    };
    Failure::usage(format!("{} ({}){advice}", entry.name, entry.pid))
}

fn unreadable(entry: &Entry, error: &ReadError) -> Failure {
    let advice = match error {
        ReadError::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
            "; it belongs to another user: run heapgate as that user, or as root"
        }
        _ => "",
    };
    Failure::usage(format!("{} can't be read or asked: {error}{advice}", entry.path.display()))
}
