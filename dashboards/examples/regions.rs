//! A program with regions that says so: for the panels about them, in `ci/check-dashboards`. It publishes itself if
//! `HEAPGATE_PUBLISH` names it.
//!
//! Each request works in a scope of its own; one object in a hundred requests outlives it, and lives until the next does.

use std::alloc::System;
use std::thread;
use std::time::Duration;

use heapgate_alloc::Telemetry;
use heapgate_alloc::segment::layout::Gauge;
use heapgate_region::{Arena, Region, Status};

#[global_allocator]
static ALLOCATOR: Telemetry<Region<System>> = Telemetry::new(Region::new(System));

/// Requests between two that leave something behind.
const ESCAPES_EVERY: usize = 100;
/// Requests between two looks at the regions' own figures.
const REFRESH_EVERY: usize = 10;

fn main() {
    let session = heapgate_alloc::session();
    let mut escaped = Vec::new();
    for request in 0usize.. {
        let arena = Arena::new();
        arena.alloc_str("a request's own");
        let words = heapgate_region::scope(|| {
            let words: Vec<String> = (0..1_000).map(|n| format!("word {n}")).collect();
            if request.is_multiple_of(ESCAPES_EVERY) {
                escaped = words.concat().into_bytes();
            }
            words.len() + escaped.len()
        });
        std::hint::black_box(words);
        if let Some(session) = session.as_ref().filter(|_| request.is_multiple_of(REFRESH_EVERY)) {
            let stats = heapgate_region::stats();
            let active = matches!(heapgate_region::status(), Status::Active { .. });
            let figures = [
                (Gauge::RegionStatus, u64::from(active)),
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
            figures.into_iter().for_each(|(gauge, value)| session.set_gauge(gauge, value));
            if let Some(open) = heapgate_region::open_scopes() {
                session.set_gauge(Gauge::RegionOpenScopes, open);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}
