//! Streaming decode, batch 1: a chunk of 20 ms a step, with each form of KV cache.

use std::time::{Duration, Instant};

use allocator_api2::alloc::Global;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, ThreadStalls, Variant, Work, Workload};

use super::audio::{Audio, Embedding};
use super::latency::Latency;
use crate::transformer::cache::{BlockPool, BlockShape, Concat, Full, InPlace, KvCache, Paged, Run, Sliding, Usage};
use crate::transformer::math::checksum;
use crate::transformer::{Config, Decoder, Weights};

/// The cache is made anew for every position.
pub const KV_CONCAT: Variant = variant(
    "kv-concat",
    "streaming decode; the KV cache is concatenated anew on every step, as torch.cat does",
    PARAMS,
    |params| setup(params, |model, _| Ok(Concat::new(model.layers, model.width, Global))),
);
/// The cache has room for the context from the start.
pub const KV_INPLACE: Variant = variant(
    "kv-inplace",
    "streaming decode; the KV cache is allocated for the whole context and appended to",
    PARAMS,
    |params| setup(params, |model, _| Ok(InPlace::new(model.layers, model.width, model.context, Global))),
)
.allocators(&["jemalloc"])
.by_default();
/// The cache keeps a window.
pub const KV_SLIDING: Variant = variant(
    "kv-sliding",
    "streaming decode; the KV cache keeps the last positions and is truncated to them when full",
    SLIDING_PARAMS,
    |params| {
        setup(params, |model, params| {
            let window = params.number("window", 1..=model.context)?;
            Ok(Sliding::new(model.layers, model.width, window, Global))
        })
    },
);
/// The cache is a table of blocks.
pub const KV_PAGED: Variant = variant(
    "kv-paged",
    "streaming decode; the KV cache is a table of blocks, which come from a pool and go back to it",
    PAGED_PARAMS,
    |params| {
        setup(params, |model, params| {
            let positions = params.number("block", 1..=model.context)?;
            let blocks = model.context.div_ceil(positions);
            let shape = BlockShape { positions, layers: model.layers, width: model.width };
            let mut pool = BlockPool::new(shape, Global);
            // All at the start, as servers do with a GPU's memory.
            pool.reserve(blocks);
            Ok(Paged::new(pool, blocks, Global))
        })
    },
)
.allocators(&["jemalloc"])
.by_default();

/// The longest context that the model takes.
const MAX_CONTEXT: usize = 4_096;
/// Streams that are decoded, one after the other.
const STREAMS: u64 = 2;
/// Chunks that are decoded in set-up, for the processor's caches, before the first stream starts.
const WARMUP_CHUNKS: usize = 64;
/// Seeds of the weights, the embedding and the noise.
const SEEDS: [u64; 3] = [3, 20, 320];

const CONTEXT: ParamSpec =
    ParamSpec { name: "context", default: "512", choices: &[], help: "positions the KV cache is for, up to 4096" };
const CHUNKS: ParamSpec = ParamSpec {
    name: "chunks",
    default: "512",
    choices: &[],
    help: "chunks of 20 ms in one stream, no more than the context",
};
const WINDOW: ParamSpec =
    ParamSpec { name: "window", default: "128", choices: &[], help: "positions a sliding KV cache keeps" };
pub(super) const BLOCK: ParamSpec =
    ParamSpec { name: "block", default: "16", choices: &[], help: "positions of one block of a paged KV cache" };

const PARAMS: &[ParamSpec] = &[CONTEXT, CHUNKS];
const SLIDING_PARAMS: &[ParamSpec] = &[CONTEXT, CHUNKS, WINDOW];
const PAGED_PARAMS: &[ParamSpec] = &[CONTEXT, CHUNKS, BLOCK];

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "step_mean_ns", help: "Mean time of a step." },
    FigureSpec { name: "step_p95_ns", help: "95th percentile of the time of a step." },
    FigureSpec { name: "cache_mean_ns", help: "Mean time that a step spends in growing and writing its KV cache." },
    FigureSpec {
        name: "cache_p95_ns",
        help: "95th percentile, over steps, of the time spent in growing and writing the KV cache.",
    },
    FigureSpec {
        name: "stall_step_p95_ns",
        help: "95th percentile, over steps, of the time spent in uninterrupted allocator calls.",
    },
    FigureSpec { name: "kv_peak_bytes", help: "Most bytes that the KV cache has to itself after a step." },
    FigureSpec {
        name: "kv_fragmentation_share",
        help: "Share of the KV cache's memory that holds no position that is attended to, mean over steps.",
    },
];

const fn variant(
    name: &'static str,
    about: &'static str,
    params: &'static [ParamSpec],
    setup: heapgate_bench::Setup,
) -> Variant {
    Variant::new("decode", name, "chunk", about, setup).params(params).figures(FIGURES)
}

/// The model of all these variants, about 0.2 ms a step.
const fn model(context: usize) -> Config {
    Config { layers: 4, heads: 4, width: 128, hidden: 512, outputs: 256, context }
}

fn setup<C: KvCache + 'static>(
    params: &Params,
    cache: fn(&Config, &Params) -> Result<C, Error>,
) -> Result<Box<dyn Workload>, Error> {
    let context = params.number("context", 1..=MAX_CONTEXT)?;
    let chunks = params.number("chunks", 1..=context)?;
    let model = model(context);
    let cache = cache(&model, params)?;
    let mut stream = Stream {
        decoder: Decoder::new(Weights::seeded(model, SEEDS[0], Global), Global),
        embedding: Embedding::seeded(model.width, SEEDS[1]),
        audio: Audio::synthesize(chunks, SEEDS[2]),
        cache: Timed { cache, spent: Duration::ZERO },
        chunks,
        position: 0,
        steps: Latency::new()?,
        cache_steps: Latency::new()?,
        stalls: None,
        stall_steps: Latency::new()?,
        unused_shares: 0.0,
        taken: 0,
        peak_bytes: 0,
    };
    for _ in 0..WARMUP_CHUNKS {
        stream.step();
    }
    stream.restart();
    Ok(Box::new(stream))
}

/// A model that hears one stream after another.
struct Stream<C> {
    decoder: Decoder<Global>,
    embedding: Embedding,
    audio: Audio,
    cache: Timed<C>,
    chunks: usize,
    position: usize,
    steps: Latency,
    cache_steps: Latency,
    /// There while measuring, where every allocator call is timed.
    stalls: Option<ThreadStalls>,
    stall_steps: Latency,
    /// Sum over steps of the share of the cache's memory that holds nothing.
    unused_shares: f64,
    taken: u64,
    peak_bytes: usize,
}

impl<C: KvCache> Stream<C> {
    /// Goes back to the start, as if nothing had been heard.
    fn restart(&mut self) {
        self.cache.clear();
        self.steps.clear();
        self.cache_steps.clear();
        (self.position, self.taken, self.unused_shares, self.peak_bytes) = (0, 0, 0.0, 0);
    }
}

impl<C: KvCache> Workload for Stream<C> {
    fn steps(&self) -> Steps {
        // Warm-up is part of set-up: the workload's figures are to be those of the measured steps.
        Steps { measure: STREAMS * self.chunks as u64, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let start = Instant::now();
        self.cache.spent = Duration::ZERO;
        if self.position == self.chunks {
            self.cache.clear();
            self.position = 0;
        }
        let input = self.embedding.embed(self.audio.chunk(self.position));
        let logits = self.decoder.step(&mut self.cache, self.position, input);
        let checksum = checksum(logits.expect("a stream is no longer than the context"));
        self.position += 1;
        self.steps.record_since(start);
        self.cache_steps.record(self.cache.spent);
        if let Some(stalls) = &mut self.stalls {
            self.stall_steps.record(stalls.lap());
        }
        let Usage { used_bytes, held_bytes } = self.cache.usage();
        self.unused_shares += 1.0 - used_bytes as f64 / held_bytes as f64;
        self.taken += 1;
        self.peak_bytes = self.peak_bytes.max(held_bytes);
        Work { units: 1, checksum }
    }

    fn measure_begins(&mut self) {
        self.stall_steps.clear();
        self.stalls = ThreadStalls::begin();
    }

    fn figures(&mut self, figures: &mut Figures) {
        let timed = [
            ("step_mean_ns", self.steps.mean_ns()),
            ("step_p95_ns", self.steps.quantile_ns(0.95)),
            ("cache_mean_ns", self.cache_steps.mean_ns()),
            ("cache_p95_ns", self.cache_steps.quantile_ns(0.95)),
            ("stall_step_p95_ns", self.stall_steps.quantile_ns(0.95)),
        ];
        for (name, value) in timed {
            if let Some(value) = value {
                figures.set(name, value);
            }
        }
        if self.taken > 0 {
            figures.set("kv_peak_bytes", self.peak_bytes as f64);
            figures.set("kv_fragmentation_share", self.unused_shares / self.taken as f64);
        }
    }
}

/// A cache, and the time spent in changing it.
struct Timed<C> {
    cache: C,
    spent: Duration,
}

impl<C: KvCache> KvCache for Timed<C> {
    fn grow(&mut self) -> Result<(), Full> {
        let start = Instant::now();
        let grown = self.cache.grow();
        self.spent += start.elapsed();
        grown
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        let start = Instant::now();
        self.cache.write(layer, key, value);
        self.spent += start.elapsed();
    }

    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>> {
        self.cache.runs(layer)
    }

    fn positions(&self) -> usize {
        self.cache.positions()
    }

    fn clear(&mut self) {
        let start = Instant::now();
        self.cache.clear();
        self.spent += start.elapsed();
    }

    fn usage(&self) -> Usage {
        self.cache.usage()
    }
}
