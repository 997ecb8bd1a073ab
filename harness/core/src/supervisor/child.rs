//! One trial: starts the child, samples it, lets it go on from stop to stop, and learns how it ended.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heapgate_segment::clock::Anchor;
use heapgate_segment::control::Control;
use heapgate_segment::layout::{self, Level};
use heapgate_segment::limit::SOFT_LIMIT_VARIABLE;
use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::reader::Reader;
use heapgate_segment::setting::CONTROL_VARIABLE;
use heapgate_segment::stacks::{STACKS_VARIABLE, Settings as Sampling};

use super::death::Death;
use super::messages;
use super::reading::{self, Watched};
use super::stacks::{self, Stacks};
use super::{Settings, SuperviseError};
use crate::metric;
use crate::plan::Planned;
use crate::report::{self, MemorySample, Outcome, PRINTED, PhaseKind, TRACED, Trial};
use crate::sampler::{self, Sampler, Snapshot};
use crate::sites::{self, Modules, Symbols};
use crate::sys::{
    spawn,
    wait::{self, Ended},
};

/// 100 Hz: sees every swing that lasts two hundredths of a second, for a thousandth of a core.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
/// What memory is made of costs 0.8 ms to find out at 300 MB, so it is asked once a second.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);
/// How soon the end of a child is noticed once it has made its last stop.
const LAST_STOP_INTERVAL: Duration = Duration::from_millis(1);
/// Samples kept of one trial. A longer series is thinned out evenly: a plot has no more points.
const SERIES_LENGTH: usize = 1000;
/// Phases that every trial has: all but the prefill. After that many stops the end may come at any time.
const LEAST_PHASES: u32 = layout::PhaseKind::ALL.len() as u32 - 1;

/// What a child is given besides its segment, for a profile.
pub(super) struct Given<'a> {
    /// More of its environment.
    pub environment: Vec<(String, String)>,
    /// Open files that it inherits.
    pub files: Vec<&'a File>,
    /// What is done at its stops.
    pub at: Option<At<'a>>,
}

/// What looks at a child, or at what it left.
pub(super) type At<'a> = &'a dyn Fn(Stop, Reader<'_>);

/// A moment at which a child stands still, or is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Within its measured phase, which was asked for.
    Slice,
    /// After its measured phase.
    Measured,
    /// It has ended.
    Ended,
}

/// Runs one trial; `None` if `stop` was set before it ended. With `given`, `modules` is where its code was, whatever its
/// end.
pub(super) fn run(
    planned: &Planned,
    rep: u32,
    settings: &Settings,
    stop: &AtomicBool,
    symbols: &mut Symbols,
    given: Option<(&Given<'_>, &mut Modules)>,
) -> Result<Option<Trial>, SuperviseError> {
    let bytes = layout::segment_bytes(settings.slots);
    let no_segment = |source| SuperviseError::Segment { bytes, source };
    let file = create_file(c"heapgate", bytes).map_err(no_segment)?;
    let mapping = Mapping::new(file.as_fd()).map_err(no_segment)?;
    layout::format(mapping.words(), settings.slots, settings.level, settings.sample_period);
    let reader = Reader::new(mapping.words()).expect("just formatted");
    let control = Control::new(mapping.words()).expect("just formatted");
    control.supervise();
    let stacks = settings.sites.map(|period| Stacks::new(&Sampling::calls(period))).transpose()?;

    let mut messages = tempfile::tempfile().map_err(SuperviseError::Messages)?;
    let cgroup = settings.confinement.cgroup.as_deref();
    let before = Before {
        oom_kills: sampler::oom_kills(cgroup),
        machine: sampler::machine_time(),
        start: Instant::now(),
        start_ns: Anchor::now(reader.clock()).ns,
    };
    let (given, modules) = given.unzip();
    let pid = start(planned, settings, &file, stacks.as_ref(), given, &messages)?;
    let mut watch = Watch::new(pid, control, reader, before.start);
    watch.reads_modules = stacks.is_some() || given.is_some();
    watch.at = given.and_then(|given| given.at);
    let (ended, stopped_by) = watch.until_end(settings.timeout, stop)?;
    watch.tell(Stop::Ended);
    if let Some(modules) = modules {
        modules.clone_from(&watch.modules);
    }
    if stopped_by == Some(StoppedBy::User) {
        return Ok(None);
    }

    let wall = before.start.elapsed();
    let now = Anchor::now(reader.clock());
    let is_traced = messages::are_traced();
    let messages = if is_traced {
        messages::tail_of_traced(&mut messages, &mut std::io::stderr())
    } else {
        messages::tail(&mut messages)
    };
    let said = messages.clone();
    let outcome = if stopped_by == Some(StoppedBy::Timeout) {
        Outcome::TimedOut { after_s: settings.timeout.as_secs() }
    } else {
        let death = Death {
            end: ended.end,
            attached: reader.pid().is_some(),
            finished: reader.phases().iter().any(|phase| phase.ended && phase.kind == layout::PhaseKind::Drain as u64),
            refused: reader.totals().failed_calls() > 0,
            limited: settings.confinement.address_space_bytes.is_some(),
            oom_killed: before.oom_kills.zip(sampler::oom_kills(cgroup)).is_some_and(|(before, now)| now > before),
        };
        death.outcome(messages)
    };
    let mut trial = Trial {
        cell: planned.cell.clone(),
        unit: planned.unit.clone(),
        rep,
        outcome,
        level: settings.level.name().to_owned(),
        wall_s: wall.as_secs_f64(),
        lifetime_peak_rss_bytes: watch.lifetime_peak_rss_bytes(&ended),
        steal_share: before.machine.and_then(|machine| steal_share(machine, sampler::machine_time()?)),
        phases: reading::phases(reader, &watch.phases, before.start_ns, now),
        rss_series: thin(watch.series.iter().map(|&(at_ms, rss, _)| (at_ms, rss)).collect()),
        live_series: if settings.level == Level::Off {
            Vec::new()
        } else {
            thin(watch.series.iter().map(|&(.., live)| live).collect())
        },
        memory_series: std::mem::take(&mut watch.memory),
        ticks_per_second: if settings.level >= Level::Sampled { ticks_per_second(reader, now) } else { 0.0 },
        interrupted_split: reader.interrupted_split().to_string(),
        metrics: std::collections::BTreeMap::new(),
        figures: reading::figures(reader, &planned.figures),
        sites: None,
        notes: notes(reader, watch.peaks_are_exact, settings.slots),
    };
    let mut regions = trial.phases.iter().filter_map(|p| p.region.as_ref());
    if let Some(region) = regions.next_back().filter(|r| r.status.starts_with("unavailable")) {
        let note = format!("no region: its address range is {}; everything went to the allocator below", region.status);
        trial.notes.push(note);
    }
    if is_traced {
        trial.notes.push(TRACED.to_owned());
    }
    if let Some(stacks) = stacks {
        let samples = stacks.read();
        trial.notes.extend(stacks::notes(&samples));
        let counts = trial.phases.iter().find(|p| p.kind == PhaseKind::Measure).map(|p| p.counts);
        trial.sites = counts.map(|counts| sites::gather(&samples, &watch.modules, counts, symbols));
    }
    // A failed one's messages are in its outcome.
    if trial.outcome.is_completed() && !said.is_empty() {
        trial.notes.push(format!("{PRINTED}{said}"));
    }
    trial.metrics = metric::read_all(&trial);
    // What a dying process leaves may be nonsense; it must not cost the report.
    if let Err(fault) = report::check_trial(&trial) {
        trial.notes.push(format!("the telemetry it left can't be right and was dropped: {fault}"));
        trial.phases.clear();
        trial.metrics.clear();
        trial.sites = None;
    }
    Ok(Some(trial))
}

struct Before {
    oom_kills: Option<u64>,
    machine: Option<(u64, u64)>,
    start: Instant,
    start_ns: u64,
}

/// One thread and no surprises: exact counts must be the same on every machine.
const SINGLE_THREADED: [(&str, &str); 3] =
    [("RAYON_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_NUM_THREADS", "1")];

fn start(
    planned: &Planned,
    settings: &Settings,
    segment: &File,
    stacks: Option<&Stacks>,
    given: Option<&Given<'_>>,
    messages: &File,
) -> Result<u32, SuperviseError> {
    let (program, directory) = match &planned.program {
        Some(program) => (&program.path, &program.directory),
        None => (&settings.program, &settings.directory),
    };
    let mut command = Command::new(program);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    // What would put another allocator, or other settings, in the place of the one under test.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MALLOC_")) {
        command.env_remove(name);
    }
    command
        .args(&planned.arguments)
        .envs(SINGLE_THREADED)
        .env_remove("LD_PRELOAD")
        .env_remove("GLIBC_TUNABLES")
        // What is meant for services: a soft limit would be measured in place of the program.
        .env_remove(CONTROL_VARIABLE)
        .env_remove(SOFT_LIMIT_VARIABLE)
        .envs(planned.environment.iter().map(|(k, v)| (k, v)))
        .env(layout::SEGMENT_VARIABLE.to_string_lossy().as_ref(), format!("fd:{}", segment.as_raw_fd()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(messages.try_clone().map_err(SuperviseError::Messages)?);
    let mut shared = vec![segment.as_fd()];
    if let Some(stacks) = stacks {
        let fd = stacks.file.as_raw_fd();
        command.env(STACKS_VARIABLE.to_string_lossy().as_ref(), format!("fd:{fd}"));
        shared.push(stacks.file.as_fd());
    }
    if let Some(given) = given {
        command.envs(given.environment.iter().map(|(name, value)| (name, value)));
        shared.extend(given.files.iter().map(|file| file.as_fd()));
    }
    spawn::spawn(&mut command, &shared, &settings.confinement)
        .map(|child| child.id())
        .map_err(|source| SuperviseError::Spawn { program: program.clone(), source })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoppedBy {
    Timeout,
    User,
}

/// What is seen of a child while it runs.
struct Watch<'a> {
    pid: u32,
    sampler: Option<Sampler>,
    control: Control<'a>,
    start: Instant,
    reader: Reader<'a>,
    /// ms since the start, resident bytes, live objects and bytes.
    series: Vec<(f64, u64, (i64, i64))>,
    memory: Vec<MemorySample>,
    next_memory: Instant,
    /// The snapshot at the last stop, and the highest sample since.
    last: Option<Snapshot>,
    highest_sample: u64,
    samples: u64,
    peaks_are_exact: bool,
    /// Whether to look where its code is, and where it was at the last stop.
    reads_modules: bool,
    modules: Modules,
    at: Option<At<'a>>,
    /// Times the child has stopped.
    stops: u32,
    /// One for each phase that ended; `None` where `/proc` could not be read at one of its ends.
    phases: Vec<Option<Watched>>,
}

impl<'a> Watch<'a> {
    fn new(pid: u32, control: Control<'a>, reader: Reader<'a>, start: Instant) -> Self {
        Self {
            pid,
            sampler: Sampler::new(pid),
            control,
            start,
            reader,
            series: Vec::new(),
            memory: Vec::new(),
            next_memory: start + MEMORY_INTERVAL,
            last: None,
            highest_sample: 0,
            samples: 0,
            peaks_are_exact: true,
            reads_modules: false,
            modules: Modules::default(),
            at: None,
            stops: 0,
            phases: Vec::new(),
        }
    }

    fn until_end(
        &mut self,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<(Ended, Option<StoppedBy>), SuperviseError> {
        let mut stopped_by = None;
        let mut next_sample = Instant::now();
        loop {
            if let Some(ended) = wait::try_wait(self.pid).map_err(SuperviseError::Wait)? {
                return Ok((ended, stopped_by));
            }
            let held = self.control.held();
            if held != self.control.released() && stopped_by.is_none() {
                self.at_stop();
                self.control.release(held);
                continue;
            }
            let now = Instant::now();
            if now >= next_sample {
                self.sample();
                next_sample = now + SAMPLE_INTERVAL;
            }
            if now >= self.next_memory {
                self.sample_memory(now);
            }
            if stopped_by.is_none() {
                stopped_by = if stop.load(Relaxed) {
                    Some(StoppedBy::User)
                } else if self.start.elapsed() > timeout {
                    Some(StoppedBy::Timeout)
                } else {
                    None
                };
                if stopped_by.is_some() {
                    wait::kill(self.pid);
                }
            }
            let interval = if held > LEAST_PHASES { LAST_STOP_INTERVAL } else { SAMPLE_INTERVAL };
            self.control.wait_held(held, interval.min(next_sample.saturating_duration_since(now)));
        }
    }

    fn sample(&mut self) {
        if let Some(rss) = self.sampler.as_ref().and_then(Sampler::rss_bytes) {
            let at_ms = self.at_ms();
            self.series.push((at_ms, rss, self.reader.live()));
            self.highest_sample = self.highest_sample.max(rss);
            self.samples += 1;
        }
    }

    fn at_ms(&self) -> f64 {
        (self.start.elapsed().as_secs_f64() * 1e4).round() / 10.0
    }

    fn sample_memory(&mut self, now: Instant) {
        self.next_memory = now + MEMORY_INTERVAL;
        if let Some(snapshot) = self.sampler.as_ref().and_then(Sampler::snapshot) {
            self.memory.push(MemorySample {
                at_ms: self.at_ms(),
                rss_bytes: snapshot.rss_bytes,
                anonymous_bytes: snapshot.anonymous_bytes,
                huge_page_bytes: snapshot.huge_page_bytes,
                page_table_bytes: snapshot.page_table_bytes,
            });
        }
    }

    fn tell(&self, stop: Stop) {
        if let Some(at) = self.at {
            at(stop, self.reader);
        }
    }

    /// The child stands still: at its start, after a phase, or within one, since that was asked for.
    fn at_stop(&mut self) {
        let last = self.reader.phases().pop();
        if last.as_ref().is_some_and(|phase| !phase.ended) {
            return self.tell(Stop::Slice);
        }
        self.sample();
        let end = self.sampler.as_ref().and_then(Sampler::snapshot);
        // A library that was unloaded meanwhile has no names any more; what is there stays known if the child dies.
        if let Some(modules) = self.reads_modules.then(|| Modules::of(self.pid)).flatten() {
            self.modules = modules;
        }
        if last.is_some_and(|phase| phase.kind == layout::PhaseKind::Measure as u64) {
            self.tell(Stop::Measured);
        }
        if self.stops > 0 {
            self.phases.push(self.last.zip(end).map(|(begin, end)| self.watched(begin, end)));
        }
        self.stops += 1;
        self.peaks_are_exact &= self.sampler.as_ref().is_some_and(Sampler::reset_peak);
        (self.last, self.highest_sample, self.samples) = (end, 0, 0);
    }

    /// The kernel's peak is since the last time it was reset, which was at the last stop: the ends of phases know what
    /// was before.
    fn lifetime_peak_rss_bytes(&self, ended: &Ended) -> u64 {
        let phases = self.phases.iter().flatten().map(|phase| phase.peak_rss_bytes);
        phases.chain([ended.peak_rss_bytes, self.highest_sample]).max().unwrap_or(0)
    }

    fn watched(&self, begin: Snapshot, end: Snapshot) -> Watched {
        let peak = if self.peaks_are_exact { end.peak_rss_bytes } else { begin.rss_bytes };
        let peak_rss_bytes = peak.max(self.highest_sample).max(end.rss_bytes);
        Watched { begin, end, peak_rss_bytes, samples: self.samples }
    }
}

impl Drop for Watch<'_> {
    /// However this trial is left, its child does not stay behind.
    fn drop(&mut self) {
        if let Ok(None) = wait::try_wait(self.pid) {
            wait::kill(self.pid);
            wait::wait(self.pid);
        }
    }
}

fn notes(reader: Reader<'_>, peaks_are_exact: bool, slots: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let overflowed = reader.threads().1;
    if overflowed > 0 {
        notes.push(format!(
            "{overflowed} threads found no slot of their own ({slots} slots): counted exactly but slower, and at the sampled levels not timed; ask for more --slots"
        ));
    }
    if !peaks_are_exact {
        notes.push("the kernel does not reset peaks (clear_refs): peak RSS is the highest of the samples".to_owned());
    }
    if reader.was_off() {
        notes.push("the level was off for a time: live figures are not to be trusted".to_owned());
    }
    notes
}

/// The rate of the child's clock; 0 if it has none. Of a trial that was too short to tell, some more time tells.
fn ticks_per_second(reader: Reader<'_>, now: Anchor) -> f64 {
    let rate = reader.ticks_per_second(Some(now)).or_else(|| {
        reader.pid()?;
        std::thread::sleep(Anchor::RATE_INTERVAL);
        reader.ticks_per_second(Some(Anchor::now(reader.clock())))
    });
    rate.unwrap_or(0.0)
}

fn steal_share(before: (u64, u64), after: (u64, u64)) -> Option<f64> {
    let all = after.0.checked_sub(before.0).filter(|&all| all > 0)?;
    // The kernel's counters may step back; a share may not.
    Some((after.1.saturating_sub(before.1) as f64 / all as f64).min(1.0))
}

fn thin<T>(series: Vec<T>) -> Vec<T> {
    let step = series.len().div_ceil(SERIES_LENGTH).max(1);
    series.into_iter().step_by(step).collect()
}
