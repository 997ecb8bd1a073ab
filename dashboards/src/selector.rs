//! Series, as PromQL selects them.

use std::fmt;

use heapgate_core::export::RunFamily;
use heapgate_core::metric;
use heapgate_prometheus::catalogue::{Kind, MetricId};

/// The series of one metric, narrowed by their labels.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    name: String,
    matchers: Vec<String>,
}

/// A live metric. Of a histogram take a part: [`Selector::bucket`], `count` or `sum`.
pub(crate) fn live(id: MetricId) -> Selector {
    Selector { name: id.metric().name.to_owned(), matchers: Vec::new() }
}

/// The buckets of a live histogram.
pub(crate) fn buckets(id: MetricId) -> Selector {
    part(id, "_bucket")
}

/// How often a live histogram was told something.
pub(crate) fn count(id: MetricId) -> Selector {
    part(id, "_count")
}

/// The sum of what a live histogram was told.
pub(crate) fn sum(id: MetricId) -> Selector {
    part(id, "_sum")
}

fn part(id: MetricId, part: &str) -> Selector {
    let metric = id.metric();
    assert_eq!(metric.kind, Kind::Histogram, "{} has no {part}", metric.name);
    Selector { name: format!("{}{part}", metric.name), matchers: Vec::new() }
}

/// A metric of runs.
pub(crate) fn run(id: metric::MetricId) -> Selector {
    named(id.metric().prometheus)
}

/// What a run says beside its metrics.
pub(crate) fn run_family(family: &RunFamily) -> Selector {
    named(family.name)
}

/// Series that are in no catalogue: of our own recording rules, and Prometheus's own.
pub(crate) fn named(name: &str) -> Selector {
    Selector { name: name.to_owned(), matchers: Vec::new() }
}

impl Selector {
    /// Those whose `label` is `value`.
    pub(crate) fn with(self, label: &str, value: &str) -> Self {
        self.matcher(format!("{label}=\"{value}\""))
    }

    /// Those whose `label` matches `pattern`.
    pub(crate) fn matching(self, label: &str, pattern: &str) -> Self {
        self.matcher(format!("{label}=~\"{pattern}\""))
    }

    /// Those whose `label` isn't `value`.
    pub(crate) fn without(self, label: &str, value: &str) -> Self {
        self.matcher(format!("{label}!=\"{value}\""))
    }

    /// The bucket of a histogram up to `seconds`. Prometheus 3 writes whole numbers with a fraction, earlier ones without.
    pub(crate) fn up_to(self, seconds: f64) -> Self {
        if seconds.fract() == 0.0 {
            self.matching("le", &format!(r"{seconds}(\\.0)?"))
        } else {
            self.with("le", &seconds.to_string())
        }
    }

    fn matcher(mut self, matcher: String) -> Self {
        self.matchers.push(matcher);
        self
    }

    /// Their increase a second over `window`.
    pub(crate) fn rate(&self, window: &str) -> String {
        format!("rate({self}[{window}])")
    }

    /// Their increase over `window`.
    pub(crate) fn increase(&self, window: &str) -> String {
        format!("increase({self}[{window}])")
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.matchers.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", self.matchers.join(","))
    }
}
