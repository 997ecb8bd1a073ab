//! Counts what the kernel and the processor see of this process: system calls that move memory, and misses of the
//! translation buffer. By `perf_event_open`, through the `perf-event2` crate.
//!
//! What can't be counted on a machine is left out with the reason, never guessed.

use std::fs;
use std::path::PathBuf;

use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Tracepoint};
use perf_event::{Builder, Counter};

/// Something that can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Calls of `mmap`.
    Mmap,
    /// Calls of `munmap`.
    Munmap,
    /// Calls of `mremap`.
    Mremap,
    /// Calls of `madvise`.
    Madvise,
    /// Calls of `brk`.
    Brk,
    /// Loads whose page was in no level of the data translation buffer.
    DtlbLoadMisses,
}

impl Event {
    /// The system calls by which an allocator gets and returns memory.
    pub const ALLOCATOR_SYSCALLS: [Self; 5] = [Self::Mmap, Self::Munmap, Self::Mremap, Self::Madvise, Self::Brk];

    /// The tracepoint, for a system call.
    fn tracepoint(self) -> Option<&'static str> {
        match self {
            Self::Mmap => Some("sys_enter_mmap"),
            Self::Munmap => Some("sys_enter_munmap"),
            Self::Mremap => Some("sys_enter_mremap"),
            Self::Madvise => Some("sys_enter_madvise"),
            Self::Brk => Some("sys_enter_brk"),
            Self::DtlbLoadMisses => None,
        }
    }

    fn open(self) -> Result<Counter, String> {
        let mut builder = match self.tracepoint() {
            Some(name) => {
                let mut builder = Builder::new(Tracepoint::with_id(tracepoint_id(name)?));
                // A tracepoint is hit in the kernel, on behalf of the process.
                builder.exclude_kernel(false);
                builder
            }
            None => Builder::new(Cache { which: CacheId::DTLB, operation: CacheOp::READ, result: CacheResult::MISS }),
        };
        let built = builder.inherit(true).build();
        built.map_err(|error| format!("perf_event_open: {error}"))
    }
}

/// An event that can't be counted here, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} can't be counted: {reason}")]
pub struct Unavailable {
    /// The event.
    pub event: Event,
    /// What the system said.
    pub reason: String,
}

/// Counters of this thread and of every thread that it, or one of those, starts after they were opened.
pub struct Counters {
    counters: Vec<Result<Counter, Unavailable>>,
    at_start: Vec<Option<u64>>,
}

impl Counters {
    /// Opens a counter for each event; they run from now on. Open them before any thread that is to be counted starts.
    ///
    /// ```
    /// use heapgate_workloads::perf::{Counters, Event};
    /// let mut counters = Counters::open(&Event::ALLOCATOR_SYSCALLS);
    /// counters.start();
    /// assert_eq!(counters.read().len(), 5);
    /// ```
    #[must_use]
    pub fn open(events: &[Event]) -> Self {
        let open = |&event: &Event| {
            let counter = event.open().and_then(|mut counter| {
                counter.enable().map_err(|error| format!("it can't be switched on: {error}"))?;
                Ok(counter)
            });
            counter.map_err(|reason| Unavailable { event, reason })
        };
        Self { counters: events.iter().map(open).collect(), at_start: vec![None; events.len()] }
    }

    /// The events that can't be counted.
    pub fn unavailable(&self) -> impl Iterator<Item = &Unavailable> {
        self.counters.iter().filter_map(|counter| counter.as_ref().err())
    }

    /// Starts anew from 0.
    pub fn start(&mut self) {
        for (counter, start) in self.counters.iter_mut().zip(&mut self.at_start) {
            *start = counter.as_mut().ok().and_then(count);
        }
    }

    /// How often each event came since the start, in the order in which they were asked for; nothing for one that
    /// can't be counted, or before the start.
    pub fn read(&mut self) -> Vec<Option<u64>> {
        let since = |(counter, start): (&mut Result<Counter, Unavailable>, &Option<u64>)| {
            Some(count(counter.as_mut().ok()?)?.saturating_sub((*start)?))
        };
        self.counters.iter_mut().zip(&self.at_start).map(since).collect()
    }

    /// The sum of [`Self::read`]; nothing unless each was counted, since a part of a sum would pass for the whole.
    pub fn read_sum(&mut self) -> Option<u64> {
        self.read().into_iter().sum()
    }
}

/// The count, scaled up where the processor had to share its counters among events; nothing if it was never counted.
fn count(counter: &mut Counter) -> Option<u64> {
    let data = counter.read_full().ok()?;
    let (enabled, running) = (data.time_enabled()?.as_nanos(), data.time_running()?.as_nanos());
    let scaled = u128::from(data.count()) * enabled / (running > 0).then_some(running)?;
    u64::try_from(scaled).ok()
}

/// The kernel's number of a tracepoint of system calls, from where the file system that tells it is mounted.
fn tracepoint_id(name: &str) -> Result<u64, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| format!("/proc/self/mounts: {error}"))?;
    let root = tracefs(&mounts).ok_or("no tracefs is mounted; `mount -t tracefs none /sys/kernel/tracing`")?;
    let path = root.join("events/syscalls").join(name).join("id");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.trim().parse().map_err(|_| format!("{}: '{}' is no number", path.display(), text.trim()))
}

/// Where `mounts`, lines of `device folder type …`, has a file system of type tracefs, by itself or within debugfs.
fn tracefs(mounts: &str) -> Option<PathBuf> {
    let mounted = |kind: &str| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let folder = fields.next()?;
            (fields.next()? == kind).then(|| PathBuf::from(folder))
        })
    };
    mounted("tracefs").or_else(|| Some(mounted("debugfs")?.join("tracing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracefs_is_found_wherever_it_is_mounted() {
        let debug = "none /proc proc rw 0 0\nnone /sys/kernel/debug debugfs rw 0 0\n";
        assert_eq!(tracefs(debug), Some("/sys/kernel/debug/tracing".into()));
        assert_eq!(tracefs(&format!("{debug}none /t tracefs rw 0 0\n")), Some("/t".into()));
        assert_eq!(tracefs("none /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn every_event_is_either_counted_or_unavailable_with_a_reason() {
        let events = [&Event::ALLOCATOR_SYSCALLS[..], &[Event::DtlbLoadMisses]].concat();
        let mut counters = Counters::open(&events);
        counters.start();
        let unavailable: Vec<Event> = counters.unavailable().map(|u| u.event).collect();
        assert!(counters.unavailable().all(|u| !u.reason.is_empty()));
        for (event, count) in events.iter().zip(counters.read()) {
            // A hardware counter that opens need not get its turn on the processor at once.
            assert!(count.is_none() || !unavailable.contains(event), "{event:?}");
            assert!(count.is_some() || unavailable.contains(event) || *event == Event::DtlbLoadMisses, "{event:?}");
        }
    }

    #[test]
    fn mappings_are_counted_in_threads_too_where_system_calls_can_be_counted() {
        let mut counters = Counters::open(&[Event::Mmap]);
        if counters.unavailable().next().is_some() {
            return;
        }
        counters.start();
        std::thread::spawn(|| drop(std::hint::black_box(vec![1u8; 64 << 20]))).join().expect("it only allocates");
        // The stack of the thread and its vector.
        assert!(counters.read()[0].is_some_and(|calls| calls >= 2), "{:?}", counters.read());
    }
}
