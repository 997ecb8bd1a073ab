//! `heapgate ab`

use clap::Args;
use heapgate_core::exit;
use heapgate_core::gate::{calibrate, compare};
use heapgate_core::render::page::Against;
use heapgate_core::report::Report;

use super::ab_live::Live;
use super::exports::Exports;
use super::figures::{Figures, Measured};
use super::{Global, selection::Selection, shown::Shown};
use crate::base;
use crate::fail::Failure;
use crate::on_fail::{Again, OnFail};
use crate::rounds::Budget;
use crate::run::{Ran, Session};
use crate::sides::{self, Side};

/// Compare two settings, two builds or two revisions, running both now, interleaved on this machine
///
/// What noisy machines need: whatever disturbs one side disturbs the other as well, so differences of a few percent in
/// resident memory, stalls and speed can be told. A plays the baseline, B is judged; exit codes are the gate's.
///
/// With --live, the groups (or versions) of a service that runs are compared with each other, window by window, by a test
/// that may be looked at at any time. Exit codes then: 0 everything is decided, or nothing can be worse by 15%; 3 a version is
/// worse by 15%; 4 undecided.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub struct Ab {
    #[command(flatten)]
    selection: Selection,
    /// The side that plays the baseline: an allocator with settings, or a program (a heapgate, or a bench of
    /// `heapgate_bench::main!`)
    #[arg(long, value_name = "SPEC|FILE", requires = "b", required_unless_present_any = ["base", "live", "pid"])]
    a: Option<String>,
    /// The side that is judged, of the same kind
    #[arg(long, value_name = "SPEC|FILE", requires = "a")]
    b: Option<String>,
    /// Build this git revision in a worktree, and judge the present tree against it
    #[arg(long, value_name = "REV", conflicts_with_all = ["a", "b"])]
    base: Option<String>,
    #[command(flatten)]
    live: Live,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    on_fail: OnFail,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    exports: Exports,
    #[command(flatten)]
    figures: Figures,
}

const EXAMPLES: &str = "\
Examples:
  heapgate ab tokenize/hf-wordpiece --a jemalloc --b jemalloc:dirty_decay_ms=0
  heapgate ab --base main --bench index       the present tree against main, in a pull request
  heapgate ab --a target/old/heapgate --b target/release/heapgate
  heapgate ab --live tokenizer                which group of a running service does better
  heapgate ab --live tokenizer --by version --until-decided --duration 3600";

impl Ab {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        if self.live.is_meant() {
            return self.live.execute(self.selection.duration(), self.shown.json, global);
        }
        self.exports.check()?;
        let destinations = self.figures.destinations("ab")?;
        let config = global.config()?.interleaved();
        let (session, names) = self.session(&config)?;
        let again = Again::of(&session);
        let mut rounds = self.budget.rounds(&config);
        let judge = |a: &Report, b: &Report, look| {
            let mut verdict = compare(&names.on_one_name(a), &names.on_one_name(b), &config, look);
            verdict.notes.insert(0, format!("A: {}; B: {}; both run now, interleaved", names.a, names.b));
            verdict
        };
        let Ran { report: a, others, end } = session.run_in_rounds(|sides| {
            let verdict = judge(sides[0], sides[1], rounds.look());
            rounds.more(&[&verdict], sides, |cell| names.cells(cell))
        })?;
        let b = &others[0];
        let mut verdict = judge(&a, b, rounds.look());
        calibrate(&mut verdict, &config.baselines, &a.fingerprint.machine.class());
        let b = names.on_one_name(b);
        self.on_fail.explain(&mut verdict, &b, &end, Some(&again), |cell| names.cells(cell));
        let exported = self.exports.write(&b, &verdict, &Against::report(&names.on_one_name(&a)));
        let measured = Measured { report: &b, verdict: Some(&verdict), planted: self.selection.is_planted() };
        let textfile = destinations.write(measured);
        let printed = self.shown.print(&b, &verdict, global);
        destinations.push(measured);
        printed?;
        // A workload that failed on either side leaves nothing to compare.
        let failed = [&a, &b].into_iter().find(|report| report.trials.iter().any(|t| !t.outcome.is_completed()));
        let code = end.code(exit::exit_code(&verdict, failed.unwrap_or(&b)))?;
        exported?;
        textfile?;
        Ok(code)
    }

    fn session(&self, config: &heapgate_core::config::Config) -> Result<(Session, sides::Names), Failure> {
        if let Some(rev) = &self.base {
            let base = base::build(rev, &self.selection)?;
            let present = self.selection.source()?;
            return sides::programs(&self.selection, config, base, present);
        }
        let (Some(a), Some(b)) = (&self.a, &self.b) else {
            return Err(Failure::usage("ab needs --a and --b, or --base"));
        };
        match (Side::of(a)?, Side::of(b)?) {
            (Side::Allocator(a), Side::Allocator(b)) => sides::settings(&self.selection, config, a, b),
            (Side::Program(a), Side::Program(b)) => sides::programs(&self.selection, config, *a, *b),
            _ => Err(Failure::usage(format!("--a {a} --b {b}: one is an allocator and the other a program"))),
        }
    }
}
