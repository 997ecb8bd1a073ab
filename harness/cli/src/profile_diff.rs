//! What changed between two profiles: read, compared, printed and drawn.

use std::path::{Path, PathBuf};

use heapgate_core::profile::diff::{DiffError, Difference, difference};
use heapgate_core::profile::view::View;
use heapgate_core::profile::{Kind, Profile, diff_flame};
use heapgate_core::render::{self, Options};

use crate::fail::Failure;

/// Where the flame graphs of a difference are written where nobody says.
pub const FOLDER: &str = "target/heapgate/profile/difference";

/// Sites that are printed where nobody says how many.
pub const TOP: usize = 15;

/// The stored profile at `path`: a file, the folder of one, or with `kind` also the folder that `profile all` wrote.
///
/// # Errors
/// If there is none, or it is of another kind.
pub fn load(path: &Path, kind: Option<Kind>) -> Result<Profile, Failure> {
    let of_kind = kind.map(|kind| path.join(kind.name())).filter(|folder| folder.is_dir());
    let profile = Profile::load(of_kind.as_deref().unwrap_or(path))?;
    match kind {
        Some(now) if now != profile.kind => Err(refused(path, path, &DiffError::Kinds { base: profile.kind, now })),
        _ => Ok(profile),
    }
}

/// Compares, and draws into `folder`. What can't be drawn hides nothing: it is returned beside what changed.
///
/// # Errors
/// If they can't be compared.
pub fn compare(
    (base_path, base): (&Path, &Profile),
    (now_path, now): (&Path, &Profile),
    folder: &Path,
    view: View,
) -> Result<(Difference, Result<Vec<PathBuf>, Failure>), Failure> {
    let difference = difference(base, now).map_err(|error| refused(base_path, now_path, &error))?;
    let drawn = diff_flame::write(base, now, &difference, folder, view).map_err(Failure::internal);
    Ok((difference, drawn))
}

fn refused(base: &Path, now: &Path, error: &DiffError) -> Failure {
    let names = if base == now { base.display().to_string() } else { format!("{}, {}", base.display(), now.display()) };
    Failure::usage(format!("{names}: {error}"))
}

/// `heapgate diff --profile`: the text for standard output, and what went wrong with the graphs.
///
/// # Errors
/// If a profile can't be read, or they can't be compared.
pub fn between(
    before: &Path,
    after: &Path,
    folder: &Path,
    as_json: bool,
    options: Options,
) -> Result<(String, Result<(), Failure>), Failure> {
    let (base, now) = (load(before, None)?, load(after, None)?);
    let (difference, drawn) = compare((before, &base), (after, &now), folder, View::default())?;
    let text = if as_json {
        serde_json::to_string_pretty(&render::profile_diff::json(&base, &now, &difference, usize::MAX))?
    } else {
        let top = if options.verbose { usize::MAX } else { TOP };
        render::profile_diff::table(&base, &now, &difference, top, options)
    };
    Ok((text, drawn.map(|written| say(&written, folder))))
}

/// Says on standard error where the graphs are.
pub fn say(written: &[PathBuf], folder: &Path) {
    match written {
        [] => eprintln!("no flame graph: the second profile has nothing to draw"),
        [only] => eprintln!("flame graph: {}", only.display()),
        several => eprintln!("{} flame graphs (*.diff.svg): {}", several.len(), folder.display()),
    }
}
