//! Threads that tokenize chunks of text side by side, and what they wait for.
//!
//! [`pool`] has the threads, [`queue`] hands them work, [`text`] has the chunks; [`heap`] gives each result to another
//! thread to free; [`arena`] keeps results in one arena behind a lock ([`shared`]) or in one per thread; [`numa`] and
//! [`scheduler`] ask the kernel. Only the constants here are meant for the registry; the rest is public for tests.

use heapgate_bench::{Error, FigureSpec, ParamSpec, Params, Variant};

pub mod arena;
pub mod heap;
pub mod numa;
pub mod pool;
pub mod queue;
pub mod scheduler;
pub mod shared;
pub mod text;

/// Owned words, freed by another thread than the one that made them.
pub const CHUNKS: Variant = Variant::new(
    "threads",
    "chunks",
    "chunk",
    "chunks tokenized side by side into owned words, which the next thread reads and frees",
    heap::setup,
)
.params(&[THREADS])
.figures(CHUNKS_FIGURES);

/// One arena for all threads.
pub const ARENA_SHARED: Variant = Variant::new(
    "threads",
    "arena-shared",
    "chunk",
    "chunks tokenized side by side into one bumpalo arena behind a lock, reset after each batch",
    arena::setup_shared,
)
.params(&[THREADS, PLACEMENT])
.figures(SHARED_FIGURES);

/// An arena for each thread.
pub const ARENA_LOCAL: Variant = Variant::new(
    "threads",
    "arena-local",
    "chunk",
    "chunks tokenized side by side, each thread into a bumpalo arena of its own, reset after each batch",
    arena::setup_local,
)
.params(&[THREADS, PLACEMENT])
.figures(LOCAL_FIGURES);

const THREADS: ParamSpec =
    ParamSpec { name: "threads", default: "4", choices: &[], help: "how many threads work, 1 to 64" };

const PLACEMENT: ParamSpec = ParamSpec {
    name: "placement",
    default: "any",
    choices: &["any", "node"],
    help: "where threads run: anywhere, or each bound to the CPUs of one NUMA node, with its memory",
};

/// Chunks that one step hands out.
pub const BATCH: usize = 64;

/// More threads than this are a mistake rather than a test.
const MAX_THREADS: usize = 64;

const CHUNKS_FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "bin_lock_waits", help: "Times a thread blocked for the lock of a bin (jemalloc)." },
    FigureSpec {
        name: "bin_lock_wait_total_ns",
        help: "Time blocked for locks of bins, all threads; jemalloc's clock ticks every few ms.",
    },
    FigureSpec { name: "bin_lock_wait_max_ns", help: "Longest time blocked for the lock of a bin." },
    FigureSpec { name: "page_lock_waits", help: "Times a thread blocked for a lock around runs of pages (jemalloc)." },
    FigureSpec { name: "page_lock_wait_total_ns", help: "Time blocked for locks around runs of pages, all threads." },
    FigureSpec { name: "page_lock_wait_max_ns", help: "Longest time blocked for a lock around runs of pages." },
    FigureSpec { name: "other_lock_waits", help: "Times a thread blocked for any other lock (jemalloc)." },
    FigureSpec { name: "other_lock_wait_total_ns", help: "Time blocked for other locks, all threads." },
    FigureSpec { name: "other_lock_wait_max_ns", help: "Longest time blocked for another lock." },
    FigureSpec { name: "lock_acquisitions", help: "Times any of jemalloc's locks was taken." },
    FigureSpec { name: "lock_spins", help: "Times one was taken after spinning, without blocking." },
    FigureSpec { name: "chunk_max_ns", help: "Longest time over one chunk." },
    FigureSpec { name: "run_queue_max_ns", help: "Longest time a thread with a chunk in hand waited for a CPU." },
    FigureSpec { name: "run_queue_total_ns", help: "Time that threads with a chunk in hand waited for a CPU." },
    FigureSpec { name: "starved_chunks", help: "Chunks whose thread waited 10 ms or longer for a CPU." },
];

const SHARED_FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "arena_bytes", help: "Bytes of the arena's chunks, at the end." },
    FigureSpec { name: "numa_nodes", help: "NUMA nodes with CPUs; 1 where the kernel tells of none." },
    FigureSpec { name: "numa_chunks_per_s", help: "Chunks per second, where there is more than one NUMA node." },
    FigureSpec { name: "arena_lock_waits", help: "Times a thread found the arena locked." },
    FigureSpec { name: "arena_lock_wait_total_ns", help: "Time until it then had the lock, all threads." },
    FigureSpec { name: "arena_lock_wait_max_ns", help: "Longest time until it then had the lock." },
];

const LOCAL_FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "arena_bytes", help: "Bytes of the arenas' chunks, at the end." },
    FigureSpec { name: "numa_nodes", help: "NUMA nodes with CPUs; 1 where the kernel tells of none." },
    FigureSpec { name: "numa_chunks_per_s", help: "Chunks per second, where there is more than one NUMA node." },
];

/// How many threads `params` ask for.
fn threads(params: &Params) -> Result<usize, Error> {
    params.number(THREADS.name, 1..=MAX_THREADS)
}

/// The checksum of chunk `index`, such that those of a batch add up to the same in any order.
fn place(index: usize, checksum: u64) -> u64 {
    checksum.wrapping_mul(2 * index as u64 + 1)
}
