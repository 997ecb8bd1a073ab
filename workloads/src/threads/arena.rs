//! `threads/arena-shared` and `threads/arena-local`: chunks tokenized into arenas, which are reset after each batch.

use std::sync::Arc;
use std::time::Instant;

use bumpalo::Bump;
use heapgate_bench::{Error, Figures, Params, Steps, Work, Workload};

use super::pool::{Pool, Seat};
use super::shared::{Arena, Shared};
use super::text::Chunks;
use super::{BATCH, PLACEMENT, numa, place, threads};
use crate::owned::{SEED, add};
use crate::tokenize::basic::{clean, lower, space_ideographs, strip_accents, words};
use crate::tokenize::pieces::Pieces;

/// A word in an arena, with its ids.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a [u8],
    ids: &'a [u32],
}

/// What every thread reads.
#[derive(Debug)]
struct Input {
    chunks: Chunks,
    pieces: Pieces,
    threads: usize,
    /// The CPUs of each node, where threads are to be bound to one.
    nodes: Option<Vec<Vec<usize>>>,
}

/// A thread's share of the batch that begins with a chunk.
type Batch = usize;

/// What came out of it, and the bytes of the thread's own arena.
type Answer = (u64, usize);

/// The workload after its set-up.
#[derive(Debug)]
struct Run {
    pool: Pool<Batch, Answer>,
    /// Where all threads have one arena.
    shared: Option<Arc<Shared>>,
    local_bytes: usize,
    next_chunk: usize,
    nodes: usize,
    measured: Span,
}

/// The time of the measured steps, and what they did.
#[derive(Debug)]
struct Span {
    start: Instant,
    end: Instant,
    chunks: usize,
}

/// One arena for all threads.
///
/// # Errors
/// For a number of threads that is not 1 to 64, or one that the system refuses.
pub fn setup_shared(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    set_up(params, Some(shared), move |seat, input| {
        let mut scratch = Scratch::default();
        for first in seat.jobs() {
            let checksum = input.share(first, seat.index, &theirs.lease(), &mut scratch);
            seat.answer((checksum, 0));
        }
    })
}

/// An arena for each thread, made by the thread itself, so that its memory is near.
///
/// # Errors
/// As [`setup_shared`].
pub fn setup_local(params: &Params) -> Result<Box<dyn Workload>, Error> {
    set_up(params, None, |seat, input| {
        let mut scratch = Scratch::default();
        let mut bump = Bump::new();
        for first in seat.jobs() {
            bump.reset();
            let checksum = input.share(first, seat.index, &bump, &mut scratch);
            seat.answer((checksum, bump.allocated_bytes()));
        }
    })
}

fn set_up(
    params: &Params,
    shared: Option<Arc<Shared>>,
    work: impl Fn(&Seat<Batch, Answer>, &Input) + Send + Sync + 'static,
) -> Result<Box<dyn Workload>, Error> {
    let threads = threads(params)?;
    let nodes = numa::nodes();
    let count = nodes.len();
    let bound = (params.get(PLACEMENT.name) == "node").then_some(nodes);
    if bound.as_ref().is_some_and(Vec::is_empty) {
        let reason = "the kernel tells neither of NUMA nodes nor of CPUs to bind threads to".to_owned();
        return Err(Error::Param { name: PLACEMENT.name.to_owned(), reason });
    }
    let input = Input { chunks: Chunks::load(), pieces: Pieces::load(), threads, nodes: bound };
    let pool = Pool::start(threads, threads, move |seat| {
        if let Some(nodes) = &input.nodes
            && let Err(error) = numa::bind(&nodes[seat.index % nodes.len()])
        {
            return seat.refuse(format!("thread {} can't be bound to its node: {error}", seat.index));
        }
        work(&seat, &input);
    })?;
    let now = Instant::now();
    let measured = Span { start: now, end: now, chunks: 0 };
    Ok(Box::new(Run { pool, shared, local_bytes: 0, next_chunk: 0, nodes: count, measured }))
}

/// What a thread reuses.
#[derive(Debug, Default)]
struct Scratch {
    normalised: String,
    ids: Vec<u32>,
}

impl Input {
    /// Tokenizes the chunks of thread `index` of the batch that begins with `first` into `arena`, then reads them all.
    fn share(&self, first: usize, index: usize, arena: &impl Arena, scratch: &mut Scratch) -> u64 {
        let mine = || (first + index..first + BATCH).step_by(self.threads);
        let mut tokens = Vec::new();
        let mut kept = Vec::with_capacity(BATCH);
        for chunk in mine() {
            self.tokenize(self.chunks.get(chunk), arena, scratch, &mut tokens);
            kept.push(arena.keep(&tokens));
            tokens.clear();
        }
        let checksums = mine().zip(kept).map(|(chunk, tokens)| {
            place(chunk, tokens.iter().fold(SEED, |hash, token| add(hash, token.text, token.ids)))
        });
        checksums.fold(0, u64::wrapping_add)
    }

    fn tokenize<'a>(
        &self,
        text: &str,
        arena: &'a impl Arena,
        Scratch { normalised, ids }: &mut Scratch,
        tokens: &mut Vec<Token<'a>>,
    ) {
        normalised.clear();
        normalised.extend(lower(strip_accents(space_ideographs(clean(text)))));
        for word in words(normalised) {
            ids.clear();
            self.pieces.push_ids(word.as_bytes(), ids);
            tokens.push(Token { text: arena.keep(word.as_bytes()), ids: arena.keep(ids) });
        }
    }
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        Steps { warmup: 8, measure: 64, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let count = self.pool.count();
        for index in 0..count {
            self.pool.send(index, self.next_chunk);
        }
        self.next_chunk += BATCH;
        let mut work = Work { units: BATCH as u64, checksum: 0 };
        self.local_bytes = 0;
        for (checksum, bytes) in self.pool.answers(count) {
            work.checksum = work.checksum.wrapping_add(checksum);
            self.local_bytes += bytes;
        }
        if let Some(shared) = &self.shared {
            shared.reset();
        }
        self.measured.chunks += BATCH;
        self.measured.end = Instant::now();
        work
    }

    fn measure_begins(&mut self) {
        if let Some(shared) = &self.shared {
            shared.forget_contention();
        }
        let now = Instant::now();
        self.measured = Span { start: now, end: now, chunks: 0 };
    }

    fn figures(&mut self, figures: &mut Figures) {
        let bytes = match &self.shared {
            Some(shared) => {
                let contention = shared.contention();
                figures.set("arena_lock_waits", contention.waits as f64);
                figures.set("arena_lock_wait_total_ns", contention.total_ns as f64);
                figures.set("arena_lock_wait_max_ns", contention.max_ns as f64);
                shared.bytes()
            }
            None => self.local_bytes,
        };
        figures.set("arena_bytes", bytes as f64);
        if self.nodes > 0 {
            figures.set("numa_nodes", self.nodes as f64);
        }
        let seconds = (self.measured.end - self.measured.start).as_secs_f64();
        if self.nodes > 1 && seconds > 0.0 {
            figures.set("numa_chunks_per_s", self.measured.chunks as f64 / seconds);
        }
    }
}
