//! Generations that think before they answer: the KV cache of a thought is of no more use when the thought is over.
//!
//! A batch of sequences decodes side by side from one pool of blocks. Each starts with a prompt of real text, then
//! thinks and answers in turns; thoughts are scopes of their [`Generation`]. Both ways to release blocks attend to the
//! same positions and so decode the same.

use std::time::Instant;

use allocator_api2::alloc::Global;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use super::latency::Latency;
use super::streaming::BLOCK;
use crate::corpus::opening;
use crate::random::SplitMix64;
use crate::transformer::cache::{BlockPool, BlockShape, Generation, Release, most_attended};
use crate::transformer::math::{argmax, checksum};
use crate::transformer::{Config, Decoder, Weights};

/// Blocks come back when their phase is over, or when their generation is.
pub const EXPIRY: Variant = Variant::new(
    "decode",
    "expiry",
    "token",
    "a batch that thinks and answers in turns, in a paged KV cache whose blocks expire with their phase",
    setup,
)
.params(&[
    ParamSpec {
        name: "release",
        default: "scoped",
        choices: &["scoped", "end"],
        help: "when the KV blocks of a thought go back: when it is over, or when everything is",
    },
    ParamSpec {
        name: "arrival",
        default: "together",
        choices: &["together", "streaming"],
        help: "whether generations start and end together, or each is followed by the next as it ends",
    },
    ParamSpec { name: "positions", default: "16384", choices: &[], help: "positions of a generation, up to 131072" },
    ParamSpec { name: "batch", default: "4", choices: &[], help: "samples or sequences side by side, up to 64" },
    BLOCK,
])
.figures(&[
    FigureSpec { name: "step_mean_ns", help: "Mean time of a step: one position of every sequence." },
    FigureSpec { name: "step_p99_ns", help: "99th percentile of the time of a step." },
    FigureSpec { name: "kv_peak_bytes", help: "Most bytes of blocks that the pool had allocated, in use or free." },
    FigureSpec { name: "block_reuse_share", help: "Share of the blocks handed out that had been used before." },
    FigureSpec { name: "expired_share", help: "Share of all positions that belonged to a phase that ended early." },
]);

const MAX_POSITIONS: usize = 131_072;
const MAX_BATCH: usize = 64;
/// The largest block: with it a step attends to little more than 500 positions.
const MAX_BLOCK: usize = 256;
/// Tokens are the text's ASCII characters.
const VOCABULARY: usize = 128;
/// Every sequence decodes so many generations, one after the other: only then is there something to reuse without
/// scopes too.
const ROUNDS: usize = 2;
/// The prompt is this part of a generation.
const PROMPT_PART: usize = 8;
/// A thought is from 1/64 to 1/16 of a generation, an answer too.
const PHASE_PARTS: [usize; 2] = [64, 16];
const SEED: u64 = 18;

fn model(block: usize) -> Config {
    Config { layers: 1, heads: 2, width: 16, hidden: 32, outputs: VOCABULARY, context: most_attended(block) }
}

fn setup(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let positions = params.number("positions", 1..=MAX_POSITIONS)?;
    let batch = params.number("batch", 1..=MAX_BATCH)?;
    let block = params.number(BLOCK.name, 1..=MAX_BLOCK)?;
    let release = if params.get("release") == "end" { Release::End } else { Release::Scoped };
    let streaming = params.get("arrival") == "streaming";
    let model = model(block);
    let shape = BlockShape { positions: block, layers: model.layers, width: model.width };
    let mut random = SplitMix64::new(SEED);
    let sequence = |index: usize| Sequence {
        generation: Generation::new(Global),
        random: SplitMix64::new(SEED + index as u64),
        // A stream is joined where its first generation has this much to go.
        length: if streaming { (positions * (index + 1)).div_ceil(batch) } else { positions },
        at: 0,
        phase: Phase::Prompt,
        phase_ends: 0,
        token: 0,
    };
    Ok(Box::new(Batch {
        decoder: Decoder::new(Weights::seeded(model, SEED, Global), Global),
        embedding: (0..VOCABULARY * model.width).map(|_| random.signed()).collect(),
        text: opening(MAX_POSITIONS / PROMPT_PART).into_bytes(),
        pool: BlockPool::new(shape, Global),
        sequences: (0..batch).map(sequence).collect(),
        positions,
        release,
        latency: Latency::new()?,
        taken: 0,
        expired: 0,
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Prompt,
    Thought,
    Answer,
}

struct Sequence {
    generation: Generation<Global>,
    random: SplitMix64,
    /// Positions of the current generation.
    length: usize,
    at: usize,
    phase: Phase,
    phase_ends: usize,
    token: usize,
}

impl Sequence {
    fn is_over(&self) -> bool {
        self.at == self.length
    }

    fn start_again(&mut self, pool: &mut BlockPool<Global>, length: usize) {
        self.generation.finish(pool);
        (self.length, self.at, self.phase_ends, self.phase) = (length, 0, 0, Phase::Prompt);
    }

    /// Goes on to the next phase where one ends.
    fn turn(&mut self, pool: &mut BlockPool<Global>, release: Release, positions: usize) {
        if self.at == 0 {
            self.phase_ends = positions.div_ceil(PROMPT_PART);
        }
        if self.at < self.phase_ends {
            return;
        }
        self.phase = match self.phase {
            Phase::Prompt | Phase::Answer => {
                self.generation.begin_scope();
                Phase::Thought
            }
            Phase::Thought => {
                self.generation.end_scope(pool, release);
                Phase::Answer
            }
        };
        let [shortest, longest] = PHASE_PARTS.map(|parts| positions.div_ceil(parts));
        self.phase_ends = self.at + self.random.between(shortest, longest);
    }
}

/// Sequences that decode side by side.
struct Batch {
    decoder: Decoder<Global>,
    embedding: Vec<f32>,
    text: Vec<u8>,
    pool: BlockPool<Global>,
    sequences: Vec<Sequence>,
    positions: usize,
    release: Release,
    latency: Latency,
    taken: u64,
    expired: u64,
}

impl Workload for Batch {
    fn steps(&self) -> Steps {
        // No warm-up: how the pool grows is what is looked at.
        Steps { measure: (ROUNDS * self.positions) as u64, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let start = Instant::now();
        let Self { decoder, embedding, pool, positions, release, .. } = self;
        let width = decoder.config().width;
        let mut work = Work::default();
        for (index, sequence) in self.sequences.iter_mut().enumerate() {
            if sequence.is_over() {
                sequence.start_again(pool, *positions);
            }
            sequence.turn(pool, *release, *positions);
            if sequence.phase == Phase::Prompt {
                // Each sequence reads the text from another place on.
                let at = (sequence.at + index * 1_009) % self.text.len();
                sequence.token = usize::from(self.text[at]) % VOCABULARY;
            }
            let input = &embedding[sequence.token * width..][..width];
            let mut cache = sequence.generation.attach(pool);
            let logits = decoder.step(&mut cache, sequence.at, input).expect("a block's window is within the context");
            sequence.token = argmax(logits);
            sequence.at += 1;
            work.checksum = work.checksum.rotate_left(1) ^ checksum(logits);
            work.units += 1;
            self.expired += u64::from(sequence.phase == Phase::Thought);
        }
        self.taken += work.units;
        self.latency.record_since(start);
        work
    }

    fn figures(&mut self, figures: &mut Figures) {
        let timed = [("step_mean_ns", self.latency.mean_ns()), ("step_p99_ns", self.latency.quantile_ns(0.99))];
        for (name, value) in timed {
            if let Some(value) = value {
                figures.set(name, value);
            }
        }
        let counts = self.pool.counts();
        figures.set("kv_peak_bytes", counts.allocated as f64 * self.pool.shape().bytes() as f64);
        if counts.taken > 0 {
            figures.set("block_reuse_share", counts.reused as f64 / counts.taken as f64);
            figures.set("expired_share", self.expired as f64 / self.taken as f64);
        }
    }
}
