//! Making a published file: the service's end.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Entry;
use super::entry::{read_stat, whole_file};
use crate::layout::{Level, Shape, format_shape};
use crate::map::Mapping;
use crate::stacks::{self, Capacity, Settings};

/// A segment in a file that has no name yet.
#[derive(Debug)]
pub struct Created {
    /// The file.
    pub file: NewFile,
    /// Its memory.
    pub mapping: Mapping,
}

/// A file that is to be published. As long as it is open or mapped, its process counts as alive.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    hidden: Hidden,
}

/// Makes a file in `folder` with a segment of `slots` slots and no phases, readable by its user alone. All its blocks are
/// allocated, so that a full disk is an error here, and not the end of the process at some later store.
///
/// # Errors
/// What the system said.
///
/// # Panics
/// If there are no slots, or more than [`super::MAX_PUBLISHED_SLOTS`].
pub fn create(folder: &Path, slots: usize, level: Level, sample_period: u64) -> io::Result<Created> {
    let shape = Shape { slots, phases: 0 };
    assert!(slots <= super::MAX_PUBLISHED_SLOTS, "up to {} slots are read", super::MAX_PUBLISHED_SLOTS);
    let file = NewFile::new(folder)?;
    // Whatever the umask took.
    file.file.set_permissions(Permissions::from_mode(0o600))?;
    allocate(&file.file, shape.bytes())?;
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: F_OFD_SETLK takes an open descriptor and a flock.
    if unsafe { libc::fcntl(file.file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mapping = Mapping::of_own(file.file.as_fd(), shape.bytes())?;
    format_shape(mapping.words(), shape, level, sample_period);
    Ok(Created { file, mapping })
}

/// Makes the file of stacks beside `entry`'s own, with a table of [`Capacity::SERVICE`], readable by its user alone, all
/// its blocks allocated. It appears whole; in place of one that was left there.
///
/// # Errors
/// What the system said.
pub fn create_stacks(entry: &Entry, settings: &Settings) -> io::Result<File> {
    let folder = entry.path.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut new = NewFile::new(folder)?;
    new.file.set_permissions(Permissions::from_mode(0o600))?;
    allocate(&new.file, Capacity::SERVICE.bytes())?;
    let mapping = Mapping::of_own(new.file.as_fd(), Capacity::SERVICE.bytes())?;
    stacks::format(mapping.words(), Capacity::SERVICE, settings);
    new.appear(&Entry { path: entry.stacks_path(), ..entry.clone() })?;
    Ok(new.file)
}

/// Makes the file of samples of CPU time beside `entry`'s own, empty, readable by its user alone, in place of one that was
/// left there.
///
/// # Errors
/// What the system said.
pub fn create_cpu(entry: &Entry) -> io::Result<File> {
    let path = entry.cpu_path();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

impl NewFile {
    /// A new file without a name, or, where there are none such (overlayfs before Linux 6.1), with a hidden one.
    fn new(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.clone().custom_flags(libc::O_TMPFILE).open(folder) {
            Ok(file) => return Ok(Self { file, hidden: Hidden(None) }),
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) => {
                return Err(error);
            }
            Err(_) => {}
        }
        let hidden = folder.join(format!(".{}.{}.new", std::process::id(), own_start_time()?));
        // Left by an attempt of this same process.
        let _ = fs::remove_file(&hidden);
        let file = options.create_new(true).custom_flags(libc::O_NOFOLLOW).open(&hidden)?;
        Ok(Self { file, hidden: Hidden(Some(hidden)) })
    }

    /// Whether nothing is left of the file if its process is killed.
    #[must_use]
    pub fn has_no_name(&self) -> bool {
        self.hidden.0.is_none()
    }

    /// Makes the file appear as `entry` says, whole, in place of what a predecessor of the same process left (`exec`
    /// keeps both process id and start time).
    ///
    /// # Errors
    /// What the system said.
    pub fn appear(&mut self, entry: &Entry) -> io::Result<()> {
        match self.hidden.0.take() {
            None => link(self.file.as_fd(), entry),
            Some(hidden) => fs::rename(&hidden, &entry.path).inspect_err(|_| drop(Hidden(Some(hidden)))),
        }
    }
}

/// A file's name until it has its own. Dropping it removes the file.
#[derive(Debug)]
struct Hidden(Option<PathBuf>);

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn link(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    let try_link = || {
        let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let to = CString::new(entry.path.as_os_str().as_bytes())?;
        // SAFETY: both are C strings; the call has no other requirement.
        let result = unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    match try_link() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            entry.remove()?;
            try_link()
        }
        result => result,
    }
}

/// Allocates the blocks of `file`.
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to fill in.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    if known && limit.rlim_cur < bytes as libc::rlim_t {
        // To try would be a signal (SIGXFSZ) that ends the process.
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    loop {
        // SAFETY: the call takes an open descriptor and numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// When this process started: field 22 of its `/proc/self/stat`.
///
/// # Errors
/// If `/proc` is not there.
pub fn own_start_time() -> io::Result<u64> {
    let no_proc = || io::Error::other("/proc/self/stat can't be read, which says when this process started");
    read_stat("/proc/self/stat").map(|stat| stat.start_time).ok_or_else(no_proc)
}
