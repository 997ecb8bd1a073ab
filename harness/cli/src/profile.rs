//! Runs a workload once for each kind of profile, and keeps what each gives as soon as it is there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use heapgate_bench::{AllocatorSpec, Base, Injection, Under};
use heapgate_core::exit;
use heapgate_core::files;
use heapgate_core::plan::Planned;
use heapgate_core::profile::view::View;
use heapgate_core::profile::{Gathered, Kind, Measured, Profile, Subject, cpu, folder, heap, resolve, stacks};
use heapgate_core::render::{self, Options};
use heapgate_core::report::{Build, Cell, Fingerprint, Machine, Outcome, Phase, PhaseKind, Trial};
use heapgate_core::sites::Symbols;
use heapgate_core::supervisor::{self, Probe, Profiled, Settings, Traces};
use heapgate_segment::layout::Level;
use heapgate_segment::stacks::{Scope, Settings as Sampling};

use crate::args::print;
use crate::fail::Failure;
use crate::matrix::{self, Matrix};
use crate::named;
use crate::profile_diff;
use crate::run::unix_s;
use crate::signals;
use crate::source::Source;

/// Where profiles are written where nobody says.
pub const FOLDER: &str = "target/heapgate/profile";
/// The page of all kinds.
pub const PAGE: &str = "profile.html";

/// What was asked for.
#[derive(Debug)]
pub struct Wish<'a> {
    pub workload: Option<&'a str>,
    pub allocator: Option<&'a str>,
    pub params: &'a [String],
    pub steps: Option<u64>,
    pub timeout: Duration,
    pub kinds: Vec<Kind>,
    /// Whether one page is made of them all.
    pub page: bool,
    pub rates: Rates,
    pub view: View,
    /// What it is compared with.
    pub base: Option<PathBuf>,
    pub folder: Option<PathBuf>,
}

/// How often samples are taken.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    pub frequency_hz: u32,
    pub all_phases: bool,
    pub call_period: u64,
    pub byte_period: u64,
    pub heap_rate_bytes: u64,
    pub threshold_ns: u64,
}

/// Everything that profiling needs.
#[derive(Debug)]
pub struct Session {
    planned: Planned,
    under: Under,
    settings: Settings,
    build: Build,
    kinds: Vec<Kind>,
    rates: Rates,
    view: View,
    folder: PathBuf,
    page: bool,
    /// What each kind is compared with, and where that is.
    bases: Vec<(PathBuf, Profile)>,
}

impl Rates {
    /// Those where nobody asks for others, but such that a run of `calls` allocations of `bytes` in all leaves enough
    /// samples to tell lines apart.
    pub fn of_run(calls: f64, bytes: f64) -> Self {
        /// Sites of a hundredth of all are known to a fourteenth then: 200 samples.
        const SAMPLES: f64 = 20_000.0;
        let every = |all: f64, most: u64| ((all / SAMPLES).max(1.0) as u64).min(most);
        let power_of_two = |n: u64| 1 << n.max(1).ilog2();
        Self {
            frequency_hz: cpu::DEFAULT_FREQUENCY_HZ,
            all_phases: false,
            call_period: every(calls, stacks::DEFAULT_CALL_PERIOD),
            byte_period: stacks::DEFAULT_BYTE_PERIOD,
            heap_rate_bytes: power_of_two(every(bytes, heap::DEFAULT_RATE_BYTES)),
            threshold_ns: stacks::DEFAULT_THRESHOLD_NS,
        }
    }
}

impl Session {
    /// Resolves names, and finds out whether the files can be written.
    ///
    /// # Errors
    /// For a workload, allocator or folder that there isn't.
    pub fn new(source: Source, wish: Wish<'_>) -> Result<Self, Failure> {
        let name = named::variant(&source, wish.workload)?;
        let asked: Option<Under> = wish.allocator.map(str::parse).transpose().map_err(Failure::usage)?;
        let described = source.select(std::slice::from_ref(&name))?[0].clone();
        let under = source.allocators(&described, asked.as_slice())?.remove(0);
        matrix::check_settings(&source.program, std::slice::from_ref(&under))?;
        let matrix = Matrix {
            workloads: &[name],
            allocators: std::slice::from_ref(&under),
            params: wish.params,
            steps: wish.steps,
            inject: Injection::default(),
            reps: 1,
            seed: 0,
        };
        let planned = matrix.plan(&source)?.cells.remove(0);
        let folder = wish
            .folder
            .unwrap_or_else(|| folder_of(&planned.cell, if wish.page { "all" } else { wish.kinds[0].name() }));
        let settings = Settings { timeout: wish.timeout, directory: source.directory, ..Settings::new(source.program) };
        let Wish { kinds, rates, view, page, base, .. } = wish;
        // A base that is of no use is told before anything runs.
        let load = |path: PathBuf| {
            let all: Result<Vec<_>, Failure> =
                kinds.iter().map(|&kind| Ok((path.clone(), profile_diff::load(&path, Some(kind))?))).collect();
            all
        };
        let bases = base.map_or(Ok(Vec::new()), load)?;
        let session = Self { planned, under, settings, build: source.build, kinds, rates, view, folder, page, bases };
        for &kind in &session.kinds {
            let folder = session.folder_of(kind);
            files::make_folder(&folder)?;
            files::check_writable(&folder.join("profile.json"))?;
        }
        Ok(session)
    }

    /// A session of one kind, of a cell that was planned for something else. `rates` may be denser than usual for a cell
    /// that allocates little.
    ///
    /// # Errors
    /// For an allocator or folder that there isn't.
    pub fn of_planned(
        planned: Planned,
        (settings, build): (Settings, Build),
        kind: Kind,
        rates: Rates,
        folder: PathBuf,
    ) -> Result<Self, Failure> {
        let under = planned.cell.allocator.parse().map_err(Failure::usage)?;
        files::make_folder(&folder)?;
        let (kinds, view) = (vec![kind], View::default());
        Ok(Self { planned, under, settings, build, kinds, rates, view, folder, page: false, bases: Vec::new() })
    }

    /// The profile of a session of one kind, written to its folder.
    ///
    /// # Errors
    /// If there is none: the workload failed, nothing was sampled, or it took too long.
    pub fn take(self, stop: &AtomicBool, symbols: &mut Symbols) -> Result<Profile, Failure> {
        let (profile, failed) = self.one(self.kinds[0], stop, symbols)?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        folder::write(&profile, &self.folder, self.view).map_err(Failure::internal)?;
        // What a report links to.
        let page = render::profile_html::render(std::slice::from_ref(&profile), self.view, profile_diff::TOP);
        files::atomic_write(&self.folder.join(PAGE), page.as_bytes())?;
        Ok(profile)
    }

    fn folder_of(&self, kind: Kind) -> PathBuf {
        if self.page { self.folder.join(kind.name()) } else { self.folder.clone() }
    }

    /// Profiles one kind after the other, prints the `top` sites of each, and writes their files. What one kind gave
    /// stays when a later one fails.
    ///
    /// # Errors
    /// The first failure, after everything else was tried.
    pub fn run(self, top: usize, as_json: bool, options: Options) -> Result<u8, Failure> {
        let stop = signals::stop_flag()?;
        let mut symbols = Symbols::default();
        let (mut profiles, mut changes) = (Vec::new(), Vec::new());
        let (mut failures, mut code) = (Vec::new(), exit::PASS);
        for (number, &kind) in (1..).zip(&self.kinds) {
            if stop.load(Relaxed) {
                break;
            }
            eprintln!("[{number}/{}] {} {kind}", self.kinds.len(), self.planned.cell);
            match self.one(kind, &stop, &mut symbols) {
                Ok((profile, failed)) => {
                    if let Err(failure) = self.keep(&profile) {
                        failures.push(failure);
                    }
                    if !as_json {
                        print(&(render::profile::table(&profile, top, options) + "\n"))?;
                    }
                    let (change, json) = match self.change(&profile, top, options) {
                        Ok(change) => change.unwrap_or_default(),
                        Err(failure) => {
                            failures.push(failure);
                            Default::default()
                        }
                    };
                    if !as_json && !change.is_empty() {
                        print(&(change + "\n"))?;
                    }
                    changes.push(json);
                    profiles.push(profile);
                    failures.extend(failed);
                }
                Err(failure) => {
                    // Of several failures the last is the error; those before it are said now.
                    failures.push(failure);
                }
            }
        }
        if as_json {
            let with_change = |(profile, change): (&Profile, serde_json::Value)| {
                let mut json = render::profile::json(profile, top);
                if !change.is_null() {
                    json["difference"] = change;
                }
                json
            };
            let all: Vec<serde_json::Value> = profiles.iter().zip(changes).map(with_change).collect();
            let json = if self.page { serde_json::json!(all) } else { all.into_iter().next().unwrap_or_default() };
            print(&serde_json::to_string_pretty(&json)?)?;
        }
        if self.page && !profiles.is_empty() {
            let path = self.folder.join(PAGE);
            let page = render::profile_html::render(&profiles, self.view, top);
            match files::atomic_write(&path, page.as_bytes()) {
                Ok(()) => eprintln!("page: {}", path.display()),
                Err(error) => failures.push(error.into()),
            }
        }
        if stop.load(Relaxed) {
            eprintln!("interrupted; what was gathered is in {}", self.folder.display());
            code = exit::INTERRUPTED;
        }
        let last = failures.pop();
        for failure in failures {
            eprintln!("heapgate: {failure}");
        }
        match last {
            Some(failure) if code == exit::PASS => Err(failure),
            Some(failure) => {
                eprintln!("heapgate: {failure}");
                Ok(code)
            }
            None => Ok(code),
        }
    }

    fn keep(&self, profile: &Profile) -> Result<(), Failure> {
        let folder = self.folder_of(profile.kind);
        folder::write(profile, &folder, self.view).map_err(Failure::internal)?;
        eprintln!("{}: {}", profile.kind, folder.display());
        Ok(())
    }

    /// What changed against the base, for a terminal and as JSON; the flame graphs of it are written. `None` without one.
    fn change(
        &self,
        profile: &Profile,
        top: usize,
        options: Options,
    ) -> Result<Option<(String, serde_json::Value)>, Failure> {
        let Some((path, base)) = self.bases.iter().find(|(_, base)| base.kind == profile.kind) else { return Ok(None) };
        let folder = self.folder_of(profile.kind);
        let (difference, drawn) = profile_diff::compare((path, base), (&folder, profile), &folder, self.view)?;
        profile_diff::say(&drawn?, &folder);
        let json = render::profile_diff::json(base, profile, &difference, top);
        Ok(Some((render::profile_diff::table(base, profile, &difference, top, options), json)))
    }

    /// One kind; with what failed, where there is a profile nevertheless.
    fn one(&self, kind: Kind, stop: &AtomicBool, symbols: &mut Symbols) -> Result<(Profile, Option<Failure>), Failure> {
        let (probe, level) = self.probe(kind);
        let planned = Planned { environment: self.environment(probe), ..self.planned.clone() };
        let settings = Settings { level, ..self.settings.clone() };
        let created_unix_s = unix_s();
        let Profiled { trial, modules, traces } = supervisor::profile(&planned, &settings, probe, stop)?;
        let gathered = gather(kind, traces, trial.as_ref(), self.rates);
        let outcome = trial.as_ref().map(|trial| &trial.outcome);
        let failed = outcome
            .filter(|outcome| !outcome.is_completed())
            .map(|outcome| Failure::workload(format!("{} {kind}: the workload {}", self.planned.cell, told(outcome))));
        if gathered.samples.is_empty() {
            return Err(failed.unwrap_or_else(|| self.nothing(kind, trial.as_ref(), stop)));
        }
        let cpu_ns = gathered.exact_totals[0].filter(|_| kind == Kind::Cpu);
        let phase = trial.as_ref().and_then(measured).filter(|phase| phase.ended);
        let subject = Subject {
            cell: self.planned.cell.clone(),
            fingerprint: Fingerprint { build: self.build.clone(), machine: Machine::detect() },
            created_unix_s,
            complete: outcome.is_some_and(Outcome::is_completed),
            measured: phase.map(|phase| Measured {
                wall_s: phase.wall_s,
                cpu_ns: cpu_ns.or(phase.process.map(|process| process.cpu_ns as f64)).unwrap_or(0.0),
                units: phase.units,
            }),
        };
        Ok((resolve(subject, gathered, &modules, symbols), failed))
    }

    /// What to ask the child for, and how much it is to count meanwhile: no more than the profile needs.
    fn probe(&self, kind: Kind) -> (Probe, Level) {
        let Rates { frequency_hz, all_phases, call_period, byte_period, heap_rate_bytes, threshold_ns } = self.rates;
        match kind {
            Kind::Cpu => (Probe::Cpu { frequency_hz, all_phases }, Level::Off),
            Kind::Heap if self.has_jemalloc() => (Probe::JemallocHeap, Level::Count),
            Kind::Heap => {
                let periods = if heap_rate_bytes == 1 { (1, 0) } else { (0, heap_rate_bytes) };
                let sampling = Sampling {
                    call_period: periods.0,
                    byte_period: periods.1,
                    scope: Scope::Always,
                    track_frees: true,
                    ..Sampling::NOTHING
                };
                (Probe::StacksMeasured(sampling), Level::Count)
            }
            Kind::Alloc => (
                Probe::Stacks(Sampling { call_period, byte_period, track_frees: true, ..Sampling::NOTHING }),
                Level::Count,
            ),
            Kind::Stall => (Probe::Stacks(Sampling::stalls(threshold_ns)), Level::Exact),
        }
    }

    /// Regions pass jemalloc by: what is in them only the telemetry sees.
    fn has_jemalloc(&self) -> bool {
        matches!(&self.under, Under::Switch(spec) if spec.base == Base::Jemalloc)
    }

    fn environment(&self, probe: Probe) -> Vec<(String, String)> {
        let under = match (&self.under, probe) {
            (Under::Switch(spec), Probe::JemallocHeap) => Under::Switch(profiled(spec, self.rates.heap_rate_bytes)),
            (under, _) => under.clone(),
        };
        under.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Why there is nothing, and what to do.
    fn nothing(&self, kind: Kind, trial: Option<&Trial>, stop: &AtomicBool) -> Failure {
        if stop.load(Relaxed) {
            return Failure {
                error: anyhow::anyhow!("{kind}: interrupted before anything was gathered"),
                code: exit::INTERRUPTED,
            };
        }
        let said =
            trial.map_or(String::new(), |trial| trial.notes.iter().map(|note| format!("; {note}")).collect::<String>());
        let why = match kind {
            Kind::Cpu => "the measured phase took too little CPU time: ask for more --steps, or a higher --frequency",
            Kind::Heap => "too little was allocated: ask for more --steps, a lower --rate, or --exact",
            Kind::Alloc => "the measured phase allocates nothing, or too little: ask for more --steps, or --exact",
            Kind::Stall => "no call of the allocator took as long: lower --threshold, or be glad",
        };
        Failure::inconclusive(format!("{} {kind}: nothing was sampled: {why}{said}", self.planned.cell))
    }
}

/// Where the profiles of a cell are written where nobody says; `kind` is `all` for all.
pub fn folder_of(cell: &Cell, kind: &str) -> PathBuf {
    Path::new(FOLDER).join(folder_name(cell, kind))
}

/// What the folder of a cell's profiles is called, without what not all file systems take.
pub fn folder_name(cell: &Cell, kind: &str) -> String {
    let name = format!("{}-{}-{}-{kind}", cell.workload, cell.variant, cell.allocator);
    name.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.+".contains(c), "_")
}

/// jemalloc with its profiler on.
pub fn profiled(spec: &AllocatorSpec, rate_bytes: u64) -> AllocatorSpec {
    let mut spec = spec.clone();
    for (name, value) in [
        ("prof", "true".to_owned()),
        ("prof_accum", "true".to_owned()),
        ("lg_prof_sample", rate_bytes.max(1).ilog2().to_string()),
    ] {
        spec.options.push((name.to_owned(), value));
    }
    spec
}

fn gather(kind: Kind, traces: Traces, trial: Option<&Trial>, rates: Rates) -> Gathered {
    let measured = trial.and_then(measured);
    let exact_heap = || match measured {
        None => vec![None; 6],
        Some(phase) => [
            phase.live.peak_bytes as f64,
            phase.live.peak_objects as f64,
            phase.live.bytes as f64,
            phase.live.objects as f64,
            phase.counts.allocated_bytes() as f64,
            phase.counts.allocation_calls() as f64,
        ]
        .map(|number| Some(number.max(0.0)))
        .to_vec(),
    };
    match traces {
        Traces::Cpu(text) => cpu::gather(&text, rates.frequency_hz),
        Traces::JemallocHeap(dumps) => heap::gather(&dumps, exact_heap()),
        Traces::Stacks(samples) => match kind {
            Kind::Heap => stacks::gather_heap(&samples, exact_heap()),
            Kind::Stall => stacks::gather_stall(&samples),
            Kind::Cpu | Kind::Alloc => {
                let counts = measured.map(|phase| phase.counts);
                let exact = [
                    counts.map(|counts| counts.allocation_calls() as f64),
                    counts.map(|counts| counts.allocated_bytes() as f64),
                ];
                stacks::gather_alloc(&samples, exact)
            }
        },
    }
}

fn measured(trial: &Trial) -> Option<&Phase> {
    trial.phases.iter().find(|phase| phase.kind == PhaseKind::Measure)
}

/// How a trial ended, and the last of what it printed.
pub fn told(outcome: &Outcome) -> String {
    let said = match outcome {
        Outcome::Failed { stderr, .. } | Outcome::Killed { stderr, .. } | Outcome::OutOfMemory { stderr, .. } => {
            stderr.lines().last().unwrap_or("")
        }
        Outcome::Completed | Outcome::TimedOut { .. } => "",
    };
    if said.is_empty() { outcome.to_string() } else { format!("{outcome}: {said}") }
}
