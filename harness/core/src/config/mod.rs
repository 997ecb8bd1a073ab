//! `heapgate.toml`: limits by metric and workload, and what the gate does where figures can't be compared.
//!
//! [`Config`] is what the rest of the program sees. `file` is the form on disk and its errors, `acceptance` the changes
//! that are accepted for a time, `value` and `date` what stands in it. Nothing here measures or decides.

mod acceptance;
mod date;
mod file;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use acceptance::Acceptance;
pub use date::Date;
pub use file::{ConfigError, ConfigFault, DEFAULT_FILE};
pub use value::{BadValue, parse_hard, parse_soft, parse_time};

use heapgate_segment::limit::SoftLimit;

use crate::history::Place;
use crate::metric::{INTERLEAVED_SHAPE, Limits, MetricId};
use crate::report::Cell;

/// What becomes of noisy metrics where the baseline is of another machine class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnMismatch {
    /// They are inconclusive, and so is the gate.
    #[default]
    Inconclusive,
    /// They are left out, and how many were is said. Exact metrics and hard limits still decide.
    ExactOnly,
}

/// The settings of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What becomes of noisy metrics on another machine class.
    pub on_mismatch: OnMismatch,
    /// Repetitions of each cell; absent where the command line or the default decides.
    pub reps: Option<u32>,
    /// Longest time of one trial, s; absent where the command line or the default decides.
    pub timeout_s: Option<u64>,
    /// Time for more repetitions of what the first ones left open; absent where the command line or the default decides.
    pub budget: Option<Duration>,
    /// The limits on a service's memory that must agree, as the file sets them.
    pub memory: MemoryLimits,
    /// Whether the two sides ran in pairs, one right after the other: never set in a file.
    pub interleaved: bool,
    /// Folder of the baselines. A relative one in the file is taken from the file's own folder.
    pub baselines: PathBuf,
    /// Where the history of runs is kept. A relative file is taken from the settings' own folder.
    pub store: Place,
    /// The file these settings are from; absent where they are the defaults.
    pub source: Option<PathBuf>,
    limits: Overrides,
    /// By `workload` or `workload/variant`.
    workloads: BTreeMap<String, Overrides>,
    /// The line, from 1, that names each of them first.
    workload_lines: BTreeMap<String, usize>,
    acceptances: Vec<Acceptance>,
}

/// The limits on a service's memory, for `heapgate budget check`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MemoryLimits {
    /// The soft limit of the process.
    pub process: Option<SoftLimit>,
    /// The sidecar's, bytes.
    pub sidecar: Option<u64>,
    /// The control group's, bytes.
    pub cgroup: Option<u64>,
}

/// What a file says about limits.
type Overrides = BTreeMap<MetricId, Override>;

/// What a file says about one metric's limits: fields it doesn't name are inherited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Override {
    soft: Option<Setting>,
    hard: Option<Setting>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Setting {
    Off,
    At(f64),
}

impl Setting {
    fn limit(self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            on_mismatch: OnMismatch::default(),
            reps: None,
            timeout_s: None,
            budget: None,
            memory: MemoryLimits::default(),
            interleaved: false,
            baselines: PathBuf::from("baselines"),
            store: Place::default(),
            source: None,
            limits: Overrides::new(),
            workloads: BTreeMap::new(),
            workload_lines: BTreeMap::new(),
            acceptances: Vec::new(),
        }
    }
}

impl Config {
    /// The settings in the file `explicit`, or, where none was named, in `heapgate.toml` of the current folder; the
    /// defaults if that isn't there.
    ///
    /// # Errors
    /// If the named file is missing, or the file can't be read or has a mistake: with its path and line.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        file::load(explicit, Path::new(DEFAULT_FILE))
    }

    /// The settings in `text`, as read from `path`.
    ///
    /// ```
    /// use heapgate_core::config::Config;
    /// let wrong = Config::parse("[limits]\npeak_rss = { soft = \"15%\" }", "heapgate.toml".as_ref()).unwrap_err();
    /// assert!(wrong.to_string().starts_with("heapgate.toml:2: unknown metric 'peak_rss'; did you mean peak_rss_bytes"));
    /// ```
    ///
    /// # Errors
    /// At the first mistake, with its line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        file::parse(text, path)
    }

    /// These settings for sides that run interleaved on one machine: what differs from day to day is the same on both, so
    /// that distributions are held to [`INTERLEAVED_SHAPE`], unless the file says otherwise.
    #[must_use]
    pub fn interleaved(mut self) -> Self {
        let shape = self.limits.entry(MetricId::StallDistribution).or_default();
        shape.soft.get_or_insert(Setting::At(INTERLEAVED_SHAPE));
        self.interleaved = true;
        self
    }

    /// The limits of `metric` in `cell`: the catalogue's, then what the file says for all workloads, for the workload,
    /// and for the variant; each field from the last that names it.
    #[must_use]
    pub fn limits_for(&self, cell: &Cell, metric: MetricId) -> Limits {
        let variant = format!("{}/{}", cell.workload, cell.variant);
        let tables = [Some(&self.limits), self.workloads.get(&cell.workload), self.workloads.get(&variant)];
        overridden(metric, tables.into_iter().flatten())
    }

    /// The limits of `metric` where no workload has its own.
    #[must_use]
    pub fn general_limits(&self, metric: MetricId) -> Limits {
        overridden(metric, [&self.limits])
    }

    /// Whether the file sets a limit of `metric` for the workload or variant of `cell` by name: then it is expected to
    /// be measured.
    #[must_use]
    pub fn expects(&self, cell: &Cell, metric: MetricId) -> bool {
        let sets = |name: &str| {
            let set = self.workloads.get(name).and_then(|table| table.get(&metric));
            set.is_some_and(|o| [o.soft, o.hard].into_iter().flatten().any(|s| s.limit().is_some()))
        };
        sets(&cell.workload) || sets(&format!("{}/{}", cell.workload, cell.variant))
    }

    /// The workloads and variants that have limits of their own or of which a change is accepted, as the file names
    /// them, and the line of each, from 1: for the caller to check that they exist.
    pub fn named_workloads(&self) -> impl Iterator<Item = (&str, usize)> {
        let accepted = self.acceptances.iter().filter_map(|a| Some((a.named_workload()?, a.line)));
        self.workload_lines.iter().map(|(name, &line)| (name.as_str(), line)).chain(accepted)
    }
}

fn overridden<'a>(metric: MetricId, tables: impl IntoIterator<Item = &'a Overrides>) -> Limits {
    tables.into_iter().filter_map(|table| table.get(&metric)).fold(metric.metric().limits, |limits, o| Limits {
        soft: o.soft.map_or(limits.soft, Setting::limit),
        hard: o.hard.map_or(limits.hard, Setting::limit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("heapgate.toml")).unwrap()
    }

    #[test]
    fn without_a_file_the_catalogue_decides() {
        let config = Config::default();
        assert_eq!(config.limits_for(&testing::cell(0), MetricId::PeakRss), MetricId::PeakRss.metric().limits);
        assert_eq!(config.on_mismatch, OnMismatch::Inconclusive);
    }

    #[test]
    fn the_more_specific_table_wins_field_by_field() {
        let config = config(
            r#"
            [limits]
            peak_rss_bytes = { soft = "30%", hard = "1 GiB" }
            [workload."tokenize".limits]
            peak_rss_bytes = { hard = "500 MiB" }
            left_rss_bytes = { soft = "5%" }
            [workload."tokenize/hf-wordpiece".limits]
            peak_rss_bytes = { soft = false }
            left_rss_bytes = { soft = "2%" }
            "#,
        );
        let limits = |index| config.limits_for(&testing::cell(index), MetricId::PeakRss);
        let mib = 1_048_576.0;
        assert_eq!(limits(0), Limits { soft: None, hard: Some(500.0 * mib) });
        assert_eq!(limits(3), Limits { soft: Some(0.3), hard: Some(500.0 * mib) }, "another variant of tokenize");
        assert_eq!(limits(1), Limits { soft: Some(0.3), hard: Some(1024.0 * mib) }, "another workload");
        let left = |index| config.limits_for(&testing::cell(index), MetricId::LeftRss).soft;
        assert_eq!([left(0), left(3), left(1)], [Some(0.02), Some(0.05), Some(0.15)]);
    }

    #[test]
    fn a_limit_for_a_workload_by_name_expects_the_metric() {
        let config = config(
            "[limits]\nescaped_objects = { soft = \"0%\" }\n[workload.tokenize.limits]\nescaped_objects = { hard = 3 }\nleft_objects = { soft = false }",
        );
        assert!(config.expects(&testing::cell(0), MetricId::EscapedObjects));
        assert!(!config.expects(&testing::cell(0), MetricId::LeftObjects));
        assert!(!config.expects(&testing::cell(1), MetricId::EscapedObjects));
        assert_eq!(config.named_workloads().collect::<Vec<_>>(), [("tokenize", 3)]);
    }
}
