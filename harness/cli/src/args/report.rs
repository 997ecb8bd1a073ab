//! `heapgate report`

use std::path::PathBuf;

use clap::Args;
use heapgate_core::config::{Config, Date};
use heapgate_core::figures::Figures;
use heapgate_core::gate::{Look, Lookup, Verdict, accept, calibrate, judge, note_doubts};
use heapgate_core::render::page::{self, Against, Subject};
use heapgate_core::report::Report;
use heapgate_core::{exit, files, render};

use super::{Global, gate, print};
use crate::fail::Failure;
use crate::inputs::joined;
use crate::profile_links;
use crate::run::unix_s;

/// Show what a report has: the table that `run` prints, figures as JSON, or a page with charts
///
/// With --baselines it is also set against these, by the rules of the gate, and what changed is shown. The exit code is 0
/// whatever it shows: it is `heapgate gate --report` that decides.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ShowReport {
    /// The report; of several (files, globs, URLs) of one machine and build, all repetitions together
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<String>,
    /// Compare with the baselines in this folder
    #[arg(long, value_name = "FOLDER")]
    baselines: Option<PathBuf>,
    /// Write one page that needs nothing else: figures, curves over time and histograms to point at
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a table, or with --baselines the verdict, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Print the figures as JSON (schemas/figures-v1.json) instead of a table
    #[arg(long)]
    json: bool,
    /// With --baselines: show every comparison, also what passed
    #[arg(short, long, requires = "baselines")]
    verbose: bool,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate report .heapgate/report.json
  heapgate report .heapgate/report.json --html report.html
  heapgate report report.json --baselines baselines --html report.html
  heapgate report report.json --json | jq '.cells[].metrics.peak_rss_bytes.median'";

impl ShowReport {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        if self.html.is_some() && self.html == self.markdown {
            return Err(Failure::usage("--html and --markdown name one file; name two"));
        }
        for file in self.html.iter().chain(&self.markdown) {
            files::check_writable(file)?;
        }
        let mut config = global.config()?;
        let report = joined(&self.reports)?;
        let compared = self.baselines.map(|folder| {
            config.baselines = folder;
            compared(&report, &config)
        });
        let (lookups, verdict) = compared.map_or((Vec::new(), None), |(lookups, verdict)| (lookups, Some(verdict)));
        if let Some(file) = &self.html {
            let against = Against::lookups(&lookups);
            let profiles = profile_links::of(file, &report, verdict.as_ref());
            let subject =
                Subject { report: &report, verdict: verdict.as_ref(), against: &against, profiles: &profiles };
            files::atomic_write(file, page::render(subject).as_bytes())?;
        }
        if let Some(file) = &self.markdown {
            let text = verdict
                .as_ref()
                .map_or_else(|| render::run::markdown(&report), |verdict| render::markdown::render(&report, verdict));
            files::atomic_write(file, text.as_bytes())?;
        }
        let options = global.options(self.verbose);
        if self.json {
            print(&serde_json::to_string_pretty(&Figures::of(&report, verdict))?)?;
            return Ok(exit::PASS);
        }
        let mut text = render::run::render(&report, options);
        if let Some(verdict) = &verdict {
            text.push('\n');
            text.push_str(&render::terminal::render(&report, verdict, options));
        }
        print(&text)?;
        Ok(exit::PASS)
    }
}

/// The report against stored baselines, as the gate would judge it.
fn compared(report: &Report, config: &Config) -> (Vec<Lookup>, Verdict) {
    let planned: Vec<_> = report.cells().iter().map(|c| c.cell.clone()).collect();
    let lookups = gate::look_up(config, report, &planned);
    let mut verdict = judge(report, &planned, &lookups, config, Look::ONLY);
    accept(&mut verdict, config, Date::today());
    note_doubts(&mut verdict, report, unix_s());
    calibrate(&mut verdict, &config.baselines, &report.fingerprint.machine.class());
    (lookups, verdict)
}
