//! Reads an exposition in Prometheus's text format, and holds what must be true of any. Shared with the tests of
//! `examples/service`.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fmt;

use heapgate_prometheus::catalogue::{self, Kind, MetricId, PROCESS_LABELS};
use heapgate_prometheus::stalls::BOUNDS_S;

mod promtool;
pub use promtool::promtool;

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Everything that was scraped at once.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    /// Of each family: its type, and whether it has help.
    pub families: BTreeMap<String, (String, bool)>,
    pub series: Vec<Series>,
}

impl Exposition {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("help after the name");
                found.families.entry(name.to_owned()).or_default().1 = !help.is_empty();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type after the name");
                found.families.entry(name.to_owned()).or_default().0 = kind.to_owned();
            } else {
                found.series.push(series(line));
            }
        }
        found
    }

    /// The family that a series is of.
    pub fn family<'a>(&'a self, series: &'a Series) -> Option<(&'a str, &'a str)> {
        let names = ["", "_bucket", "_sum", "_count"].map(|suffix| series.name.strip_suffix(suffix));
        names.into_iter().flatten().find_map(|name| Some((name, self.families.get(name)?.0.as_str())))
    }

    /// The sum of all series of that name that have those labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|series| series.value).sum()
    }

    /// The one series of that name that has those labels.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut matching = self.matching(name, labels);
        let first = matching.next().unwrap_or_else(|| panic!("no {name} with {labels:?}"));
        assert_eq!(matching.next(), None, "{name} with {labels:?}");
        first.value
    }

    pub fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Series> {
        let has =
            |series: &Series| labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|v| v == value));
        self.series.iter().filter(move |series| series.name == name && has(series))
    }

    /// Holds what is true of everything that heapgate exports.
    #[track_caller]
    pub fn check(&self) {
        for series in self.series.iter().filter(|series| series.name.starts_with("heapgate_")) {
            let (name, kind) = self.family(series).unwrap_or_else(|| panic!("{series} has no type"));
            assert!(self.families[name].1, "{name} has no help");
            let metric = catalogue::ALL.iter().map(|id| id.metric()).find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
            assert_eq!(kind, metric.kind.name(), "{name}");
            assert!(series.value.is_finite(), "{series}");
            for label in series.labels.keys() {
                let known = PROCESS_LABELS.iter().any(|(name, _)| name == label)
                    || metric.labels.iter().any(|l| l.name == label)
                    || (metric.kind == Kind::Histogram && label == "le");
                assert!(known, "{series}: the catalogue has no label {label}");
            }
        }
        self.check_stalls();
    }

    #[track_caller]
    fn check_stalls(&self) {
        let name = MetricId::Stalls.metric().name;
        let counts: Vec<_> = self.series.iter().filter(|series| series.name == format!("{name}_count")).collect();
        for count in counts {
            let labels: Vec<_> = count.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let bucket = format!("{name}_bucket");
            let buckets: Vec<_> = self.matching(&bucket, &labels).collect();
            assert_eq!(buckets.len(), BOUNDS_S.len() + 1, "{count}");
            assert!(buckets.is_sorted_by(|a, b| a.value <= b.value), "{count}: {buckets:?}");
            let last = buckets.last().expect("buckets");
            assert_eq!((last.labels["le"].as_str(), last.value), ("+Inf", count.value), "{count}");
            let sum = self.value(&format!("{name}_sum"), &labels);
            assert!(sum >= 0.0 && (sum > 0.0) == (count.value > 0.0), "{count}: the sum is {sum} s");
        }
    }

    /// Holds that nothing that only grows is less than in `earlier`, or gone.
    #[track_caller]
    pub fn check_since(&self, earlier: &Self) {
        for before in &earlier.series {
            let grows = earlier.family(before).is_some_and(|(_, kind)| kind == "counter" || kind == "histogram");
            if grows {
                let now =
                    self.series.iter().find(|series| series.name == before.name && series.labels == before.labels);
                assert!(now.is_some_and(|now| now.value >= before.value), "{before} was followed by {now:?}");
            }
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?} {}", self.name, self.labels, self.value)
    }
}

fn series(line: &str) -> Series {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
    // No value of a label in these tests has a quote or a comma in it.
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no closing brace: {line}"));
    let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    Series {
        name: name.to_owned(),
        labels: pairs.collect(),
        value: value.parse().unwrap_or_else(|_| panic!("no number: {line}")),
    }
}
