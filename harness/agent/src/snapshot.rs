//! The figures of all processes at one look: as an exposition, as JSON.

use std::io::{self, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use heapgate_prometheus::{BOUNDS_S, Figures, Labels, MetricId, ProcessFigures, Scale, Stalls, text};
use heapgate_segment::layout::{LayoutError, Level};
use heapgate_segment::published::{Buffer, Entry, ReadError};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use crate::agent::{Errors, Known, Reason};
use crate::textfile::Textfiles;

/// The figures of one process.
#[derive(Debug)]
pub struct ProcessState {
    /// Names it in requests: its file's name, and its folder's number if that is not the first.
    pub id: String,
    /// The service's name.
    pub service: String,
    /// Its process id as seen from here.
    pub pid: u32,
    /// When it began, in the kernel's ticks since the machine booted.
    pub start_time: u64,
    /// The service's version.
    pub version: String,
    /// The allocator below the telemetry.
    pub allocator: String,
    /// Whether it runs.
    pub up: bool,
    /// The level in force.
    pub level: Level,
    labels: Labels,
    figures: Figures,
}

/// What is known of a process before its segment is read.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// Number of the folder.
    pub folder: usize,
    /// Its id as seen from here.
    pub pid: u32,
    pub alive: bool,
    /// When this look began.
    pub began: Instant,
    /// What the kernel says of it.
    pub process: Option<&'a ProcessFigures>,
}

/// Everything at one look.
#[derive(Debug)]
pub struct Snapshot {
    began: Instant,
    taken_unix_ms: u64,
    processes: Vec<ProcessState>,
    dropped: usize,
    errors: Errors,
    textfiles: Textfiles,
}

impl ProcessState {
    /// What names a file in requests.
    #[must_use]
    pub fn id_of(entry: &Entry, folder: usize) -> String {
        let id = format!("{}.{}.{}", entry.name, entry.pid, entry.start_time);
        if folder == 0 { id } else { format!("{id}@{folder}") }
    }

    /// Reads a process's segment.
    ///
    /// # Errors
    /// Why it can't be exported; `None` if the file is gone.
    pub(crate) fn read(
        entry: &Entry,
        seen: Seen<'_>,
        known: &mut Known,
        buffer: &mut Buffer,
    ) -> Result<Self, Option<Reason>> {
        let read = match &mut known.settled {
            Some(settled) => entry.read_again(buffer, settled, seen.began),
            None => entry.read(buffer),
        };
        read.map_err(|error| reason(&error))?;
        let reader = buffer.reader().map_err(|error| Some(of_layout(&error)))?;
        if known.scale.is_none() {
            known.scale = Scale::of(reader);
        }
        let mut figures = Figures::read(reader, known.scale.as_ref(), seen.process);
        if !seen.alive {
            figures.ended();
        }
        let (version, allocator) = (reader.version(), reader.allocator());
        Ok(Self {
            id: Self::id_of(entry, seen.folder),
            labels: Labels::of_process(&entry.name, Some(seen.pid), &allocator, &version),
            service: entry.name.clone(),
            pid: seen.pid,
            start_time: entry.start_time,
            version,
            allocator,
            up: seen.alive,
            level: reader.level(),
            figures,
        })
    }

    /// What its labels say; no two processes may have the same.
    pub(crate) fn named(&self) -> (&str, u32, &str, &str) {
        (&self.service, self.pid, &self.allocator, &self.version)
    }

    fn value(&self, metric: MetricId, series: usize) -> Option<f64> {
        self.figures.value(metric, series)
    }

    /// A count.
    fn number(&self, metric: MetricId) -> Option<i64> {
        self.value(metric, 0).map(|value| value as i64)
    }

    /// Counts of all series of a metric together.
    fn sum(&self, metric: MetricId) -> u64 {
        (0..metric.metric().series()).filter_map(|series| self.value(metric, series)).sum::<f64>() as u64
    }
}

fn reason(error: &ReadError) -> Option<Reason> {
    Some(match error {
        ReadError::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => return None,
            io::ErrorKind::PermissionDenied => Reason::Permission,
            _ => Reason::Read,
        },
        ReadError::NotAFile => Reason::Damaged,
        ReadError::CutShort => Reason::Truncated,
        ReadError::Layout(error) => of_layout(error),
        // A file that was copied or renamed.
        ReadError::OtherProcess { .. } => Reason::Foreign,
    })
}

fn of_layout(error: &LayoutError) -> Reason {
    match error {
        LayoutError::TooShort { .. } => Reason::Truncated,
        LayoutError::Version { .. } => Reason::Version,
        LayoutError::NotASegment | LayoutError::BadField(_) => Reason::Damaged,
    }
}

impl Snapshot {
    pub(crate) fn new(
        began: Instant,
        processes: Vec<ProcessState>,
        dropped: usize,
        errors: Errors,
        textfiles: Textfiles,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began, taken_unix_ms: now.as_millis() as u64, processes, dropped, errors, textfiles }
    }

    /// When the look began: no figure is older.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The processes.
    #[must_use]
    pub fn processes(&self) -> &[ProcessState] {
        &self.processes
    }

    /// How often files could not be exported since the agent began.
    #[must_use]
    pub fn errors(&self, reason: Reason) -> u64 {
        self.errors[reason as usize]
    }

    /// Processes that were found and are not exported, since there are too many.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Writes the exposition, in Prometheus's text format 0.0.4, family by family, without having all of it in memory.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn expose(&self, out: &mut dyn Write) -> io::Result<()> {
        let processes: Vec<_> = self.processes.iter().map(|process| (&process.labels, &process.figures)).collect();
        text::write(&processes, out)?;
        let single = |value: usize| [(Labels::default(), value as f64)];
        text::write_family(MetricId::AgentProcesses, &single(self.processes.len()), out)?;
        text::write_family(MetricId::AgentDropped, &single(self.dropped), out)?;
        let errors = Reason::ALL.iter().zip(self.errors).map(|(reason, count)| {
            let mut labels = Labels::default();
            labels.push("reason", reason.name());
            (labels, count as f64)
        });
        text::write_family(MetricId::AgentErrors, &errors.collect::<Vec<_>>(), out)?;
        let files = self.textfiles.files.iter().map(|(name, mtime_s)| {
            let mut labels = Labels::default();
            labels.push("file", name);
            (labels, *mtime_s)
        });
        let files: Vec<_> = files.collect();
        if !files.is_empty() {
            text::write_family(MetricId::AgentTextfileTime, &files, out)?;
        }
        self.textfiles.expose(out)
    }

    /// The same for the live page. `control` is whether levels can be changed.
    #[must_use]
    pub fn as_json(&self, control: bool) -> impl Serialize {
        Answer { snapshot: self, control }
    }
}

#[derive(Debug)]
struct Answer<'a> {
    snapshot: &'a Snapshot,
    control: bool,
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let snapshot = self.snapshot;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("taken_unix_ms", &snapshot.taken_unix_ms)?;
        map.serialize_entry("agent_version", env!("CARGO_PKG_VERSION"))?;
        map.serialize_entry("control", &self.control)?;
        map.serialize_entry("levels", &Level::ALL.map(Level::name))?;
        map.serialize_entry("stall_bounds_ns", &BOUNDS_S.map(|bound| (bound * 1e9).round() as u64))?;
        map.serialize_entry("dropped", &snapshot.dropped)?;
        map.serialize_entry("errors", &ByReason(&snapshot.errors))?;
        map.serialize_entry("processes", &Processes(&snapshot.processes))?;
        map.end()
    }
}

struct ByReason<'a>(&'a Errors);

impl Serialize for ByReason<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Reason::ALL.iter().zip(self.0).map(|(reason, count)| (reason.name(), count)))
    }
}

struct Processes<'a>(&'a [ProcessState]);

impl Serialize for Processes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for process in self.0 {
            seq.serialize_element(&Process::of(process))?;
        }
        seq.end()
    }
}

/// One process in `/api/processes`.
#[derive(Debug, Serialize)]
struct Process<'a> {
    id: &'a str,
    service: &'a str,
    pid: u32,
    version: &'a str,
    allocator: &'a str,
    up: bool,
    level: &'static str,
    threads: i64,
    live_objects: i64,
    live_bytes: i64,
    rss_bytes: Option<i64>,
    allocations: u64,
    allocated_bytes: u64,
    stalls: StallCounts,
}

/// Timed calls of all operations, since the process began.
#[derive(Debug, Serialize)]
struct StallCounts {
    /// The time that 99 of 100 undisturbed calls kept below, as Prometheus estimates it from such a histogram.
    p99_ns: Option<f64>,
    /// The longest undisturbed call.
    max_ns: Option<f64>,
    /// Calls between each bound and the one below; one more for those above all.
    clean: [u64; BOUNDS_S.len() + 1],
    interrupted: [u64; BOUNDS_S.len() + 1],
}

impl<'a> Process<'a> {
    fn of(process: &'a ProcessState) -> Self {
        Self {
            id: &process.id,
            service: &process.service,
            pid: process.pid,
            version: &process.version,
            allocator: &process.allocator,
            up: process.up,
            level: process.level.name(),
            threads: process.number(MetricId::Threads).unwrap_or(0),
            live_objects: process.number(MetricId::LiveObjects).unwrap_or(0),
            live_bytes: process.number(MetricId::LiveBytes).unwrap_or(0),
            rss_bytes: process.number(MetricId::ProcessResident),
            allocations: process.sum(MetricId::Allocations),
            allocated_bytes: process.sum(MetricId::AllocatedBytes),
            stalls: StallCounts::of(process.figures.stalls()),
        }
    }
}

impl StallCounts {
    fn of(stalls: Option<&Stalls>) -> Self {
        let none = || [0; BOUNDS_S.len() + 1];
        let Some(stalls) = stalls else {
            return Self { p99_ns: None, max_ns: None, clean: none(), interrupted: none() };
        };
        let counts = |interrupted: usize| {
            let mut counts = none();
            for histogram in stalls.histograms.iter().skip(interrupted).step_by(2) {
                let mut below = 0;
                for (count, upto) in counts.iter_mut().zip(histogram.cumulative.into_iter().chain([histogram.count])) {
                    // What a segment says may be anything.
                    *count = count.saturating_add(upto.saturating_sub(below));
                    below = upto;
                }
            }
            counts
        };
        let clean = counts(0);
        let max_ns = Some(stalls.longest_s[0] * 1e9).filter(|&ns| ns > 0.0);
        Self { p99_ns: quantile_ns(0.99, &clean), max_ns, clean, interrupted: counts(1) }
    }
}

/// A quantile of a histogram with fixed bounds, as `histogram_quantile` of Prometheus has it: linear within the bucket, and the
/// highest bound for what is above it.
fn quantile_ns(quantile: f64, counts: &[u64; BOUNDS_S.len() + 1]) -> Option<f64> {
    let all: f64 = counts.iter().map(|&count| count as f64).sum();
    if all == 0.0 {
        return None;
    }
    let rank = quantile * all;
    let mut below = 0.0;
    for (bucket, &count) in counts[..BOUNDS_S.len()].iter().enumerate() {
        let count = count as f64;
        if below + count >= rank && count > 0.0 {
            let low = if bucket == 0 { 0.0 } else { BOUNDS_S[bucket - 1] };
            return Some((low + (BOUNDS_S[bucket] - low) * ((rank - below) / count)) * 1e9);
        }
        below += count;
    }
    Some(BOUNDS_S[BOUNDS_S.len() - 1] * 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(usize, u64)]) -> [u64; BOUNDS_S.len() + 1] {
        let mut counts = [0; BOUNDS_S.len() + 1];
        of.iter().for_each(|&(bucket, count)| counts[bucket] = count);
        counts
    }

    #[test]
    fn quantiles_are_those_that_prometheus_estimates() {
        assert_eq!(quantile_ns(0.99, &counts(&[])), None);
        // 99 of 100 are in the first bucket, up to 100 ns.
        let ns = quantile_ns(0.99, &counts(&[(0, 99), (3, 1)])).unwrap();
        assert!((ns - 100.0).abs() < 1e-6, "{ns}");
        // The rank is in the middle of the second bucket, from 100 to 250 ns.
        let ns = quantile_ns(0.5, &counts(&[(1, 10)])).unwrap();
        assert!((ns - 175.0).abs() < 1e-6, "{ns}");
        // Above all bounds.
        assert_eq!(quantile_ns(0.99, &counts(&[(BOUNDS_S.len(), 1)])), Some(1e10));
    }
}
