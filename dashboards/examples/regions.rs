//! A program with regions that says so: for the panels about them, in `ci/check-dashboards`. It publishes itself if
//! `HEAPGATE_PUBLISH` names it.
//!
//! Each request works in a scope of its own and fills some chunks, so that every rate over some seconds has something to
//! divide; one object in ten requests outlives its scope, and lives until the next does.

use std::alloc::System;
use std::thread;
use std::time::Duration;

use heapgate_alloc::Telemetry;
use heapgate_region::{Arena, Region};

#[global_allocator]
static ALLOCATOR: Telemetry<Region<System>> = Telemetry::new(Region::new(System));

/// Requests between two that leave something behind.
const ESCAPES_EVERY: usize = 10;
/// Of 40 bytes each: two chunks and a part of a third.
const WORDS: usize = 64_000;
/// Of these, those in what is left behind: no larger than an object of a region may be.
const WORDS_KEPT: usize = 1_000;
const _: () = assert!(WORDS * 40 > 2 * heapgate_region::CHUNK_BYTES);
const _: () = assert!(WORDS_KEPT * 40 <= heapgate_region::MAX_OBJECT_BYTES);

fn main() {
    let session = heapgate_alloc::session();
    let mut escaped = Vec::new();
    for request in 0usize.. {
        let arena = Arena::new();
        arena.alloc_str("a request's own");
        let words = heapgate_region::scope(|| {
            let words: Vec<String> = (0..WORDS).map(|n| format!("word {n:<35}")).collect();
            if request.is_multiple_of(ESCAPES_EVERY) {
                escaped = words[..WORDS_KEPT].concat().into_bytes();
            }
            words.len() + escaped.len()
        });
        std::hint::black_box(words);
        if let Some(session) = &session {
            heapgate_alloc::gauges::regions().for_each(|(gauge, value)| session.set_gauge(gauge, value));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
