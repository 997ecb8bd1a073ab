//! One look at the published processes of a machine: their segments, and what the kernel says of them.

use std::fs;
use std::path::{Path, PathBuf};

use heapgate_segment::clock::Anchor;
use heapgate_segment::layout::{Level, Operation};
use heapgate_segment::published::{self, Buffer, Entry};
use heapgate_segment::reader::{Reader, Totals};

/// Which process: a number is given again, but not with the same time of start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    pub pid: u32,
    pub start_time: u64,
}

/// One process as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub id: ProcessId,
    pub alive: bool,
    pub service: String,
    pub version: String,
    pub allocator: String,
    pub level: Level,
    /// Whether the level was off for a time, so that live figures can't be trusted.
    pub was_off: bool,
    pub threads: u64,
    pub allocations: u64,
    pub live_objects: i64,
    pub live_bytes: i64,
    /// Absent of a process that is dead, or in a container of its own.
    pub rss_bytes: Option<u64>,
    pub stalls: Stalls,
}

/// Times of calls since the process began, weighted where they are sampled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stalls {
    /// By operation, in ABI order: pairs of bucket and count.
    pub clean: [Vec<(u32, u64)>; OPERATIONS.len()],
    /// All operations together.
    pub interrupted: Vec<(u32, u64)>,
    /// 0 where it isn't known yet: a process is a few milliseconds old then.
    pub ticks_per_second: f64,
}

/// The operations, in ABI order.
pub const OPERATIONS: [(Operation, &str); 4] = [
    (Operation::Alloc, "alloc"),
    (Operation::AllocZeroed, "zeroed"),
    (Operation::Realloc, "realloc"),
    (Operation::Dealloc, "dealloc"),
];

/// What one look found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    pub processes: Vec<Reading>,
    /// Files that could not be read: which, and why.
    pub unreadable: Vec<String>,
}

/// Where published processes are found.
#[derive(Debug)]
pub struct Source {
    folder: PathBuf,
    buffer: Buffer,
}

impl Source {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, buffer: Buffer::default() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks at every process there.
    ///
    /// # Errors
    /// If the folder can't be read. One that isn't there yet has no processes.
    pub fn look(&mut self) -> std::io::Result<Look> {
        let entries = match published::list(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            result => result?,
        };
        let mut look = Look::default();
        for entry in entries {
            match read(&entry, &mut self.buffer) {
                Ok(reading) => look.processes.push(reading),
                // A process that ended, and was cleared away, since the list was made.
                Err(_) if !entry.path.exists() => {}
                Err(error) => look.unreadable.push(format!("{}: {error}", entry.path.display())),
            }
        }
        Ok(look)
    }
}

fn read(entry: &Entry, buffer: &mut Buffer) -> Result<Reading, String> {
    entry.read(buffer).map_err(|error| error.to_string())?;
    let reader = buffer.reader().map_err(|error| error.to_string())?;
    // Looked at before the kernel's figures and again after them: what lies between belongs to this process, and to no later
    // one of its number. One in a container lives, but its number here is another's.
    let rss_bytes = entry.is_in_proc().then(|| rss_bytes(entry.pid)).flatten().filter(|_| entry.is_in_proc());
    let alive = entry.is_alive();
    let totals = reader.totals();
    Ok(Reading {
        id: ProcessId { pid: entry.pid, start_time: entry.start_time },
        alive,
        service: entry.name.clone(),
        version: reader.version(),
        allocator: reader.allocator(),
        level: reader.level(),
        was_off: reader.was_off(),
        threads: reader.threads_now() as u64,
        allocations: totals.allocation_calls(),
        live_objects: totals.live_objects(),
        live_bytes: totals.live_bytes(),
        rss_bytes,
        stalls: stalls(&reader, &totals),
    })
}

fn stalls(reader: &Reader<'_>, totals: &Totals) -> Stalls {
    let ticks_per_second = reader.ticks_per_second(Some(Anchor::now(reader.clock()))).unwrap_or(0.0);
    let mut interrupted: Vec<u64> = Vec::new();
    for (operation, _) in OPERATIONS {
        for (bucket, calls) in totals.interrupted(operation).enumerate() {
            match interrupted.get_mut(bucket) {
                Some(sum) => *sum = sum.wrapping_add(calls),
                None => interrupted.push(calls),
            }
        }
    }
    Stalls {
        clean: OPERATIONS.map(|(operation, _)| sparse(totals.clean(operation))),
        interrupted: sparse(interrupted),
        ticks_per_second,
    }
}

fn sparse(buckets: impl IntoIterator<Item = u64>) -> Vec<(u32, u64)> {
    (0..).zip(buckets).filter(|bucket| bucket.1 > 0).collect()
}

/// Resident memory, as the kernel has it.
fn rss_bytes(pid: u32) -> Option<u64> {
    rss_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Of the text of `/proc/PID/status`, whose unit is always kB and means KiB.
fn rss_of(status: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_kernels_text() {
        assert_eq!(rss_of("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t2\n"), Some(12_641_280));
        assert_eq!(rss_of("Name:\tkthreadd\n"), None, "a kernel thread has none");
        assert!(rss_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }
}
