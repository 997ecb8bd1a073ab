//! `threads/chunks`: one thread tokenizes a chunk into owned words, the next reads them and frees them.
//!
//! So half of what an allocator keeps per thread ends in the wrong thread, as in any program whose parts hand results
//! on, and it must take locks to even that out.

use std::sync::Arc;
use std::time::Instant;

use heapgate_bench::{Error, Figures, Params, Steps, Work, Workload};

use super::pool::{Pool, Seat};
use super::scheduler::RunQueue;
use super::text::Chunks;
use super::{BATCH, place, threads};
use crate::jemalloc::{Locks, Unavailable, reset_locks};
use crate::owned::{Word, summary, tokenize};
use crate::tokenize::pieces::Pieces;

/// A thread that waited this long for a CPU counts as starved (the source's bound).
const STARVED_NS: u64 = 10_000_000;

/// What a thread is to do.
#[derive(Debug)]
enum Job {
    Tokenize { chunk: usize },
    Free { chunk: usize, words: Vec<Word>, times: Times },
}

/// What came out of a chunk.
#[derive(Debug)]
struct Answer {
    checksum: u64,
    times: Times,
}

/// What a chunk took.
#[derive(Debug, Clone, Copy)]
struct Times {
    wall_ns: u64,
    /// Time its thread waited for a CPU meanwhile, where the kernel tells.
    run_queue_ns: Option<u64>,
}

/// The workload after its set-up.
#[derive(Debug)]
struct Run {
    pool: Pool<Job, Answer>,
    next_chunk: usize,
    seen: Seen,
}

/// What the measured chunks took.
#[derive(Debug, Default)]
struct Seen {
    chunk_max_ns: u64,
    run_queue_max_ns: Option<u64>,
    run_queue_total_ns: u64,
    starved_chunks: u64,
}

/// Starts the threads.
///
/// # Errors
/// For a number of threads that is not 1 to 64, or one that the system refuses.
pub fn setup(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let count = threads(params)?;
    let shared = Arc::new((Chunks::load(), Pieces::load()));
    // A batch is never more than its chunks to tokenize and its results to free.
    let pool = Pool::start(count, 2 * BATCH, move |seat| work(&seat, &shared.0, &shared.1))?;
    Ok(Box::new(Run { pool, next_chunk: 0, seen: Seen::default() }))
}

fn work(seat: &Seat<Job, Answer>, chunks: &Chunks, pieces: &Pieces) {
    let run_queue = RunQueue::of_this_thread();
    for job in seat.jobs() {
        match job {
            Job::Tokenize { chunk } => {
                let (start, waited) = (Instant::now(), run_queue.waited_ns());
                let words = tokenize(pieces, chunks.get(chunk));
                let run_queue_ns = run_queue.waited_ns().zip(waited).map(|(after, before)| after - before);
                let times = Times { wall_ns: start.elapsed().as_nanos() as u64, run_queue_ns };
                seat.pass_on(Job::Free { chunk, words, times });
            }
            Job::Free { chunk, words, times } => {
                let checksum = place(chunk, summary(&words).1);
                drop(words);
                seat.answer(Answer { checksum, times });
            }
        }
    }
}

impl Seen {
    fn add(&mut self, times: Times) {
        self.chunk_max_ns = self.chunk_max_ns.max(times.wall_ns);
        if let Some(waited) = times.run_queue_ns {
            self.run_queue_max_ns = self.run_queue_max_ns.max(Some(waited));
            self.run_queue_total_ns += waited;
            self.starved_chunks += u64::from(waited >= STARVED_NS);
        }
    }
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        Steps { warmup: 8, measure: 64, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        for i in 0..BATCH {
            let chunk = self.next_chunk + i;
            self.pool.send(chunk % self.pool.count(), Job::Tokenize { chunk });
        }
        self.next_chunk += BATCH;
        let mut work = Work { units: BATCH as u64, checksum: 0 };
        for answer in self.pool.answers(BATCH) {
            work.checksum = work.checksum.wrapping_add(answer.checksum);
            self.seen.add(answer.times);
        }
        work
    }

    fn measure_begins(&mut self) {
        self.seen = Seen::default();
        if let Err(error @ Unavailable::Refused { .. }) = reset_locks() {
            eprintln!("heapgate: {error}");
        }
    }

    fn figures(&mut self, figures: &mut Figures) {
        match Locks::read() {
            Ok(locks) => locks.record(figures),
            Err(Unavailable::NotInForce) => {}
            Err(error) => eprintln!("heapgate: {error}"),
        }
        figures.set("chunk_max_ns", self.seen.chunk_max_ns as f64);
        if let Some(longest) = self.seen.run_queue_max_ns {
            figures.set("run_queue_max_ns", longest as f64);
            figures.set("run_queue_total_ns", self.seen.run_queue_total_ns as f64);
            figures.set("starved_chunks", self.seen.starved_chunks as f64);
        }
    }
}
