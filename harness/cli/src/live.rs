//! Looks at the published processes of one service, for a comparison of their sides.

use std::path::PathBuf;

use heapgate_core::live::{Counts, Observed};
use heapgate_prometheus::ProcessReader;
use heapgate_segment::clock::Anchor;
use heapgate_segment::groups::GroupGauge;
use heapgate_segment::histogram::BUCKETS;
use heapgate_segment::layout::{Gauge, Operation};
use heapgate_segment::published::{self, Buffer, Entry};
use heapgate_segment::reader::Totals;

/// What makes a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Groups: of threads in a process, or whole processes (`HEAPGATE_GROUP`).
    Groups,
    /// Versions.
    Versions,
}

/// Which processes are looked at.
#[derive(Debug, Clone)]
pub enum Which {
    Service(String),
    Process(u32),
}

impl Which {
    fn takes(&self, entry: &Entry) -> bool {
        match self {
            Self::Service(name) => entry.name == *name,
            Self::Process(pid) => entry.pid == *pid,
        }
    }
}

/// Where they are found.
#[derive(Debug)]
pub struct Source {
    pub folder: PathBuf,
    pub which: Which,
    pub sides: Sides,
    buffer: Buffer,
    processes: ProcessReader,
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Look {
    pub observed: Vec<Observed>,
    /// The service's name.
    pub service: String,
    /// Processes of the service that live.
    pub processes: usize,
    /// Files that could not be read: which, and why.
    pub unreadable: Vec<String>,
    /// Whether a side is a group of threads, so that only those figures are compared that it has.
    pub of_threads: bool,
    /// The version that started first, of those that run; for which is the old one.
    pub oldest: Option<(u64, String)>,
}

impl Source {
    pub fn new(folder: PathBuf, which: Which, sides: Sides) -> Self {
        Self { folder, which, sides, buffer: Buffer::default(), processes: ProcessReader::default() }
    }

    /// Looks at every process of the service that lives.
    ///
    /// # Errors
    /// If the folder can't be read. One that isn't there yet has no processes.
    pub fn look(&mut self) -> std::io::Result<Look> {
        let entries = match published::list(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            result => result?,
        };
        let mut look = Look::default();
        let which = self.which.clone();
        for entry in entries.iter().filter(|entry| which.takes(entry)) {
            match self.read(entry, &mut look) {
                Ok(()) => {}
                // A process that ended, and was cleared away, since the list was made.
                Err(_) if !entry.path.exists() => {}
                Err(error) => look.unreadable.push(format!("{}: {error}", entry.path.display())),
            }
        }
        Ok(look)
    }

    fn read(&mut self, entry: &Entry, look: &mut Look) -> Result<(), String> {
        entry.read(&mut self.buffer).map_err(|error| error.to_string())?;
        let reader = self.buffer.reader().map_err(|error| error.to_string())?;
        // Before the kernel's figures and after them: what lies between belongs to this process.
        let kernel = entry.is_in_proc().then(|| self.processes.read(entry.pid).ok()).flatten();
        let kernel = kernel.filter(|_| entry.is_in_proc());
        if !entry.is_alive() {
            return Ok(());
        }
        look.service.clone_from(&entry.name);
        look.processes += 1;
        let ticks_per_second = reader.ticks_per_second(Some(Anchor::now(reader.clock())));
        let process = (entry.pid, entry.start_time);
        let mut observe = |side: String, totals: &Totals, resident_bytes, workers, cpu_s, requests| {
            let counts = Counts {
                calls: totals.allocation_calls().wrapping_add(totals.objects_freed()),
                clean: clean(totals),
                ticks_per_second,
                cpu_s,
                live_objects: totals.live_objects(),
                live_bytes: totals.live_bytes(),
                resident_bytes,
                workers,
                requests,
            };
            look.observed.push(Observed { process, side, counts });
        };
        let resident = kernel.as_ref().map(|kernel| kernel.resident_bytes);
        let resident = resident.or_else(|| reader.gauge(Gauge::JemallocResident));
        let cpu_s = kernel.as_ref().map(|kernel| kernel.cpu_s);
        match self.sides {
            Sides::Versions => {
                let version = Some(reader.version()).filter(|version| !version.is_empty());
                let version = version.unwrap_or_else(|| "(none)".to_owned());
                if look.oldest.as_ref().is_none_or(|(start, _)| entry.start_time < *start) {
                    look.oldest = Some((entry.start_time, version.clone()));
                }
                observe(version, &reader.totals(), resident, 1, cpu_s, None);
            }
            Sides::Groups => {
                for group in reader.groups() {
                    let (totals, requests) = (reader.group_totals(&group), reader.group_requests(&group));
                    if group.whole_process {
                        observe(group.name, &totals, resident, 1, cpu_s, requests);
                    } else {
                        look.of_threads = true;
                        let resident = group.gauge(GroupGauge::Resident);
                        observe(group.name, &totals, resident, group.arenas, None, requests);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Timed calls that were not interrupted, of all operations, by bucket.
fn clean(totals: &Totals) -> Vec<u64> {
    let mut sum = vec![0_u64; BUCKETS];
    for operation in [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc] {
        for (sum, count) in sum.iter_mut().zip(totals.clean(operation)) {
            *sum = sum.wrapping_add(count);
        }
    }
    sum
}
