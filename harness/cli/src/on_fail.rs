//! `--profile-on-fail`: what failed is profiled at once, and the lines behind it go into the verdict.
//!
//! Nothing that happens here changes the decision: a profile that can't be taken is a note.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use heapgate_core::gate::{Culprits, Overall, Verdict, Wanted, accuse, wanted};
use heapgate_core::plan::{Planned, Program};
use heapgate_core::profile::view::View;
use heapgate_core::profile::{Profile, diff, diff_flame};
use heapgate_core::report::{Build, Cell, PhaseKind, Report};
use heapgate_core::sites::Symbols;
use heapgate_core::supervisor::Settings;

use crate::fail::Failure;
use crate::profile::{self, Rates};
use crate::run::{self, End};
use crate::signals;

/// Profiles of one verdict: the worst are enough to begin with.
const MOST: usize = 3;
/// Time for all of them; one that is running then is ended. As long as more repetitions may take by default.
const LONGEST: Duration = Duration::from_secs(120);
/// The folder of the profiles, beside the report.
const FOLDER: &str = "profiles";

/// The flag.
#[derive(Debug, Clone, Copy, Args)]
pub struct OnFail {
    /// If the verdict fails, profile what failed worst at once (both sides, where two were run), and name the lines of
    /// code in the verdict; takes up to 2 minutes, and never changes the decision
    #[arg(long)]
    profile_on_fail: bool,
}

/// What has to be known of a run to run parts of it again.
#[derive(Debug, Clone)]
pub struct Again {
    planned: Vec<Planned>,
    settings: Settings,
    /// Of each side.
    builds: Vec<Build>,
    folder: PathBuf,
}

impl Again {
    /// Of `session`, before it runs.
    pub fn of(session: &run::Session) -> Self {
        let builds = std::iter::once(&session.build).chain(session.others.iter().map(|(build, _)| build));
        // Beside the report of the side that is judged.
        let output = session.others.last().map_or(&session.output, |(_, output)| output);
        Self {
            planned: session.plan.cells.clone(),
            settings: session.settings.clone(),
            builds: builds.cloned().collect(),
            folder: output.parent().unwrap_or(Path::new("")).join(FOLDER),
        }
    }
}

impl OnFail {
    /// Puts the lines behind what failed into `verdict`, if it did and this was asked for. `cells` are the planned cells
    /// that one of the verdict's stands for, and `report` is that of the side that is judged.
    pub fn explain(
        self,
        verdict: &mut Verdict,
        report: &Report,
        end: &End,
        again: Option<&Again>,
        cells: impl Fn(&Cell) -> Vec<Cell>,
    ) {
        let (true, Overall::Fail, End::Complete, Some(again)) = (self.profile_on_fail, verdict.decision, end, again)
        else {
            return;
        };
        let all = wanted(verdict);
        if all.is_empty() {
            return;
        }
        // Without it, Ctrl-C ends the process before the verdict is shown, which is not worse than now.
        let stop = signals::stop_flag().unwrap_or_default();
        let taker = Taker { again, until: Instant::now() + LONGEST, stop: &stop };
        let mut symbols = Symbols::default();
        let found = all.iter().take(MOST).map(|wanted| {
            let cells = cells(&wanted.cell);
            taker.culprits(wanted, &cells, report, &mut symbols)
        });
        let mut found: Vec<Culprits> = found.collect();
        let why = format!("not profiled: {MOST} worse failures were");
        found.extend(all.iter().skip(MOST).map(|wanted| wanted.nothing(vec![why.clone()])));
        accuse(verdict, found);
    }
}

/// Takes profiles until the time is up.
struct Taker<'a> {
    again: &'a Again,
    until: Instant,
    stop: &'a AtomicBool,
}

impl Taker<'_> {
    /// What profiles of `cells`, of both sides if there are two, show.
    fn culprits(&self, wanted: &Wanted, cells: &[Cell], report: &Report, symbols: &mut Symbols) -> Culprits {
        let planned = |side: usize| self.again.planned.iter().find(|p| p.side == side && cells.contains(&p.cell));
        let judged = self.again.builds.len() - 1;
        let Some(now) = planned(judged) else {
            return wanted.nothing(vec!["not profiled: it was not run".to_owned()]);
        };
        let rates = rates(report, &wanted.cell);
        let name = profile::folder_name(&now.cell, wanted.kind.name());
        let folder = self.again.folder.join(&name);
        eprintln!("profiling what failed: {} {}", now.cell, wanted.kind);
        let profile = match self.take(now, judged, wanted, rates, &folder, symbols) {
            Ok(profile) => profile,
            Err(failure) => return wanted.nothing(vec![format!("no profile could be taken: {failure}")]),
        };
        let mut notes = Vec::new();
        if !profile.complete {
            notes.push("the profile was interrupted: this is what was sampled until then".to_owned());
        }
        let base = planned(0).filter(|_| judged > 0).and_then(|base| {
            eprintln!("profiling the other side: {} {}", base.cell, wanted.kind);
            self.take(base, 0, wanted, rates, &self.again.folder.join(format!("{name}-base")), symbols)
                .map_err(|failure| notes.push(format!("the other side could not be profiled: {failure}")))
                .ok()
        });
        let found = wanted.found(&profile, base.as_ref()).or_else(|error| {
            notes.push(format!("the other side's profile can't be compared: {error}"));
            wanted.found(&profile, None)
        });
        if let Some(base) = &base {
            notes.extend(draw(base, &profile, &folder).err().map(|why| format!("no flame graph of the change: {why}")));
        }
        let mut found = found.unwrap_or_else(|error| wanted.nothing(vec![error.to_string()]));
        found.folder = folder.display().to_string();
        found.notes.splice(0..0, notes);
        eprintln!("profile: {}", folder.display());
        found
    }

    fn take(
        &self,
        planned: &Planned,
        side: usize,
        wanted: &Wanted,
        rates: Rates,
        folder: &Path,
        symbols: &mut Symbols,
    ) -> Result<Profile, Failure> {
        let left = self.until.saturating_duration_since(Instant::now());
        if self.stop.load(Relaxed) {
            return Err(Failure::inconclusive("interrupted"));
        }
        if left.is_zero() {
            return Err(Failure::inconclusive("there was no time left for it"));
        }
        let mut settings = self.again.settings.clone();
        settings.timeout = settings.timeout.min(left);
        settings.sites = None;
        if let Some(Program { directory, .. }) = &planned.program {
            settings.directory.clone_from(directory);
        }
        let build = self.again.builds[side].clone();
        profile::Session::of_planned(planned.clone(), (settings, build), wanted.kind, rates, folder.to_owned())?
            .take(self.stop, symbols)
    }
}

fn draw(base: &Profile, now: &Profile, folder: &Path) -> Result<(), String> {
    let difference = diff::difference(base, now).map_err(|error| error.to_string())?;
    let drawn = diff_flame::write(base, now, &difference, folder, View::default());
    drawn.map(drop).map_err(|error| error.to_string())
}

/// Dense enough for what the cell allocated in its last repetition.
fn rates(report: &Report, cell: &Cell) -> Rates {
    let trials = report.trials.iter().rev().filter(|trial| trial.cell == *cell);
    let measured = trials.flat_map(|trial| &trial.phases).find(|phase| phase.kind == PhaseKind::Measure);
    let counts = measured.map(|phase| (phase.counts.allocation_calls() as f64, phase.counts.allocated_bytes() as f64));
    let (calls, bytes) = counts.unwrap_or((f64::INFINITY, f64::INFINITY));
    Rates::of_run(calls, bytes)
}
