//! `heapgate baseline promote`

use clap::Args;
use heapgate_core::baseline::{Baseline, CellChange, ChangeKind, Recording};
use heapgate_core::document::LoadFault;
use heapgate_core::render;
use heapgate_core::{exit, metric::MetricId};
use serde_json::{Value, json};

use super::record::baselines_of;
use super::{Folder, Writing};
use crate::args::{Global, print};
use crate::fail::Failure;
use crate::inputs;
use crate::run::unix_s;
use crate::who::recorder;

/// Put the figures of reports into the baselines there are
///
/// Cells of the reports replace those of the baseline or join them; cells that the reports don't have stay, and keep
/// the date and build they are from. Prints what exact metrics were and become. Several reports must be of one build
/// and machine class, and count as more repetitions.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Promote {
    /// Reports, as `heapgate run` or `gate` wrote them; a pattern such as 'runs/*.json' too
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<String>,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
    /// Why: kept in the file, after who git says you are
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
    /// Also take exact metrics that differ between repetitions; they are then treated as noisy
    #[arg(long)]
    accept_disagreement: bool,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    writing: Writing,
    /// Print what changes as JSON
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate baseline promote .heapgate/report.json --dry-run       what would change
  heapgate baseline promote .heapgate/report.json --note 'issue 123: larger vocabulary'";

impl Promote {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = self.folder.path(global)?;
        let report = inputs::joined(&self.reports)?;
        let recording =
            Recording { by: recorder(&self.note), unix_s: unix_s(), accept_disagreement: self.accept_disagreement };
        let new = baselines_of(&report, &recording)?;
        // From here to the end: another writer's cells would be lost between reading and writing.
        let _lock = if self.dry_run { None } else { Some(self.writing.lock(&folder)?) };
        let mut merged = Vec::new();
        for baseline in new {
            merged.push(match Baseline::load(&folder, &baseline.class(), &baseline.workload) {
                Ok(stored) => baseline.merged_into(&stored),
                Err(error) if matches!(error.fault, LoadFault::Missing) => {
                    let all_new = |c: &heapgate_core::baseline::BaselineCell| CellChange {
                        cell: c.cell.clone(),
                        kind: ChangeKind::New,
                    };
                    let changes = baseline.cells.iter().map(all_new).collect();
                    (baseline, changes)
                }
                Err(error) => return Err(error.into()),
            });
        }
        let mut all = Vec::new();
        for (baseline, changes) in &merged {
            let path = if self.dry_run { baseline.path_in(&folder) } else { baseline.save(&folder)? };
            if self.json {
                all.push(json!({
                    "workload": baseline.workload, "class": baseline.class(), "path": path, "written": !self.dry_run,
                    "cells": changes.iter().map(cell_json).collect::<Vec<_>>(),
                }));
            } else {
                let done = if self.dry_run { "would be written" } else { "written" };
                print(&render::baseline::changes(changes, global.options(false)))?;
                print(&format!("{}: {done}, {} cells", path.display(), baseline.cells.len()))?;
            }
        }
        if self.json {
            print(&serde_json::to_string_pretty(&all)?)?;
        }
        Ok(exit::PASS)
    }
}

fn cell_json(change: &CellChange) -> Value {
    let (kind, exact) = match &change.kind {
        ChangeKind::New => ("new", &[][..]),
        ChangeKind::Replaced { exact } => ("replaced", exact.as_slice()),
        ChangeKind::Kept => ("kept", &[][..]),
    };
    let metric = |metric: MetricId| metric.metric().name;
    let exact: Vec<Value> = exact
        .iter()
        .map(|change| json!({"metric": metric(change.metric), "before": change.before, "after": change.after}))
        .collect();
    json!({"cell": change.cell, "kind": kind, "exact": exact})
}
