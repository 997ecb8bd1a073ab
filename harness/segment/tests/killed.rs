//! A segment outlives the process that writes it. A file of its own: the test forks, which only a process without other
//! threads at work should do.
#![cfg(all(not(loom), not(miri)))]

mod common;

use std::os::fd::AsFd;

use common::attachment;
use heapgate_segment::layout::{self, Level};
use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::reader::Reader;
use heapgate_segment::writer::Writer;

const OBJECTS: u64 = 1000;

/// What the child does: counts, and dies in the middle of a phase.
fn count_and_die(writer: Writer) -> ! {
    let slot = writer.claim(1).unwrap_or(writer.overflow());
    let _open = writer.begin_phase(1, Some(slot));
    for _ in 0..OBJECTS {
        if slot.count_alloc(64) {
            slot.settle(writer.sums());
        }
    }
    // SAFETY: a signal to itself has no effect on memory.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("killed")
}

#[test]
fn slot_counts_survive_sigkill() {
    let file = create_file(c"killed", layout::segment_bytes(2)).unwrap();
    let mapping = Mapping::new(file.as_fd()).unwrap();
    layout::format(mapping.words(), 2, Level::Count, 1);
    let (base, bytes) = mapping.raw();
    // SAFETY: the mapping is page-aligned and as long as it says; both processes use it up to the test's end, where it
    // is dropped, and only through atomics.
    let writer = unsafe { Writer::from_raw(base, bytes) }.unwrap();
    assert!(writer.attach(attachment(1)));
    // SAFETY: the child calls nothing but functions that neither allocate nor lock, and kills itself.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        count_and_die(writer);
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the call to fill in.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);

    let reader = Reader::new(mapping.words()).unwrap();
    assert_eq!(reader.totals().live_objects(), OBJECTS as i64);
    let phases = reader.phases();
    assert_eq!((phases.len(), phases[0].ended), (1, false));
    assert_eq!((phases[0].peaks.objects, phases[0].peaks.objects_error), (OBJECTS as i64, 0));
}
