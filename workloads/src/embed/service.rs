//! Batch embedding: chunks through the model, a batch a step, every vector kept to the end.

use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use super::chunks::Chunks;
use super::purges::Purges;
use super::{DIM, HIDDEN, LAYERS, MODEL, checksum, refuse, seeded};
use crate::models::bert::Encoder;
use crate::models::files;

/// The real model, which must be fetched.
pub const MINILM: Variant = Variant::new(
    "embed",
    "minilm",
    "chunk",
    "batch embedding by all-MiniLM-L6-v2 through candle, one thread, built for baseline x86-64 (not v3); needs ci/fetch-models",
    |params| Run::set_up(Encoder::minilm(params)?, params),
)
.params(&[CHUNKS, BATCH, WORDS, MODEL])
.figures(FIGURES)
.needing(|| files::missing(&files::MINILM_WEIGHTS));

/// The same code on drawn weights.
pub const SEEDED_BERT: Variant = Variant::new(
    "embed",
    "seeded-bert",
    "chunk",
    "batch embedding by a small BERT of drawn weights (seeded) through candle: MiniLM's code, no meaning",
    |params| Run::set_up(seeded(params)?, params),
)
.params(&[CHUNKS, BATCH, WORDS, LAYERS, HIDDEN, DIM])
.figures(FIGURES)
.allocators(&["system", "jemalloc", "region"])
.by_default();

const CHUNKS: ParamSpec =
    ParamSpec { name: "chunks", default: "512", choices: &[], help: "chunks of the corpus that are embedded" };
const BATCH: ParamSpec = ParamSpec { name: "batch", default: "64", choices: &[], help: "chunks in a batch, 1 to 4096" };
const WORDS: ParamSpec = ParamSpec { name: "words", default: "12", choices: &[], help: "words in a chunk, 1 to 512" };

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "layers", help: "Layers of the model." },
    FigureSpec { name: "kept_vectors", help: "Vectors alive at the end." },
    FigureSpec { name: "tokens", help: "Pieces embedded, without padding." },
    FigureSpec { name: "padding_share", help: "Share of what went through the model that was padding." },
    FigureSpec { name: "purges", help: "Times that jemalloc purged dirty or muzzy pages since set-up." },
    FigureSpec { name: "purged_pages", help: "Pages that it gave back." },
];

struct Run {
    encoder: Encoder,
    chunks: Chunks,
    batch: usize,
    /// Chunks embedded; `None` before warm-up.
    done: Option<usize>,
    kept: Vec<Vec<f32>>,
    tokens: usize,
    padding: usize,
    purges: Option<Purges>,
}

impl Run {
    fn set_up(encoder: Encoder, params: &Params) -> Result<Box<dyn Workload>, Error> {
        let batch = params.number::<usize>(BATCH.name, 1..=4096)?;
        let count = params.number::<usize>(CHUNKS.name, 1..=1_000_000)?;
        let words = params.number::<usize>(WORDS.name, 1..=512)?;
        let chunks = Chunks::cut(words, count)
            .map_err(|all| refuse(CHUNKS.name, format!("{count} of {words} words; the corpus has {all}")))?;
        for chunk in (0..chunks.len()).map(|index| chunks.get(index)) {
            encoder.check(chunk).map_err(|long| {
                let reason = format!("one of {words} has {} tokens; the model takes {}", long.tokens, long.most);
                refuse(WORDS.name, reason)
            })?;
        }
        let kept = Vec::with_capacity(count);
        Ok(Box::new(Self { encoder, chunks, batch, done: None, kept, tokens: 0, padding: 0, purges: Purges::so_far() }))
    }

    /// # Panics
    /// If `candle` refuses, which it has no reason to: chunks that are too long were refused at set-up.
    fn embed(&self, from: usize) -> crate::models::bert::Batch {
        let to = (from + self.batch).min(self.chunks.len());
        let texts: Vec<&str> = (from..to).map(|index| self.chunks.get(index)).collect();
        self.encoder.embed(&texts).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        Steps { warmup: 1, measure: self.chunks.len().div_ceil(self.batch) as u64, ..Steps::default() }
    }

    /// One batch. The first warms up: it embeds the first batch and keeps nothing.
    fn step(&mut self) -> Work {
        let from = self.done.unwrap_or(0) % self.chunks.len();
        let batch = self.embed(from);
        let work =
            Work { units: batch.vectors.len() as u64, checksum: checksum(batch.vectors.iter().map(Vec::as_slice)) };
        match &mut self.done {
            None => self.done = Some(0),
            Some(done) => {
                *done += batch.vectors.len();
                self.tokens += batch.tokens;
                self.padding += batch.padding;
                self.kept.extend(batch.vectors);
            }
        }
        work
    }

    fn figures(&mut self, figures: &mut Figures) {
        Purges::record_since(self.purges, figures);
        figures.set("layers", self.encoder.layers() as f64);
        figures.set("kept_vectors", self.kept.len() as f64);
        figures.set("tokens", self.tokens as f64);
        if self.tokens > 0 {
            figures.set("padding_share", self.padding as f64 / (self.padding + self.tokens) as f64);
        }
    }
}
