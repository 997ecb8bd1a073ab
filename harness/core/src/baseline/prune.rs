//! Removal of baselines, and of cells in them, that are of no use any more.

use std::io;
use std::path::{Path, PathBuf};

use super::{Baseline, BaselineSaveError, file};
use crate::files::{self, WriteError};
use crate::report::Cell;

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A file can't be written or removed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What would be left can't be stored.
    #[error(transparent)]
    Save(#[from] BaselineSaveError),
}

/// One file that is removed, or of which a part is.
#[derive(Debug, Clone, PartialEq)]
pub enum Removal {
    /// The whole file.
    File {
        /// Its class.
        class: String,
        /// Its workload.
        workload: String,
    },
    /// Some cells.
    Cells {
        /// What is left.
        left: Box<Baseline>,
        /// What goes.
        gone: Vec<Cell>,
    },
}

impl Removal {
    /// Of `baseline`, the cells that `is_gone`; the whole file, where none would be left. `None` where all stay.
    #[must_use]
    pub fn of_cells(baseline: &Baseline, is_gone: impl Fn(&Cell) -> bool) -> Option<Self> {
        let gone: Vec<Cell> = baseline.cells.iter().map(|c| c.cell.clone()).filter(&is_gone).collect();
        if gone.is_empty() {
            return None;
        }
        if gone.len() == baseline.cells.len() {
            return Some(Self::File { class: baseline.class(), workload: baseline.workload.clone() });
        }
        let mut left = baseline.clone();
        left.cells.retain(|c| !is_gone(&c.cell));
        Some(Self::Cells { left: Box::new(left), gone })
    }

    /// The file, under `folder`.
    #[must_use]
    pub fn path_in(&self, folder: &Path) -> PathBuf {
        match self {
            Self::File { class, workload } => file::path(folder, class, workload),
            Self::Cells { left, .. } => left.path_in(folder),
        }
    }
}

/// Carries out `removals` under `folder`: first it is tried whether each file's folder can be written to, so that
/// nothing is removed where not all can be. Each file is then written whole, with its hash anew, or removed; folders of
/// classes that are empty go too.
///
/// # Errors
/// At the first file that can't be written or removed.
pub fn remove(folder: &Path, removals: &[Removal]) -> Result<(), PruneError> {
    for removal in removals {
        files::check_writable(&removal.path_in(folder))?;
    }
    for removal in removals {
        let path = removal.path_in(folder);
        match removal {
            Removal::Cells { left, .. } => drop(left.save(folder)?),
            Removal::File { .. } => match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(WriteError::new(&path, source).into());
                }
                _ => remove_if_empty(path.parent()),
            },
        }
    }
    Ok(())
}

/// A folder that isn't empty, or can't be removed, stays: it does no harm.
fn remove_if_empty(folder: Option<&Path>) {
    let _ = folder.map(std::fs::remove_dir);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Recording;
    use crate::report::testing;

    /// A folder with a baseline of two cells of tokenize, and the baseline.
    fn stored() -> (tempfile::TempDir, Baseline) {
        let folder = tempfile::tempdir().unwrap();
        let baseline = Baseline::from_report(&testing::report(4, 2), "tokenize", Recording::default()).unwrap();
        baseline.save(folder.path()).unwrap();
        (folder, baseline)
    }

    #[test]
    fn the_cells_that_are_left_load_again() {
        let (folder, baseline) = stored();
        let removal = Removal::of_cells(&baseline, |cell| *cell == testing::cell(3)).unwrap();
        remove(folder.path(), &[removal]).unwrap();
        let loaded = Baseline::load(folder.path(), &baseline.class(), "tokenize").unwrap();
        assert_eq!(loaded.cells.len(), 1);
        assert!(loaded.cell(&testing::cell(0)).is_some());
    }

    #[test]
    fn a_file_of_which_nothing_is_left_goes_with_its_folder() {
        let (folder, baseline) = stored();
        let removal = Removal::of_cells(&baseline, |_| true).unwrap();
        assert!(matches!(removal, Removal::File { .. }));
        remove(folder.path(), &[removal]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(Removal::of_cells(&baseline, |_| false), None);
    }

    #[test]
    fn nothing_is_removed_where_not_all_can_be() {
        let (folder, baseline) = stored();
        let there = Removal::File { class: baseline.class(), workload: "tokenize".into() };
        let not = Removal::File { class: "no-such-class".into(), workload: "tokenize".into() };
        assert!(remove(folder.path(), &[there, not]).is_err());
        Baseline::load(folder.path(), &baseline.class(), "tokenize").unwrap();
    }
}
