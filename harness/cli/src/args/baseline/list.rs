//! `heapgate baseline list`

use std::path::Path;

use clap::Args;
use heapgate_core::baseline::{self, Baseline};
use heapgate_core::document::LoadError;
use heapgate_core::exit;
use heapgate_core::render::baseline::{age_days, list, repetitions};
use heapgate_core::report::Machine;

use super::Folder;
use crate::args::{Global, print};
use crate::fail::Failure;
use crate::run::unix_s;

/// List the baselines there are: cells, repetitions, age, commit, who recorded them and why
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    folder: Folder,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = self.folder.path(global)?;
        let (baselines, unreadable) = load_all(&folder)?;
        let (own, now) = (Machine::detect().class(), unix_s());
        if self.json {
            let rows: Vec<_> = baselines.iter().map(|baseline| json(baseline, &own, now)).collect();
            print(&serde_json::to_string_pretty(&rows)?)?;
        } else if !baselines.is_empty() {
            print(&list(&baselines, &own, now, global.options(false)))?;
        } else if unreadable.is_empty() {
            print(&format!("no baselines in {}; `heapgate baseline record` makes one", folder.display()))?;
        }
        for error in &unreadable {
            eprintln!("heapgate: {error}");
        }
        Ok(if unreadable.is_empty() { exit::PASS } else { exit::USAGE })
    }
}

/// Every baseline under `folder`, sorted by class and workload, and the errors of those that can't be loaded.
pub fn load_all(folder: &Path) -> Result<(Vec<Baseline>, Vec<LoadError>), Failure> {
    let (mut loaded, mut unreadable) = (Vec::new(), Vec::new());
    for (class, workload) in baseline::list(folder)? {
        match Baseline::load(folder, &class, &workload) {
            Ok(baseline) => loaded.push(baseline),
            Err(error) => unreadable.push(error),
        }
    }
    Ok((loaded, unreadable))
}

fn json(baseline: &Baseline, own: &str, now: u64) -> serde_json::Value {
    let (fewest, most) = repetitions(baseline);
    let class = baseline.class();
    serde_json::json!({
        "this_machine": class == own,
        "class": class,
        "workload": baseline.workload,
        "cells": baseline.cells.len(),
        "fewest_repetitions": fewest,
        "most_repetitions": most,
        "recorded_unix_s": baseline.recorded_unix_s,
        // Null where it is dated in the future.
        "age_days": age_days(baseline.recorded_unix_s, now),
        "commit": baseline.fingerprint.build.commit,
        "recorded_by": baseline.recorded_by,
    })
}
