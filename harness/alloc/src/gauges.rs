//! Figures that only the process itself can ask for, as it puts them into its segment ([`Session::set_gauge`]): those of
//! jemalloc (feature `jemalloc`) and of regions (feature `region`).
//!
//! [`Session::set_gauge`]: crate::Session::set_gauge

#[cfg(feature = "jemalloc")]
pub use jemalloc::jemalloc;
#[cfg(feature = "region")]
pub use region::regions;

#[cfg(feature = "jemalloc")]
mod jemalloc {
    use std::io;

    use heapgate_segment::layout::Gauge;
    use tikv_jemalloc_ctl::{Access, AsName, Error, epoch, stats};

    /// What jemalloc says of itself now. Takes some microseconds an arena, and allocates nothing.
    ///
    /// # Errors
    /// If it was built without statistics.
    pub fn jemalloc() -> io::Result<[(Gauge, u64); 9]> {
        read().map_err(|error| io::Error::other(error.to_string()))
    }

    fn read() -> Result<[(Gauge, u64); 9], Error> {
        // The figures are those of the last epoch.
        epoch::advance()?;
        let page_bytes: usize = "arenas.page\0".name().read()?;
        let value = |bytes: usize| bytes as u64;
        Ok([
            (Gauge::JemallocAllocated, value(stats::allocated::read()?)),
            (Gauge::JemallocActive, value(stats::active::read()?)),
            (Gauge::JemallocResident, value(stats::resident::read()?)),
            (Gauge::JemallocMapped, value(stats::mapped::read()?)),
            (Gauge::JemallocRetained, value(stats::retained::read()?)),
            (Gauge::JemallocMetadata, value(stats::metadata::read()?)),
            (Gauge::JemallocPurges, of_arenas(["dirty_npurge\0", "muzzy_npurge\0"])?),
            (Gauge::JemallocMadvises, of_arenas(["dirty_nmadvise\0", "muzzy_nmadvise\0"])?),
            (
                Gauge::JemallocPurgedBytes,
                of_arenas(["dirty_purged\0", "muzzy_purged\0"])?.wrapping_mul(page_bytes as u64),
            ),
        ])
    }

    /// Two counts of all arenas, added.
    fn of_arenas(counts: [&str; 2]) -> Result<u64, Error> {
        /// 4096 is jemalloc's number for all arenas together (`MALLCTL_ARENAS_ALL`).
        const ALL: &[u8] = b"stats.arenas.4096.";
        let mut sum = 0_u64;
        for count in counts {
            // On the stack: nothing is allocated here.
            let mut name = [0; 64];
            name[..ALL.len()].copy_from_slice(ALL);
            name[ALL.len()..ALL.len() + count.len()].copy_from_slice(count.as_bytes());
            let value: u64 = name[..ALL.len() + count.len()].name().read()?;
            sum = sum.wrapping_add(value);
        }
        Ok(sum)
    }
}

#[cfg(feature = "region")]
mod region {
    use heapgate_region::Status;
    use heapgate_segment::layout::Gauge;

    /// What regions have done in this process. Takes well under a microsecond, and allocates nothing.
    pub fn regions() -> impl Iterator<Item = (Gauge, u64)> {
        let (status, errno) = match heapgate_region::status() {
            Status::Unused => (0, 0),
            Status::Active { .. } => (1, 0),
            Status::Unavailable { errno } => (2, errno),
        };
        let stats = heapgate_region::stats();
        let figures = [
            (Gauge::RegionStatus, status),
            (Gauge::RegionErrno, u64::from(errno.unsigned_abs())),
            (Gauge::RegionScopes, stats.scopes),
            (Gauge::RegionBytes, stats.bytes),
            (Gauge::RegionHighWaterBytes, stats.bytes_peak),
            (Gauge::RegionTailWasteBytes, stats.tail_waste_bytes),
            (Gauge::RegionChunksAcquired, stats.chunk_acquisitions),
            (Gauge::RegionChunksReused, stats.chunk_reuses),
            (Gauge::RegionChunksPeak, stats.chunks_in_use_peak),
            (Gauge::RegionLargeFallbacks, stats.large_fallbacks),
            (Gauge::RegionEscapedObjects, stats.escaped_objects),
        ];
        // Known where a table of them is in use.
        figures.into_iter().chain(heapgate_region::open_scopes().map(|open| (Gauge::RegionOpenScopes, open)))
    }
}
