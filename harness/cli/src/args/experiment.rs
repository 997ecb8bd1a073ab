//! `heapgate experiment`

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use heapgate_core::experiment::{Body, Evaluation, Experiment, FINDINGS_SCHEMA_VERSION, Findings};
use heapgate_core::render::{self, hanging};
use heapgate_core::supervisor::Settings;
use heapgate_core::{exit, files};
use serde_json::json;

use super::{Global, print};
use crate::experiments::{ALL, runner};
use crate::fail::Failure;
use crate::run::End;
use crate::source::Source;

/// Repetitions of each arm: the fewest whose interval reaches 95 % is four; five stand one bad run.
const DEFAULT_REPS: u32 = 5;

/// Longest time of one trial: arms with a duration take as long as that says, none near this.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Repeat a published experiment and hold its claims against what is measured here
///
/// Each experiment runs some ways of doing the same work (its arms), interleaved, in fresh processes, and prints the
/// claimed figures beside the measured ones: whether the claimed direction holds (yes, no or undecided), and the
/// interval of the factor. A claim that does not hold is reported as plainly as one that does.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Which: numbers as in E3, `all`, or `list` to see them
    #[arg(value_name = "EN|all|list", required = true)]
    which: Vec<String>,
    /// Repetitions of each arm, each in a fresh process; fewer than 4 leave noisy figures undecided
    #[arg(short = 'n', long, default_value_t = DEFAULT_REPS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    reps: u32,
    /// Measured steps of each trial [default: the workload's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Parameter of the workloads, over what the experiment says, as in duration=2
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Seed of the order of trials
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Evaluate the reports that an earlier run kept, instead of running anything
    #[arg(long)]
    stored: bool,
    /// Folder in which the reports are kept, one for each experiment
    #[arg(short, long, default_value = ".heapgate/experiments", value_name = "FOLDER")]
    output: PathBuf,
    /// Print the findings as JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Also write the findings as a page, with the factors and memory over time as pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write the findings as Markdown, and as JSON beside it; of other experiments, what is there stays
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl ExperimentArgs {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        if self.which == ["list"] {
            return self.list(global);
        }
        let experiments = self.selected()?;
        let source = Source::built_in()?;
        let runner = runner::Runner {
            settings: Settings { timeout: TIMEOUT, ..Settings::new(source.program.clone()) },
            source,
            reps: self.reps,
            seed: self.seed,
            steps: self.steps,
            params: runner::overrides(&self.params, &experiments)?,
            folder: self.output.clone(),
        };
        let mut findings = Findings { schema_version: FINDINGS_SCHEMA_VERSION, experiments: Vec::new() };
        let mut code = exit::PASS;
        for experiment in experiments {
            if !self.stored {
                eprintln!("E{}: {}", experiment.number, experiment.title);
            }
            let ran = if self.stored { runner.stored(experiment) } else { runner.run(experiment) }?;
            if !self.json {
                print(&render::experiment::render(&ran.evaluation, global.options(false)))?;
                print("\n")?;
            }
            if !ran.completed {
                code = exit::WORKLOAD_FAILED;
            }
            findings.experiments.push(ran.evaluation);
            // After each, so that what was found stays if a later one fails.
            self.write(&findings)?;
            if !matches!(ran.end, End::Complete) {
                code = ran.end.code(code)?;
                break;
            }
        }
        if self.json {
            print(&serde_json::to_string_pretty(&findings)?)?;
        }
        Ok(code)
    }

    fn selected(&self) -> Result<Vec<&'static Experiment>, Failure> {
        let there = |experiment: &&&Experiment| !matches!(experiment.body, Body::Elsewhere(_));
        if self.which == ["all"] {
            return Ok(ALL.iter().filter(there).copied().collect());
        }
        self.which.iter().map(|name| find(name)).collect()
    }

    fn write(&self, findings: &Findings) -> Result<(), Failure> {
        if let Some(path) = &self.html {
            files::atomic_write(path, render::experiments_html::render(findings).as_bytes())?;
        }
        if let Some(path) = &self.markdown {
            let findings = merged(&json_beside(path), findings)?;
            files::atomic_write(path, render::experiments_doc::render(&findings).as_bytes())?;
            let text = serde_json::to_string_pretty(&findings)? + "\n";
            files::atomic_write(&json_beside(path), text.as_bytes())?;
        }
        Ok(())
    }

    fn list(&self, global: &Global) -> Result<u8, Failure> {
        let state = |experiment: &Experiment| !matches!(experiment.body, Body::Elsewhere(_));
        if self.json {
            let all: Vec<_> = ALL
                .iter()
                .map(|e| {
                    let arms: Vec<_> = e.body.arms().iter().map(|a| json!({"name": a.name, "variant": a.variant, "allocator": a.allocator, "params": a.params.iter().copied().collect::<BTreeMap<_, _>>()})).collect();
                    json!({"name": format!("E{}", e.number), "title": e.title, "about": e.about, "there": state(e), "arms": arms})
                })
                .collect();
            print(&serde_json::to_string_pretty(&all)?)?;
            return Ok(exit::PASS);
        }
        let options = global.options(false);
        let mut text = String::new();
        for experiment in ALL {
            let title = match experiment.body {
                Body::Elsewhere(command) => format!("{} (shown by `{command}`)", experiment.title),
                _ => experiment.title.to_owned(),
            };
            text.push_str(&hanging(&format!("  {:<5}", format!("E{}", experiment.number)), &title, options.width));
        }
        print(&text)?;
        Ok(exit::PASS)
    }
}

/// The experiment of that name, which has to be there.
fn find(name: &str) -> Result<&'static Experiment, Failure> {
    let number = name.strip_prefix(['E', 'e']).and_then(|number| number.parse::<u32>().ok());
    let found = ALL.iter().find(|experiment| Some(experiment.number) == number);
    match found {
        None => Err(Failure::usage(format!("unknown experiment '{name}'; `heapgate experiment list` shows them"))),
        Some(Experiment { number, title, body: Body::Elsewhere(command), .. }) => {
            Err(Failure::usage(format!("E{number} ({title}) is shown by another command: `{command}`")))
        }
        Some(experiment) => Ok(experiment),
    }
}

/// `findings`, and those of other experiments that are in the file already.
fn merged(path: &Path, findings: &Findings) -> Result<Findings, Failure> {
    let mut experiments: Vec<Evaluation> = findings.experiments.iter().map(without_curves).collect();
    let is_new = |number: u32| !findings.experiments.iter().any(|found| found.number == number);
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let before: Findings = serde_json::from_str(&text).map_err(|error| {
                Failure::usage(format!("{}: no findings that could be kept: {error}; remove it", path.display()))
            })?;
            experiments.extend(before.experiments.into_iter().filter(|found| is_new(found.number)));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::usage(format!("{} can't be read: {error}", path.display()))),
    }
    experiments.sort_by_key(|found| found.number);
    Ok(Findings { experiments, ..*findings })
}

/// Curves are for pages and terminals: in a file that is kept under version control they would only be noise.
fn without_curves(evaluation: &Evaluation) -> Evaluation {
    Evaluation { curves: Vec::new(), ..evaluation.clone() }
}

fn json_beside(path: &Path) -> PathBuf {
    path.with_extension("json")
}
