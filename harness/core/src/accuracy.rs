//! `docs/accuracy.json`: what `docs/accuracy.md` is made of. The rules on simulated series, put there by the example
//! `simulate`, and calibrations on real machines, put there by `heapgate calibrate --accuracy`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calibration::{CALIBRATION_SCHEMA_VERSION, Calibration};
use crate::document::{self, Document, LoadError, LoadFault};
use crate::files::{self, WriteError};
use crate::stats::simulate::Row;

/// The version of the schema. Raised by every change that an older reader would misread.
pub const ACCURACY_SCHEMA_VERSION: u32 = 1;

/// Down to here the file has one member a line: simulated rows and a calibration's sensitivities are one each.
const LINES_TO_DEPTH: usize = 3;

/// All that is known of how far the gate can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// The version of this schema.
    pub schema_version: u32,
    /// Rules on simulated series; absent where none were run.
    pub simulated: Option<Simulation>,
    /// Calibrations on real machines, by machine class and how busy it was.
    pub calibrations: Vec<Calibration>,
}

/// What rules did on simulated series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// With which the series were made: the same seed, the same rows.
    pub seed: u64,
    /// One for each rule, series, order and shift.
    pub rows: Vec<Row>,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { schema_version: ACCURACY_SCHEMA_VERSION, simulated: None, calibrations: Vec::new() }
    }
}

impl Accuracy {
    /// Loads it; nothing is known where there is no such file.
    ///
    /// # Errors
    /// If it is there and can't be read, or one of its calibrations is of another version.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let failed = |fault| LoadError { document: Document::Accuracy, path: path.to_owned(), fault };
        match document::read(path).and_then(|bytes| document::parse::<Self>(&bytes, ACCURACY_SCHEMA_VERSION)) {
            Ok(accuracy) => match accuracy.other_version() {
                Some(fault) => Err(failed(fault)),
                None => Ok(accuracy),
            },
            Err(LoadFault::Missing) => Ok(Self::default()),
            Err(fault) => Err(failed(fault)),
        }
    }

    fn other_version(&self) -> Option<LoadFault> {
        let expected = CALIBRATION_SCHEMA_VERSION;
        let found = self.calibrations.iter().map(|c| c.schema_version).find(|&version| version != expected)?;
        let (found, heapgate) = (u64::from(found), "?".to_owned());
        Some(if found < u64::from(expected) {
            LoadFault::Older { found, expected, heapgate }
        } else {
            LoadFault::Newer { found, expected, heapgate }
        })
    }

    /// Stores it, whole or not at all.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        // Plain structs with string keys always have a JSON form.
        files::atomic_write(path, document::to_json(self, LINES_TO_DEPTH).unwrap_or_default().as_bytes())
    }

    /// With one more calibration. It takes the place of one of the same cells under the same conditions: what was counted
    /// twice would be no more sure for it, and what was counted on other code is out of date.
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.calibrations.retain(|one| conditions(one) != conditions(&calibration));
        self.calibrations.push(calibration);
        self.calibrations
            .sort_by(|a, b| conditions(a).partial_cmp(&conditions(b)).unwrap_or(std::cmp::Ordering::Equal));
        self
    }
}

/// What makes two calibrations say the same.
fn conditions(calibration: &Calibration) -> (String, u32, u32, f64, &[String]) {
    let Calibration { machine, busy_neighbours, reps, budget_s, cells, .. } = calibration;
    (machine.class(), *busy_neighbours, *reps, *budget_s, cells)
}
