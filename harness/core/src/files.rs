//! Files are written whole or not at all: a reader, or a run that is cut off, never sees half of one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Rights asked for; the user's umask takes from them, as with any file.
const FILE_MODE: u32 = 0o666;

/// Rights of a file for a program of another user, such as node_exporter: to be read by all, whatever the umask.
const READABLE_MODE: u32 = 0o644;

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
    /// The path, or one above it, names what is no folder.
    #[error("cannot write to {}: it is not a folder; name another", path.display())]
    NotAFolder {
        /// What should have been a folder.
        path: PathBuf,
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
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
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
            | Self::NotAFolder { path }
            | Self::IsFolder { path }
            | Self::Other { path, .. } => path,
        }
    }
}

/// Writes `bytes` to `path`: to a temporary file beside it, synced, renamed, and the folder synced. When this returns,
/// the new file is there and outlives a power cut; when it fails, the old file is untouched. A link is followed. What
/// is no regular file (a pipe, `/dev/stdout`) is written to directly.
///
/// # Errors
/// See [`WriteError`].
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_with(path, bytes, None)
}

/// [`atomic_write`] of a file that programs of other users are to read: its mode is 0644 from its first instant on.
///
/// # Errors
/// See [`WriteError`].
pub fn atomic_write_readable(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_with(path, bytes, Some(Permissions::from_mode(READABLE_MODE)))
}

fn write_with(path: &Path, bytes: &[u8], permissions: Option<Permissions>) -> Result<(), WriteError> {
    let fail = |source| WriteError::new(path, source);
    match target(path)? {
        Target::File(file) => replace(&file, bytes, permissions).map_err(fail),
        Target::Device(file) => {
            OpenOptions::new().write(true).open(file).and_then(|mut f| f.write_all(bytes)).map_err(fail)
        }
    }
}

/// Finds out whether `path` could be written to, without touching what is there: something small is written beside it
/// and removed.
///
/// # Errors
/// See [`WriteError`].
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    /// A block of the file system: a disk that is full has none.
    const PROBE: [u8; 4096] = [b' '; 4096];
    let fail = |source| WriteError::new(path, source);
    match target(path)? {
        Target::File(file) => temporary(folder_of(&file), &PROBE).map_err(fail)?.close().map_err(fail),
        Target::Device(file) => {
            let meta = fs::metadata(&file).map_err(fail)?;
            if meta.file_type().is_char_device() {
                // Nothing is written, but a device that is full says so.
                OpenOptions::new().write(true).open(file).and_then(|mut f| f.write(&[])).map_err(fail)?;
            }
            // A pipe that was opened and closed would be at its end for its reader.
            Ok(())
        }
    }
}

/// Whether what is written to `path` goes into a file, which is then there whole or not at all: not so for
/// `/dev/stdout` or a pipe.
#[must_use]
pub fn is_file_or_absent(path: &Path) -> bool {
    matches!(target(path), Ok(Target::File(_)))
}

/// Moves the file `from` over `to` at one instant, and syncs the folder. Both are in one folder; of a link `to`, what
/// it points to is.
///
/// # Errors
/// See [`WriteError`].
pub fn move_over(from: &Path, to: &Path) -> Result<(), WriteError> {
    let fail = |source| WriteError::new(to, source);
    let target = behind_link(to).map_err(fail)?;
    fs::rename(from, &target).and_then(|()| File::open(folder_of(&target))?.sync_all()).map_err(fail)
}

/// `path`, or, where that is a link, what it points to.
///
/// # Errors
/// If the link can't be followed. One that points to nothing is taken for what it is: a name to be replaced.
pub fn behind_link(path: &Path) -> io::Result<PathBuf> {
    if !path.is_symlink() {
        return Ok(path.to_owned());
    }
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        result => result,
    }
}

/// What a path stands for, links followed.
enum Target {
    /// A file, or nothing yet.
    File(PathBuf),
    /// A pipe, a socket, a device.
    Device(PathBuf),
}

fn target(path: &Path) -> Result<Target, WriteError> {
    let target = behind_link(path).map_err(|source| WriteError::new(path, source))?;
    match fs::metadata(&target) {
        Ok(meta) if meta.is_dir() => Err(WriteError::IsFolder { path: path.to_owned() }),
        Ok(meta) if !meta.is_file() => Ok(Target::Device(target)),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(WriteError::new(path, e)),
        _ => Ok(Target::File(target)),
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn replace(target: &Path, bytes: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let folder = folder_of(target);
    let temporary = temporary(folder, bytes)?;
    permissions.map_or(Ok(()), |permissions| temporary.as_file().set_permissions(permissions))?;
    temporary.persist(target).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

/// A file in `folder` that holds `bytes`, is on the disk, and goes away unless it is kept.
fn temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut temporary = tempfile::Builder::new()
        .prefix(".heapgate-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(FILE_MODE))
        .tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// Makes `folder` and those above it, where missing.
///
/// # Errors
/// See [`WriteError`].
pub fn make_folder(folder: &Path) -> Result<(), WriteError> {
    fs::create_dir_all(folder).map_err(|source| match folder.ancestors().find(|above| above.exists()) {
        Some(above) if !above.is_dir() => WriteError::NotAFolder { path: above.to_owned() },
        _ => WriteError::new(folder, source),
    })
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
    fn asking_whether_a_file_can_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        check_writable(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "old").unwrap();
        check_writable(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"old".to_vec(), 1));
        assert!(matches!(check_writable(folder.path()), Err(WriteError::IsFolder { .. })));
        assert!(matches!(check_writable(&path.join("below")), Err(WriteError::NoFolder { .. })));
        assert!(matches!(check_writable(Path::new("/dev/full")), Err(WriteError::DiskFull { .. })));
        check_writable(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn a_file_that_is_moved_over_a_link_replaces_what_it_points_to() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link, new] = ["real", "link", "new"].map(|name| folder.path().join(name));
        fs::write(&real, "old").unwrap();
        fs::write(&new, "new").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        move_over(&new, &link).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(link.is_symlink() && !new.exists());
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
    fn a_folder_that_is_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for wanted in [file.clone(), file.join("below"), file.join("far/below")] {
            let error = make_folder(&wanted).unwrap_err();
            assert!(matches!(&error, WriteError::NotAFolder { path } if *path == file), "{error}");
        }
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
    fn a_file_for_other_programs_can_be_read_by_all_even_if_the_old_one_could_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heapgate.prom");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        atomic_write_readable(&path, b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"new".to_vec(), 1));
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
