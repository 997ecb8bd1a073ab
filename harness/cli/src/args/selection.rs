//! Flags that say what is run and how: shared by `run`, `gate` and `baseline record`.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use heapgate_bench::{Injection, Under};
use heapgate_core::config::Config;
use heapgate_core::gate::Overall;
use heapgate_core::history::Place;
use heapgate_core::report::Report;
use heapgate_core::supervisor::{self, Confinement, Settings};
use heapgate_segment::layout::{DEFAULT_SLOTS, Level, MAX_SAMPLE_PERIOD, MAX_SLOTS};
use heapgate_store::history::Purpose;
use heapgate_workloads::corpus;
use heapgate_workloads::residency::MAX_DURATION_S;
use heapgate_workloads::tokenize::documents;

use crate::cargo::Wanted;
use crate::fail::Failure;
use crate::history;
use crate::matrix::{self, Matrix};
use crate::own_bench;
use crate::run::Session;
use crate::source::Source;

/// Repetitions where neither the command line nor the settings say: enough for a median that one bad run doesn't move.
const DEFAULT_REPS: u32 = 5;

/// What is run and how.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    /// Workloads: all variants of one (`tokenize`) or one variant (`tokenize/hf-wordpiece`) [default: all]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// Run a bench of the package in this folder instead of heapgate's own workloads: a target with
    /// `heapgate_bench::main!`, which cargo builds first
    #[arg(long, value_name = "NAME")]
    bench: Option<String>,
    /// The package that has the bench
    #[arg(long, value_name = "NAME", requires = "bench")]
    package: Option<String>,
    /// Its Cargo.toml [default: found from this folder]
    #[arg(long, value_name = "FILE", requires = "bench")]
    manifest_path: Option<PathBuf>,
    /// Allocator under test, with settings: system, jemalloc, jemalloc:dirty_decay_ms=0, region, region+system; may be
    /// repeated [default: each variant's own]
    #[arg(short, long = "allocator", value_name = "SPEC")]
    allocators: Vec<String>,
    /// Parameter of the workload, as in document=verse; `heapgate list workloads` shows them
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Give the workloads that take text this file as their document, in place of their own; UTF-8
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// With --text, put U+FFFD in the place of what is not UTF-8
    #[arg(long, requires = "text")]
    lossy: bool,
    /// How long workloads that run on a schedule go on measuring, s: short for --param duration=SECONDS
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_DURATION_S))]
    duration: Option<u64>,
    /// Repetitions of each cell, each in a fresh process [default: 5; `baseline record`: 10]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    reps: Option<u32>,
    /// What the verb takes where nobody says; none for [`DEFAULT_REPS`].
    #[arg(skip)]
    default_reps: Option<u32>,
    /// Measured steps of each trial (a step is for instance one document) [default: the workload's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Seed of the order of trials
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// How much is recorded: off, count, sampled (one call in --sample-period timed), exact-alloc (every allocation
    /// timed, frees sampled), exact
    #[arg(short, long, default_value = "exact", value_name = "LEVEL", value_parser = level)]
    level: Level,
    /// At sampled levels, one call in how many is timed
    #[arg(long, default_value_t = supervisor::DEFAULT_SAMPLE_PERIOD, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_SAMPLE_PERIOD))]
    sample_period: u64,
    /// Threads that can have counters of their own
    #[arg(long, default_value_t = DEFAULT_SLOTS, value_name = "N", value_parser = slots)]
    slots: usize,
    /// Longest time of one trial, s [default: 120, plus the --duration]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Address space of one trial, bytes (KiB, MiB, GiB understood); what needs more is out of memory
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_limit: Option<u64>,
    /// Put trials into this cgroup (its folder)
    #[arg(long, value_name = "FOLDER")]
    cgroup: Option<PathBuf>,
    /// Niceness of trials
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-20..=19))]
    nice: Option<i32>,
    /// CPUs that trials may run on, as in 0,2
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Option<Vec<usize>>,
    /// Where the report is written; until the run has ended, its trials are in FILE.partial
    #[arg(short, long, default_value = ".heapgate/report.json", value_name = "FILE")]
    output: PathBuf,
    /// Plant a regression (a control for the gate itself): extra-allocs=1, leak=1%, rss=5%, stall=50us@1e-4,
    /// fragmentation=10%; may be repeated
    #[arg(long, hide = true, value_name = "WHAT=HOW")]
    inject: Vec<Injection>,
}

impl Selection {
    /// How long to go on, if the command line says.
    pub fn duration(&self) -> Option<Duration> {
        self.duration.map(Duration::from_secs)
    }

    /// Where the workloads come from.
    ///
    /// # Errors
    /// If a bench can't be built.
    pub fn source(&self) -> Result<Source, Failure> {
        self.wanted().map_or_else(Source::built_in, own_bench::open)
    }

    /// The user's bench, if one is meant.
    pub fn wanted(&self) -> Option<Wanted<'_>> {
        let (package, manifest) = (self.package.as_deref(), self.manifest_path.as_deref());
        self.bench.as_deref().map(|bench| Wanted { bench, package, manifest })
    }

    /// The folder of the sources that are run.
    pub fn folder(&self) -> PathBuf {
        let manifest = self.manifest_path.as_deref().and_then(Path::parent);
        manifest.filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
    }

    /// Refuses allocators of the selection's own, where they are what is compared.
    ///
    /// # Errors
    /// If there are any.
    pub fn refuse_allocators(&self) -> Result<(), Failure> {
        match self.allocators.first() {
            Some(allocator) => Err(Failure::usage(format!(
                "--allocator {allocator}: --a and --b say which allocators are compared; leave it out"
            ))),
            None => Ok(()),
        }
    }

    /// These, with `reps` repetitions where neither the command line nor the settings say.
    pub fn or_reps(self, reps: u32) -> Self {
        Self { default_reps: Some(reps), ..self }
    }

    /// Resolves the flags, with `config` where they are silent.
    ///
    /// # Errors
    /// For a name or value that there isn't.
    pub fn session(&self, config: &Config) -> Result<Session, Failure> {
        self.session_under(config, self.source()?, None)
    }

    /// [`Self::session`] of what `source` has, under `allocators` where they are given.
    ///
    /// # Errors
    /// For a name or value that there isn't.
    pub fn session_under(
        &self,
        config: &Config,
        source: Source,
        allocators: Option<&[Under]>,
    ) -> Result<Session, Failure> {
        let allocators = match allocators {
            Some(allocators) => allocators.to_vec(),
            None => self.allocators.iter().map(|a| a.parse()).collect::<Result<_, _>>().map_err(Failure::usage)?,
        };
        let confinement = Confinement {
            address_space_bytes: self.memory_limit,
            nice: self.nice,
            cpus: self.cpus.clone(),
            cgroup: self.cgroup.clone(),
        };
        confinement.check().map_err(Failure::usage)?;
        check_names(config, &source)?;
        matrix::check_settings(&source.program, &allocators)?;
        let params = self.all_params(&source)?;
        let inject = self.injection(&source)?;
        let matrix = Matrix {
            workloads: &self.workloads,
            allocators: &allocators,
            params: &params,
            steps: self.steps,
            inject,
            reps: self.reps.or(config.reps).or(self.default_reps).unwrap_or(DEFAULT_REPS),
            seed: self.seed,
        };
        let timeout = match self.timeout {
            Some(seconds) => Duration::from_secs(seconds),
            None => timeout(config.timeout_s, &params),
        };
        Ok(Session {
            plan: matrix.plan(&source)?,
            settings: Settings {
                level: self.level,
                sample_period: self.sample_period,
                slots: self.slots,
                timeout,
                confinement,
                directory: source.directory,
                ..Settings::new(source.program)
            },
            build: source.build,
            shard: None,
            output: self.output.clone(),
            others: Vec::new(),
        })
    }
}

impl Selection {
    /// Appends the report of what was selected to the history, unless a regression was planted in it.
    pub fn append(&self, store: &Place, report: &Report, purpose: Purpose, decision: Option<Overall>) {
        if self.inject.is_empty() {
            history::append(store, report, purpose, decision);
        } else if report.complete && *store != Place::Off {
            eprintln!("history: a run with a planted regression is not appended");
        }
    }

    /// Whether a regression is planted in what is selected.
    pub fn is_planted(&self) -> bool {
        !self.inject.is_empty()
    }

    /// The parameters that `--text` and `--lossy` stand for. The file is read here, so that one that is of no use is
    /// told before anything runs.
    fn text_params(&self, source: &Source) -> Result<Vec<String>, Failure> {
        let Some(path) = &self.text else { return Ok(Vec::new()) };
        if let Some(param) = self.params.iter().find(|p| TEXT_PARAMS.iter().any(|name| p.starts_with(name))) {
            return Err(Failure::usage(format!("--text says what the document is; leave out --param {param}")));
        }
        if !source.takes(&self.workloads, documents::TEXT) {
            return Err(Failure::usage("--text: none of these workloads takes text; all of tokenize do"));
        }
        let refuse = |reason: &dyn Display| Failure::usage(format!("--text {reason}"));
        let path = std::path::absolute(path).map_err(|error| refuse(&format!("{}: {error}", path.display())))?;
        corpus::read_text(&path, self.lossy).map_err(|error| refuse(&error))?;
        let Some(name) = path.to_str() else {
            return Err(refuse(&format!("{}: the path itself is not UTF-8; rename the file", path.display())));
        };
        let mut params = vec![format!("{}=file", documents::PARAM), format!("{}={name}", documents::TEXT)];
        params.extend(self.lossy.then(|| format!("{}=yes", documents::LOSSY)));
        Ok(params)
    }

    /// What is planted, all together: refused here where no trial could plant it.
    fn injection(&self, source: &Source) -> Result<Injection, Failure> {
        let planted = Injection::all(&self.inject).map_err(|error| Failure::usage(format!("--inject: {error}")))?;
        let refused = planted.needs_switch().filter(|_| !source.switches_allocators);
        match refused.or_else(|| planted.needs_counts().filter(|_| self.level == Level::Off)) {
            Some(reason) => Err(Failure::usage(reason)),
            None => Ok(planted),
        }
    }

    /// The parameters with those that flags of their own stand for.
    fn all_params(&self, source: &Source) -> Result<Vec<String>, Failure> {
        let mut params = self.params.clone();
        params.extend(self.text_params(source)?);
        if let Some(seconds) = self.duration {
            if params.iter().any(|param| param.starts_with(DURATION)) {
                return Err(Failure::usage("--duration is short for --param duration=SECONDS: give one of them"));
            }
            params.push(format!("{DURATION}{seconds}"));
        }
        Ok(params)
    }
}

/// What `--text` sets.
const TEXT_PARAMS: [&str; 3] = ["document=", "text=", "lossy="];
/// A parameter that says how long a trial goes on measuring, up to its value.
const DURATION: &str = "duration=";

/// What a trial may take where the command line doesn't say: as usual, or as much more than its duration.
fn timeout(configured_s: Option<u64>, params: &[String]) -> Duration {
    let usual = configured_s.map_or(supervisor::DEFAULT_TIMEOUT, Duration::from_secs);
    let durations = params.iter().filter_map(|param| param.strip_prefix(DURATION)?.parse().ok());
    durations
        .max()
        .map_or(usual, |longest| usual.max(Duration::from_secs(longest).saturating_add(supervisor::DEFAULT_TIMEOUT)))
}

/// Limits for a workload that isn't there would never be looked at: a typing mistake that lets a regression pass. A
/// package may have several benches, of which one is run: there it is said, and no error.
fn check_names(config: &Config, source: &Source) -> Result<(), Failure> {
    let file = config.source.as_deref().unwrap_or(Path::new("the settings"));
    for (name, line) in config.named_workloads().filter(|(name, _)| !source.has(name)) {
        let message = format!("{}:{line}: {}", file.display(), source.unknown(name));
        if source.bench.is_none() {
            return Err(Failure::usage(message));
        }
        eprintln!("heapgate: {message}; its limits are not looked at");
    }
    for acceptance in config.acceptances() {
        let Some(allocator) = &acceptance.allocator else { continue };
        allocator.parse::<Under>().map_err(|error| {
            Failure::usage(format!("{}:{}: [[accept]] allocator: {error}", file.display(), acceptance.line))
        })?;
    }
    Ok(())
}

fn level(name: &str) -> Result<Level, String> {
    let names = Level::ALL.map(Level::name).join(", ");
    Level::ALL.into_iter().find(|level| level.name() == name).ok_or(format!("there are: {names}"))
}

fn slots(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=MAX_SLOTS).contains(n)).ok_or(format!("a number from 1 to {MAX_SLOTS}"))
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let value =
        heapgate_core::config::parse_hard(text, heapgate_core::metric::Unit::Bytes).map_err(|e| e.to_string())?;
    if value >= 1.0 { Ok(value as u64) } else { Err("at least one byte".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_leaves_the_usual_time_for_the_rest_of_the_trial() {
        let seconds = |configured, params: &[&str]| {
            let params: Vec<String> = params.iter().map(|&param| param.to_owned()).collect();
            timeout(configured, &params).as_secs()
        };
        assert_eq!(seconds(None, &[]), 120);
        assert_eq!(seconds(Some(30), &["document=verse"]), 30);
        assert_eq!(seconds(None, &["duration=3600"]), 3_720);
        assert_eq!(seconds(Some(9_000), &["duration=3600"]), 9_000);
        assert_eq!(seconds(None, &["duration=18446744073709551615"]), u64::MAX);
    }
}
