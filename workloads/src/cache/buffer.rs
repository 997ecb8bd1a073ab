//! One small buffer for each token of a batch: each a heap allocation of its own, or slices of an arena that is reset
//! after the batch (E10).

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use bumpalo::Bump;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use crate::checksum;
use crate::corpus::Corpus;

/// A heap allocation for each token.
pub const HEAP: Variant =
    variant("buffer-heap", "a heap buffer for each token of a batch", |params| set_up(params, heap_batch));
/// Slices of an arena.
pub const ARENA: Variant = variant("buffer-arena", "a slice of a bumpalo arena for each token of a batch", |params| {
    set_up(params, arena_batch)
});

const BATCH: &str = "batch";

const PARAMS: &[ParamSpec] =
    &[ParamSpec { name: BATCH, default: "10000", choices: &[], help: "tokens in a batch, 1 to 500000" }];

const FIGURES: &[FigureSpec] = &[
    FigureSpec {
        name: "buffer_mean_ns",
        help: "mean time to allocate and fill one buffer, and to free it with its batch",
    },
    FigureSpec { name: "batch_mean_ns", help: "mean time of a whole batch" },
];

const fn variant(name: &'static str, about: &'static str, setup: heapgate_bench::Setup) -> Variant {
    Variant::new("cache", name, "buffer", about, setup)
        .params(PARAMS)
        .figures(FIGURES)
        .allocators(&["system", "jemalloc"])
}

/// Makes the buffers of one batch, lends them to `read`, frees them.
type Batch = fn(&mut Bump, &[&str], &mut dyn FnMut(&[u8]));

fn heap_batch(_: &mut Bump, tokens: &[&str], read: &mut dyn FnMut(&[u8])) {
    let mut buffers: Vec<Box<[u8]>> = Vec::with_capacity(tokens.len());
    buffers.extend(tokens.iter().map(|token| Box::from(token.as_bytes())));
    // A look at one in many, so that none is optimised away and freeing is not all that touches them.
    black_box(&buffers).iter().step_by(READ_EVERY).for_each(|buffer| read(buffer));
}

fn arena_batch(bump: &mut Bump, tokens: &[&str], read: &mut dyn FnMut(&[u8])) {
    let mut buffers: bumpalo::collections::Vec<'_, &[u8]> =
        bumpalo::collections::Vec::with_capacity_in(tokens.len(), bump);
    buffers.extend(tokens.iter().map(|token| &*bump.alloc_slice_copy(token.as_bytes())));
    black_box(&buffers).iter().step_by(READ_EVERY).for_each(|buffer| read(buffer));
    drop(buffers);
    bump.reset();
}

const READ_EVERY: usize = 16;

struct Run {
    text: String,
    tokens: Vec<Range<usize>>,
    batch: usize,
    taken: usize,
    make: Batch,
    bump: Bump,
    spent_ns: u64,
    batches: u64,
}

fn set_up(params: &Params, make: Batch) -> Result<Box<dyn Workload>, Error> {
    let batch = params.number(BATCH, 1..=500_000)?;
    let text = Corpus::load().into_text();
    let place = |word: &str| {
        let start = word.as_ptr().addr() - text.as_ptr().addr();
        start..start + word.len()
    };
    let tokens = text.split_whitespace().map(place).collect();
    Ok(Box::new(Run { text, tokens, batch, taken: 0, make, bump: Bump::new(), spent_ns: 0, batches: 0 }))
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        Steps { warmup: 20, measure: (5_000_000 / self.batch as u64).max(1), ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let count = self.tokens.len();
        let tokens: Vec<&str> =
            (0..self.batch).map(|i| &self.text[self.tokens[(self.taken + i) % count].clone()]).collect();
        self.taken += self.batch;
        let mut sum = checksum::OFFSET_BASIS;
        let start = Instant::now();
        (self.make)(&mut self.bump, &tokens, &mut |buffer| {
            sum = checksum::grow(sum, buffer.len() as u64 ^ u64::from(buffer[0]) << 8)
        });
        self.spent_ns += start.elapsed().as_nanos() as u64;
        self.batches += 1;
        Work { units: self.batch as u64, checksum: sum }
    }

    fn measure_begins(&mut self) {
        (self.spent_ns, self.batches) = (0, 0);
    }

    fn figures(&mut self, figures: &mut Figures) {
        if self.batches > 0 {
            let batch_ns = self.spent_ns as f64 / self.batches as f64;
            figures.set("batch_mean_ns", batch_ns);
            figures.set("buffer_mean_ns", batch_ns / self.batch as f64);
        }
    }
}
