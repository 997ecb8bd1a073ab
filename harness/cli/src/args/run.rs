//! `heapgate run`

use std::path::{Path, PathBuf};

use clap::Args;
use heapgate_core::render::human::counted;
use heapgate_core::render::page::{self, Against, Subject};
use heapgate_core::report::Report;
use heapgate_core::shard::Part;
use heapgate_core::{exit, files, render};
use heapgate_segment::layout::Level;
use heapgate_segment::stacks::MAX_STACK_PERIOD;
use heapgate_store::objects::{ObjectError, Objects};

use super::figures::{Figures, Measured};
use super::{Global, print, selection::Selection};
use crate::fail::Failure;
use crate::history::StoreArgs;
use crate::profile_links;
use crate::run::{End, Ran, Session};
use heapgate_store::history::Purpose;

/// Run workloads and record what they do with memory
///
/// Each trial is a fresh process, sampled from outside; trials are kept as they end, so that nothing measured is lost.
/// With --shard, several machines of one class share the matrix, and `heapgate merge` makes one report of theirs.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    selection: Selection,
    /// Sample the call stacks of one allocation in N, and print the sites that allocate most; 1 takes all, slowly
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_PERIOD, value_parser = clap::value_parser!(u64).range(1..=MAX_STACK_PERIOD))]
    sites: Option<u64>,
    /// Run one part of the matrix, as in 1/4, the first of four: each cell is in one part, whatever the machine
    #[arg(long, value_name = "I/N")]
    shard: Option<Part>,
    /// Also put the report into an object store: file://, s3://, gs:// or az://, credentials from the environment; into
    /// a folder (s3://bucket/run7/) as report.json or shard-I-of-N.json
    #[arg(long, value_name = "URL")]
    put: Option<String>,
    /// Also write one page that needs nothing else: figures, curves over time and histograms to point at
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the report as JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    figures: Figures,
}

/// A sample takes about 3 µs. On the HF tokenizer (3 million allocations a trial) one in 64 made 1.35 times the CPU time,
/// one in 1024 1.04 times; and 64 still leaves 1,600 samples, or shares to ±2.5%, of 100,000 allocations.
const DEFAULT_PERIOD: &str = "64";

impl Run {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        // A wrong URL is told before anything is measured.
        let place = self.put.as_deref().map(|url| self.place(url)).transpose()?;
        let destinations = self.figures.destinations("run")?;
        if let Some(file) = &self.html {
            files::check_writable(file)?;
        }
        let config = global.config()?;
        let store = self.store.place(&config)?;
        let mut session = self.selection.session(&config)?;
        if self.sites.is_some() && session.settings.level == Level::Off {
            return Err(Failure::usage(
                "--sites: at --level off nothing is seen of allocations; ask for another level",
            ));
        }
        session.settings.sites = self.sites;
        if let Some(part) = self.shard {
            take(&mut session, part);
        }
        let output = session.output.clone();
        if self.html.as_ref() == Some(&output) {
            return Err(Failure::usage("--html and --output name one file; name two"));
        }
        let ran = session.run()?;
        let stored = place.map_or(Ok(()), |place| put(&place, &ran, &output));
        let text = if self.json {
            serde_json::to_string_pretty(&ran.report)?
        } else {
            render::run::render(&ran.report, global.options(false))
        };
        let measured = Measured { report: &ran.report, verdict: None, planted: self.selection.is_planted() };
        let written = destinations.write(measured);
        let drawn = self.html.as_deref().map_or(Ok(()), |file| draw(file, &ran.report));
        let printed = print(&text);
        // A shard is part of a run, which comes into the history when it is merged.
        if self.shard.is_none() {
            self.selection.append(&store, &ran.report, Purpose::Run, None);
        }
        destinations.push(measured);
        printed?;
        let completed = ran.report.trials.iter().all(|t| t.outcome.is_completed());
        let code = ran.end.code(if completed { exit::PASS } else { exit::WORKLOAD_FAILED })?;
        stored?;
        written?;
        drawn?;
        Ok(code)
    }

    /// Where the report is put.
    fn place(&self, url: &str) -> Result<Objects, Failure> {
        let name = self.shard.map_or_else(|| "report.json".to_owned(), |part| part.file_name());
        let folder = url.ends_with('/');
        Ok(Objects::open(&if folder { format!("{url}{name}") } else { url.to_owned() })?)
    }
}

/// Writes the page of a report that is compared with nothing.
fn draw(file: &Path, report: &Report) -> Result<(), files::WriteError> {
    let profiles = profile_links::of(file, report, None);
    let subject = Subject { report, verdict: None, against: &Against::default(), profiles: &profiles };
    files::atomic_write(file, page::render(subject).as_bytes())
}

/// Leaves `session` what `part` is dealt, and says how much that is.
fn take(session: &mut Session, part: Part) {
    let (plan, shard) = session.plan.shard(part);
    let whole = counted(shard.planned_cells, "cell");
    match plan.cells.len() {
        0 => eprintln!("heapgate: {shard} has none of the {whole}; its report is complete, and empty"),
        n => eprintln!("heapgate: {shard} has {n} of {whole}"),
    }
    session.plan = plan;
    session.shard = Some(shard);
}

/// Puts the report of a run that has ended. It is in `output` too, whatever the store does.
fn put(place: &Objects, ran: &Ran, output: &Path) -> Result<(), Failure> {
    if !matches!(ran.end, End::Complete) {
        eprintln!("heapgate: the run did not end, so nothing was put into {}", place.url());
        return Ok(());
    }
    let kept = |error: ObjectError| {
        let context = format!("the report is kept in {}, but was not stored", output.display());
        Failure::internal(anyhow::Error::new(error).context(context))
    };
    place.put(ran.report.to_text()?.into_bytes()).map_err(kept)?;
    eprintln!("stored: {}", place.url());
    Ok(())
}
