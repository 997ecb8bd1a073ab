//! `heapgate leaks`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use heapgate_bench::Injection;
use heapgate_core::config::parse_time;
use heapgate_core::exit;
use heapgate_segment::published;
use heapgate_segment::stacks::MAX_STACK_PERIOD;

use super::Global;
use crate::cargo::Wanted;
use crate::fail::Failure;
use crate::leaks::live::{self, Target};
use crate::leaks::{Subject, report, workload};
use crate::own_bench;
use crate::source::Source;

/// Name what is never released: arenas, region scopes, and the lines whose objects grow
///
/// Of a published process, of a workload that is run for it, or of a report. Published is what was started with
/// HEAPGATE_PUBLISH=NAME, or calls heapgate_alloc::publish. A process that has ended is shown as it was at its end, until its
/// file is cleared away.
///
/// An open arena of a process is named if it has lived ten times as long as any that its line of the source released (and 10 s,
/// while the process runs), or if its line releases none and goes on making them. A scope is named if it has been open for a
/// minute. --older-than takes the place of these rules. A line is named if its live objects or bytes rise throughout twelve
/// windows, and, of a workload, are not released when it is dropped.
///
/// Ends with 3 if anything was named, with 0 if nothing was, with 4 if too little was seen to tell: docs/leaks.md.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Leaks {
    /// A service's name, a workload as in tokenize/hf-wordpiece, or a report (FILE.json) [default: all published processes]
    #[arg(value_name = "SERVICE|WORKLOAD|REPORT", conflicts_with = "pid")]
    what: Option<String>,
    /// The process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Take whatever is open for longer for a leak, and nothing else
    #[arg(long, value_name = "TIME", value_parser = time)]
    older_than: Option<Duration>,
    /// Process: look for so long, and say which lines' objects grew meanwhile (if it was built with Publication::profiling())
    /// and whether all live bytes did
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Trace lines of the process (HEAPGATE_TRACE=1): say whether live bytes grew over them
    #[arg(long, value_name = "FILE", conflicts_with = "duration")]
    trace: Option<PathBuf>,
    /// Folder of the published processes [default: this user's]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    run: Run,
    /// Sample one allocation in N [default: of a workload 16, and once in 16 KiB; of a process 1024, and once in 1 MiB]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_STACK_PERIOD))]
    every: Option<u64>,
    /// Take every allocation; slow
    #[arg(long, conflicts_with = "every")]
    exact: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is only for workloads.
#[derive(Debug, Args)]
struct Run {
    /// Workload: one of a bench of the package in this folder
    #[arg(long, value_name = "NAME", conflicts_with = "pid")]
    bench: Option<String>,
    /// The package that has the bench
    #[arg(long, value_name = "NAME", requires = "bench")]
    package: Option<String>,
    /// Its Cargo.toml [default: found from this folder]
    #[arg(long, value_name = "FILE", requires = "bench")]
    manifest_path: Option<PathBuf>,
    /// Workload: allocator, with settings [default: the variant's first]
    #[arg(short, long, value_name = "SPEC")]
    allocator: Option<String>,
    /// Workload: parameter, as in document=verse
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Workload: measured steps; eight at least [default: the workload's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Workload: longest time of the run, s
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Workload under jemalloc: take its own heap profile too, as another witness
    #[arg(long)]
    heap_profile: bool,
    /// Plant a leak: a control
    #[arg(long, value_name = "WHAT=HOW", hide = true)]
    inject: Vec<Injection>,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate leaks tokenizer                     what a service has not released
  heapgate leaks --pid 4242 --for 1m           and which lines' objects grow
  heapgate leaks --older-than 1h --json        of all services, whatever is older
  heapgate leaks tokenizer --trace service.log with the trace lines of that log
  heapgate leaks tokenize/hf-wordpiece         run a workload, and look at it
  heapgate leaks --bench index --steps 1000    the same for a bench of your own
  heapgate leaks .heapgate/report.json         what a report says of growth";

fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).map_err(|error| error.to_string())
}

/// What is to be looked at.
enum Kind {
    Live,
    Workload,
    Report(PathBuf),
}

impl Leaks {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let kind = self.kind()?;
        self.check_flags(&kind)?;
        let (found, complete) = match &kind {
            Kind::Live => (self.live()?, true),
            Kind::Workload => self.workload()?,
            Kind::Report(path) => report::look(path)?,
        };
        Subject::print(&found, self.json, global.options(false))?;
        Ok(match found.iter().any(|subject| subject.findings.any()) {
            true => exit::REGRESSION,
            false if complete => exit::PASS,
            false => exit::INCONCLUSIVE,
        })
    }

    /// A file is a report, a name with a slash a workload; any other name a service if one is published under it, else a
    /// workload.
    fn kind(&self) -> Result<Kind, Failure> {
        if self.run.bench.is_some() {
            return Ok(Kind::Workload);
        }
        let Some(what) = &self.what else { return Ok(Kind::Live) };
        let is_file = Path::new(what).is_file();
        if is_file || what.ends_with(".json") {
            return Ok(Kind::Report(PathBuf::from(what)));
        }
        let is_published = || Ok::<_, Failure>(live::has_service(&self.published()?, what));
        let is_workload = what.contains('/') || !is_published()? && Source::built_in()?.has(what);
        Ok(if is_workload { Kind::Workload } else { Kind::Live })
    }

    /// Flags that would do nothing are mistakes.
    fn check_flags(&self, kind: &Kind) -> Result<(), Failure> {
        let Run { allocator, params, steps, heap_profile, inject, .. } = &self.run;
        let of_runs = [
            ("--allocator", allocator.is_some()),
            ("--param", !params.is_empty()),
            ("--steps", steps.is_some()),
            ("--heap-profile", *heap_profile),
            ("--inject", !inject.is_empty()),
        ];
        let of_processes = [
            ("--for", self.duration.is_some()),
            ("--trace", self.trace.is_some()),
            ("--folder", self.folder.is_some()),
        ];
        let of_both =
            [("--older-than", self.older_than.is_some()), ("--every", self.every.is_some()), ("--exact", self.exact)];
        let (what, wrong): (_, Vec<_>) = match kind {
            Kind::Live => ("a published process", of_runs.to_vec()),
            Kind::Workload => ("a workload", of_processes.to_vec()),
            Kind::Report(_) => ("a report", [&of_runs[..], &of_processes, &of_both].concat()),
        };
        match wrong.iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(Failure::usage(format!("{flag}: it says nothing of {what}; see `heapgate leaks --help`")))
            }
            None => Ok(()),
        }
    }

    fn published(&self) -> Result<PathBuf, Failure> {
        self.folder.clone().map_or_else(|| published::runtime_folder().map_err(Failure::usage), Ok)
    }

    fn live(&self) -> Result<Vec<Subject>, Failure> {
        let target = match (self.pid, &self.what) {
            (Some(pid), _) => Target::Pid(pid),
            (None, Some(service)) => Target::Service(service.clone()),
            (None, None) => Target::All,
        };
        live::look(live::Wish {
            target,
            folder: self.published()?,
            older_than: self.older_than,
            duration: self.duration,
            trace: self.trace.as_deref(),
            every: if self.exact { Some(1) } else { self.every },
        })
    }

    fn workload(&self) -> Result<(Vec<Subject>, bool), Failure> {
        let Run { bench, package, manifest_path, allocator, params, steps, timeout, heap_profile, inject } = &self.run;
        let source = match bench.as_deref() {
            None => Source::built_in()?,
            Some(bench) => {
                own_bench::open(Wanted { bench, package: package.as_deref(), manifest: manifest_path.as_deref() })?
            }
        };
        workload::look(
            source,
            workload::Wish {
                workload: self.what.as_deref(),
                allocator: allocator.as_deref(),
                params,
                steps: *steps,
                timeout: Duration::from_secs(*timeout),
                every: if self.exact { Some(1) } else { self.every },
                heap_profile: *heap_profile,
                inject: Injection::all(inject).map_err(Failure::usage)?,
                older_than: self.older_than,
            },
        )
    }
}
