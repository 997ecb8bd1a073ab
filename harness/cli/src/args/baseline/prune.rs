//! `heapgate baseline prune`

use std::path::Path;

use clap::Args;
use heapgate_core::baseline::{self, Baseline, Removal, Standing, remove};
use heapgate_core::exit;
use heapgate_core::render::baseline::age_days;
use heapgate_core::render::human::{counted, date};

use super::{Folder, Writing, known, list};
use crate::args::{Global, print};
use crate::fail::Failure;
use crate::run::unix_s;
use crate::source::Source;

/// Remove cells of baselines that no workload has any more, or whole baselines
///
/// Without --class and --older-than, the cells of heapgate's own workloads that can't be run any more go; with them, the
/// whole files they name, and nothing else. Prints what it would remove, and removes it with --yes: all of it or
/// nothing.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove the baselines of this machine class, as `baseline list` names it
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Remove baselines that were recorded more than this ago
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u64>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    writing: Writing,
    /// Print what is removed as JSON
    #[arg(long)]
    json: bool,
}

/// What is removed, and why.
struct Planned {
    removal: Removal,
    why: String,
}

impl Prune {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = self.folder.path(global)?;
        let _lock = if self.yes && folder.is_dir() { Some(self.writing.lock(&folder)?) } else { None };
        let planned = self.plan(&folder)?;
        if self.yes {
            let removals: Vec<Removal> = planned.iter().map(|planned| planned.removal.clone()).collect();
            remove(&folder, &removals)?;
        }
        self.print(&folder, &planned)?;
        Ok(exit::PASS)
    }

    fn plan(&self, folder: &Path) -> Result<Vec<Planned>, Failure> {
        if self.class.is_none() && self.older_than.is_none() {
            return gone_cells(folder);
        }
        let all = baseline::list(folder)?;
        if let Some(class) = self.class.as_ref().filter(|class| !all.iter().any(|(there, _)| there == *class)) {
            let mut classes: Vec<&str> = all.iter().map(|(class, _)| class.as_str()).collect();
            classes.dedup();
            let there = if classes.is_empty() { "none".to_owned() } else { classes.join(", ") };
            return Err(Failure::usage(format!("there is no baseline of class '{class}'; there are: {there}")));
        }
        let mut planned = Vec::new();
        for (class, workload) in all {
            if self.class.as_ref().is_some_and(|wanted| *wanted != class) {
                continue;
            }
            let removal = || Removal::File { class: class.clone(), workload: workload.clone() };
            match self.older_than {
                // Not even opened: one that can't be read may go too.
                None => planned.push(Planned { removal: removal(), why: "it is of that class".to_owned() }),
                Some(days) => {
                    let recorded = Baseline::load(folder, &class, &workload)?.recorded_unix_s;
                    if let Some(age) = age_days(recorded, unix_s()).filter(|age| *age > days) {
                        let why = format!("recorded on {}, {} ago", date(recorded), counted(age, "day"));
                        planned.push(Planned { removal: removal(), why });
                    }
                }
            }
        }
        Ok(planned)
    }

    fn print(&self, folder: &Path, planned: &[Planned]) -> Result<(), Failure> {
        if self.json {
            let row = |planned: &Planned| {
                let (whole, cells) = match &planned.removal {
                    Removal::File { .. } => (true, &[][..]),
                    Removal::Cells { gone, .. } => (false, gone.as_slice()),
                };
                serde_json::json!({
                    "path": planned.removal.path_in(folder), "whole": whole, "cells": cells, "why": planned.why,
                    "removed": self.yes,
                })
            };
            return print(&serde_json::to_string_pretty(&planned.iter().map(row).collect::<Vec<_>>())?);
        }
        if planned.is_empty() {
            return print("nothing to remove");
        }
        let verb = if self.yes { "removed" } else { "would remove" };
        for Planned { removal, why } in planned {
            let path = removal.path_in(folder);
            match removal {
                Removal::File { .. } => print(&format!("{verb} {}: {why}", path.display()))?,
                Removal::Cells { gone, left } => {
                    let (gone_cells, left) = (counted(gone.len() as u64, "cell"), left.cells.len());
                    print(&format!("{verb} {gone_cells} of {}, {left} stay: {why}", path.display()))?;
                    gone.iter().try_for_each(|cell| print(&format!("  {cell}")))?;
                }
            }
        }
        if self.yes { Ok(()) } else { print("nothing was removed; do it with --yes") }
    }
}

/// The cells of all baselines that can't be run any more.
fn gone_cells(folder: &Path) -> Result<Vec<Planned>, Failure> {
    let (baselines, unreadable) = list::load_all(folder)?;
    if let Some(error) = unreadable.into_iter().next() {
        return Err(error.into());
    }
    let source = Source::built_in()?;
    let mut planned = Vec::new();
    for baseline in baselines {
        let reason = |cell: &_| match known::standing(&source, cell) {
            Standing::Gone(why) => Some(why),
            Standing::There | Standing::Unknown => None,
        };
        if let Some(removal) = Removal::of_cells(&baseline, |cell| reason(cell).is_some()) {
            let mut why: Vec<String> = baseline.cells.iter().filter_map(|c| reason(&c.cell)).collect();
            why.sort();
            why.dedup();
            planned.push(Planned { removal, why: why.join("; ") });
        }
    }
    Ok(planned)
}
