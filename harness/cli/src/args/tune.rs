//! `heapgate tune`: settings of running processes.

use std::path::PathBuf;
use std::time::Instant;

use clap::{ArgGroup, Args};
use heapgate_core::exit;
use heapgate_core::metric::Unit;
use heapgate_core::render::{hanging, human};
use heapgate_segment::published::{self, Entry, RequestError};
use heapgate_segment::setting::{Change, Preset, Setting};
use serde::Serialize;

use super::{Global, print};
use crate::fail::Failure;

/// Change settings of running processes, without a restart
///
/// Of processes that are published and were built to be steered: feature `control` of heapgate-alloc, and its
/// `Control::new().start()`. Each change is acknowledged with the value that the process reads back from jemalloc; what is
/// refused is an error that says what jemalloc said. Changes last as long as the process. Without a setting, those in force
/// are shown.
///
/// Settings: dirty_decay_ms, muzzy_decay_ms (-1 to 3600000; all arenas, and new ones), background_thread (true, false), purge,
/// level (off, count, sampled, exact-alloc, exact), trace_interval_ms, heap_profile (true, false), heap_profile_dump (a file),
/// soft_limit (bytes, off). docs/steering.md says what each does and costs.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("target").required(true).args(["pid", "all_of"])),
    after_help = "\
Exit code 0: all acknowledged; 2: a setting or a process is not what it should
be; 1: a process refused, or gave no answer.

Examples:
  heapgate tune --pid 4711 dirty_decay_ms=0 muzzy_decay_ms=0
  heapgate tune --all-of tokenizer --preset strict
  heapgate tune --pid 4711 purge
  heapgate tune --pid 4711"
)]
pub struct Tune {
    /// What is to be changed: NAME=VALUE, or an action
    #[arg(value_name = "SETTING")]
    changes: Vec<Change>,
    /// The process; may be given more than once
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// All processes of a service
    #[arg(long, value_name = "SERVICE")]
    all_of: Option<String>,
    /// Settings that belong together: lax, default or strict; before those that are named
    #[arg(long, value_name = "PRESET", value_parser = preset)]
    preset: Option<Preset>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Folder of the published processes [default: this user's]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn preset(text: &str) -> Result<Preset, String> {
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
    found.ok_or_else(|| format!("there are: {}", Preset::ALL.map(Preset::name).join(", ")))
}

/// What became of one process.
#[derive(Debug, Serialize)]
struct Process {
    service: String,
    pid: u32,
    settings: Vec<Done>,
    /// Why nothing more was asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What became of one change.
#[derive(Debug, Serialize)]
struct Done {
    setting: &'static str,
    /// What it was before; null where that is not known, and for actions.
    before: Option<i64>,
    /// What is in force, as the process reads it back; of `purge`, bytes that were given back.
    value: Option<i64>,
    /// From the first request (what it was before) to the acknowledgement.
    acknowledged_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    of: Setting,
}

impl Tune {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => published::runtime_folder()?,
        };
        let entries =
            published::list(&folder).map_err(|error| Failure::usage(format!("{}: {error}", folder.display())))?;
        let targets = self.targets(entries)?;
        let preset = self.preset.into_iter().flat_map(Preset::changes);
        let changes: Vec<Change> = preset.chain(self.changes.iter().cloned()).collect();
        let mut code = exit::PASS;
        let mut processes = Vec::new();
        for entry in &targets {
            let (process, own_code) = steer(entry, &changes);
            // What the system could not do weighs more than what was asked for wrongly.
            code = if code == exit::PASS || own_code == exit::INTERNAL { own_code } else { code };
            processes.push(process);
        }
        if self.json {
            print(&serde_json::to_string_pretty(&serde_json::json!({ "processes": processes }))?)?;
        } else {
            print(&text(&processes, changes.is_empty(), global.options(false).width))?;
        }
        for (process, error) in processes.iter().flat_map(errors) {
            eprintln!("heapgate: {} {}: {error}", process.service, process.pid);
        }
        Ok(code)
    }

    /// The processes that are meant, all of which live.
    fn targets(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Failure> {
        let (alive, dead): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_alive);
        let names = || {
            let mut names: Vec<_> = alive.iter().map(|entry| format!("{} {}", entry.name, entry.pid)).collect();
            names.dedup();
            if names.is_empty() { "none is".to_owned() } else { format!("there are {}", names.join(", ")) }
        };
        let mut targets = Vec::new();
        for &pid in &self.pid {
            match alive.iter().find(|entry| entry.pid == pid) {
                Some(entry) => targets.push(entry.clone()),
                None if dead.iter().any(|entry| entry.pid == pid) => {
                    return Err(Failure::usage(format!("process {pid} has ended")));
                }
                None => {
                    return Err(Failure::usage(format!("process {pid} is not published to this user; {}", names())));
                }
            }
        }
        if let Some(service) = &self.all_of {
            let before = targets.len();
            targets.extend(alive.iter().filter(|entry| entry.name == *service).cloned());
            if targets.len() == before {
                return Err(Failure::usage(format!("no process of a service '{service}' is published; {}", names())));
            }
        }
        targets.dedup();
        Ok(targets)
    }
}

/// Makes the changes, or, without any, looks at what there is. An exit code, too.
fn steer(entry: &Entry, changes: &[Change]) -> (Process, u8) {
    let mut process = Process { service: entry.name.clone(), pid: entry.pid, settings: Vec::new(), error: None };
    let look = |setting| Change { setting, value: 0, text: String::new() };
    let all: Vec<Change> = Setting::ALL.into_iter().filter(|setting| !setting.is_action()).map(look).collect();
    let mut code = exit::PASS;
    for change in if changes.is_empty() { &all } else { changes } {
        let setting = change.setting;
        let mut done = Done {
            setting: setting.name(),
            before: None,
            value: None,
            acknowledged_ms: None,
            error: None,
            of: setting,
        };
        let begin = Instant::now();
        if !setting.is_action() && !changes.is_empty() {
            done.before = entry.get_setting(setting).ok();
        }
        match if changes.is_empty() { entry.get_setting(setting) } else { entry.set_setting(change) } {
            Ok(value) => {
                done.value = Some(value);
                done.acknowledged_ms = Some(begin.elapsed().as_secs_f64() * 1e3);
            }
            // What can't be looked at is no failure of a look at all.
            Err(RequestError::Refused(_)) if changes.is_empty() => {}
            Err(RequestError::Refused(why)) => {
                done.error = Some(why);
                code = exit::INTERNAL;
            }
            Err(error) => {
                let is_usage = matches!(error, RequestError::NotTaken | RequestError::Ended | RequestError::Version(_));
                process.error = Some(error.to_string());
                return (process, if is_usage { exit::USAGE } else { exit::INTERNAL });
            }
        }
        process.settings.push(done);
    }
    (process, code)
}

/// What went wrong, with its process.
fn errors(process: &Process) -> impl Iterator<Item = (&Process, String)> {
    let of_settings =
        process.settings.iter().filter_map(|done| Some(format!("{}: {}", done.setting, done.error.as_ref()?)));
    of_settings.chain(process.error.clone()).map(move |error| (process, error))
}

fn text(processes: &[Process], is_look: bool, width: usize) -> String {
    let mut text = String::new();
    for process in processes {
        text += &format!("{} {}\n", process.service, process.pid);
        for done in &process.settings {
            let show = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| shown(done.of, value));
            let what = match (done.of, &done.error) {
                (_, Some(_)) => "refused".to_owned(),
                (Setting::Purge, None) => format!("{} given back", show(done.value)),
                (Setting::HeapProfileDump, None) => "written".to_owned(),
                (_, None) if is_look || done.before.is_none() => show(done.value),
                (_, None) => format!("{} -> {}", show(done.before), show(done.value)),
            };
            let time = done.acknowledged_ms.filter(|_| !is_look).map(|ms| format!("  ({ms:.0} ms)"));
            text += &hanging(&format!("  {:<18} ", done.setting), &(what + &time.unwrap_or_default()), width);
        }
    }
    text
}

fn shown(setting: Setting, value: i64) -> String {
    match setting {
        Setting::SoftLimitBytes if value == 0 => setting.show(value),
        Setting::SoftLimitBytes | Setting::Purge => human::limit(Unit::Bytes, value as f64),
        _ => setting.show(value),
    }
}
