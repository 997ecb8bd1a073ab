//! jemalloc's figures, of this process.

use std::io;

use heapgate_segment::layout::Gauge;
use tikv_jemalloc_ctl::{Error, epoch, raw, stats};

/// jemalloc's number for "all arenas" in `stats.arenas.<i>` names (`MALLCTL_ARENAS_ALL`).
macro_rules! all_arenas {
    ($name:literal) => {
        concat!("stats.arenas.4096.", $name, "\0").as_bytes()
    };
}

/// What jemalloc says of itself now. Takes some microseconds an arena, and allocates nothing.
///
/// # Errors
/// If it was built without statistics.
pub fn gauges() -> io::Result<[(Gauge, u64); 9]> {
    read().map_err(|error| io::Error::other(error.to_string()))
}

fn read() -> Result<[(Gauge, u64); 9], Error> {
    // The figures are those of the last epoch.
    epoch::advance()?;
    let page_bytes = page_bytes()? as u64;
    let purges = arenas(all_arenas!("dirty_npurge"))?.wrapping_add(arenas(all_arenas!("muzzy_npurge"))?);
    let madvises = arenas(all_arenas!("dirty_nmadvise"))?.wrapping_add(arenas(all_arenas!("muzzy_nmadvise"))?);
    let purged = arenas(all_arenas!("dirty_purged"))?.wrapping_add(arenas(all_arenas!("muzzy_purged"))?);
    let value = |bytes: usize| bytes as u64;
    Ok([
        (Gauge::JemallocAllocated, value(stats::allocated::read()?)),
        (Gauge::JemallocActive, value(stats::active::read()?)),
        (Gauge::JemallocResident, value(stats::resident::read()?)),
        (Gauge::JemallocMapped, value(stats::mapped::read()?)),
        (Gauge::JemallocRetained, value(stats::retained::read()?)),
        (Gauge::JemallocMetadata, value(stats::metadata::read()?)),
        (Gauge::JemallocPurges, purges),
        (Gauge::JemallocMadvises, madvises),
        (Gauge::JemallocPurgedBytes, purged.wrapping_mul(page_bytes)),
    ])
}

/// Size of the pages that jemalloc counts in.
fn page_bytes() -> Result<usize, Error> {
    // SAFETY: as below; the type of this control is `size_t`.
    unsafe { raw::read(b"arenas.page\0") }
}

/// A count of all arenas together.
fn arenas(name: &'static [u8]) -> Result<u64, Error> {
    // SAFETY: `name` ends in a zero byte. jemalloc's manual gives these controls the type `uint64_t`, of which every value is
    // a u64, and jemalloc refuses a length that is not the type's.
    unsafe { raw::read(name) }
}
