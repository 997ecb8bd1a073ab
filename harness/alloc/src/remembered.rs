//! A descriptor that this crate keeps open for itself. Programs close what they don't know (daemons, all there are), and
//! then its number is another file's: so it is looked at before it is used.

use std::sync::atomic::{
    AtomicI32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// The number of a descriptor, and what it was of.
pub(crate) struct Remembered {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

const NONE: i32 = -1;

impl Remembered {
    pub(crate) const fn none() -> Self {
        Self { fd: AtomicI32::new(NONE), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    pub(crate) fn remember(&self, fd: i32) {
        let Some((device, inode)) = identity(fd) else { return };
        self.device.store(device, Relaxed);
        self.inode.store(inode, Relaxed);
        self.fd.store(fd, Release);
    }

    /// The descriptor, if it still is what it was.
    pub(crate) fn get(&self) -> Option<i32> {
        let fd = Some(self.fd.load(Acquire)).filter(|&fd| fd != NONE)?;
        (identity(fd)? == (self.device.load(Relaxed), self.inode.load(Relaxed))).then_some(fd)
    }
}

fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: an all-zero `stat` is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat takes any number, and says whether it is a descriptor; `stat` is valid for it to fill in.
    let found = unsafe { libc::fstat(fd, &raw mut stat) } == 0;
    // The types of the fields differ between architectures.
    #[allow(clippy::unnecessary_cast, reason = "they are narrower on some architectures")]
    found.then_some((stat.st_dev as u64, stat.st_ino as u64))
}
