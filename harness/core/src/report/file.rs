//! Reports on disk.

use std::path::{Path, PathBuf};

use super::{Fault, Report, SCHEMA_VERSION, check};
use crate::document::{self, Document, LoadError, LoadFault};
use crate::files::{self, WriteError};

/// Down to here a report has one member a line: a trial's fields, but not their insides.
const LINES_TO_DEPTH: usize = 3;

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its content cannot be true, so no reader would take it: a bug where it was made.
    #[error("refusing to write a report that cannot be true: {0}")]
    Invalid(#[from] Fault),
    /// It could not be made JSON.
    #[error("cannot turn the report into JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Where the trials of a run are until it has ended, whose report is to be at `path`: beside it, so that one can be
/// moved over the other.
#[must_use]
pub fn partial_path(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    partial.into()
}

impl Report {
    /// Writes the report to `path`, whole or not at all.
    ///
    /// # Errors
    /// If the file can't be written, or the report wouldn't be read again (see [`check`]).
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        Ok(files::atomic_write(path, self.to_text()?.as_bytes())?)
    }

    /// The text that [`Report::save`] writes.
    ///
    /// # Errors
    /// If the report wouldn't be read again (see [`check`]).
    pub fn to_text(&self) -> Result<String, SaveError> {
        check(self)?;
        Ok(document::to_json(self, LINES_TO_DEPTH)?)
    }

    /// Reads the report at `path`. Nothing is taken on trust: see [`check`].
    ///
    /// # Errors
    /// One for each thing that may be wrong with it: see [`LoadFault`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let loaded = document::read(path).and_then(|bytes| Self::parse(&bytes)).map_err(|fault| {
            let partial = partial_path(path);
            if matches!(fault, LoadFault::Missing) && partial.is_file() {
                LoadFault::Unfinished { partial }
            } else {
                fault
            }
        });
        loaded.map_err(|fault| LoadError { document: Document::Report, path: path.to_owned(), fault })
    }

    /// The report in `bytes`.
    ///
    /// # Errors
    /// As [`Report::load`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadFault> {
        let report: Self = document::parse(bytes, SCHEMA_VERSION)
            .map_err(|fault| document::explained(fault, bytes, Document::Report))?;
        check(&report).map_err(|fault| LoadFault::Invalid(Box::new(fault)))?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::gate::compare;
    use crate::metric::MetricId;
    use crate::render::{Options, markdown, run, terminal};
    use crate::report::testing;

    fn text() -> String {
        document::to_json(&testing::report(2, 2), LINES_TO_DEPTH).unwrap()
    }

    fn fault(text: &str) -> LoadFault {
        Report::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = testing::report(3, 2);
        report.save(&path).unwrap();
        assert!(testing::same_json(&Report::load(&path).unwrap(), &report));
    }

    #[test]
    fn a_missing_file_an_empty_file_and_a_folder_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let error = Report::load(&path).unwrap_err();
        assert!(matches!(error.fault, LoadFault::Missing), "{error}");
        std::fs::write(partial_path(&path), "").unwrap();
        let error = Report::load(&path).unwrap_err();
        assert!(error.to_string().contains("report.json.partial; name that"), "{error}");
        std::fs::write(&path, " \n").unwrap();
        let error = Report::load(&path).unwrap_err();
        assert!(matches!(error.fault, LoadFault::Empty), "{error}");
        let error = Report::load(folder.path()).unwrap_err();
        assert!(matches!(error.fault, LoadFault::Unreadable(_)), "{error}");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error_and_says_so() {
        let text = text();
        let end = text.trim_end().len();
        for length in (1..end).step_by(7).chain([end - 1]) {
            let fault = fault(&text[..length]);
            assert!(matches!(fault, LoadFault::Truncated { .. }), "{length}: {fault}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_told_with_its_place() {
        let fault = fault(&text().replace("\"seed\": ", "\"seed\"; "));
        assert!(matches!(fault, LoadFault::NotJson { line: 4, .. }), "{fault}");
    }

    #[test]
    fn other_json_is_told_with_its_place() {
        for other in ["[]", "{}", "3", "{\"schema_version\": 1}"] {
            assert!(matches!(fault(other), LoadFault::WrongShape { .. }), "{other}");
        }
        let fault = fault(&text().replace("\"seed\"", "\"sead\""));
        assert!(matches!(&fault, LoadFault::WrongShape { reason, .. } if reason.contains("sead")), "{fault}");
    }

    #[test]
    fn other_schema_versions_name_the_heapgate_that_wrote_them() {
        let written = text().replacen("\"heapgate\": \"0.1.0\"", "\"heapgate\": \"9.9.9\"", 1);
        let newer = fault(&written.replacen("\"schema_version\": 1", "\"schema_version\": 2, \"new\": 1", 1));
        assert!(matches!(&newer, LoadFault::Newer { found: 2, heapgate, .. } if heapgate == "9.9.9"), "{newer}");
        let older = fault(&written.replacen("\"schema_version\": 1", "\"schema_version\": 0", 1));
        assert!(matches!(older, LoadFault::Older { found: 0, .. }), "{older}");
    }

    #[test]
    fn nan_and_infinity_are_refused_before_they_are_written() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut report = testing::report(1, 1);
            report.trials[0].wall_s = bad;
            let error = report.save(Path::new("/nonexistent/never-written")).unwrap_err();
            assert!(matches!(error, SaveError::Invalid(Fault::NotFinite { .. })), "{error}");
        }
        assert!(matches!(
            fault(&text().replacen("\"wall_s\": ", "\"wall_s\": 1e999, \"x\": ", 1)),
            LoadFault::NotJson { .. }
        ));
    }

    #[test]
    fn an_edited_figure_is_noticed() {
        let mut report = testing::report(1, 1);
        report.trials[0].metrics.insert(MetricId::AllocationsPerUnit, 1.0);
        let text = document::to_json(&report, LINES_TO_DEPTH).unwrap();
        let fault = fault(&text);
        assert!(matches!(&fault, LoadFault::Invalid(f) if matches!(**f, Fault::MetricDiffers { .. })), "{fault}");
        assert!(fault.to_string().contains("allocations_per_unit"), "{fault}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_read_can_be_judged_and_shown(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..10), 1..3),
        ) {
            static TEXT: LazyLock<String> = LazyLock::new(text);
            let mut bytes = TEXT.clone().into_bytes();
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            for (place, digit) in edits {
                bytes[digits[place.index(digits.len())]] = b'0' + digit;
            }
            if let Ok(report) = Report::parse(&bytes) {
                let verdict = compare(&report, &testing::report(2, 2), &Config::default(), crate::gate::Look::ONLY);
                let options = Options { verbose: true, ..Options::default() };
                prop_assert!(!terminal::render(&report, &verdict, options).is_empty());
                prop_assert!(!markdown::render(&report, &verdict).is_empty());
                prop_assert!(!run::render(&report, options).is_empty());
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(place in any::<prop::sample::Index>(), mask in 1u8..=255) {
            static TEXT: LazyLock<String> = LazyLock::new(text);
            let mut bytes = TEXT.clone().into_bytes();
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
            let _ = Report::parse(&bytes);
        }
    }
}
