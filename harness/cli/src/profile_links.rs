//! From a page of a report to the pages of its cells' profiles: those that a failing gate took, and those of `profile all`.

use std::path::{Component, Path, PathBuf};

use heapgate_core::gate::Verdict;
use heapgate_core::profile::{Kind, Profile};
use heapgate_core::render::page::ProfileLink;
use heapgate_core::report::{Cell, Report};
use heapgate_core::uri;

use crate::matrix::STEPS;
use crate::profile::{self, PAGE};

/// The profiles of `report`'s cells that there are, as seen from the page that is written to `page`. Those of the verdict
/// come first: they were taken because something failed.
pub fn of(page: &Path, report: &Report, verdict: Option<&Verdict>) -> Vec<ProfileLink> {
    let mut links = Vec::new();
    for culprits in verdict.into_iter().flat_map(|verdict| &verdict.culprits) {
        let title = format!("{}, taken when it failed", culprits.profile);
        let file = Path::new(&culprits.folder).join(PAGE);
        if !culprits.folder.is_empty() {
            links.extend(link(page, &file, &culprits.cell, title));
        }
    }
    for cell in report.cells() {
        let folder = profile::folder_of(cell.cell, "all");
        if is_of(&folder, cell.cell) {
            links.extend(link(page, &folder.join(PAGE), cell.cell, "all kinds".to_owned()));
        }
    }
    links
}

/// Whether the profiles in `folder` are of `cell`, also by its parameters, which the folder's name does not have. With more
/// or fewer steps it is the same lines that do the work.
fn is_of(folder: &Path, cell: &Cell) -> bool {
    let without_steps = |cell: &Cell| {
        let mut cell = cell.clone();
        cell.params.remove(STEPS);
        cell
    };
    let profile = Kind::ALL.iter().find_map(|kind| Profile::load(&folder.join(kind.name())).ok());
    profile.is_some_and(|profile| without_steps(&profile.cell) == without_steps(cell))
}

fn link(page: &Path, file: &Path, cell: &Cell, title: String) -> Option<ProfileLink> {
    let folder = match page.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let way = relative(&folder.canonicalize().ok()?, &file.canonicalize().ok()?);
    Some(ProfileLink { cell: cell.clone(), title, href: uri::relative(way.to_str()?) })
}

/// The way from one folder to a file, both absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_file_leads_over_what_both_have_in_common() {
        for (from, to, way) in [
            ("/a/b", "/a/b/c/x.html", "c/x.html"),
            ("/a/b", "/a/d/x.html", "../d/x.html"),
            ("/a", "/x.html", "../x.html"),
            ("/", "/x.html", "x.html"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
        }
    }
}
