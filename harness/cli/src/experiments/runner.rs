//! Runs an experiment's arms and has them evaluated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heapgate_bench::{Injection, Variant};
use heapgate_core::experiment::{Arm, Body, Evaluation, Experiment, Scene, Stage, evaluate, evaluate_scene};
use heapgate_core::files;
use heapgate_core::plan::{Plan, Planned};
use heapgate_core::report::{Cell, Machine, Report};
use heapgate_core::supervisor::Settings;
use heapgate_workloads::variants;

use crate::fail::Failure;
use crate::matrix::{Matrix, parse_params};
use crate::run::{End, Session, unix_s};
use crate::source::Source;

/// One allocation in how many has its call stack sampled: see `heapgate run --sites`.
const SITES_PERIOD: u64 = 64;

/// How experiments are run.
#[derive(Debug)]
pub struct Runner {
    /// Heapgate's own workloads.
    pub source: Source,
    pub settings: Settings,
    pub reps: u32,
    pub seed: u64,
    /// Measured steps of every arm, where not the workload's own number.
    pub steps: Option<u64>,
    /// Parameters that go before the arms' own, for the arms whose workload has them.
    pub params: BTreeMap<String, String>,
    /// Where the reports are kept.
    pub folder: PathBuf,
}

/// What came of one experiment.
#[derive(Debug)]
pub struct Ran {
    pub evaluation: Evaluation,
    /// How it ended, and whether every trial completed.
    pub end: End,
    pub completed: bool,
}

impl Runner {
    /// Runs `experiment` and keeps its report.
    ///
    /// # Errors
    /// If nothing could be run.
    pub fn run(&self, experiment: &Experiment) -> Result<Ran, Failure> {
        if let Body::Scenario { run } = &experiment.body {
            return self.play(experiment, *run);
        }
        let (arms, problems) = self.plan(experiment)?;
        let sites = matches!(experiment.body, Body::Sites { .. });
        // Shares of sites have an error of their own, which one repetition gives.
        let reps = if sites { 1 } else { self.reps };
        let session = Session {
            plan: Plan { cells: arms.values().cloned().collect(), group: 1, first_rep: 0, reps, seed: self.seed },
            settings: Settings { sites: sites.then_some(SITES_PERIOD), ..self.settings.clone() },
            build: self.source.build.clone(),
            shard: None,
            output: report_path(&self.folder, experiment.number),
            others: Vec::new(),
        };
        let ran = session.run()?;
        let completed = ran.report.trials.iter().all(|trial| trial.outcome.is_completed());
        let cell = |arm: &Arm| Some(arms.get(arm.name)?.cell.clone());
        let evaluation = evaluate(experiment, &ran.report, cell, problems);
        Ok(Ran { evaluation, end: ran.end, completed })
    }

    /// Plays a scenario, and keeps what it found.
    fn play(&self, experiment: &Experiment, run: fn(&Stage) -> Result<Scene, String>) -> Result<Ran, Failure> {
        let folder = tempfile::tempdir()?;
        let short = self.steps == Some(1);
        let stage = Stage { program: self.source.program.clone(), folder: folder.path().to_owned(), short };
        let scene = run(&stage).map_err(|error| Failure::workload(format!("E{}: {error}", experiment.number)))?;
        let made = (unix_s(), Machine::detect(), self.source.build.commit.clone());
        let evaluation = evaluate_scene(experiment, scene, made);
        let text = serde_json::to_string_pretty(&evaluation)? + "\n";
        files::make_folder(&self.folder)?;
        files::atomic_write(&scene_path(&self.folder, experiment.number), text.as_bytes())?;
        Ok(Ran { evaluation, end: End::Complete, completed: true })
    }

    /// Evaluates the report that was kept of an earlier run.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn stored(&self, experiment: &Experiment) -> Result<Ran, Failure> {
        if let Body::Scenario { .. } = &experiment.body {
            let path = scene_path(&self.folder, experiment.number);
            let unreadable = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
            let evaluation = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
            return Ok(Ran { evaluation, end: End::Complete, completed: true });
        }
        let report = Report::load(&report_path(&self.folder, experiment.number))?;
        let (arms, mut problems) = self.plan(experiment)?;
        let cells: Vec<Cell> = report.cells().into_iter().map(|trials| trials.cell.clone()).collect();
        let cell = |arm: &Arm| -> Option<Cell> {
            let planned = without_steps(&arms.get(arm.name)?.cell);
            cells.iter().find(|cell| without_steps(cell) == planned).cloned()
        };
        let unmatched =
            experiment.body.arms().into_iter().filter(|arm| arms.contains_key(arm.name) && cell(arm).is_none());
        problems.extend(unmatched.map(|arm| {
            format!("{} is not in the stored report; give the --param that it was run with, or run it again", arm.name)
        }));
        let completed = report.trials.iter().all(|trial| trial.outcome.is_completed());
        Ok(Ran { evaluation: evaluate(experiment, &report, cell, problems), end: End::Complete, completed })
    }

    /// What each arm runs, by its name; and the arms that can't be run here, with the reason.
    fn plan(&self, experiment: &Experiment) -> Result<(BTreeMap<String, Planned>, Vec<String>), Failure> {
        let mut planned = BTreeMap::new();
        let mut problems = Vec::new();
        for arm in experiment.body.arms() {
            let variant = variant(&arm)?;
            match (variant.missing)() {
                Some(why) => problems.push(format!("{} was not run: {why}", arm.name)),
                None => {
                    planned.insert(arm.name.to_owned(), self.planned(&arm, variant)?);
                }
            }
        }
        Ok((planned, problems))
    }

    fn planned(&self, arm: &Arm, variant: &Variant) -> Result<Planned, Failure> {
        let known = |name: &str| variant.params.iter().any(|spec| spec.name == name);
        let mut params: BTreeMap<&str, &str> = arm.params.iter().copied().collect();
        params.extend(self.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|p| known(p.0)));
        let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let matrix = Matrix {
            workloads: &[arm.variant.to_owned()],
            allocators: &[arm.allocator.parse().map_err(Failure::internal)?],
            params: &params,
            steps: self.steps,
            inject: Injection::default(),
            reps: self.reps,
            seed: self.seed,
        };
        let planned = matrix.plan(&self.source)?.cells.pop();
        planned.ok_or_else(|| Failure::internal(anyhow::anyhow!("nothing to run for the arm '{}'", arm.name)))
    }
}

/// The registered variant that an arm runs.
///
/// # Errors
/// If the arm names none, which a test rules out.
pub fn variant(arm: &Arm) -> Result<&'static Variant, Failure> {
    let is_named = |v: &&Variant| format!("{}/{}", v.workload, v.name) == arm.variant;
    let found = variants().iter().find(is_named);
    found.ok_or_else(|| Failure::internal(anyhow::anyhow!("arm '{}': there is no '{}'", arm.name, arm.variant)))
}

/// Reads `NAME=VALUE`s that some arm of `experiments` must know.
///
/// # Errors
/// For one of another form, or that none knows.
pub fn overrides(given: &[String], experiments: &[&Experiment]) -> Result<BTreeMap<String, String>, Failure> {
    let given = parse_params(given)?;
    let mut known: Vec<&str> = Vec::new();
    for arm in experiments.iter().flat_map(|experiment| experiment.body.arms()) {
        known.extend(variant(&arm)?.params.iter().map(|spec| spec.name));
    }
    known.sort_unstable();
    known.dedup();
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            Err(Failure::usage(format!("parameter '{name}': no arm has it; there are: {}", known.join(", "))))
        }
        None => Ok(given),
    }
}

/// The cell, however many steps its trials took.
fn without_steps(cell: &Cell) -> Cell {
    let mut cell = cell.clone();
    cell.params.remove("steps");
    cell
}

fn scene_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("E{number}.findings.json"))
}

fn report_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("E{number}.json"))
}
