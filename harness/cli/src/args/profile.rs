//! `heapgate profile`

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use heapgate_core::profile::view::View;
use heapgate_core::profile::{Kind, cpu, heap, stacks};
use heapgate_segment::stacks::MAX_STACK_PERIOD;

use super::Global;
use crate::cargo::Wanted;
use crate::fail::Failure;
use crate::own_bench;
use crate::profile::{Rates, Session, Wish};
use crate::profile_live::{self, Target};
use crate::source::Source;

/// Find the lines of code that a workload's CPU time, memory, allocations or stalls come from
///
/// Runs the workload once for each kind, in a fresh process, or looks at a published process that runs (cpu, alloc and stall
/// of one that was built for it: heapgate_alloc::Publication::profiling(), and for cpu the feature profile-cpu), and writes
/// a folder: flame graphs (*.svg, to be opened in a
/// browser), folded stacks, profile.pb.gz for pprof, firefox.json for profiler.firefox.com, and profile.json for
/// `heapgate`. The sites with most are printed.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("live").args(["pid", "service"]))]
pub struct Profile {
    /// What is profiled
    #[arg(value_enum)]
    kind: What,
    /// Workload and variant, as in tokenize/hf-wordpiece; with --bench, where it has one, that
    #[arg(value_name = "WORKLOAD", required_unless_present_any = ["bench", "pid", "service"], conflicts_with = "live")]
    workload: Option<String>,
    /// cpu, alloc and stall: look at this published process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// The same for the only process of that service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// How long it is looked at, as in 10s or 2m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", requires = "live", value_parser = time)]
    duration: Duration,
    /// Folder of the published processes [default: this user's]
    #[arg(long, value_name = "FOLDER", requires = "live")]
    folder: Option<PathBuf>,
    /// Profile a bench of the package in this folder: a target with `heapgate_bench::main!`, which cargo builds first
    #[arg(long, value_name = "NAME", conflicts_with = "live")]
    bench: Option<String>,
    /// The package that has the bench
    #[arg(long, value_name = "NAME", requires = "bench")]
    package: Option<String>,
    /// Its Cargo.toml [default: found from this folder]
    #[arg(long, value_name = "FILE", requires = "bench")]
    manifest_path: Option<PathBuf>,
    /// Allocator, with settings: system, jemalloc, jemalloc:dirty_decay_ms=0, region, region+system [default: the
    /// variant's first]
    #[arg(short, long, value_name = "SPEC", conflicts_with = "live")]
    allocator: Option<String>,
    /// Parameter of the workload, as in document=verse; `heapgate list workloads` shows them
    #[arg(short, long = "param", value_name = "NAME=VALUE", conflicts_with = "live")]
    params: Vec<String>,
    /// Measured steps [default: the workload's own]
    #[arg(long, value_name = "N", conflicts_with = "live", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Longest time of one run, s
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// cpu: samples per second of CPU time
    #[arg(long, value_name = "HZ", default_value_t = cpu::DEFAULT_FREQUENCY_HZ, value_parser = clap::value_parser!(u32).range(1..=i64::from(cpu::MAX_FREQUENCY_HZ)))]
    frequency: u32,
    /// cpu: sample all phases (set-up, warm-up, …), not the measured one alone
    #[arg(long)]
    all_phases: bool,
    /// alloc: sample one allocation in N, whatever its size [default: 1024, and once in 2 MiB]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_STACK_PERIOD))]
    every: Option<u64>,
    /// heap: sample once in so many bytes, a power of two (jemalloc's profiler takes no other)
    #[arg(long, value_name = "BYTES", default_value_t = heap::DEFAULT_RATE_BYTES, value_parser = rate)]
    rate: u64,
    /// alloc and heap: take every allocation, and count lives exactly; slow
    #[arg(long, conflicts_with_all = ["every", "rate"])]
    exact: bool,
    /// stall: the shortest call that counts, µs
    #[arg(long, value_name = "MICROSECONDS", default_value_t = stacks::DEFAULT_THRESHOLD_NS / 1000, value_parser = clap::value_parser!(u64).range(1..=60_000_000))]
    threshold: u64,
    /// Keep the frames of the allocator, of heapgate and of the process's start
    #[arg(long)]
    full: bool,
    /// Compare with this stored profile of the same kind (a folder of `heapgate profile`, or its profile.json): the sites
    /// that changed by more than chance, and *.diff.svg, red where it grew
    #[arg(long, value_name = "BASE", conflicts_with = "live")]
    diff: Option<PathBuf>,
    /// Sites that are printed
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Where the files are written [default: target/heapgate/profile/WORKLOAD-ALLOCATOR-KIND; `all`: a folder for each
    /// kind in …-all, and profile.html]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print the sites as JSON instead of tables
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate profile alloc tokenize/hf-wordpiece               which lines allocate
  heapgate profile heap tokenize/hf-wordpiece -a jemalloc    what is in use at the peak
  heapgate profile all tokenize/hf-wordpiece                 everything, and one page of it
  heapgate profile cpu --bench index                         a bench of your own
  heapgate profile cpu --pid 4242 --for 30s                  a process that runs
  heapgate profile alloc tokenize/hf-wordpiece --diff FOLDER what changed since that was written
  go tool pprof -http : target/heapgate/profile/*/profile.pb.gz";

/// What the command line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Where CPU time goes
    Cpu,
    /// What is in use at the peak and at the end of the measured phase, and what it allocated
    Heap,
    /// Where allocations are made: counts, bytes, lifetimes, temporaries
    Alloc,
    /// Where slow calls of the allocator are made, and what they waited for
    Stall,
    /// All four, and one page of them
    All,
}

impl What {
    fn kinds(self) -> Vec<Kind> {
        match self {
            Self::Cpu => vec![Kind::Cpu],
            Self::Heap => vec![Kind::Heap],
            Self::Alloc => vec![Kind::Alloc],
            Self::Stall => vec![Kind::Stall],
            Self::All => Kind::ALL.to_vec(),
        }
    }
}

impl Profile {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let (rates, view) = (self.rates(), View { full: self.full });
        if let Some(target) = self.target() {
            let [kind] = self.kind.kinds()[..] else {
                return Err(Failure::usage("a live process is profiled for one kind at a time: cpu, alloc or stall"));
            };
            let (published, time) = (self.folder, self.duration);
            let wish = profile_live::Wish { target, published, kind, time, rates, view, folder: self.output };
            return profile_live::run(wish, usize::from(self.top), self.json, global.options(false));
        }
        let source = self.source()?;
        let session = Session::new(
            source,
            Wish {
                workload: self.workload.as_deref(),
                allocator: self.allocator.as_deref(),
                params: &self.params,
                steps: self.steps,
                timeout: Duration::from_secs(self.timeout),
                kinds: self.kind.kinds(),
                page: self.kind == What::All,
                rates,
                view,
                base: self.diff,
                folder: self.output,
            },
        )?;
        session.run(usize::from(self.top), self.json, global.options(false))
    }

    fn rates(&self) -> Rates {
        let exact = self.exact;
        Rates {
            frequency_hz: self.frequency,
            all_phases: self.all_phases,
            call_period: if exact { 1 } else { self.every.unwrap_or(stacks::DEFAULT_CALL_PERIOD) },
            byte_period: if exact || self.every.is_some() { 0 } else { stacks::DEFAULT_BYTE_PERIOD },
            heap_rate_bytes: if exact { 1 } else { self.rate },
            threshold_ns: self.threshold * 1000,
        }
    }

    /// The process that is to be looked at.
    fn target(&self) -> Option<Target> {
        let service = || self.service.clone().map(Target::Service);
        self.pid.map(Target::Pid).or_else(service)
    }

    fn source(&self) -> Result<Source, Failure> {
        let Some(bench) = self.bench.as_deref() else { return Source::built_in() };
        let (package, manifest) = (self.package.as_deref(), self.manifest_path.as_deref());
        own_bench::open(Wanted { bench, package, manifest })
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match heapgate_core::config::parse_time(text) {
        Ok(time) if time.is_zero() => Err("longer than nothing".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn rate(text: &str) -> Result<u64, String> {
    let unit = heapgate_core::metric::Unit::Bytes;
    let bytes = heapgate_core::config::parse_hard(text, unit).map_err(|error| error.to_string())? as u64;
    if bytes.is_power_of_two() { Ok(bytes) } else { Err("a power of two, as in 64KiB".to_owned()) }
}
