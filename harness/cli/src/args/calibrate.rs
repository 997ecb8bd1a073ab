//! `heapgate calibrate`

use std::path::PathBuf;

use clap::Args;
use heapgate_bench::Injection;
use heapgate_core::accuracy::Accuracy;
use heapgate_core::calibration::{CALIBRATION_SCHEMA_VERSION, Calibration, Control, Counted, sensitivities};
use heapgate_core::config::Config;
use heapgate_core::exit;
use heapgate_core::gate::{Decision, Look, Verdict, compare};
use heapgate_core::render;
use heapgate_core::report::{Machine, Report};

use super::{Global, print, selection::Selection};
use crate::fail::Failure;
use crate::neighbours::Neighbours;
use crate::rounds::Budget;
use crate::run::{End, Session, unix_s};
use crate::sides;

/// Measure the gate itself: how often it alarms where nothing was changed, and how small a change it finds here
///
/// Compares the workloads with themselves, again and again, as `ab` would, and counts what comes out. The result is kept
/// beside the baselines, by machine class, and shown with verdicts.
#[derive(Debug, Args)]
pub struct Calibrate {
    #[command(flatten)]
    selection: Selection,
    /// Comparisons to make
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Also plant regressions, and count which are found
    #[arg(long)]
    controls: bool,
    /// Plant this instead of the usual, as in leak=0.01; may be repeated
    #[arg(long, value_name = "WHAT=HOW", hide = true)]
    control: Vec<Injection>,
    /// Keep this many CPUs busy meanwhile, as neighbours on a shared machine do
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    busy: u32,
    #[command(flatten)]
    budget: Budget,
    /// Fail (3) if a comparison with itself fails or something planted is not found, and keep nothing
    #[arg(long)]
    check: bool,
    /// Folder of the baselines, where the result is kept [default: baselines]
    #[arg(long, value_name = "FOLDER")]
    baselines: Option<PathBuf>,
    /// Put the result into this file, of which docs/accuracy.md is made, instead
    #[arg(long, value_name = "FILE", hide = true)]
    accuracy: Option<PathBuf>,
    /// Print the result as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What is planted where nothing else is asked for, each at the size that the gate promises to find: one allocation more
/// in a hundred units, a leak of one byte in a hundred, a stall in one call of ten thousand; and resident memory by as
/// much as its limit allows and five percent more.
const CONTROLS: [&str; 4] = ["extra-allocs=0.01", "leak=1%", "rss=20%", "stall=50us@1e-4"];

impl Calibrate {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let config = global.config()?;
        let folder = self.baselines.clone().unwrap_or_else(|| config.baselines.clone());
        let config = config.interleaved();
        let controls = self.planted()?;
        let neighbours = Neighbours::start(self.busy)?;
        let mut counting = Counting::new(&controls);
        let mut end = End::Complete;
        for run in 0..self.runs {
            eprintln!("run {} of {}", run + 1, self.runs);
            let session = self.session(&config, &controls, run)?;
            counting.prepare(&session);
            end = counting.run(session, &config, &self.budget)?;
            if !matches!(end, End::Complete) {
                break;
            }
        }
        drop(neighbours);
        let calibration = counting.finish(&self, &config)?;
        if self.json {
            print(&serde_json::to_string_pretty(&calibration)?)?;
        } else {
            print(&render::calibration::render(&calibration, global.options(false)))?;
        }
        let code = if self.check && !calibration.is_sound() { exit::REGRESSION } else { exit::PASS };
        let complete = matches!(end, End::Complete);
        let code = end.code(code)?;
        if let Some(file) = self.accuracy.as_deref().filter(|_| complete) {
            Accuracy::load(file)?.with_calibration(calibration).save(file)?;
        } else if complete && !self.check {
            let path = Calibration::path(&folder, &calibration.machine.class());
            heapgate_core::files::make_folder(&folder)?;
            calibration.save(&path)?;
            eprintln!("kept in {}", path.display());
        }
        Ok(code)
    }

    fn planted(&self) -> Result<Vec<Injection>, Failure> {
        if !self.control.is_empty() {
            return Ok(self.control.clone());
        }
        let usual = CONTROLS.iter().filter(|_| self.controls);
        usual.map(|text| text.parse().map_err(Failure::usage)).collect()
    }

    fn session(&self, config: &Config, controls: &[Injection], run: u32) -> Result<Session, Failure> {
        let source = self.selection.source()?;
        let mut session = self.selection.session_under(config, source, None)?;
        session.plan.seed = session.plan.seed.wrapping_add(u64::from(run));
        Ok(sides::planted(session, controls))
    }
}

/// What is counted while comparisons are made.
struct Counting {
    null: Counted,
    controls: Vec<(String, Control)>,
    /// The sides in which nothing was changed, of all runs.
    unchanged: Vec<Report>,
    cells: Vec<String>,
    reps: u32,
    tested: usize,
    commit: String,
}

impl Counting {
    fn new(controls: &[Injection]) -> Self {
        Self {
            null: Counted::default(),
            controls: controls.iter().map(|control| (control.to_string(), Control::default())).collect(),
            unchanged: Vec::new(),
            cells: Vec::new(),
            reps: 0,
            tested: 0,
            commit: String::new(),
        }
    }

    fn prepare(&mut self, session: &Session) {
        self.reps = session.plan.reps;
        self.commit.clone_from(&session.build.commit);
        self.cells = session.plan.cells.iter().filter(|p| p.side == 0).map(|p| p.cell.to_string()).collect();
    }

    /// Makes one comparison of a side with itself, and with each that has something planted.
    fn run(&mut self, session: Session, config: &Config, budget: &Budget) -> Result<End, Failure> {
        let mut rounds = budget.rounds(config);
        let verdicts = |sides: &[&Report], look: Look| -> Vec<Verdict> {
            sides[1..].iter().map(|side| compare(sides[0], side, config, look)).collect()
        };
        let ran = session.run_in_rounds(|sides| {
            let mut all = verdicts(sides, rounds.look());
            // What was planted in a cell is found once: whatever else is open there is not asked for.
            for verdict in &mut all[1..] {
                let found: Vec<_> =
                    verdict.lines.iter().filter(|l| l.decision == Decision::Fail).map(|l| l.cell.clone()).collect();
                verdict.lines.retain(|line| !found.contains(&line.cell));
            }
            rounds.more(&all.iter().collect::<Vec<_>>(), sides, |cell| vec![cell.clone()])
        })?;
        if !matches!(ran.end, End::Complete) {
            return Ok(ran.end);
        }
        let sides: Vec<&Report> = std::iter::once(&ran.report).chain(&ran.others).collect();
        if let Some(failed) = sides.iter().flat_map(|s| &s.trials).find(|t| !t.outcome.is_completed()) {
            return Err(Failure::workload(format!("{}: {}", failed.cell, failed.outcome)));
        }
        let verdicts = verdicts(&sides, rounds.look());
        self.null.add(&verdicts[0]);
        self.tested = verdicts[0].rule.tested;
        for ((_, control), verdict) in self.controls.iter_mut().zip(&verdicts[1..]) {
            control.add(verdict);
        }
        self.unchanged.extend([ran.report.clone(), ran.others[0].clone()]);
        Ok(ran.end)
    }

    fn finish(self, arguments: &Calibrate, config: &Config) -> Result<Calibration, Failure> {
        if self.null.runs == 0 {
            return Err(Failure::internal(anyhow::anyhow!("not one comparison was made")));
        }
        eprintln!("looking for the smallest changes that would have been found");
        Ok(Calibration {
            schema_version: CALIBRATION_SCHEMA_VERSION,
            created_unix_s: unix_s(),
            machine: Machine::detect(),
            commit: self.commit,
            busy_neighbours: arguments.busy,
            reps: self.reps,
            budget_s: arguments.budget.time(config).as_secs_f64(),
            cells: self.cells,
            null: self.null,
            controls: self.controls.into_iter().collect(),
            metrics: sensitivities(&self.unchanged, self.reps, self.tested),
        })
    }
}
