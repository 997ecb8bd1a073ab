//! Another revision of the tree, built beside the present one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::selection::Selection;
use crate::cargo;
use crate::fail::Failure;
use crate::own_bench;
use crate::source::Source;

/// Where worktrees of other revisions are kept, from the top of the repository. Built once, they are there the next time.
const FOLDER: &str = ".heapgate/base";

/// Checks `rev` out into a worktree and builds there what `selection` runs.
///
/// # Errors
/// If there is no such revision, or it can't be checked out or built.
pub fn build(rev: &str, selection: &Selection) -> Result<Source, Failure> {
    let here = selection.folder();
    let top = PathBuf::from(git(&here, &["rev-parse", "--show-toplevel"])?);
    let commit = git(&here, &["rev-parse", "--verify", "--quiet", &format!("{rev}^{{commit}}")]).map_err(|_| {
        Failure::usage(format!(
            "--base {rev}: git knows no such revision here; a shallow clone has to fetch it first (git fetch origin {rev})"
        ))
    })?;
    let short = &commit[..12.min(commit.len())];
    let worktree = top.join(FOLDER).join(short);
    if !worktree.join(".git").exists() {
        eprintln!("checking {rev} ({short}) out to {}", worktree.display());
        let path = worktree.to_string_lossy().into_owned();
        git(&top, &["worktree", "prune"])?;
        git(&top, &["worktree", "add", "--detach", "--force", &path, &commit])?;
    }
    eprintln!("building {rev} ({short})");
    let mut source = match selection.wanted() {
        Some(wanted) => {
            // The same package in the other tree; what it takes from registries is built already.
            let manifest = cargo::manifest(wanted)?;
            let inside = manifest.strip_prefix(&top).map_err(|_| {
                Failure::usage(format!("{}: not in the repository {}", manifest.display(), top.display()))
            })?;
            let manifest = worktree.join(inside);
            own_bench::open(cargo::Wanted { manifest: Some(&manifest), ..wanted })?
        }
        None => {
            let program = cargo::build_heapgate(&worktree, &top.join(FOLDER).join("target"))?;
            own_bench::describe(&program)?
        }
    };
    source.build.commit = short.to_owned();
    source.name = format!("{rev} ({short})");
    Ok(source)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::usage(format!("--base needs git: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::usage(format!("--base: git {}: {}", arguments[0], said.trim())))
}
