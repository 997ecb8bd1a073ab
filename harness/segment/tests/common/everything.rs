//! Reads all that a reader can say of some words, and holds what must be true of any answer. Shared with the fuzz
//! target.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use heapgate_segment::arenas::{ArenaReading, MAX_ARENAS, MAX_PLACES};
use heapgate_segment::clock::Anchor;
use heapgate_segment::histogram::BUCKETS;
use heapgate_segment::layout::{Gauge, LayoutError, MAX_PHASES, Operation, SLOT_STRIDE};
use heapgate_segment::reader::{PhaseReading, Reader, Totals};
use heapgate_segment::size_class::SIZE_CLASSES;

const OPERATIONS: [Operation; 4] = [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc];

/// Calls every public method of the reading end.
pub fn read_everything(words: &[AtomicU64]) -> Result<(), LayoutError> {
    let reader = Reader::new(words).inspect_err(|error| assert!(!error.to_string().is_empty()))?;
    black_box((reader.pid(), reader.clock(), reader.level(), reader.was_off(), reader.attached_at(), reader.threads()));
    assert!(!reader.interrupted_split().to_string().is_empty());
    assert!(reader.slots_used() < words.len() * 8 / SLOT_STRIDE, "more slots than fit");
    black_box((reader.peaks(), reader.ticks_per_second(None)));
    black_box(reader.ticks_per_second(Some(Anchor { ticks: u64::MAX, ns: u64::MAX })));
    for group in reader.groups() {
        assert!(!group.name.is_empty() && (0.0..=1.0).contains(&group.share));
        read_totals(&reader.group_totals(&group));
        if let Some(requests) = reader.group_requests(&group) {
            assert!(requests.count() > 0 && requests.buckets.len() == BUCKETS);
        }
    }
    let phases = reader.phases();
    assert!(phases.len() <= MAX_PHASES);
    for phase in &phases {
        read_phase(phase);
    }
    read_totals(&reader.totals());
    read_arenas(&reader.arenas());
    black_box(reader.arena_counts());
    Ok(())
}

fn read_arenas(reading: &ArenaReading) {
    assert!(reading.arenas.len() <= MAX_ARENAS && reading.places.len() == MAX_PLACES);
    assert!(reading.open() <= reading.created);
    for arena in &reading.arenas {
        assert!(arena.place < MAX_PLACES && arena.id != 0 && !arena.thread_name.contains(char::is_control));
    }
    for scope in &reading.scopes {
        assert!(scope.place < MAX_PLACES && scope.id != 0 && !scope.thread_name.contains(char::is_control));
    }
    assert!(reading.places.iter().all(|place| !place.file.contains(char::is_control)));
}

fn read_phase(phase: &PhaseReading) {
    assert_eq!(phase.end_at.is_some(), phase.ended);
    for gauge in Gauge::ALL {
        black_box(phase.gauge(gauge));
    }
    read_totals(&phase.begin);
    read_totals(&phase.end);
    let within = phase.end.since(&phase.begin);
    read_totals(&within);
    assert!(!format!("{phase:?}").is_empty());
}

fn read_totals(totals: &Totals) {
    black_box((totals.objects_allocated(), totals.objects_freed(), totals.bytes_allocated(), totals.bytes_freed()));
    black_box((totals.alloc_calls(), totals.alloc_bytes(), totals.alloc_zeroed_calls(), totals.alloc_zeroed_bytes()));
    black_box((totals.realloc_calls(), totals.realloc_new_bytes(), totals.realloc_old_bytes()));
    black_box((totals.dealloc_calls(), totals.dealloc_bytes(), totals.failed_calls(), totals.allocation_calls()));
    black_box((totals.live_objects(), totals.live_bytes(), totals.timed_calls()));
    for class in 0..SIZE_CLASSES {
        black_box(totals.size_class(class));
    }
    for operation in OPERATIONS {
        assert_eq!(totals.clean(operation).count(), BUCKETS);
        assert!(totals.interrupted(operation).all(|count| count <= u64::from(u32::MAX)));
        assert_eq!(totals.interrupted(operation).count(), BUCKETS);
    }
    assert_eq!(totals.since(totals), Totals::default());
}
