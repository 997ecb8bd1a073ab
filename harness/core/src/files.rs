//! Files are written whole or not at all: a reader, or a run that is cut off, never sees half of one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Rights asked for; the user's umask takes from them, as with any file.
const FILE_MODE: u32 = 0o666;

/// Why a file was not written. The old file, if any, is as it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The user may not write there.
    #[error("cannot write {}: permission denied; choose a folder you may write to, or change its rights", path.display())]
    Permission {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space, or the user's quota is used up.
    #[error("cannot write {}: the disk is full; free some space, or choose another disk", path.display())]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error("cannot write {}: the file system is read-only; choose another place", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is missing, or a part of the path is no folder.
    #[error("cannot write {}: there is no such folder; make it first, or choose another", path.display())]
    NoFolder {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path names a folder.
    #[error("cannot write {}: it is a folder; give the name of a file", path.display())]
    IsFolder {
        /// What was to be written.
        path: PathBuf,
    },
    /// Anything else the system refused.
    #[error("cannot write {}: {source}", path.display())]
    Other {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WriteError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { path, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoFolder { path, source },
            io::ErrorKind::IsADirectory => Self::IsFolder { path },
            _ => Self::Other { path, source },
        }
    }

    /// The file that was not written.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Permission { path, .. }
            | Self::DiskFull { path, .. }
            | Self::ReadOnly { path, .. }
            | Self::NoFolder { path, .. }
            | Self::IsFolder { path }
            | Self::Other { path, .. } => path,
        }
    }
}

/// Writes `bytes` to `path`: to a temporary file beside it, synced, renamed, and the folder synced. When this returns, the new
/// file is there and outlives a power cut; when it fails, the old file is untouched. A link is followed. What is no regular
/// file (a pipe, `/dev/stdout`) is written to directly.
///
/// # Errors
/// See [`WriteError`].
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |source| WriteError::new(path, source);
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(e) => return Err(fail(e)),
    };
    match fs::metadata(&target) {
        Ok(meta) if meta.is_dir() => return Err(WriteError::IsFolder { path: path.to_owned() }),
        Ok(meta) if !meta.is_file() => {
            return OpenOptions::new().write(true).open(&target).and_then(|mut f| f.write_all(bytes)).map_err(fail);
        }
        _ => {}
    }
    replace(&target, bytes).map_err(fail)
}

fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".heapgate-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(FILE_MODE))
        .tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(target).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

/// Makes `folder` and those above it, where missing.
///
/// # Errors
/// See [`WriteError`].
pub fn make_folder(folder: &Path) -> Result<(), WriteError> {
    fs::create_dir_all(folder).map_err(|source| WriteError::new(folder, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        atomic_write(&path, b"first, and longer").unwrap();
        atomic_write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_followed_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        atomic_write(&link, b"new").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_device_is_written_to_not_replaced() {
        atomic_write(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = atomic_write(Path::new("/dev/full"), b"x").unwrap_err();
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
        assert_eq!(error.path(), Path::new("/dev/full"));
    }

    #[test]
    fn missing_folders_and_folders_as_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let error = atomic_write(&folder.path().join("none/report.json"), b"x").unwrap_err();
        assert!(matches!(error, WriteError::NoFolder { .. }), "{error}");
        let error = atomic_write(folder.path(), b"x").unwrap_err();
        assert!(matches!(error, WriteError::IsFolder { .. }), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = atomic_write(&file.join("report.json"), b"x").unwrap_err();
        assert!(matches!(error, WriteError::NoFolder { .. }), "{error}");
    }

    #[test]
    fn permission_and_read_only_have_their_own_words() {
        for (kind, words) in [
            (io::ErrorKind::PermissionDenied, "permission denied"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::QuotaExceeded, "disk is full"),
        ] {
            let error = WriteError::new(Path::new("r.json"), kind.into());
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn others_may_read_the_file_as_the_umask_allows() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        atomic_write(&ours, b"x").unwrap();
        fs::write(&plain, "x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
