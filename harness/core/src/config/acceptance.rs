//! `[[accept]]`: a change for the worse that is known, and accepted for a time.

use std::path::Path;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::file::{At, metric_of};
use super::value::{BadValue, parse_soft};
use super::{Config, ConfigError, ConfigFault, Date};
use crate::metric::MetricId;
use crate::report::Cell;

/// Stands for all workloads.
const ALL_WORKLOADS: &str = "*";

/// One known change that is accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Acceptance {
    /// A workload, a variant as in `tokenize/hf-wordpiece`, or `*` for all.
    pub workload: String,
    /// The metric that got worse.
    pub metric: MetricId,
    /// The allocator's full name; absent for all.
    pub allocator: Option<String>,
    /// How much worse than the baseline it may be, as a fraction.
    pub up_to: f64,
    /// The last day on which it is accepted.
    pub until: Date,
    /// Why.
    pub reason: String,
    /// The line of the file it begins in, from 1.
    pub line: usize,
}

impl Acceptance {
    /// Whether it is about `metric` in `cell`.
    #[must_use]
    pub fn is_for(&self, cell: &Cell, metric: MetricId) -> bool {
        let workload = match self.workload.split_once('/') {
            Some((workload, variant)) => workload == cell.workload && variant == cell.variant,
            None => self.workload == ALL_WORKLOADS || self.workload == cell.workload,
        };
        workload && metric == self.metric && self.allocator.as_ref().is_none_or(|name| *name == cell.allocator)
    }

    /// The workload or variant it names; `None` where it is for all.
    #[must_use]
    pub fn named_workload(&self) -> Option<&str> {
        (self.workload != ALL_WORKLOADS).then_some(self.workload.as_str())
    }
}

impl Config {
    /// The changes that are accepted, in the order of the file.
    #[must_use]
    pub fn acceptances(&self) -> &[Acceptance] {
        &self.acceptances
    }

    /// Checks that no acceptance outlives a year from `today`: what is accepted for longer is no exception but another
    /// limit, and belongs to the limits.
    ///
    /// # Errors
    /// Naming the file and line of the first that does.
    pub fn check_dates(&self, today: Date) -> Result<(), ConfigError> {
        let latest = today.a_year_later();
        let too_far = self.acceptances.iter().find(|acceptance| acceptance.until > latest);
        too_far.map_or(Ok(()), |acceptance| {
            let path = self.source.as_deref().unwrap_or(Path::new(super::DEFAULT_FILE)).to_owned();
            let fault = ConfigFault::AcceptedTooLong { until: acceptance.until, today, latest };
            Err(ConfigError { path, line: Some(acceptance.line), fault })
        })
    }
}

/// `[[accept]]` as it stands in the file. What has to be there is optional here, so that what is missing can be said
/// with what it is for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    workload: Option<Spanned<String>>,
    metric: Option<Spanned<String>>,
    up_to: Option<Spanned<Value>>,
    until: Option<Spanned<Value>>,
    reason: Option<Spanned<String>>,
    allocator: Option<String>,
}

/// The acceptance that `entry` stands for; `line_of` gives the line of an offset.
pub(super) fn read(entry: Spanned<Entry>, line_of: impl Fn(usize) -> usize) -> Result<Acceptance, At> {
    let start = entry.span().start;
    let entry = entry.into_inner();
    let missing = |key, hint| At { offset: Some(start), fault: ConfigFault::AcceptLacks { key, hint } };
    let workload =
        entry.workload.ok_or_else(|| missing("workload", "name a workload, a variant, or \"*\" for all"))?.into_inner();
    let name = entry.metric.ok_or_else(|| missing("metric", "`heapgate list metrics` shows them all"))?;
    let metric = metric_of(&name)?;
    let up_to = entry.up_to.ok_or_else(|| missing("up_to", "say how much worse it may be, as in up_to = \"12%\""))?;
    let until = entry.until.ok_or_else(|| missing("until", "say until when, as in until = \"2026-12-31\""))?;
    let reason = entry.reason.ok_or_else(|| missing("reason", "say why, for whoever reads the verdict"))?;
    if reason.get_ref().trim().is_empty() {
        return Err(missing("reason", "say why, for whoever reads the verdict"));
    }
    Ok(Acceptance {
        workload,
        metric,
        allocator: entry.allocator,
        up_to: value("up_to", up_to, size)?,
        until: value("until", until, |text| text.parse())?,
        reason: reason.into_inner(),
        line: line_of(start),
    })
}

/// What `parse` makes of the text of `value`.
fn value<T>(key: &'static str, value: Spanned<Value>, parse: impl Fn(&str) -> Result<T, BadValue>) -> Result<T, At> {
    let text = match value.get_ref() {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse(&text).map_err(|source| At { offset: Some(value.span().start), fault: ConfigFault::Accept { key, source } })
}

/// The size of a change: a percentage above 0.
fn size(text: &str) -> Result<f64, BadValue> {
    match parse_soft(text) {
        Ok(size) if size > 0.0 => Ok(size),
        Ok(_) => Err(BadValue(format!("'{text}' accepts nothing; write a percentage such as \"12%\""))),
        Err(_) => Err(BadValue(format!("'{text}' is no size of a change; write a percentage such as \"12%\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    const WHOLE: &str = "[[accept]]\nworkload = \"tokenize\"\nmetric = \"peak_rss_bytes\"\nup_to = \"12%\"\nuntil = \"2026-12-31\"\nreason = \"larger vocabulary\"\n";

    fn parsed(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("heapgate.toml"))
    }

    #[test]
    fn an_acceptance_is_read_with_its_line() {
        let config = parsed(&format!("reps = 3\n\n{WHOLE}")).unwrap();
        let [acceptance] = config.acceptances() else { panic!("one") };
        assert_eq!((acceptance.up_to, acceptance.until.to_string().as_str(), acceptance.line), (0.12, "2026-12-31", 3));
        assert_eq!(config.named_workloads().collect::<Vec<_>>(), [("tokenize", 3)]);
    }

    #[test]
    fn a_date_may_stand_without_quotes() {
        let config = parsed(&WHOLE.replace("\"2026-12-31\"", "2026-12-31")).unwrap();
        assert_eq!(config.acceptances()[0].until.to_string(), "2026-12-31");
    }

    #[test]
    fn what_is_missing_is_told_with_the_line_of_the_entry() {
        for key in ["workload", "metric", "up_to", "until", "reason"] {
            let without: String = WHOLE.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect();
            let error = parsed(&format!("\n{without}")).unwrap_err();
            assert!(error.to_string().starts_with(&format!("heapgate.toml:2: [[accept]] lacks {key}; ")), "{error}");
        }
        let empty = parsed(&WHOLE.replace("larger vocabulary", " ")).unwrap_err();
        assert!(empty.to_string().contains("lacks reason"), "{empty}");
    }

    #[test]
    fn values_that_make_no_sense_are_told_with_their_line() {
        for (from, to, line, words) in [
            ("12%", "12", 4, "no size of a change"),
            ("\"12%\"", "0.12", 4, "no size of a change"),
            ("12%", "0%", 4, "accepts nothing"),
            ("12%", "-3%", 4, "no size of a change"),
            ("2026-12-31", "2026-02-30", 5, "there is no such day"),
            ("2026-12-31", "soon", 5, "no date"),
            ("peak_rss_bytes", "peak_rss_byte", 3, "did you mean peak_rss_bytes?"),
            ("reason", "raeson", 6, "unknown field `raeson`"),
        ] {
            let error = parsed(&WHOLE.replace(from, to)).unwrap_err();
            assert!(error.line == Some(line) && error.to_string().contains(words), "{to}: {error}");
        }
    }

    #[test]
    fn more_than_a_year_ahead_is_a_limit_and_no_exception() {
        let config = parsed(WHOLE).unwrap();
        config.check_dates("2025-12-31".parse().unwrap()).unwrap();
        let error = config.check_dates("2025-12-30".parse().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("heapgate.toml:1: "), "{error}");
        assert!(error.contains("a limit to change, not an exception") && error.contains("2025-12-30"), "{error}");
    }

    #[test]
    fn it_is_for_the_cells_it_names() {
        let acceptance = |workload: &str, more: &str| {
            let text = WHOLE.replace("tokenize", workload) + more;
            parsed(&text).unwrap().acceptances()[0].clone()
        };
        let is_for =
            |workload, more, index| acceptance(workload, more).is_for(&testing::cell(index), MetricId::PeakRss);
        assert!(is_for("*", "", 0) && is_for("*", "", 1));
        assert!(is_for("tokenize", "", 0) && !is_for("tokenize", "", 1));
        assert!(is_for("tokenize/hf-wordpiece", "", 0) && !is_for("tokenize/hf-wordpiece", "", 3));
        assert!(is_for("*", "allocator = \"jemalloc\"", 0) && !is_for("*", "allocator = \"system\"", 0));
        assert!(!acceptance("*", "").is_for(&testing::cell(0), MetricId::LeftRss));
    }
}
