//! Which stored baseline a run is compared with.

use std::io;
use std::path::Path;

use super::{Baseline, RecentRuns};
use crate::document::{Document, LoadError, LoadFault};

/// What there is to compare a workload with.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A baseline of this machine's class.
    Same(Box<Baseline>),
    /// Only baselines of other classes: the exact metrics can be compared. This is the latest recorded of them, and of
    /// those recorded at one time the first by class.
    OtherClass {
        /// The baseline.
        baseline: Box<Baseline>,
        /// All classes that have one, sorted.
        classes: Vec<String>,
    },
    /// None is asked for: the last runs on this machine's class take its place.
    History(Box<RecentRuns>),
    /// None.
    None,
}

impl Found {
    /// The baseline, if there is one.
    #[must_use]
    pub fn baseline(&self) -> Option<&Baseline> {
        match self {
            Self::Same(baseline) | Self::OtherClass { baseline, .. } => Some(baseline),
            Self::History(runs) => Some(&runs.baseline),
            Self::None => None,
        }
    }

    /// The runs, where they take a baseline's place.
    #[must_use]
    pub fn runs(&self) -> Option<&RecentRuns> {
        match self {
            Self::History(runs) => Some(runs),
            Self::Same(_) | Self::OtherClass { .. } | Self::None => None,
        }
    }
}

/// Finds the baseline of `workload` under `folder` for a machine of `class`.
///
/// # Errors
/// If one that matters can't be loaded: that of this class, or, where there is none, any other. A baseline that can't
/// be read is never passed over.
pub fn find(folder: &Path, class: &str, workload: &str) -> Result<Found, LoadError> {
    if !is_plain_name(workload) {
        return Ok(Found::None);
    }
    match Baseline::load(folder, class, workload) {
        Ok(baseline) => return Ok(Found::Same(Box::new(baseline))),
        Err(LoadError { fault: LoadFault::Missing, .. }) => {}
        Err(error) => return Err(error),
    }
    let mut others = Vec::new();
    for class in classes(folder)? {
        match Baseline::load(folder, &class, workload) {
            Ok(baseline) => others.push((class, baseline)),
            Err(LoadError { fault: LoadFault::Missing, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let classes = others.iter().map(|o| o.0.clone()).collect();
    // `max_by_key` takes the last of equals, so that reversed it is the first by class.
    let latest = others.into_iter().rev().max_by_key(|o| o.1.recorded_unix_s);
    Ok(latest.map_or(Found::None, |(_, baseline)| Found::OtherClass { baseline: Box::new(baseline), classes }))
}

/// Every baseline under `folder`, as (class, workload), sorted. They are not opened.
///
/// # Errors
/// If a folder can't be read.
pub fn list(folder: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let mut all = Vec::new();
    for class in classes(folder)? {
        let names = names_in(&folder.join(&class))?;
        all.extend(names.iter().filter_map(|name| Some((class.clone(), name.strip_suffix(".json")?.to_owned()))));
    }
    Ok(all)
}

/// Whether `name` can be the name of a file without hiding or leaving its folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The folders of classes, sorted; none where `folder` doesn't exist.
fn classes(folder: &Path) -> Result<Vec<String>, LoadError> {
    Ok(names_in(folder)?.into_iter().filter(|name| is_plain_name(name) && folder.join(name).is_dir()).collect())
}

fn names_in(folder: &Path) -> Result<Vec<String>, LoadError> {
    let unreadable = |source| LoadError {
        document: Document::Baseline,
        path: folder.to_owned(),
        fault: LoadFault::Unreadable(source),
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(unreadable)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Recording;
    use crate::report::testing;

    /// Stores a baseline of tokenize, of a machine with so many CPUs, and returns its class.
    fn store(folder: &Path, cpus: u32, unix_s: u64) -> String {
        let mut report = testing::report(1, 1);
        report.fingerprint.machine.cpus = cpus;
        let baseline =
            Baseline::from_report(&report, "tokenize", Recording { unix_s, ..Recording::default() }).unwrap();
        baseline.save(folder).unwrap();
        baseline.class()
    }

    #[test]
    fn the_own_class_goes_before_a_later_one_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let own = store(folder.path(), 2, 100);
        store(folder.path(), 4, 200);
        let found = find(folder.path(), &own, "tokenize").unwrap();
        assert!(matches!(&found, Found::Same(baseline) if baseline.recorded_unix_s == 100));
    }

    #[test]
    fn of_other_classes_the_latest_is_taken_and_then_the_first_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.md"), "not a class").unwrap();
        let mut classes = [store(folder.path(), 4, 200), store(folder.path(), 8, 200), store(folder.path(), 16, 100)];
        classes.sort();
        let Found::OtherClass { baseline, classes: found } = find(folder.path(), "mine", "tokenize").unwrap() else {
            panic!()
        };
        assert_eq!(found, classes);
        let expected = classes.iter().find(|c| !c.contains("-16c-")).unwrap();
        assert_eq!(&baseline.class(), expected);
    }

    #[test]
    fn no_folder_no_file_and_no_possible_name_are_none() {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), 4, 200);
        assert_eq!(find(folder.path(), "mine", "decode").unwrap(), Found::None);
        assert_eq!(find(folder.path(), "mine", "../tokenize").unwrap(), Found::None);
        assert_eq!(find(&folder.path().join("none"), "mine", "tokenize").unwrap(), Found::None);
    }

    #[test]
    fn one_that_cannot_be_read_is_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let class = store(folder.path(), 4, 200);
        std::fs::write(folder.path().join(&class).join("tokenize.json"), "{").unwrap();
        for asked in [class.as_str(), "mine"] {
            let error = find(folder.path(), asked, "tokenize").unwrap_err();
            assert!(matches!(error.fault, LoadFault::Truncated { .. }), "{error}");
        }
    }

    #[test]
    fn all_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let class = store(folder.path(), 4, 200);
        assert_eq!(list(folder.path()).unwrap(), [(class, "tokenize".to_owned())]);
    }
}
