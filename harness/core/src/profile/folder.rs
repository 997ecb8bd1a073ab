//! A profile's folder: every form of it, each file written whole.

use std::io;
use std::path::{Path, PathBuf};

use super::view::View;
use super::{Profile, file, firefox, flame, pprof};
use crate::files::{self, WriteError};

/// The pprof file's name.
pub const PPROF: &str = "profile.pb.gz";
/// The name of the file for the Firefox profiler.
pub const FIREFOX: &str = "firefox.json";

/// Why a folder is not complete.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A form can't be made.
    #[error("cannot make {name}: {source}")]
    Form {
        /// The file's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Writes `profile` into `folder`: the model (`profile.json`), pprof, Firefox, and for each value a flame graph and
/// folded stacks (`bytes.svg`, `bytes.folded`). Returns what was written, flame graphs first.
///
/// # Errors
/// If one can't be written; those before it are there.
pub fn write(profile: &Profile, folder: &Path, view: View) -> Result<Vec<PathBuf>, FolderError> {
    files::make_folder(folder)?;
    let mut written = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| -> Result<(), WriteError> {
        let path = folder.join(name);
        files::atomic_write(&path, bytes)?;
        written.push(path);
        Ok(())
    };
    // What others are computed from comes first: it is kept if a picture fails.
    let model = profile.to_text().map_err(|error| failed(file::FILE_NAME, io::Error::other(error)))?;
    put(file::FILE_NAME, model.as_bytes())?;
    put(PPROF, &pprof::encode(profile, view).map_err(|error| failed(PPROF, error))?)?;
    put(FIREFOX, firefox::encode(profile, view).to_string().as_bytes())?;
    for index in profile.drawn_values() {
        let value = &profile.values[index];
        let (svg, folded) = (format!("{}.svg", value.name), format!("{}.folded", value.name));
        match flame::graph(profile, index, view).map_err(|error| failed(&svg, error))? {
            Some(graph) => {
                put(&svg, graph.as_bytes())?;
                put(&folded, (view.folded(profile, index).join("\n") + "\n").as_bytes())?;
            }
            // An earlier profile's is not this one's.
            None => [svg, folded].iter().try_for_each(|name| remove(&folder.join(name)))?,
        }
    }
    Ok(written)
}

fn failed(name: &str, source: io::Error) -> FolderError {
    FolderError::Form { name: name.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), WriteError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError::new(path, error)),
        _ => Ok(()),
    }
}
