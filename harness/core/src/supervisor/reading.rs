//! Turns what a segment holds into a report's phases.

use std::collections::BTreeMap;

use heapgate_segment::clock::Anchor;
use heapgate_segment::layout::{self, Gauge, Operation};
use heapgate_segment::reader::{PhaseReading, Reader, Totals};
use heapgate_segment::size_class::{SIZE_CLASSES, largest_of_class};

use crate::report::{AllocatorStats, ByOperation, Counts, Live, Phase, PhaseKind, Process, RegionStats, Stalls};
use crate::sampler::Snapshot;

/// What the supervisor saw at the two ends of a phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    pub begin: Snapshot,
    pub end: Snapshot,
    /// Most resident memory while it lasted, bytes.
    pub peak_rss_bytes: u64,
    /// Samples taken while it lasted.
    pub samples: u64,
}

/// All phases of the segment, of a trial that began at `start_ns`. `watched` are those that the process ended and waited after, in the same order. Live
/// figures are counted from the start of the first phase: what the process allocated before is its runtime's and its
/// command line's.
pub(super) fn phases(reader: Reader<'_>, watched: &[Option<Watched>], start_ns: u64, now: Anchor) -> Vec<Phase> {
    let readings = reader.phases();
    let Some(first) = readings.first() else { return Vec::new() };
    let base = (first.begin.live_objects(), first.begin.live_bytes());
    readings
        .iter()
        .enumerate()
        .filter_map(|(i, reading)| phase(reading, watched.get(i).and_then(Option::as_ref), base, start_ns, now))
        .collect()
}

fn phase(
    reading: &PhaseReading,
    watched: Option<&Watched>,
    base: (i64, i64),
    start_ns: u64,
    now: Anchor,
) -> Option<Phase> {
    let totals = reading.end.since(&reading.begin);
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
    Some(Phase {
        kind: kind(reading.kind)?,
        ended: reading.ended,
        start_s: seconds(start_ns, reading.begin_at.ns),
        wall_s: seconds(reading.begin_at.ns, reading.end_at.map_or(now.ns, |end| end.ns)),
        units: reading.units,
        steps: reading.gauge(Gauge::Steps).unwrap_or(0),
        checksum: if reading.checksum == 0 { String::new() } else { format!("{:016x}", reading.checksum) },
        counts: counts(&totals),
        live: Live {
            objects: reading.end.live_objects().wrapping_sub(base.0),
            bytes: reading.end.live_bytes().wrapping_sub(base.1),
            peak_objects: reading.peaks.objects.wrapping_sub(base.0),
            peak_bytes: reading.peaks.bytes.wrapping_sub(base.1),
            peak_objects_error: reading.peaks.objects_error,
            peak_bytes_error: reading.peaks.bytes_error,
        },
        size_classes: size_classes(&totals),
        stalls: Stalls {
            clean: by_operation(|operation| sparse(totals.clean(operation))),
            interrupted: by_operation(|operation| sparse(totals.interrupted(operation))),
        },
        process: watched.map(process),
        allocator: allocator(reading),
        region: region(reading),
    })
}

fn kind(number: u64) -> Option<PhaseKind> {
    let kind = layout::PhaseKind::ALL.into_iter().find(|&kind| kind as u64 == number)?;
    Some(match kind {
        layout::PhaseKind::Setup => PhaseKind::Setup,
        layout::PhaseKind::Warmup => PhaseKind::Warmup,
        layout::PhaseKind::Prefill => PhaseKind::Prefill,
        layout::PhaseKind::Measure => PhaseKind::Measure,
        layout::PhaseKind::Drain => PhaseKind::Drain,
    })
}

/// The workload's own figures, as it recorded them in its measured phase.
pub(super) fn figures(reader: Reader<'_>, names: &[String]) -> BTreeMap<String, f64> {
    let phases = reader.phases();
    let Some(measured) = phases.iter().find(|phase| phase.kind == layout::PhaseKind::Measure as u64) else {
        return BTreeMap::new();
    };
    names.iter().enumerate().filter_map(|(index, name)| Some((name.clone(), measured.figure(index)?))).collect()
}

fn counts(totals: &Totals) -> Counts {
    Counts {
        alloc_calls: totals.alloc_calls(),
        alloc_bytes: totals.alloc_bytes(),
        alloc_zeroed_calls: totals.alloc_zeroed_calls(),
        alloc_zeroed_bytes: totals.alloc_zeroed_bytes(),
        realloc_calls: totals.realloc_calls(),
        realloc_new_bytes: totals.realloc_new_bytes(),
        realloc_old_bytes: totals.realloc_old_bytes(),
        dealloc_calls: totals.dealloc_calls(),
        dealloc_bytes: totals.dealloc_bytes(),
        failed_calls: totals.failed_calls(),
    }
}

fn size_classes(totals: &Totals) -> Vec<(u64, u64, u64)> {
    (0..SIZE_CLASSES)
        .map(|class| (largest_of_class(class), totals.size_class(class)))
        .filter(|(_, counts)| *counts != (0, 0))
        .map(|(bytes, (allocated, freed))| (bytes, allocated, freed))
        .collect()
}

fn by_operation(of: impl Fn(Operation) -> Vec<(u32, u64)>) -> ByOperation {
    ByOperation {
        alloc: of(Operation::Alloc),
        alloc_zeroed: of(Operation::AllocZeroed),
        realloc: of(Operation::Realloc),
        dealloc: of(Operation::Dealloc),
    }
}

fn sparse(buckets: impl Iterator<Item = u64>) -> Vec<(u32, u64)> {
    (0..).zip(buckets).filter(|&(_, count)| count != 0).collect()
}

fn process(watched: &Watched) -> Process {
    let Watched { begin, end, .. } = watched;
    Process {
        rss_bytes: end.rss_bytes,
        anonymous_bytes: end.anonymous_bytes,
        file_bytes: end.rss_bytes.saturating_sub(end.anonymous_bytes),
        huge_page_bytes: end.huge_page_bytes,
        pss_bytes: end.pss_bytes,
        page_table_bytes: end.page_table_bytes,
        peak_rss_bytes: watched.peak_rss_bytes,
        minor_faults: end.minor_faults.saturating_sub(begin.minor_faults),
        major_faults: end.major_faults.saturating_sub(begin.major_faults),
        voluntary_switches: end.voluntary_switches.saturating_sub(begin.voluntary_switches),
        involuntary_switches: end.involuntary_switches.saturating_sub(begin.involuntary_switches),
        cpu_ns: end.cpu_ns.saturating_sub(begin.cpu_ns),
        threads: end.threads,
        rss_samples: watched.samples,
    }
}

fn allocator(reading: &PhaseReading) -> Option<AllocatorStats> {
    Some(AllocatorStats {
        allocated_bytes: reading.gauge(Gauge::JemallocAllocated)?,
        active_bytes: reading.gauge(Gauge::JemallocActive)?,
        resident_bytes: reading.gauge(Gauge::JemallocResident)?,
        mapped_bytes: reading.gauge(Gauge::JemallocMapped)?,
        retained_bytes: reading.gauge(Gauge::JemallocRetained)?,
        metadata_bytes: reading.gauge(Gauge::JemallocMetadata)?,
    })
}

fn region(reading: &PhaseReading) -> Option<RegionStats> {
    let status = match reading.gauge(Gauge::RegionStatus)? {
        0 => "unused".to_owned(),
        1 => "active".to_owned(),
        _ => {
            let errno = i32::try_from(reading.gauge(Gauge::RegionErrno)?).unwrap_or(0);
            format!("unavailable: {}", std::io::Error::from_raw_os_error(errno))
        }
    };
    Some(RegionStats {
        status,
        scopes: reading.gauge(Gauge::RegionScopes)?,
        bytes: reading.gauge(Gauge::RegionBytes)?,
        high_water_bytes: reading.gauge(Gauge::RegionHighWaterBytes)?,
        tail_waste_bytes: reading.gauge(Gauge::RegionTailWasteBytes)?,
        chunks_acquired: reading.gauge(Gauge::RegionChunksAcquired)?,
        chunks_reused: reading.gauge(Gauge::RegionChunksReused)?,
        chunks_peak: reading.gauge(Gauge::RegionChunksPeak)?,
        large_fallbacks: reading.gauge(Gauge::RegionLargeFallbacks)?,
        escaped_objects: reading.gauge(Gauge::RegionEscapedObjects)?,
    })
}
