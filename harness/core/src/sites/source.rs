//! Where a source file lies in its repository: line tables have the paths of the machine that compiled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::name::short_file;

/// Parts of the paths of code that is of no repository of the user's: of registries, of dependencies by git, of std.
const FOREIGN: [&str; 5] = ["/registry/src/", "/git/checkouts/", "/rustc/", "/rustlib/src/", "/vendor/"];

/// Paths as they are shown. Keeps what it has found: there are few files, and many places in each.
#[derive(Debug, Default)]
pub(super) struct Sources {
    shown: BTreeMap<String, String>,
    /// The files of the repository that heapgate was started in, from its root on; asked for when it is needed.
    tracked: Option<Vec<String>>,
}

impl Sources {
    /// From the root of its repository on, whichever copy of it was compiled; where there is none, from the crate's folder.
    pub(super) fn shown(&mut self, file: &str) -> String {
        if let Some(shown) = self.shown.get(file) {
            return shown.clone();
        }
        let is_foreign = FOREIGN.iter().any(|part| file.contains(part));
        let own = if is_foreign { None } else { from_root(Path::new(file)).or_else(|| self.tracked(file)) };
        let shown = own.unwrap_or_else(|| short_file(file));
        self.shown.insert(file.to_owned(), shown.clone());
        shown
    }

    /// By the files of the repository that we are in: compiled elsewhere, or in a copy that is gone.
    fn tracked(&mut self, file: &str) -> Option<String> {
        matching(self.tracked.get_or_insert_with(tracked_files), file)
    }
}

/// `file` from the root of the working copy that it lies in; `None` if it is not there.
fn from_root(file: &Path) -> Option<String> {
    if file.is_relative() {
        return None;
    }
    let file = file.canonicalize().ok()?;
    // A folder, or in further working copies a file.
    let root = file.ancestors().skip(1).find(|folder| folder.join(".git").exists())?;
    Some(file.strip_prefix(root).ok()?.to_str()?.to_owned())
}

fn tracked_files() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--full-name", ":/"]).stdin(Stdio::null()).stderr(Stdio::null());
    let listed = git.output().ok().filter(|output| output.status.success());
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    listed.split('\0').filter(|file| !file.is_empty()).map(str::to_owned).collect()
}

/// The one of `tracked` that `file` ends with, the longest of several; else the only one that ends as `file` does from its
/// crate's folder on.
fn matching(tracked: &[String], file: &str) -> Option<String> {
    let is_end = |whole: &str, end: &str| Path::new(whole).ends_with(end);
    // Fewer folders say nothing: `src/main.rs` is in every package.
    let says_enough = |path: &str| path.matches('/').count() >= 2;
    let whole = tracked.iter().filter(|path| says_enough(path) && is_end(file, path)).max_by_key(|path| path.len());
    let by_crate = || {
        let short: PathBuf = short_file(file).into();
        let mut found = tracked.iter().filter(|path| Path::new(path).ends_with(&short));
        found.next().filter(|_| found.next().is_none())
    };
    whole.or_else(by_crate).cloned()
}

/// Whether a shown path is of a dependency's crate: its folder has the version in its name.
pub(crate) fn is_of_dependency(shown: &str) -> bool {
    let version = |folder: &str| {
        let rest = folder.rsplit_once('-').map_or("", |(_, version)| version);
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('.')
    };
    shown.split_once('/').is_some_and(|(folder, _)| version(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_this_repository_is_told_from_its_root() {
        let mut sources = Sources::default();
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sites/source.rs");
        let shown = sources.shown(here);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join(".git").exists());
        // Sources without a repository have no root.
        assert!(root.is_none_or(|root| root.join(&shown).is_file()), "{shown}");
        assert!(shown.ends_with("core/src/sites/source.rs"), "{shown}");
        let foreign = "/home/me/.cargo/registry/src/index/tokenizers-0.23.1/src/models/mod.rs";
        assert_eq!(sources.shown(foreign), "tokenizers-0.23.1/src/models/mod.rs");
        assert_eq!(sources.shown("/nowhere/a-crate/src/no_such_file.rs"), "a-crate/src/no_such_file.rs");
    }

    #[test]
    fn what_was_compiled_in_another_place_is_found_by_how_it_ends_unless_that_is_doubtful() {
        let tracked: Vec<String> =
            ["src/lib.rs", "main.rs", "harness/bench/src/plant.rs", "a/core/src/x.rs", "b/core/src/x.rs"]
                .map(str::to_owned)
                .to_vec();
        let found = |file: &str| matching(&tracked, file);
        assert_eq!(found("/build/copy/harness/bench/src/plant.rs").as_deref(), Some("harness/bench/src/plant.rs"));
        assert_eq!(found("/build/bench/src/plant.rs").as_deref(), Some("harness/bench/src/plant.rs"));
        assert_eq!(found("/build/a/core/src/x.rs").as_deref(), Some("a/core/src/x.rs"), "the longest");
        assert_eq!(found("/build/core/src/x.rs"), None);
        assert_eq!(found("/build/main.rs"), None);
        assert_eq!(found("/other/package/src/lib.rs"), None);
    }

    #[test]
    fn a_dependency_has_its_version_in_its_folder() {
        assert!(is_of_dependency("tokenizers-0.23.1/src/lib.rs"));
        for own in ["harness/core/src/x.rs", "my-crate-2/src/lib.rs", "src/lib.rs", "a-1.0", ""] {
            assert!(!is_of_dependency(own), "{own}");
        }
    }
}
