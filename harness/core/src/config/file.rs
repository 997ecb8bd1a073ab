//! The form of `heapgate.toml` on disk, and what may be wrong with it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapgate_segment::limit::BadSoftLimit;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::value::{BadValue, parse_hard, parse_soft, parse_time};
use super::{Config, Date, MemoryLimits, OnMismatch, Override, Overrides, Setting, acceptance};
use crate::history::{BadPlace, Place};
use crate::metric::{ALL, MetricId, Unit};

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "heapgate.toml";

/// Why the settings can't be taken.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {fault}", path.display(), line.map_or(String::new(), |line| format!(":{line}")))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; absent where it isn't about one.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: ConfigFault,
}

/// What is wrong with a file of settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// A file that was named on the command line isn't there.
    #[error("there is no such file; check the path, or leave it out to use the defaults")]
    Missing,
    /// The system refused to read it.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It isn't TOML, has an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// A limit for what is no metric.
    #[error("unknown metric '{name}'; {}`heapgate list metrics` shows them all", did_you_mean(nearest))]
    UnknownMetric {
        /// The name in the file.
        name: String,
        /// Metrics with names like it.
        nearest: Vec<&'static str>,
    },
    /// A limit that doesn't fit its metric.
    #[error("{metric}: {source}")]
    Limit {
        /// The metric.
        metric: MetricId,
        /// What is wrong with the value.
        source: BadValue,
    },
    /// An accepted change without one of its parts.
    #[error("[[accept]] lacks {key}; {hint}")]
    AcceptLacks {
        /// The key.
        key: &'static str,
        /// What it is for.
        hint: &'static str,
    },
    /// An accepted change with a part that makes no sense.
    #[error("{key}: {source}")]
    Accept {
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        source: BadValue,
    },
    /// A change that is accepted for longer than an exception should be.
    #[error(
        "until {until} is more than a year ahead (today is {today} by this machine's clock): that is a limit to change, not an exception; write a day up to {latest}, or change the limit"
    )]
    AcceptedTooLong {
        /// The day in the file.
        until: Date,
        /// Today.
        today: Date,
        /// The latest day that is taken.
        latest: Date,
    },
    /// A number that makes no sense.
    #[error("{key} is 0; it must be at least 1")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A time that makes no sense.
    #[error("budget: {0}")]
    Budget(BadValue),
    /// A limit on memory that can't be understood.
    #[error("memory: {0}")]
    Memory(BadValue),
    /// A store that can't be understood.
    #[error("store: {0}")]
    Store(BadPlace),
}

fn did_you_mean(nearest: &[&str]) -> String {
    if nearest.is_empty() { String::new() } else { format!("did you mean {}? ", nearest.join(" or ")) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    on_mismatch: OnMismatch,
    reps: Option<Spanned<u32>>,
    timeout: Option<Spanned<u64>>,
    budget: Option<Spanned<Value>>,
    memory: Option<Memory>,
    baselines: Option<PathBuf>,
    store: Option<Spanned<String>>,
    #[serde(default)]
    limits: LimitTable,
    #[serde(default)]
    workload: BTreeMap<Spanned<String>, Workload>,
    #[serde(default)]
    accept: Vec<Spanned<acceptance::Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    process: Option<Spanned<String>>,
    sidecar: Option<Spanned<String>>,
    cgroup: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workload {
    #[serde(default)]
    limits: LimitTable,
}

type LimitTable = BTreeMap<Spanned<String>, LimitEntry>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitEntry {
    soft: Option<Spanned<Value>>,
    hard: Option<Spanned<Value>>,
}

pub(super) fn load(explicit: Option<&Path>, default: &Path) -> Result<Config, ConfigError> {
    let path = explicit.unwrap_or(default);
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match explicit {
            None => Ok(Config::default()),
            Some(_) => Err(ConfigError { path: path.to_owned(), line: None, fault: ConfigFault::Missing }),
        },
        Err(e) => Err(ConfigError { path: path.to_owned(), line: None, fault: ConfigFault::Unreadable(e) }),
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    config(text, path).map_err(|At { offset, fault }| ConfigError {
        path: path.to_owned(),
        line: offset.map(|offset| line_of(text, offset)),
        fault,
    })
}

/// The line, from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count() + 1
}

/// A fault and its place in the text, bytes.
pub(super) struct At {
    pub offset: Option<usize>,
    pub fault: ConfigFault,
}

fn config(text: &str, path: &Path) -> Result<Config, At> {
    let file: File = toml::from_str(text).map_err(|e| At {
        offset: e.span().map(|span| span.start),
        fault: ConfigFault::Toml(e.message().to_owned()),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let lines = file.workload.keys().map(|name| (name.get_ref().clone(), line_of(text, name.span().start))).collect();
    let workloads = file.workload.into_iter().map(|(name, table)| Ok((name.into_inner(), overrides(table.limits)?)));
    let accepted = file.accept.into_iter().map(|entry| acceptance::read(entry, |offset| line_of(text, offset)));
    Ok(Config {
        on_mismatch: file.on_mismatch,
        reps: at_least_one("reps", file.reps)?,
        timeout_s: at_least_one("timeout", file.timeout)?,
        budget: file.budget.map(budget).transpose()?,
        memory: file.memory.map(memory).transpose()?.unwrap_or_default(),
        interleaved: false,
        baselines: folder.join(file.baselines.unwrap_or_else(|| PathBuf::from("baselines"))),
        store: file.store.map_or(Ok(Place::default()), |store| place(&store, folder))?,
        source: Some(path.to_owned()),
        limits: overrides(file.limits)?,
        workloads: workloads.collect::<Result<_, At>>()?,
        workload_lines: lines,
        acceptances: accepted.collect::<Result<_, At>>()?,
    })
}

fn place(store: &Spanned<String>, folder: &Path) -> Result<Place, At> {
    Place::parse(store.get_ref(), folder)
        .map_err(|bad| At { offset: Some(store.span().start), fault: ConfigFault::Store(bad) })
}

fn budget(value: Spanned<Value>) -> Result<Duration, At> {
    let text = match value.get_ref() {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse_time(&text).map_err(|bad| At { offset: Some(value.span().start), fault: ConfigFault::Budget(bad) })
}

fn memory(table: Memory) -> Result<MemoryLimits, At> {
    let fault = |value: &Spanned<String>, bad: String| At {
        offset: Some(value.span().start),
        fault: ConfigFault::Memory(BadValue(bad)),
    };
    let bytes = |value: Spanned<String>| {
        let parsed = parse_hard(value.get_ref(), Unit::Bytes).map_err(|bad| fault(&value, bad.to_string()))?;
        if parsed >= 1.0 { Ok(parsed as u64) } else { Err(fault(&value, "a limit is at least one byte".to_owned())) }
    };
    let process =
        |value: Spanned<String>| value.get_ref().parse().map_err(|bad: BadSoftLimit| fault(&value, bad.to_string()));
    Ok(MemoryLimits {
        process: table.process.map(process).transpose()?,
        sidecar: table.sidecar.map(bytes).transpose()?,
        cgroup: table.cgroup.map(bytes).transpose()?,
    })
}

fn at_least_one<T: Default + PartialEq>(key: &'static str, value: Option<Spanned<T>>) -> Result<Option<T>, At> {
    match value {
        Some(value) if *value.get_ref() == T::default() => {
            Err(At { offset: Some(value.span().start), fault: ConfigFault::Zero { key } })
        }
        value => Ok(value.map(Spanned::into_inner)),
    }
}

fn overrides(table: LimitTable) -> Result<Overrides, At> {
    table
        .into_iter()
        .map(|(name, entry)| {
            let metric = metric_of(&name)?;
            let soft = setting(metric, entry.soft, |text, plain| {
                if plain {
                    Err(BadValue(format!(
                        "{text} is no soft limit; write a percentage such as \"15%\", or false for none"
                    )))
                } else {
                    parse_soft(text)
                }
            })?;
            let hard = setting(metric, entry.hard, |text, _| parse_hard(text, metric.metric().unit))?;
            Ok((metric, Override { soft, hard }))
        })
        .collect()
}

/// The metric of that name.
pub(super) fn metric_of(name: &Spanned<String>) -> Result<MetricId, At> {
    name.get_ref().parse().map_err(|_| At {
        offset: Some(name.span().start),
        fault: ConfigFault::UnknownMetric { name: name.get_ref().clone(), nearest: nearest(name.get_ref()) },
    })
}

/// The setting that `value` stands for: `false`, or what `parse` makes of its text (and whether that was a plain
/// number).
fn setting(
    metric: MetricId,
    value: Option<Spanned<Value>>,
    parse: impl Fn(&str, bool) -> Result<f64, BadValue>,
) -> Result<Option<Setting>, At> {
    let Some(value) = value else { return Ok(None) };
    let parsed = match value.get_ref() {
        Value::Boolean(false) => return Ok(Some(Setting::Off)),
        Value::String(text) => parse(text, false),
        Value::Integer(number) => parse(&number.to_string(), true),
        Value::Float(number) => parse(&number.to_string(), true),
        other => Err(BadValue(format!("{other} is no limit; write a number, a string, or false for none"))),
    };
    parsed
        .map(|value| Some(Setting::At(value)))
        .map_err(|source| At { offset: Some(value.span().start), fault: ConfigFault::Limit { metric, source } })
}

/// How many names are suggested.
const SUGGESTIONS: usize = 3;

/// The metrics with names like `name`, nearest first: those within a third of its length of edits, or that hold it.
fn nearest(name: &str) -> Vec<&'static str> {
    let mut found: Vec<(usize, &'static str)> = ALL
        .iter()
        .map(|id| id.metric().name)
        .filter_map(|known| {
            let distance = edits(name, known);
            let alike = distance <= name.len().div_ceil(3) || (name.len() >= 3 && known.contains(name));
            alike.then_some((distance, known))
        })
        .collect();
    found.sort_unstable();
    // What is much farther than the nearest isn't meant.
    let farthest = found.first().map_or(0, |nearest| nearest.0 + 1);
    found.retain(|f| f.0 <= farthest);
    found.into_iter().map(|f| f.1).take(SUGGESTIONS).collect()
}

/// The Levenshtein distance, bytewise.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use heapgate_segment::limit::SoftLimit;

    use super::*;

    fn error(text: &str) -> ConfigError {
        Config::parse(text, Path::new("some/heapgate.toml")).unwrap_err()
    }

    #[test]
    fn an_unknown_metric_is_told_with_file_line_and_nearest_names() {
        let error = error("reps = 5\n\n[limits]\npeak_rss_byte = { soft = \"1%\" }\n");
        assert_eq!(
            error.to_string(),
            "some/heapgate.toml:4: unknown metric 'peak_rss_byte'; did you mean peak_rss_bytes? `heapgate list metrics` shows them all"
        );
    }

    #[test]
    fn limits_on_memory_are_bytes_or_for_the_process_a_share() {
        let memory = |text: &str| Config::parse(text, Path::new("heapgate.toml")).map(|config| config.memory);
        let read = memory("[memory]\nprocess = \"80%\"\nsidecar = \"10 GiB\"").unwrap();
        assert_eq!(read, MemoryLimits { process: Some(SoftLimit::Share(0.8)), sidecar: Some(10 << 30), cgroup: None });
        let wrong = memory("[memory]\nprocess = \"8 GiB\"\ncgroup = \"12 s\"").unwrap_err().to_string();
        assert!(wrong.starts_with("heapgate.toml:3: memory: '12 s'"), "{wrong}");
        assert!(memory("[memory]\nprocess = \"0%\"").unwrap_err().to_string().contains("'0%' is no soft limit"));
    }

    #[test]
    fn a_part_of_a_name_suggests_the_whole() {
        assert_eq!(nearest("p999"), ["stall_p999_ns"]);
        assert!(nearest("left_rss").contains(&"left_rss_bytes"));
        assert!(nearest("zzzzzzzz").is_empty());
    }

    #[test]
    fn a_unit_that_does_not_fit_is_told_with_its_line() {
        let error = error("[workload.tokenize.limits]\npeak_rss_bytes = { soft = \"15%\",\n  hard = \"8 ms\" }");
        assert_eq!(error.line, Some(3), "{error}");
        assert!(matches!(error.fault, ConfigFault::Limit { metric: MetricId::PeakRss, .. }), "{error}");
    }

    #[test]
    fn a_soft_limit_needs_its_percent_sign() {
        for bad in ["15", "0.15", "\"15\"", "true", "[1]", "\"-5%\"", "nan"] {
            let error = error(&format!("[limits]\npeak_rss_bytes = {{ soft = {bad} }}"));
            assert!(matches!(error.fault, ConfigFault::Limit { .. }) && error.line == Some(2), "{error}");
        }
        assert!(matches!(error("[limits]\npeak_rss_bytes = { hard = -3 }").fault, ConfigFault::Limit { .. }));
    }

    #[test]
    fn unknown_keys_and_bad_toml_are_told_with_their_line() {
        for (text, line) in [
            ("\nrep = 5", 2),
            ("[limits]\n\npeak_rss_bytes = { sort = \"1%\" }", 3),
            ("[workload.x]\nlimit = {}", 2),
            ("on_mismatch = \"whatever\"", 1),
            ("reps = ", 1),
            ("reps = 5\nreps = 6", 2),
        ] {
            let error = error(text);
            assert!(matches!(error.fault, ConfigFault::Toml(_)), "{text}: {error}");
            assert_eq!(error.line, Some(line), "{text}: {error}");
        }
    }

    #[test]
    fn no_repetition_and_no_time_are_refused() {
        assert!(matches!(error("reps = 0").fault, ConfigFault::Zero { key: "reps" }));
        assert!(matches!(error("timeout = 0").fault, ConfigFault::Zero { key: "timeout" }));
    }

    #[test]
    fn a_budget_is_a_time() {
        let budget = |text: &str| Config::parse(text, Path::new("heapgate.toml")).unwrap().budget;
        assert_eq!(budget("budget = \"5m\""), Some(Duration::from_secs(300)));
        assert_eq!([budget("budget = 90"), budget("")], [Some(Duration::from_secs(90)), None]);
        let error = error("reps = 5\nbudget = \"five minutes\"");
        assert_eq!(error.line, Some(2), "{error}");
        assert!(error.to_string().contains("write one such as 90s, 5m or 1h"), "{error}");
    }

    #[test]
    fn a_store_is_a_file_beside_the_settings_or_a_server() {
        let store = |text: &str| Config::parse(text, Path::new("some/heapgate.toml")).unwrap().store;
        assert_eq!(store("store = \"kept/h.sqlite\""), Place::Sqlite("some/kept/h.sqlite".into()));
        assert_eq!(store("store = \"none\""), Place::Off);
        assert_eq!(store(""), Place::default());
        let error = error("reps = 5\nstore = \"mysql://ci:hush@db/perf\"");
        assert_eq!(error.line, Some(2), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_the_default_one_need_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heapgate.toml");
        assert!(matches!(load(Some(&path), Path::new("unused")).unwrap_err().fault, ConfigFault::Missing));
        assert_eq!(load(None, &path).unwrap(), Config::default());
        std::fs::write(&path, "reps = 7\nbaselines = \"kept/here\"").unwrap();
        let config = load(None, &path).unwrap();
        assert_eq!(config.reps, Some(7));
        assert_eq!(config.baselines, folder.path().join("kept/here"));
        assert!(matches!(load(Some(folder.path()), &path).unwrap_err().fault, ConfigFault::Unreadable(_)));
    }

    #[test]
    fn this_projects_own_file_is_right() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../heapgate.toml"));
        let config = Config::load(Some(path)).unwrap();
        assert_eq!(config.on_mismatch, OnMismatch::ExactOnly);
    }
}
