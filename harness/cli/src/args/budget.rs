//! `heapgate budget`: the limits on a service's memory, held against each other.

use std::fs;

use clap::{Args, Subcommand};
use heapgate_core::budget::{self, Fault, Limit};
use heapgate_core::exit;
use heapgate_core::metric::Unit;
use heapgate_core::render::{hanging, human};
use heapgate_segment::limit::{SOFT_LIMIT_VARIABLE, SoftLimit, cgroup_limit_bytes};
use heapgate_segment::published::{self, Buffer};
use heapgate_segment::setting::Setting;
use serde::Serialize;

use super::selection::bytes;
use super::{Global, print};
use crate::fail::Failure;

/// `heapgate budget VERB`
#[derive(Debug, Subcommand)]
pub enum Budget {
    Check(Check),
}

/// Check that a process's limit, its sidecar's and its control group's act in that order
///
/// The soft limit that a process keeps itself to must be reached first, then the limit at which a sidecar drains and restarts
/// it, and last the one at which the kernel kills; each at least 10 % below the next. Limits are taken from the flags, then
/// from the running process that --pid names (its soft limit in force or HEAPGATE_SOFT_LIMIT, its control groups), then from [memory] in heapgate.toml.
///
/// Exit code 0 if they agree, 3 if they do not.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  heapgate budget check --process 8GiB --sidecar 10GiB --cgroup 12GiB
  heapgate budget check --pid 4711 --sidecar 10GiB"
)]
pub struct Check {
    /// The soft limit of the process: bytes (KiB, MiB, GiB understood), or a share of the control group's as in 80%
    #[arg(long, value_name = "LIMIT")]
    process: Option<SoftLimit>,
    /// The sidecar's limit, bytes
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    sidecar: Option<u64>,
    /// The control group's limit, bytes
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    cgroup: Option<u64>,
    /// Read the soft limit and the control groups of this process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Budget {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        match self {
            Self::Check(check) => check.execute(global),
        }
    }
}

/// What is found of one process.
#[derive(Debug, Default)]
struct Found {
    process: Option<SoftLimit>,
    cgroup: Option<u64>,
}

#[derive(Serialize)]
struct Answer<'a> {
    limits: budget::Budget,
    agree: bool,
    faults: &'a [Fault],
}

impl Check {
    fn execute(self, global: &Global) -> Result<u8, Failure> {
        let set = global.config()?.memory;
        let found = self.pid.map(of_process).transpose()?.unwrap_or_default();
        let cgroup = self.cgroup.or(found.cgroup).or(set.cgroup);
        let soft = self.process.or(found.process).or(set.process);
        let process = match soft {
            Some(soft) => Some(soft.bytes(cgroup).ok_or_else(|| {
                Failure::usage("the process's soft limit is a share of the control group's limit, which is not known: give --cgroup BYTES")
            })?),
            None => None,
        };
        let limits = budget::Budget { process, sidecar: self.sidecar.or(set.sidecar), cgroup };
        if limits.margins().next().is_none() {
            let known = Limit::ALL.into_iter().find(|&limit| limits.get(limit).is_some());
            let known = known
                .map_or_else(|| "no limit is known".to_owned(), |limit| format!("only the {limit} limit is known"));
            return Err(Failure::usage(format!(
                "{known}, so there is nothing to compare: give --process, --sidecar and --cgroup, or --pid, or set them under \
                 [memory] in heapgate.toml"
            )));
        }
        let faults = limits.faults();
        if self.json {
            let answer = Answer { limits, agree: faults.is_empty(), faults: &faults };
            print(&serde_json::to_string_pretty(&answer)?)?;
        } else {
            print(&text(limits, &faults, global.options(false).width))?;
        }
        Ok(if faults.is_empty() { exit::PASS } else { exit::REGRESSION })
    }
}

/// The limits of a running process.
fn of_process(pid: u32) -> Result<Found, Failure> {
    let path = format!("/proc/{pid}/environ");
    let environment = fs::read(&path).map_err(|error| {
        let why = if error.kind() == std::io::ErrorKind::NotFound {
            "there is no such process"
        } else {
            "it may not be read"
        };
        Failure::usage(format!("process {pid}: {why} ({path}: {error})"))
    })?;
    let prefix = format!("{SOFT_LIMIT_VARIABLE}=");
    let text = environment.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()));
    let process = text
        .map(|text| String::from_utf8_lossy(text).parse())
        .transpose()
        .map_err(|bad| Failure::usage(format!("process {pid}, {SOFT_LIMIT_VARIABLE}: {bad}")))?;
    // What it keeps itself to goes before what it was started with: it may have been changed, or come from its own code.
    let in_force = soft_limit_of(pid).map(SoftLimit::Bytes);
    Ok(Found { process: in_force.or(process), cgroup: cgroup_limit_bytes(pid) })
}

/// The soft limit that a published process says is in force; `None` where there is none, or it does not say.
fn soft_limit_of(pid: u32) -> Option<u64> {
    // Not every process is published, nor has this user a folder: then its environment is all there is.
    let entries = published::list(&published::runtime_folder().ok()?).ok()?;
    let entry = entries.into_iter().find(|entry| entry.pid == pid && entry.is_in_proc())?;
    let mut buffer = Buffer::new();
    entry.read(&mut buffer).ok()?;
    let value = buffer.reader().ok()?.steering()?.value(Setting::SoftLimitBytes)?;
    u64::try_from(value).ok().filter(|&bytes| bytes > 0)
}

fn text(limits: budget::Budget, faults: &[Fault], width: usize) -> String {
    let mut text = String::new();
    for limit in Limit::ALL {
        let value =
            limits.get(limit).map_or_else(|| "not known".to_owned(), |bytes| human::limit(Unit::Bytes, bytes as f64));
        let room = limits.margins().find(|&(lower, _, share)| lower == limit && share > 0.0);
        let room = room
            .map_or_else(String::new, |(_, upper, share)| format!("; {:.0}% below the {upper} limit", share * 100.0));
        text += &hanging(&format!("{:<9}{value:<11}", limit.to_string()), &format!("{}{room}", limit.acts()), width);
    }
    text.push('\n');
    if faults.is_empty() {
        text += "PASS: each acts before the next\n";
    }
    for fault in faults {
        text += &hanging("FAIL  ", &fault.to_string(), width);
    }
    text
}
