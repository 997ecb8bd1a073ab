//! Baselines on disk: `FOLDER/CLASS/WORKLOAD.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{BASELINE_SCHEMA_VERSION, Baseline, content_hash};
use crate::document::{self, Document, LoadError, LoadFault};
use crate::files::{self, WriteError};
use crate::metric::{MetricId, Unit};
use crate::report::{Fault, check_histogram, finite, measured};

/// Down to here a baseline has one member a line: one line for each metric, and for each operation's stalls.
const LINES_TO_DEPTH: usize = 4;

/// Why a baseline was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BaselineSaveError {
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its content cannot be true, so it would never be loaded.
    #[error("refusing to store a baseline that cannot be true: {0}")]
    Invalid(#[from] Fault),
}

impl Baseline {
    /// Where this baseline is stored under `folder`.
    #[must_use]
    pub fn path_in(&self, folder: &Path) -> PathBuf {
        path(folder, &self.class(), &self.workload)
    }

    /// Stores it under `folder`, whole or not at all, in the place of the one that was there, and returns the path.
    ///
    /// # Errors
    /// If the file can't be written, or would not be loaded again.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, BaselineSaveError> {
        check(self)?;
        let path = self.path_in(folder);
        if let Some(class_folder) = path.parent() {
            files::make_folder(class_folder)?;
        }
        let mut sealed = self.clone();
        sealed.content_hash = self.computed_hash();
        files::atomic_write(&path, sealed.text().as_bytes())?;
        Ok(path)
    }

    /// Loads the baseline of `workload` for machines of `class` under `folder`.
    ///
    /// # Errors
    /// One for each thing that may be wrong with it: see [`LoadFault`]. There is no way to load a part of one.
    pub fn load(folder: &Path, class: &str, workload: &str) -> Result<Self, LoadError> {
        let path = path(folder, class, workload);
        let loaded = document::read(&path).and_then(|bytes| Self::parse(&bytes)).and_then(|baseline| {
            let (path_says, content_says) =
                (format!("{class}/{workload}"), format!("{}/{}", baseline.class(), baseline.workload));
            if path_says == content_says { Ok(baseline) } else { Err(LoadFault::Misplaced { path_says, content_says }) }
        });
        loaded.map_err(|fault| LoadError { document: Document::Baseline, path, fault })
    }

    /// The baseline in `bytes`.
    ///
    /// # Errors
    /// As [`Baseline::load`], but for the place.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadFault> {
        let baseline: Self = document::parse(bytes, BASELINE_SCHEMA_VERSION)
            .map_err(|fault| document::explained(fault, bytes, Document::Baseline))?;
        let computed = std::str::from_utf8(bytes).ok().and_then(content_hash::of).unwrap_or_default();
        if computed != baseline.content_hash {
            return Err(LoadFault::Edited { stored: baseline.content_hash, computed });
        }
        check(&baseline).map_err(|fault| LoadFault::Invalid(Box::new(fault)))?;
        Ok(baseline)
    }

    /// The hash that belongs into `content_hash`.
    pub(super) fn computed_hash(&self) -> String {
        content_hash::of(&self.text()).unwrap_or_default()
    }

    fn text(&self) -> String {
        // Plain structs with string keys always have a JSON form.
        document::to_json(self, LINES_TO_DEPTH).unwrap_or_default()
    }
}

pub(super) fn path(folder: &Path, class: &str, workload: &str) -> PathBuf {
    folder.join(class).join(format!("{workload}.json"))
}

/// Checks that `baseline` can be true.
fn check(baseline: &Baseline) -> Result<(), Fault> {
    if baseline.schema_version != BASELINE_SCHEMA_VERSION {
        return Err(Fault::Version { found: baseline.schema_version, expected: BASELINE_SCHEMA_VERSION });
    }
    if baseline.cells.is_empty() {
        return Err(Fault::NoValues { place: format!("baseline of {}", baseline.workload) });
    }
    let mut seen = BTreeSet::new();
    for cell in &baseline.cells {
        let place = cell.cell.to_string();
        if cell.cell.workload != baseline.workload {
            let (found, expected) = (cell.cell.workload.clone(), baseline.workload.clone());
            return Err(Fault::OtherWorkload { place, found, expected });
        }
        if !seen.insert(&cell.cell) {
            return Err(Fault::Duplicate { place });
        }
        if cell.metrics.is_empty() {
            return Err(Fault::NoValues { place });
        }
        measured(&place, "ticks_per_second", cell.ticks_per_second)?;
        for stalls in &cell.stalls {
            check_histogram(&place, "clean stalls", &stalls.clean)?;
            check_histogram(&place, "interrupted stalls", &stalls.interrupted)?;
        }
        for &part in cell.memory.values().flatten() {
            finite(&place, "memory", part)?;
        }
        for (&metric, values) in &cell.metrics {
            if values.is_empty() {
                return Err(Fault::NoValues { place: format!("{place}: {metric}") });
            }
            for &value in values {
                if may_be_negative(metric) {
                    finite(&place, metric.metric().name, value)?
                } else {
                    measured(&place, metric.metric().name, value)?
                }
            }
        }
    }
    Ok(())
}

/// Live figures count from the telemetry's start, so frees of older objects may take them below zero; the fragmentation
/// is a difference of two figures that are not taken at one instant.
fn may_be_negative(metric: MetricId) -> bool {
    use MetricId::{LeftBytes, LeftObjects, PeakLiveBytes, PeakLiveObjects};
    metric.metric().unit == Unit::Share || matches!(metric, LeftObjects | LeftBytes | PeakLiveObjects | PeakLiveBytes)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::baseline::Recording;
    use crate::report::testing;

    fn baseline() -> Baseline {
        Baseline::from_report(
            &testing::report(1, 3),
            "tokenize",
            Recording { by: "a test".into(), ..Recording::default() },
        )
        .unwrap()
    }

    fn sealed(change: impl FnOnce(&mut Baseline)) -> String {
        let mut baseline = baseline();
        change(&mut baseline);
        baseline.content_hash = baseline.computed_hash();
        baseline.text()
    }

    #[test]
    fn a_baseline_is_loaded_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = baseline().save(folder.path()).unwrap();
        assert!(path.ends_with(format!("{}/tokenize.json", baseline().class())));
        let loaded = Baseline::load(folder.path(), &baseline().class(), "tokenize").unwrap();
        assert!(testing::same_json(&loaded, &baseline()));
    }

    #[test]
    fn each_metric_has_one_line() {
        let text = baseline().text();
        assert!(text.contains("\n        \"allocations_per_unit\": [20.0,20.0,20.0],\n"), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_edit_is_noticed_and_the_way_out_named() {
        let text = baseline().text().replace("[20.0,20.0,20.0]", "[20.0,20.0,25.0]");
        let fault = Baseline::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(fault, LoadFault::Edited { .. }), "{fault}");
        let error = LoadError { document: Document::Baseline, path: "b.json".into(), fault };
        assert!(error.to_string().ends_with("record it again with `heapgate baseline record`"), "{error}");
    }

    #[test]
    fn a_report_in_its_place_is_told_as_one_whatever_its_version() {
        let report = serde_json::to_string(&testing::report(1, 1)).unwrap();
        for text in [report.clone(), report.replacen("\"schema_version\":1", "\"schema_version\":99", 1)] {
            let fault = Baseline::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(fault, LoadFault::OtherDocument { found: Document::Report }), "{fault}");
        }
        let fault = crate::report::Report::parse(baseline().text().as_bytes()).unwrap_err();
        assert!(matches!(fault, LoadFault::OtherDocument { found: Document::Baseline }), "{fault}");
    }

    #[test]
    fn indentation_may_change() {
        let text = baseline().text().replace("  ", "\t").replace('\n', "\r\n");
        assert!(testing::same_json(&Baseline::parse(text.as_bytes()).unwrap(), &baseline()));
    }

    #[test]
    fn what_cannot_be_true_is_refused_even_with_a_right_hash() {
        let fault = |text: String| match Baseline::parse(text.as_bytes()).unwrap_err() {
            LoadFault::Invalid(fault) => *fault,
            other => panic!("{other}"),
        };
        let negative = fault(sealed(|b| b.cells[0].metrics.get_mut(&MetricId::PeakRss).unwrap()[0] = -1.0));
        assert!(matches!(negative, Fault::Negative { .. }), "{negative}");
        let empty = fault(sealed(|b| b.cells[0].metrics.get_mut(&MetricId::PeakRss).unwrap().clear()));
        assert!(matches!(empty, Fault::NoValues { .. }), "{empty}");
        let none = fault(sealed(|b| b.cells.clear()));
        assert!(matches!(none, Fault::NoValues { .. }), "{none}");
        let twice = fault(sealed(|b| b.cells.push(b.cells[0].clone())));
        assert!(matches!(twice, Fault::Duplicate { .. }), "{twice}");
        let other = fault(sealed(|b| b.workload = "decode".into()));
        assert!(matches!(other, Fault::OtherWorkload { .. }), "{other}");
        let bucket = fault(sealed(|b| b.cells[0].stalls[0].clean.push((u32::MAX, 1))));
        assert!(matches!(bucket, Fault::BadBucket { .. }), "{bucket}");
        let nan = Baseline::parse(sealed(|b| b.cells[0].ticks_per_second = f64::NAN).as_bytes()).unwrap_err();
        assert!(matches!(nan, LoadFault::WrongShape { .. }), "{nan}");
    }

    #[test]
    fn a_file_in_the_wrong_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = baseline().save(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("arm64-other")).unwrap();
        std::fs::copy(&path, folder.path().join("arm64-other/tokenize.json")).unwrap();
        std::fs::copy(&path, path.with_file_name("decode.json")).unwrap();
        for (class, workload) in [("arm64-other", "tokenize"), (baseline().class().as_str(), "decode")] {
            let error = Baseline::load(folder.path(), class, workload).unwrap_err();
            assert!(matches!(error.fault, LoadFault::Misplaced { .. }), "{error}");
        }
    }

    #[test]
    fn a_baseline_that_cannot_be_true_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let mut bad = baseline();
        bad.cells[0].ticks_per_second = f64::NAN;
        assert!(matches!(bad.save(folder.path()).unwrap_err(), BaselineSaveError::Invalid(_)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_truncation_is_taken() {
        let text = baseline().text();
        let end = text.trim_end().len();
        for length in 0..end {
            assert!(Baseline::parse(&text.as_bytes()[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_flipped_byte_loads_as_something_different(place in any::<prop::sample::Index>(), mask in 1u8..=255) {
            static ORIGINAL: LazyLock<(Baseline, String)> = LazyLock::new(|| (baseline(), baseline().text()));
            let mut bytes = ORIGINAL.1.clone().into_bytes();
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
            if let Ok(loaded) = Baseline::parse(&bytes) {
                prop_assert!(testing::same_json(&loaded, &ORIGINAL.0));
            }
        }
    }
}
