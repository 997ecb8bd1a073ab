//! From names on the command line to reports: files, globs, and what lies in object stores.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use heapgate_core::document::{Document, LoadError, LoadFault};
use heapgate_core::report::Report;
use heapgate_core::report::merge::{Input, Options, merge};
use heapgate_store::objects::{ObjectError, Objects, is_url};

use crate::fail::Failure;

/// What makes a name a glob.
const SPECIAL: [char; 4] = ['*', '?', '[', '{'];

/// The reports that `names` stand for, in their order; those of one glob by name.
///
/// # Errors
/// For a file that is no report, and for a name that stands for none.
pub fn load(names: &[String]) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for name in names {
        if is_url(name) {
            inputs.extend(objects(name)?);
            continue;
        }
        for path in files(name)? {
            inputs.push(Input { report: Report::load(&path)?, name: path.display().to_string() });
        }
    }
    Ok(inputs)
}

/// The reports that `arguments` name, as one: each a name, a glob or a URL, or several with commas between them; those of
/// several files count as more repetitions.
///
/// # Errors
/// For what can't be read, a file or a run that is named twice, and reports of different machines or builds.
pub fn joined(arguments: &[String]) -> Result<Report, Failure> {
    let names: Vec<String> = arguments.iter().map(|a| parts(a)).collect::<Result<Vec<_>, _>>()?.concat();
    let mut inputs = load(&names)?;
    match (inputs.pop(), inputs.is_empty()) {
        (Some(only), true) => Ok(only.report),
        (Some(last), false) => {
            inputs.push(last);
            let merged = merge(&inputs, Options { more_repetitions: true, partial: true })?;
            merged.notes.iter().for_each(|note| eprintln!("heapgate: {note}"));
            Ok(merged.report)
        }
        (None, _) => Err(Failure::usage("no report is named")),
    }
}

/// The names in a list with commas. A file that is there is taken by its name, whatever is in that, and a comma within
/// braces belongs to the glob.
fn parts(argument: &str) -> Result<Vec<String>, Failure> {
    if Path::new(argument).exists() || argument.contains('{') {
        return Ok(vec![argument.to_owned()]);
    }
    let parts: Vec<String> = argument.split(',').map(str::to_owned).collect();
    if parts.iter().any(String::is_empty) {
        return Err(Failure::usage(format!("'{argument}' names an empty file between commas")));
    }
    Ok(parts)
}

/// The reports that the URL `name` stands for: one object, all of a folder (`…/`), or those that match (`…/*.json`).
fn objects(name: &str) -> Result<Vec<Input>, Failure> {
    let (folder, pattern) = name.rsplit_once('/').unwrap_or((name, ""));
    if folder.contains(SPECIAL) {
        return Err(Failure::usage(format!("{name}: in a URL only the part after the last / may be a glob")));
    }
    if !pattern.is_empty() && !pattern.contains(SPECIAL) {
        let object = Objects::open(name)?;
        return Ok(vec![parsed(object.url().to_owned(), object.get())?]);
    }
    let matcher = match pattern {
        "" => glob("*.json"),
        pattern => glob(pattern),
    };
    let matcher = matcher.map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    let folder = Objects::open(&format!("{folder}/"))?;
    let (taken, others): (Vec<String>, Vec<String>) =
        folder.list()?.into_iter().partition(|name| matcher.is_match(name));
    if taken.is_empty() {
        return Err(Failure::usage(format!("{}: no object matches {}", folder.url(), matcher.glob())));
    }
    if pattern.is_empty() && !others.is_empty() {
        eprintln!("heapgate: {}: not reports by their names, and left out: {}", folder.url(), others.join(", "));
    }
    taken.iter().map(|name| parsed(folder.url_of(name), folder.get_named(name))).collect()
}

/// The report that an object holds.
fn parsed(name: String, bytes: Result<Vec<u8>, ObjectError>) -> Result<Input, Failure> {
    let bytes = bytes?;
    let parsed = if bytes.is_empty() { Err(LoadFault::Empty) } else { Report::parse(&bytes) };
    match parsed {
        Ok(report) => Ok(Input { name, report }),
        Err(fault) => Err(LoadError { document: Document::Report, path: name.into(), fault }.into()),
    }
}

/// The files that `name` stands for: itself, or what matches it.
fn files(name: &str) -> Result<Vec<PathBuf>, Failure> {
    let path = Path::new(name);
    // A file whose name looks like a glob is meant itself.
    if !name.contains(SPECIAL) || path.exists() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let component = component.as_os_str().to_string_lossy();
        if component.contains("**") {
            let why = "`**` is not understood; write out the folders, or name the files";
            return Err(Failure::usage(format!("{name}: {why}")));
        }
        if component.contains(SPECIAL) {
            let matcher = glob(&component).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
            found = found.iter().map(|folder| matching(folder, &matcher)).collect::<Result<Vec<_>, _>>()?.concat();
        } else {
            found.iter_mut().for_each(|path| path.push(&*component));
        }
    }
    found.retain(|path| path.is_file());
    if found.is_empty() {
        return Err(Failure::usage(format!("{name}: no file matches")));
    }
    Ok(found)
}

/// A matcher for one component of a path.
///
/// # Errors
/// For what is no glob.
pub fn glob(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}

/// What of `folder` matches, sorted. As in shells, what begins with a point has to be named.
fn matching(folder: &Path, matcher: &GlobMatcher) -> Result<Vec<PathBuf>, Failure> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !place.is_dir() {
        return Ok(Vec::new());
    }
    let hidden_too = matcher.glob().glob().starts_with('.');
    let refused = |error| Failure::usage(format!("{}: it cannot be read: {error}", place.display()));
    let mut names = Vec::new();
    for entry in place.read_dir().map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        if matcher.is_match(&name) && (hidden_too || !name.to_string_lossy().starts_with('.')) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_is_its_files_sorted_and_a_file_is_itself() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/r.json", "a/r.json", "a/other.txt", ".hidden/r.json", "[1].json"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| {
            let all = files(&format!("{}/{pattern}", folder.path().display())).map_err(|e| e.to_string())?;
            let short = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            Ok::<_, String>(all.iter().map(short).collect::<Vec<_>>())
        };
        assert_eq!(found("*/*.json").unwrap(), ["a/r.json", "b/r.json"]);
        assert_eq!(found("{a,b}/r.json").unwrap(), ["a/r.json", "b/r.json"]);
        assert_eq!(found("[1].json").unwrap(), ["[1].json"]);
        assert_eq!(found("missing.json").unwrap(), ["missing.json"]);
        assert!(found("*/none-*.json").unwrap_err().contains("no file matches"));
        assert!(found("*/[.json").unwrap_err().contains("[.json"));
        assert!(found("**/r.json").unwrap_err().contains("`**`"));
    }

    #[test]
    fn lists_have_commas_and_globs_keep_theirs() {
        assert_eq!(parts("a.json,b.json").unwrap(), ["a.json", "b.json"]);
        assert_eq!(parts("{a,b}.json").unwrap(), ["{a,b}.json"]);
        assert!(parts("a.json,").is_err());
    }
}
