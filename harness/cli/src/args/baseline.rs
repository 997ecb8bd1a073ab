//! `heapgate baseline`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use heapgate_core::baseline::{self, Recording};
use heapgate_core::exit;
use heapgate_core::render;
use heapgate_core::report::Report;
use heapgate_store::history::Purpose;

use super::{Global, print, selection::Selection};
use crate::fail::Failure;
use crate::history::StoreArgs;
use crate::run::{End, unix_s};

// As for verbs: help is on the structs.
#[derive(Debug, Subcommand)]
pub enum Baseline {
    Record(Box<Record>),
    List(List),
}

/// Run workloads, and store their figures as the baseline of this machine's class
///
/// Refuses when a repetition failed, or when exact metrics differ between repetitions. Say in the commit what changed.
#[derive(Debug, Args)]
pub struct Record {
    #[command(flatten)]
    selection: Selection,
    /// Take this report instead of running anything
    #[arg(long, value_name = "FILE", conflicts_with = "Selection")]
    report: Option<PathBuf>,
    /// Folder of the baselines [default: baselines]
    #[arg(long, value_name = "FOLDER")]
    baselines: Option<PathBuf>,
    /// Who records it, and why: kept in the file
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
    /// Also take exact metrics that differ between repetitions; they are then treated as noisy
    #[arg(long)]
    accept_disagreement: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// List the baselines there are
#[derive(Debug, Args)]
pub struct List {
    /// Folder of the baselines [default: baselines]
    #[arg(long, value_name = "FOLDER")]
    baselines: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Baseline {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        match self {
            Self::Record(record) => record.execute(global),
            Self::List(list) => list.execute(global),
        }
    }
}

impl Record {
    fn execute(self, global: &Global) -> Result<u8, Failure> {
        let config = global.config()?;
        let store = self.store.place(&config)?;
        let report = match &self.report {
            Some(path) => Report::load(path)?,
            None => {
                let ran = self.selection.session(&config)?.run()?;
                if let End::Failed(_) = ran.end {
                    // What could not be written is at least shown.
                    print(&render::run::render(&ran.report, global.options(false)))?;
                }
                if !matches!(ran.end, End::Complete) {
                    return ran.end.code(exit::PASS);
                }
                self.selection.append(&store, &ran.report, Purpose::Baseline, None);
                ran.report
            }
        };
        let folder = self.baselines.unwrap_or(config.baselines);
        let mut workloads: Vec<String> = report.cells().iter().map(|c| c.cell.workload.clone()).collect();
        workloads.dedup();
        // All or none: a baseline of which half is new compares with nothing.
        let recording = Recording { by: self.note, unix_s: unix_s(), accept_disagreement: self.accept_disagreement };
        let baselines = workloads
            .iter()
            .map(|workload| Ok(baseline::Baseline::from_report(&report, workload, recording.clone())?))
            .collect::<Result<Vec<_>, Failure>>()?;
        for baseline in baselines {
            let path = baseline.save(&folder)?;
            print(&format!("recorded {} cells in {}", baseline.cells.len(), path.display()))?;
        }
        Ok(exit::PASS)
    }
}

impl List {
    fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = self.baselines.unwrap_or(global.config()?.baselines);
        let mut rows = Vec::new();
        for (class, workload) in baseline::list(&folder)? {
            let baseline = baseline::Baseline::load(&folder, &class, &workload)?;
            rows.push(serde_json::json!({
                "class": class,
                "workload": workload,
                "cells": baseline.cells.len(),
                "age_days": unix_s().saturating_sub(baseline.recorded_unix_s) / 86_400,
                "commit": baseline.fingerprint.build.commit,
                "recorded_by": baseline.recorded_by,
            }));
        }
        if self.json {
            print(&serde_json::to_string_pretty(&rows)?)?;
        } else if rows.is_empty() {
            print(&format!("no baselines in {}; `heapgate baseline record` makes one", folder.display()))?;
        } else {
            for row in rows {
                let text = |name: &str| row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned);
                print(&format!(
                    "{}/{}  {} cells, {} days old, at {}  {}",
                    text("class"),
                    text("workload"),
                    text("cells"),
                    text("age_days"),
                    text("commit"),
                    text("recorded_by")
                ))?;
            }
        }
        Ok(exit::PASS)
    }
}
