//! Figures that only the process itself can ask for: its allocator's and its regions'. It puts them into its segment.

use heapgate_segment::layout::{Gauge, MAX_GAUGES};
use heapgate_segment::reader::{PhaseReading, Reader};

/// The latest value of each, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gauges([Option<u64>; MAX_GAUGES]);

impl Default for Gauges {
    fn default() -> Self {
        Self([None; MAX_GAUGES])
    }
}

impl Gauges {
    /// Those in the segment: of now, or else of the latest phase that has them.
    pub(crate) fn of(reader: Reader<'_>, phases: &[PhaseReading]) -> Self {
        let mut gauges = Self::default();
        for gauge in Gauge::ALL {
            let of_phases = || phases.iter().rev().find_map(|phase| phase.gauge(gauge));
            gauges.0[gauge as usize] = reader.gauge(gauge).or_else(of_phases);
        }
        gauges
    }

    /// With newer ones, where there are any.
    pub(crate) fn updated(mut self, newer: &Self) -> Self {
        for (value, newer) in self.0.iter_mut().zip(newer.0) {
            *value = newer.or(*value);
        }
        self
    }

    /// Puts one in.
    pub(crate) fn set(&mut self, gauge: Gauge, value: u64) {
        self.0[gauge as usize] = Some(value);
    }

    fn get(&self, gauge: Gauge) -> Option<u64> {
        self.0[gauge as usize]
    }

    pub(crate) fn jemalloc(&self) -> Option<Jemalloc> {
        Some(Jemalloc {
            allocated: self.get(Gauge::JemallocAllocated)?,
            active: self.get(Gauge::JemallocActive)?,
            resident: self.get(Gauge::JemallocResident)?,
            mapped: self.get(Gauge::JemallocMapped)?,
            retained: self.get(Gauge::JemallocRetained)?,
            metadata: self.get(Gauge::JemallocMetadata)?,
        })
    }

    pub(crate) fn purging(&self) -> Option<Purging> {
        Some(Purging {
            purges: self.get(Gauge::JemallocPurges)?,
            madvises: self.get(Gauge::JemallocMadvises)?,
            purged_bytes: self.get(Gauge::JemallocPurgedBytes)?,
        })
    }

    /// Not one of [`Regions`]: only a program whose regions keep a registry has it.
    pub(crate) fn open_scopes(&self) -> Option<u64> {
        self.get(Gauge::RegionOpenScopes)
    }

    pub(crate) fn regions(&self) -> Option<Regions> {
        /// See [`Gauge::RegionStatus`].
        const ACTIVE: u64 = 1;
        Some(Regions {
            active: self.get(Gauge::RegionStatus)? == ACTIVE,
            scopes: self.get(Gauge::RegionScopes)?,
            bytes: self.get(Gauge::RegionBytes)?,
            high_water_bytes: self.get(Gauge::RegionHighWaterBytes)?,
            tail_waste_bytes: self.get(Gauge::RegionTailWasteBytes)?,
            chunks_acquired: self.get(Gauge::RegionChunksAcquired)?,
            chunks_reused: self.get(Gauge::RegionChunksReused)?,
            chunks_peak: self.get(Gauge::RegionChunksPeak)?,
            large_fallbacks: self.get(Gauge::RegionLargeFallbacks)?,
            escaped_objects: self.get(Gauge::RegionEscapedObjects)?,
        })
    }
}

/// jemalloc's account of its memory, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jemalloc {
    pub allocated: u64,
    pub active: u64,
    pub resident: u64,
    pub mapped: u64,
    pub retained: u64,
    pub metadata: u64,
}

/// What jemalloc gave back to the kernel, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purging {
    pub purges: u64,
    pub madvises: u64,
    pub purged_bytes: u64,
}

/// What regions did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Regions {
    pub active: bool,
    pub scopes: u64,
    pub bytes: u64,
    pub high_water_bytes: u64,
    pub tail_waste_bytes: u64,
    pub chunks_acquired: u64,
    pub chunks_reused: u64,
    pub chunks_peak: u64,
    pub large_fallbacks: u64,
    pub escaped_objects: u64,
}
