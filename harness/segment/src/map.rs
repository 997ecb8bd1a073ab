//! Memory files, mapping and waiting: the only OS code of this crate.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// Seals that fix a memory file's size: whoever maps it can't be hurt by the other end cutting it short.
const SIZE_SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Memory mapped for reading and writing, shared with whoever has the same file.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is memory; it is accessed through atomics only (`words`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Makes an anonymous memory file of `bytes` zero bytes, whose size can't change. It is closed on exec.
///
/// # Errors
/// What the kernel said: too many files, no memory, or memory files forbidden.
pub fn create_file(name: &CStr, bytes: usize) -> io::Result<File> {
    // SAFETY: `name` is a C string; the call has no other requirement.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) })?;
    // SAFETY: the kernel has just given us `fd`, and nobody else knows it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes as u64)?;
    // SAFETY: F_ADD_SEALS takes a file descriptor, which `file` holds open, and an int.
    check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, SIZE_SEALS | libc::F_SEAL_SEAL) })?;
    Ok(file)
}

impl Mapping {
    /// Maps a whole memory file.
    ///
    /// # Errors
    /// If its size is not sealed (the memory could vanish under the reader), or what the kernel said.
    pub fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: F_GET_SEALS takes a file descriptor, which `file` holds open.
        let seals = check(unsafe { libc::fcntl(fd, libc::F_GET_SEALS) })?;
        if seals & SIZE_SEALS != SIZE_SEALS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the memory file's size is not sealed"));
        }
        // SAFETY: an all-zero `stat` is a valid value of that plain C struct.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `fd` is open and `stat` is valid for the call to fill in.
        check(unsafe { libc::fstat(fd, &raw mut stat) })?;
        let bytes = usize::try_from(stat.st_size).unwrap_or(0);
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the memory file is empty"));
        }
        Self::map(fd, bytes)
    }

    /// Maps the first `bytes` of a file that this process has made, and whose blocks it has allocated: see
    /// [`crate::published::create`]. Its size can't be sealed: who may write the file can cut it short, and end this
    /// process by that. Those are its own user and root, who can end it anyhow. Files of others are read, never mapped.
    pub(crate) fn of_own(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Self::map(file.as_raw_fd(), bytes)
    }

    fn map(fd: i32, bytes: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { base, bytes })
    }

    /// The memory, as words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is mapped, page-aligned, for `bytes` bytes as long as `self` lives; no page can vanish, since the
        // size is sealed, or only those could cut the file who may end this process (`of_own`); any bits are a valid AtomicU64; other processes write it too, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.base.cast::<AtomicU64>().as_ptr(), self.bytes / 8) }
    }

    /// Where it begins, and its size in bytes.
    #[must_use]
    pub fn raw(&self) -> (NonNull<u8>, usize) {
        (self.base, self.bytes)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this range, and no reference into it outlives `self` (`words` borrows).
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Waits while `word` is `expected`, at most for `timeout`. May return early without reason: check, and wait again.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let time = timeout.map(|t| libc::timespec { tv_sec: t.as_secs() as _, tv_nsec: t.subsec_nanos().into() });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `word` is a valid, aligned futex word for the call; `time` is null or a valid timespec. Shared futex:
    // other process.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, time) };
}

/// Wakes everybody who waits for `word`.
pub fn wake(word: &AtomicU32) {
    // SAFETY: `word` is a valid, aligned futex word for the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn two_mappings_of_one_file_are_the_same_memory() {
        let file = create_file(c"test", 8192).unwrap();
        let (a, b) = (Mapping::new(file.as_fd()).unwrap(), Mapping::new(file.as_fd()).unwrap());
        a.words()[7].store(42, Relaxed);
        assert_eq!(b.words()[7].load(Relaxed), 42);
    }

    #[test]
    fn a_file_that_could_be_cut_short_is_not_mapped() {
        let file = tempfile();
        file.set_len(4096).unwrap();
        assert!(Mapping::new(file.as_fd()).is_err());
        let sealed = create_file(c"test", 4096).unwrap();
        assert!(sealed.set_len(0).is_err());
    }

    fn tempfile() -> File {
        let path = std::env::temp_dir().join(format!("heapgate-map-test-{}", std::process::id()));
        // What a process of this number may have left.
        let _ = std::fs::remove_file(&path);
        let file = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }
}
