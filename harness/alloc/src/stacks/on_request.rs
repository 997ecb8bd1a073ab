//! Taking stacks for a time, in a process that runs: memory that is the table of one request after the other.
//!
//! A thread may be taking a stack at the very moment that a request ends, so the memory is never given back: what lies
//! there is exchanged, as a whole. Between requests it is zeros of the process's own, where a straggler's words do no harm.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use heapgate_segment::published::{self, Entry};
use heapgate_segment::stacks::{self, Capacity, Settings, StackTable};
use heapgate_segment::writer::Writer;

use super::{TABLE, switch_off, switch_on, warm_up};

const BYTES: usize = Capacity::SERVICE.bytes();

/// The memory, for the process's life.
pub(crate) struct Region {
    base: NonNull<u8>,
}

// SAFETY: it is memory that is reached through atomics only.
unsafe impl Send for Region {}

impl Region {
    /// Makes it this process's table.
    ///
    /// # Errors
    /// Says why no stack can be taken here.
    pub(crate) fn new() -> Result<Self, String> {
        let taken = || "its stacks are being taken already: it is a trial of heapgate's".to_owned();
        if TABLE.get().is_some() {
            return Err(taken());
        }
        warm_up()?;
        let failed = |error: io::Error| format!("no memory for stacks: {error}");
        // Once in a process's life: if what follows fails, it stays reserved, and is not used.
        let base = map(None, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1).map_err(failed)?;
        // SAFETY: it was mapped just now, page-aligned, for BYTES bytes, is never unmapped (only exchanged, as a whole, for
        // memory that is as readable and writable), and is reached as atomics only.
        let words: &'static [AtomicU64] = unsafe { std::slice::from_raw_parts(base.cast().as_ptr(), BYTES / 8) };
        stacks::format(words, Capacity::SERVICE, &Settings::NOTHING);
        let table = StackTable::new(words).map_err(|error| error.to_string())?;
        TABLE.set(table).map_err(|_| taken())?;
        Ok(Self { base })
    }

    /// Begins to take stacks into a new file beside `entry`'s own.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) fn begin(&self, entry: &Entry, settings: &Settings, writer: Writer) -> Result<(), String> {
        let failed =
            |error: io::Error| format!("no file of {BYTES} bytes for stacks beside {}: {error}", entry.path.display());
        let file = published::create_stacks(entry, settings).map_err(failed)?;
        map(Some(self.base), libc::MAP_SHARED, file.as_raw_fd()).map_err(failed)?;
        switch_on(writer);
        Ok(())
    }

    /// Ends it. Returns samples, slow calls and samples that found no room, and stacks not taken.
    pub(crate) fn end(&self, writer: Writer) -> [u64; 4] {
        switch_off(writer);
        let values = TABLE.get().map_or([0; 4], StackTable::counts);
        // If it fails, stragglers go on writing into the file, which is removed soon.
        let _ = map(Some(self.base), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1);
        values
    }
}

/// Maps [`BYTES`] bytes, anywhere or in the place of what is at `at`.
fn map(at: Option<NonNull<u8>>, flags: i32, file: i32) -> io::Result<NonNull<u8>> {
    let (address, fixed) = at.map_or((std::ptr::null_mut(), 0), |at| (at.as_ptr().cast(), libc::MAP_FIXED));
    // SAFETY: either at an address of the kernel's choice, or in the place of a whole mapping of our own, of this size,
    // which is reached as atomics only: for them, any bits are valid.
    let base = unsafe { libc::mmap(address, BYTES, libc::PROT_READ | libc::PROT_WRITE, flags | fixed, file, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}
