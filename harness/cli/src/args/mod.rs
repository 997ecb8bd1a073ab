//! The command line: one file a verb. A verb's struct holds the flags as parsed; its `execute` resolves and carries
//! them out.

mod ab;
mod ab_live;
mod baseline;
mod budget;
mod calibrate;
mod describe;
mod diff;
mod experiment;
mod exports;
mod figures;
mod gate;
mod history;
mod leaks;
mod list;
mod merge;
mod profile;
mod report;
mod run;
pub mod selection;
mod serve;
mod shown;
mod top;
mod trace;
mod trial;
mod tune;

use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use heapgate_core::config::{Config, Date};
use heapgate_core::render::{Options, Style};

use crate::fail::Failure;

/// Measures what programs do with memory, call by call, and fails changes that make it worse.
///
/// Start with `heapgate gate`: it runs the workloads, compares them with the stored baseline, and says pass, fail or
/// inconclusive.
#[derive(Debug, Parser)]
#[command(name = "heapgate", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    global: Global,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  pass: everything was done, nothing got worse
  1  heapgate itself, or the system, failed
  2  usage: the command line, the configuration or a file named there is wrong
  3  regression
  4  inconclusive, or not comparable
  5  a workload failed, crashed, ran out of memory or time, or could not be built
130  interrupted; trials that had ended are kept

Examples:
  heapgate gate                                    the default matrix against the stored baseline
  heapgate run tokenize/hf-wordpiece -a jemalloc   one variant, one allocator
  heapgate run -a jemalloc -a jemalloc:dirty_decay_ms=0 tokenize/hf-wordpiece
  heapgate gate --bench index                      a bench of your own: `heapgate_bench::main!`
  heapgate ab --base main --bench index            the present tree against main
  heapgate diff before.json after.json             two reports
  heapgate report .heapgate/report.json --html report.html
  heapgate profile alloc tokenize/hf-wordpiece     the lines that allocate, and flame graphs
  heapgate history peak_rss_bytes                  one metric over all runs
  heapgate serve                                   this machine's services to Prometheus and a page
  heapgate leaks tokenizer                         arenas that a service never releases
  heapgate tune --pid 4711 dirty_decay_ms=0        a setting of a running process
  heapgate baseline record                         this machine's figures become the baseline
  heapgate baseline promote .heapgate/report.json  those of a report do";

/// Apart in the help of each verb, instead of scattered among its own flags.
const GLOBAL: &str = "Options of every verb";

/// Flags of every verb.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Settings: limits, and what to do on another machine [default: heapgate.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// When to use colours (NO_COLOR is respected)
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN", help_heading = GLOBAL)]
    color: When,
}

/// When to do something that suits terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

// A verb's help is on its struct: a comment here would take its place.
#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Gate(gate::Gate),
    Ab(ab::Ab),
    Diff(diff::Diff),
    Merge(merge::Merge),
    Report(Box<report::ShowReport>),
    /// Record baselines, put reports into them, list, check and prune them
    #[command(subcommand)]
    Baseline(baseline::Baseline),
    /// Check that the limits on a service's memory agree
    #[command(subcommand)]
    Budget(budget::Budget),
    History(Box<history::History>),
    Calibrate(Box<calibrate::Calibrate>),
    Profile(Box<profile::Profile>),
    List(list::List),
    Top(top::Top),
    Leaks(leaks::Leaks),
    Experiment(experiment::ExperimentArgs),
    Trace(trace::Trace),
    Tune(tune::Tune),
    Serve(serve::Serve),
    /// Run one trial in this process (what children of `run` and `gate` do)
    #[command(hide = true, alias = heapgate_bench::TRIAL)]
    Trial(trial::Trial),
    /// Say what can be run, to a heapgate that compares this one with itself
    #[command(hide = true, alias = heapgate_bench::DESCRIBE)]
    Describe,
    /// Keep a CPU busy until standard input ends (a neighbour of `calibrate --busy`)
    #[command(hide = true, name = crate::neighbours::SPIN)]
    Spin,
    /// End at once with success (to see whether an allocator's settings let a process start)
    #[command(hide = true, alias = heapgate_bench::PROBE)]
    Probe,
}

impl Cli {
    /// Carries out what was asked for; returns the exit code.
    pub fn execute(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Run(verb) => verb.execute(&self.global),
            Verb::Gate(verb) => verb.execute(&self.global),
            Verb::Ab(verb) => verb.execute(&self.global),
            Verb::Diff(verb) => verb.execute(&self.global),
            Verb::Calibrate(verb) => verb.execute(&self.global),
            Verb::Budget(verb) => verb.execute(&self.global),
            Verb::Describe => describe::execute(),
            Verb::Spin => crate::neighbours::spin(),
            Verb::Merge(verb) => verb.execute(&self.global),
            Verb::Report(verb) => verb.execute(&self.global),
            Verb::Baseline(verb) => verb.execute(&self.global),
            Verb::History(verb) => verb.execute(&self.global),
            Verb::Profile(verb) => verb.execute(&self.global),
            Verb::List(verb) => verb.execute(&self.global),
            Verb::Top(verb) => verb.execute(&self.global),
            Verb::Leaks(verb) => verb.execute(&self.global),
            Verb::Experiment(verb) => verb.execute(&self.global),
            Verb::Trace(verb) => verb.execute(),
            Verb::Tune(verb) => verb.execute(&self.global),
            Verb::Serve(verb) => verb.execute(&self.global),
            Verb::Trial(verb) => verb.execute(),
            Verb::Probe => Ok(heapgate_core::exit::PASS),
        }
    }
}

impl Global {
    fn config(&self) -> Result<Config, Failure> {
        let config = Config::load(self.config.as_deref())?;
        config.check_dates(Date::today())?;
        Ok(config)
    }

    /// How text on standard output is to look.
    fn options(&self, verbose: bool) -> Options {
        /// What a table is made for where nobody says how wide the paper is.
        const WIDTH: usize = 80;
        let terminal = stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let color = match self.color {
            When::Auto => terminal && !no_color,
            When::Always => true,
            When::Never => false,
        };
        let width =
            if terminal { terminal_size::terminal_size().map_or(WIDTH, |(width, _)| width.0.into()) } else { WIDTH };
        Options { style: Style { color }, width, verbose }
    }
}

/// Prints results. A reader that goes away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    let result =
        out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match result.and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
