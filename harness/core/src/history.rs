//! The history of runs as plain data: what a store gives, and what the gate and the pictures take. No database here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::metric::MetricId;
use crate::report::Cell;
use crate::stats::sample;

/// Where the history is kept if nobody says: beside the report of the last run.
pub const DEFAULT_FILE: &str = ".heapgate/history.sqlite";

/// Where the history is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Off,
    /// In a file of SQLite.
    Sqlite(PathBuf),
    /// In a PostgreSQL server, by its URL. Shown without its password.
    Postgres(String),
}

/// A place of a history that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no store; give a file, postgres://USER@HOST/DATABASE, or none")]
pub struct BadPlace(String);

impl Default for Place {
    fn default() -> Self {
        Self::Sqlite(DEFAULT_FILE.into())
    }
}

impl Place {
    /// The place that `text` names: `none`, a URL of PostgreSQL, or a file; a relative one is taken from `folder`.
    ///
    /// ```
    /// use heapgate_core::history::Place;
    /// let team = Place::parse("postgres://ci:secret@db.example/perf", "".as_ref()).unwrap();
    /// assert_eq!(team.to_string(), "postgres://ci@db.example/perf");
    /// assert!(Place::parse("mysql://db.example/perf", "".as_ref()).is_err());
    /// ```
    ///
    /// # Errors
    /// For a URL of anything else, and for nothing.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, BadPlace> {
        match text.split_once("://") {
            _ if text == "none" => Ok(Self::Off),
            _ if text.is_empty() => Err(BadPlace(String::new())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some(_) => Err(BadPlace(without_password(text))),
            None => Ok(Self::Sqlite(folder.join(text))),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("none"),
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

/// `url` without password and without parameters, one of which may be a password too.
fn without_password(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may hold an `@`, or a `/` that its writer forgot to encode: all up to the last `@` is taken for it.
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}

/// One run in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunInfo {
    /// Its place in the order in which runs were appended. History goes by this, not by a clock that may jump.
    pub sequence: u64,
    /// What its report is known by: the same for the same report.
    pub id: String,
    /// When it began by the clock of its machine, seconds since 1970 (UTC).
    pub unix_s: u64,
    /// Commit of the source tree, with `+` where it had changes; empty where there is no git.
    pub commit: String,
    /// Class of its machine.
    pub class: String,
}

/// The last runs of a machine class: a baseline, and the noise from run to run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// All runs that gave a figure, in order.
    pub runs: Vec<RunInfo>,
    /// The numbers of the runs that had the cell, in order.
    pub sequences: BTreeMap<Cell, Vec<u64>>,
    /// The medians of the runs that had the cell, in order. Not every run has every cell or metric, so lists may differ
    /// in length.
    pub cells: BTreeMap<Cell, BTreeMap<MetricId, Vec<f64>>>,
    /// The values of the repetitions that the medians are of.
    pub repetitions: BTreeMap<Cell, BTreeMap<MetricId, Vec<Vec<f64>>>>,
}

/// What one run gave for one metric of one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesPoint {
    /// The run.
    #[serde(flatten)]
    pub run: RunInfo,
    /// Median of its repetitions.
    pub median: f64,
    /// The least of them.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many there were.
    pub reps: u32,
}

/// One metric of one cell over all runs on one class of machines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The cell.
    pub cell: Cell,
    /// How much the telemetry recorded: another level is another series, since it costs another time.
    pub level: String,
    /// The unit of work.
    pub unit: String,
    /// Class of the machines.
    pub class: String,
    /// The metric.
    #[serde(serialize_with = "name")]
    pub metric: MetricId,
    /// One for each run, in order.
    pub points: Vec<SeriesPoint>,
    /// Where the series changed its level.
    pub changes: Vec<Change>,
}

fn name<S: Serializer>(metric: &MetricId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(metric.metric().name)
}

/// Where a series changed its level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// Index of the first point of the new level.
    pub index: usize,
    /// Median of the level before.
    pub before: f64,
    /// Median of the new level.
    pub after: f64,
}

impl Change {
    /// The change as a fraction of the level before; `None` if that was 0.
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        (self.before != 0.0).then(|| (self.after - self.before) / self.before)
    }
}

/// Neighbouring points that a picture shows as one, because it has no room for more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Index of the first point.
    pub first: usize,
    /// Index of the last.
    pub last: usize,
    /// Median of their medians.
    pub median: f64,
    /// Least value of any repetition.
    pub min: f64,
    /// Greatest value of any repetition.
    pub max: f64,
}

impl Series {
    /// The medians, in order.
    #[must_use]
    pub fn medians(&self) -> Vec<f64> {
        self.points.iter().map(|p| p.median).collect()
    }

    /// Marks the changes: `firsts` are the indices at which a new level begins.
    pub fn mark(&mut self, firsts: &[usize]) {
        let medians = self.medians();
        let mut bounds: Vec<usize> = firsts.iter().copied().filter(|&i| i > 0 && i < medians.len()).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let starts: Vec<usize> = std::iter::once(0).chain(bounds.iter().copied()).collect();
        let ends: Vec<usize> = bounds.iter().copied().chain([medians.len()]).collect();
        let levels: Vec<f64> =
            starts.iter().zip(&ends).filter_map(|(&start, &end)| sample::median(&medians[start..end])).collect();
        let pairs = bounds.into_iter().zip(levels.windows(2));
        self.changes = pairs.map(|(index, pair)| Change { index, before: pair[0], after: pair[1] }).collect();
    }

    /// Indices of the points whose clock is behind that of the point before: there a clock jumped, or runs were
    /// appended later than they ran.
    #[must_use]
    pub fn clock_jumps(&self) -> Vec<usize> {
        (1..self.points.len()).filter(|&i| self.points[i].run.unix_s < self.points[i - 1].run.unix_s).collect()
    }

    /// All points in at most `most` bins of about one size.
    #[must_use]
    pub fn bins(&self, most: usize) -> Vec<Bin> {
        let count = self.points.len();
        let bins = count.min(most.max(1));
        let bin = |index: usize| {
            let (first, end) = (index * count / bins, (index + 1) * count / bins);
            let points = &self.points[first..end];
            let medians: Vec<f64> = points.iter().map(|p| p.median).collect();
            Some(Bin {
                first,
                last: end - 1,
                median: sample::median(&medians)?,
                min: points.iter().map(|p| p.min).fold(f64::INFINITY, f64::min),
                max: points.iter().map(|p| p.max).fold(f64::NEG_INFINITY, f64::max),
            })
        };
        (0..bins).filter_map(bin).collect()
    }
}

/// Series for tests of the pictures: see `report::testing`.
#[doc(hidden)]
pub mod testing {
    use super::*;
    use crate::report;

    /// A series of peak RSS with these medians, a day apart.
    #[must_use]
    pub fn series(medians: &[f64]) -> Series {
        let point = |(index, &median): (usize, &f64)| SeriesPoint {
            run: RunInfo {
                sequence: index as u64 + 1,
                id: format!("{index:032x}"),
                unix_s: 1_760_000_000 + index as u64 * 86_400,
                commit: format!("{:07x}", 0xabc_0000 + index),
                class: "x86_64-xeon-2c-24g-e6b2b6".into(),
            },
            median,
            min: median * 0.995,
            max: median * 1.01,
            reps: 5,
        };
        Series {
            cell: report::testing::cell(0),
            level: "exact".into(),
            unit: "token".into(),
            class: "x86_64-xeon-2c-24g-e6b2b6".into(),
            metric: MetricId::PeakRss,
            points: medians.iter().enumerate().map(point).collect(),
            changes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::series;
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text, Path::new("folder")).unwrap()
    }

    #[test]
    fn places_are_files_servers_or_none() {
        assert_eq!(place("none"), Place::Off);
        assert_eq!(place("kept/h.sqlite"), Place::Sqlite("folder/kept/h.sqlite".into()));
        assert_eq!(place("/h.sqlite"), Place::Sqlite("/h.sqlite".into()));
        assert!(matches!(place("postgresql://h/d"), Place::Postgres(_)));
        for bad in ["mysql://h/d", "postgre://h/d", ""] {
            assert!(Place::parse(bad, Path::new("")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://ci:hush@db:5433/perf",
            "postgres://ci:hu@sh@db:5433/perf",
            "postgres://ci:hu/hush@db:5433/perf",
            "postgres://ci@db:5433/perf?password=hush",
        ] {
            assert_eq!(place(url).to_string(), "postgres://ci@db:5433/perf");
        }
        let wrong = Place::parse("mysql://ci:hush@db", Path::new("")).unwrap_err().to_string();
        assert!(!wrong.contains("hush"), "{wrong}");
    }

    #[test]
    fn a_change_has_the_levels_on_both_sides_of_it() {
        let mut series = series(&[10.0, 11.0, 10.0, 20.0, 21.0, 20.0, 5.0]);
        series.mark(&[6, 3, 3, 0, 99]);
        let expected = [Change { index: 3, before: 10.0, after: 20.0 }, Change { index: 6, before: 20.0, after: 5.0 }];
        assert_eq!(series.changes, expected);
        assert_eq!(series.changes[0].fraction(), Some(1.0));
        assert_eq!(Change { index: 1, before: 0.0, after: 1.0 }.fraction(), None);
    }

    #[test]
    fn a_clock_that_goes_back_is_noticed_and_reorders_nothing() {
        let mut series = series(&[1.0, 2.0, 3.0, 4.0]);
        series.points[2].run.unix_s = 5;
        assert_eq!(series.clock_jumps(), [2]);
        assert_eq!(series.medians(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn bins_hold_every_point_once_and_keep_the_extremes() {
        let medians: Vec<f64> = (0..1003).map(f64::from).collect();
        let series = series(&medians);
        let bins = series.bins(64);
        assert_eq!(bins.len(), 64);
        assert_eq!((bins[0].first, bins[63].last), (0, 1002));
        assert!(bins.windows(2).all(|pair| pair[0].last + 1 == pair[1].first));
        assert!((bins[63].max - 1002.0 * 1.01).abs() < 1e-9);
        assert_eq!(super::testing::series(&[7.0, 8.0]).bins(64).len(), 2);
        assert!(super::testing::series(&[]).bins(64).is_empty());
    }
}
