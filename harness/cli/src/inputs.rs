//! Reports named on the command line: a file, several with commas between them, or a pattern such as `'runs/*.json'`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;
use heapgate_core::report::{Report, join};

use crate::fail::Failure;

/// Characters that make a name a pattern.
const WILD: [char; 4] = ['*', '?', '[', '{'];

/// The reports that `arguments` name, as one: those of several files count as more repetitions.
///
/// # Errors
/// For a file that can't be read, a pattern without a match, a file that is named twice, and reports of different
/// machines or builds.
pub fn joined(arguments: &[String]) -> Result<Report, Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for argument in arguments {
        files.extend(named(argument)?);
    }
    let mut seen: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for file in &files {
        let same = std::fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        if let Some(first) = seen.insert(same, file) {
            let message = format!(
                "{} and {} are one file: its repetitions would count twice; name it once",
                first.display(),
                file.display()
            );
            return Err(Failure::usage(message));
        }
    }
    let reports = files.iter().map(|file| Ok((file.display().to_string(), Report::load(file)?)));
    let reports = reports.collect::<Result<Vec<_>, Failure>>()?;
    join(reports)?.ok_or_else(|| Failure::usage("no report is named"))
}

/// The files of one argument. A file that is there is taken by its name, whatever is in that.
fn named(argument: &str) -> Result<Vec<PathBuf>, Failure> {
    if Path::new(argument).exists() {
        return Ok(vec![argument.into()]);
    }
    // A comma within braces belongs to the pattern.
    let parts: Vec<&str> = if argument.contains('{') { vec![argument] } else { argument.split(',').collect() };
    let mut files = Vec::new();
    for part in parts {
        if part.is_empty() {
            return Err(Failure::usage(format!("'{argument}' names an empty file between commas")));
        }
        if part.contains(WILD) && !Path::new(part).exists() {
            files.extend(matching(part)?);
        } else {
            files.push(part.into());
        }
    }
    Ok(files)
}

/// The files that match `pattern`, sorted. `*` doesn't match a `/`, nor a point at a name's beginning.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let wrong = |why: &str| Failure::usage(format!("'{pattern}': {why}"));
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let name = match component {
            Component::Normal(name) => name.to_str().filter(|name| name.contains(WILD)),
            _ => None,
        };
        let Some(name) = name else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        if name.contains("**") {
            return Err(wrong("`**` is not understood; write out the folders, or name the files"));
        }
        let glob = GlobBuilder::new(name).literal_separator(true).build().map_err(|error| wrong(&error.to_string()))?;
        let matcher = glob.compile_matcher();
        let mut next = Vec::new();
        for folder in &found {
            let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
            if !shown.is_dir() {
                continue;
            }
            for entry in std::fs::read_dir(shown).map_err(|error| wrong(&format!("{}: {error}", shown.display())))? {
                let entry = entry?.file_name();
                let hidden = entry.to_string_lossy().starts_with('.') && !name.starts_with('.');
                if !hidden && matcher.is_match(Path::new(&entry)) {
                    next.push(folder.join(entry));
                }
            }
        }
        found = next;
    }
    found.retain(|path| path.is_file());
    found.sort();
    if found.is_empty() { Err(wrong("no file matches; check the pattern")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in
            ["a1.json", "a2.json", "b,c.json", ".hidden.json", "a3.json.partial", "sub/a4.json", "sub/x/a5.json"]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        folder
    }

    fn names(folder: &tempfile::TempDir, argument: &str) -> Result<Vec<String>, String> {
        let root = folder.path().to_str().expect("UTF-8");
        let argument: Vec<String> = argument.split(',').map(|part| format!("{root}/{part}")).collect();
        let files = named(&argument.join(",")).map_err(|failure| failure.to_string())?;
        Ok(files.iter().map(|f| f.strip_prefix(root).expect("in it").display().to_string()).collect())
    }

    #[test]
    fn patterns_lists_and_names_give_their_files_in_order() {
        let folder = folder();
        for (argument, expected) in [
            ("a1.json", vec!["a1.json"]),
            ("none.json", vec!["none.json"]),
            ("a2.json,a1.json", vec!["a2.json", "a1.json"]),
            ("*.json", vec!["a1.json", "a2.json", "b,c.json"]),
            ("a?.json", vec!["a1.json", "a2.json"]),
            ("*/a[0-9].json", vec!["sub/a4.json"]),
            ("s*/x/*", vec!["sub/x/a5.json"]),
            ("a1.json,sub/*.json", vec!["a1.json", "sub/a4.json"]),
        ] {
            assert_eq!(names(&folder, argument).expect(argument), expected, "{argument}");
        }
        let with_comma = folder.path().join("b,c.json");
        assert_eq!(named(with_comma.to_str().expect("UTF-8")).expect("there"), [with_comma]);
    }

    #[test]
    fn what_matches_nothing_is_told() {
        let folder = folder();
        for (argument, words) in [("z*.json", "no file matches"), ("**/a.json", "`**`"), ("a[.json", "unclosed")] {
            let error = names(&folder, argument).expect_err(argument);
            assert!(error.contains(words), "{error}");
        }
    }
}
