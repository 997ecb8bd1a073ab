//! How long it takes to read many published processes: `cargo bench -p heapgate-segment --bench published [PROCESSES
//! [THREADS]]`, 1,000 of 16 threads if nothing else is said. Each thread has filled what a busy thread fills.

use std::time::{Duration, Instant};

use heapgate_segment::clock::ClockKind;
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{InterruptedSplit, Level, Operation};
use heapgate_segment::published::{self, Buffer, Created, Entry};
use heapgate_segment::writer::{Attachment, Writer};

/// Beyond the greatest process id there is.
const FIRST_PID: u32 = 1 << 23;

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (processes, threads) = (numbers.first().copied().unwrap_or(1000), numbers.get(1).copied().unwrap_or(16));
    let folder = std::path::Path::new("/dev/shm").join(format!("heapgate-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder in memory");
    for process in 0..processes {
        // Without the mapping: this process has not room for a thousand.
        publish(&folder, FIRST_PID + process, u64::from(threads));
    }
    let mut buffer = Buffer::new();
    let mut times: Vec<_> = (0..7).map(|_| read_all(&folder, processes, &mut buffer)).collect();
    std::fs::remove_dir_all(&folder).expect("removed");
    times.sort();
    println!("{processes} processes of {threads} threads, one reader: {:?} (median), {:?} (least)", times[3], times[0]);
}

fn publish(folder: &std::path::Path, pid: u32, threads: u64) {
    let Created { mut file, mapping } = published::create(folder, 64, Level::Sampled, 64).expect("a file");
    let (base, bytes) = mapping.raw();
    // SAFETY: the mapping is page-aligned, and outlives this function's use of the writer.
    let writer = unsafe { Writer::from_raw(base, bytes) }.expect("a segment");
    let attachment = Attachment { pid, clock: ClockKind::Monotonic, interrupted_split: InterruptedSplit::Available };
    assert!(writer.attach(attachment));
    writer.identify(&Identity { service: "bench", start_time: 1, ..Identity::default() });
    for thread in 1..=threads {
        let slot = writer.claim(thread).expect("a slot");
        for size in 0..2000 {
            if slot.count_alloc(size * 7) {
                slot.settle(writer.sums());
            }
            slot.record::<false>(Operation::Alloc, size * size, size % 100 == 0, 64);
            slot.record::<false>(Operation::Dealloc, size * 3, size % 100 == 0, 64);
        }
    }
    file.appear(&Entry::new(folder, "bench", pid, 1)).expect("named");
}

fn read_all(folder: &std::path::Path, processes: u32, buffer: &mut Buffer) -> Duration {
    let begin = Instant::now();
    let mut allocations = 0;
    let entries = published::list(folder).expect("listed");
    for entry in &entries {
        entry.read(buffer).expect("readable");
        allocations += buffer.reader().expect("a segment").totals().objects_allocated();
    }
    let time = begin.elapsed();
    assert!(entries.len() == processes as usize && allocations > 0);
    time
}
