//! Memory that is resident and of no use, mapped beside the allocator; and what is resident.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use std::time::Instant;

/// A look takes some tens of microseconds, or with much memory hundreds; so many times as long nobody looks again, and it is
/// lost in the noise.
const BETWEEN_LOOKS: u32 = 50;

/// Pages that are written, whose number follows what else is resident.
#[derive(Debug)]
pub(super) struct Ballast {
    share: f64,
    resident: Resident,
    /// Mapped and written; null where `bytes` is 0.
    pages: *mut libc::c_void,
    bytes: usize,
    /// When to look again.
    next_look: Instant,
}

impl Ballast {
    /// Makes `share` of what is resident now resident once more.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn new(share: f64) -> io::Result<Self> {
        let resident = Resident::open()?;
        let mut ballast = Self { share, resident, pages: null_mut(), bytes: 0, next_look: Instant::now() };
        ballast.follow()?;
        Ok(ballast)
    }

    /// Looks again, unless it just did.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn follow_now_and_then(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        if begin < self.next_look {
            return Ok(());
        }
        self.follow()?;
        let end = Instant::now();
        self.next_look = end + (end - begin) * BETWEEN_LOOKS;
        Ok(())
    }

    /// Grows to the share of what is resident; never shrinks, as a peak does not.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let others = self.resident.bytes()?.saturating_sub(self.bytes);
        self.grow(((others as f64 * self.share) as usize).next_multiple_of(self.resident.page_bytes))
    }

    fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let pages = if self.bytes == 0 {
            // SAFETY: a new anonymous mapping where the kernel likes touches nothing that is there.
            unsafe { libc::mmap(null_mut(), bytes, protection, flags, -1, 0) }
        } else {
            // SAFETY: `pages` is this value's own mapping of `bytes` bytes, into which nobody else points.
            unsafe { libc::mremap(self.pages, self.bytes, bytes, libc::MREMAP_MAYMOVE) }
        };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A huge page would be resident where one small page of it was written. Kernels without huge pages refuse it.
        // SAFETY: advice on a mapping of one's own, of `bytes` bytes.
        unsafe { libc::madvise(pages, bytes, libc::MADV_NOHUGEPAGE) };
        for at in (self.bytes..bytes).step_by(self.resident.page_bytes) {
            // SAFETY: `at` is inside the mapping, which is writable. Volatile: a page that nobody reads is written all
            // the same.
            unsafe { pages.cast::<u8>().add(at).write_volatile(1) };
        }
        (self.pages, self.bytes) = (pages, bytes);
        Ok(())
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        if let Some(pages) = NonNull::new(self.pages) {
            // SAFETY: `pages` is this value's own mapping of `bytes` bytes, which nobody uses any more.
            unsafe { libc::munmap(pages.as_ptr(), self.bytes) };
        }
    }
}

/// Tells what of this process is resident, without allocating: as `smaps_rollup` counts it, page by page. `statm` is quicker
/// and, on kernels from 6.2, wrong by up to some dozen pages for each CPU.
#[derive(Debug)]
pub(super) struct Resident {
    rollup: File,
    page_bytes: usize,
}

impl Resident {
    const FILE: &str = "/proc/self/smaps_rollup";

    /// # Errors
    /// If there is no `/proc`.
    pub(super) fn open() -> io::Result<Self> {
        let no_proc = |error| io::Error::other(format!("{}: {error}", Self::FILE));
        // SAFETY: sysconf has no requirement.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(Self { rollup: File::open(Self::FILE).map_err(no_proc)?, page_bytes: page_bytes.max(1) as usize })
    }

    /// Bytes.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub(super) fn bytes(&self) -> io::Result<usize> {
        // A line for the range, and some twenty of `Name: number kB`.
        let mut text = [0; 1024];
        let length = self.rollup.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..length]).unwrap_or("");
        let number = text.lines().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB")?.trim().parse().ok());
        let kib: usize = number.ok_or_else(|| io::Error::other(format!("{} can't be understood", Self::FILE)))?;
        Ok(kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_grows_to_its_share_and_keeps_what_it_has() {
        let mut ballast = Ballast::new(0.0).unwrap();
        assert_eq!(ballast.bytes, 0);
        let page = ballast.resident.page_bytes;
        // Enough to stand out from whatever other tests do in this process.
        for pages in [1, 3, 8_192, 16_384] {
            ballast.grow(pages * page).unwrap();
            assert_eq!(ballast.bytes, pages * page);
        }
        ballast.grow(page).unwrap();
        assert_eq!(ballast.bytes, 16_384 * page);
        assert!(ballast.resident.bytes().unwrap() > ballast.bytes);
        ballast.share = 0.5;
        ballast.follow().unwrap();
        assert!(ballast.bytes >= 16_384 * page);
    }
}
