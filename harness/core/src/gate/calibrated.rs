//! What is known of the gate's own accuracy on this class of machines, put beside what it says.

use std::path::Path;

use super::verdict::Verdict;
use crate::calibration::Calibration;
use crate::render::human::{counted, date};

/// Puts the smallest change that is found into each line that `calibration` knows of, and what it counted into a note.
pub fn note_calibration(verdict: &mut Verdict, calibration: &Calibration) {
    for line in &mut verdict.lines {
        if line.interval.is_some() {
            line.detectable = calibration.detectable(line.metric, &line.cell.to_string());
        }
    }
    let null = &calibration.null;
    verdict.notes.push(format!(
        "calibrated on {}: {} of {} failed while nothing was changed; `sees` is what was found in 99 of 100 runs",
        date(calibration.created_unix_s),
        null.failed_metrics,
        counted(null.metrics, "metric"),
    ));
}

/// [`note_calibration`] with the one of `class` under the baselines' `folder`, if there is one. One that can't be read is
/// noted: it takes nothing from the verdict.
pub fn calibrate(verdict: &mut Verdict, folder: &Path, class: &str) {
    match Calibration::find(folder, class) {
        Ok(Some(calibration)) => note_calibration(verdict, &calibration),
        Ok(None) => {}
        Err(error) => verdict.notes.push(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{CALIBRATION_SCHEMA_VERSION, Counted, sensitivities};
    use crate::config::Config;
    use crate::gate::{Look, compare};
    use crate::metric::MetricId;
    use crate::report::testing;
    use std::collections::BTreeMap;

    #[test]
    fn noisy_lines_say_what_the_calibration_promises_and_exact_ones_need_none() {
        let report = testing::report(2, 12);
        let calibration = Calibration {
            schema_version: CALIBRATION_SCHEMA_VERSION,
            created_unix_s: 0,
            machine: report.fingerprint.machine.clone(),
            commit: String::new(),
            busy_neighbours: 0,
            reps: 5,
            budget_s: 1.0,
            cells: Vec::new(),
            null: Counted { metrics: 1_000, ..Counted::default() },
            controls: BTreeMap::new(),
            metrics: sensitivities(&[testing::report(1, 12)], 5, 9),
        };
        let mut verdict = compare(&report, &report, &Config::default(), Look::ONLY);
        note_calibration(&mut verdict, &calibration);
        let detectable = |cell, metric| {
            let line = verdict.lines.iter().find(|l| l.cell == testing::cell(cell) && l.metric == metric);
            line.and_then(|l| l.detectable)
        };
        assert!(detectable(0, MetricId::PeakRss).is_some_and(|d| (0.001..0.05).contains(&d)));
        assert_eq!(detectable(0, MetricId::AllocationsPerUnit), None);
        assert_eq!(detectable(1, MetricId::PeakRss), None, "a cell that was not calibrated");
        assert!(verdict.notes.last().unwrap().contains("0 of 1,000 metrics failed"), "{:?}", verdict.notes);
    }

    #[test]
    fn one_that_cannot_be_read_is_noted_and_takes_nothing_from_the_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let report = testing::report(1, 10);
        let verdict = compare(&report, &report, &Config::default(), Look::ONLY);
        let mut noted = verdict.clone();
        calibrate(&mut noted, folder.path(), "mine");
        assert_eq!(noted, verdict, "none is no reason for a note");
        std::fs::write(Calibration::path(folder.path(), "mine"), "{").unwrap();
        calibrate(&mut noted, folder.path(), "mine");
        assert!(noted.notes[0].contains("mine.calibration.json"), "{:?}", noted.notes);
        assert_eq!(noted.decision, verdict.decision);
    }
}
