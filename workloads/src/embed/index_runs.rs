//! Writing an index, reading it back and searching it: by bytes that grow and copies, or in an arena and in place.
//!
//! The vectors are of real verses, by [`hash_words`], so that no model takes the time that is to be measured.

use bumpalo::Bump;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use super::features::{dot, hash_words};
use super::index::{read_to_heap, serialized_bytes, view, write_in, write_to_heap};
use crate::corpus::Corpus;

/// With copies.
pub const INDEX_HEAP: Variant = Variant::new(
    "embed",
    "index-heap",
    "vector",
    "serializes vectors into bytes that grow, reads each back as a copy, searches them",
    |params| Ok(Box::new(Run { way: Heap, source: Source::load(params)? })),
)
.params(PARAMS)
.figures(FIGURES);

/// In an arena.
pub const INDEX_ARENA: Variant = Variant::new(
    "embed",
    "index-arena",
    "vector",
    "serializes vectors into one buffer of an arena, reads them in place, searches them",
    |params| {
        let source = Source::load(params)?;
        Ok(Box::new(Run { way: Arena(Bump::new()), source }))
    },
)
.params(PARAMS)
.figures(FIGURES);

/// Numbers in a vector.
pub const DIM: usize = 1024;

const PARAMS: &[ParamSpec] =
    &[ParamSpec { name: "vectors", default: "512", choices: &[], help: "vectors of an index, 1 to 4096" }];
const FIGURES: &[FigureSpec] = &[FigureSpec { name: "index_bytes", help: "A serialized index." }];

/// Verses whose vectors are made: 16 MB of them.
const VERSES: usize = 4096;
/// Vectors that each index is searched for.
const QUERIES: usize = 4;

/// Vectors to be indexed.
struct Source {
    vectors: Vec<[f32; DIM]>,
    count: usize,
    steps: usize,
}

impl Source {
    fn load(params: &Params) -> Result<Self, Error> {
        let count = params.number::<usize>("vectors", 1..=VERSES)?;
        let corpus = Corpus::load();
        let verses = corpus.verses();
        let mut vectors = vec![[0.0; DIM]; VERSES];
        for (i, vector) in vectors.iter_mut().enumerate() {
            hash_words(&corpus.text()[verses[i * verses.len() / VERSES].clone()], vector);
        }
        Ok(Self { vectors, count, steps: 0 })
    }

    /// Vector `i` of step `step`: each step has others, and takes up where the one before ended.
    fn get(&self, step: usize, i: usize) -> &[f32; DIM] {
        &self.vectors[(step * self.count + i) % VERSES]
    }

    /// What each index is searched for.
    fn query(&self, step: usize, i: usize) -> &[f32; DIM] {
        self.get(step, i * self.count / QUERIES + self.count / 3)
    }
}

/// One way of making and reading an index.
trait Way {
    /// Makes the index of `step`, reads it, searches it; gives a hash of what it found.
    fn index(&mut self, source: &Source, step: usize) -> u64;
}

struct Heap;

impl Way for Heap {
    fn index(&mut self, source: &Source, step: usize) -> u64 {
        let bytes = write_to_heap((0..source.count).map(|i| source.get(step, i)));
        let vectors = read_to_heap::<DIM>(&bytes).expect("just written");
        search(source, step, vectors.iter().map(Vec::as_slice))
    }
}

struct Arena(Bump);

impl Way for Arena {
    fn index(&mut self, source: &Source, step: usize) -> u64 {
        // Keeps its memory: the first step allocates it, all others nothing.
        self.0.reset();
        let bytes = write_in::<DIM>(&self.0, source.count, |i, row| *row = *source.get(step, i));
        let rows = view::<DIM>(bytes).expect("just written");
        search(source, step, rows.iter().map(|row| &row[..]))
    }
}

/// The nearest vector to each query, as a hash over them all.
fn search<'a>(source: &Source, step: usize, vectors: impl Iterator<Item = &'a [f32]> + Clone) -> u64 {
    (0..QUERIES).fold(0xcbf2_9ce4_8422_2325, |hash, i| {
        let query = source.query(step, i);
        let nearest = vectors.clone().map(|vector| dot(query, vector)).enumerate();
        let nearest = nearest.fold((0, f32::MIN), |best, this| if this.1 > best.1 { this } else { best });
        (hash ^ nearest.0 as u64).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

struct Run<W> {
    way: W,
    source: Source,
}

impl<W: Way> Workload for Run<W> {
    fn steps(&self) -> Steps {
        Steps { warmup: 8, measure: 96, ..Steps::default() }
    }

    /// One index.
    fn step(&mut self) -> Work {
        let step = self.source.steps;
        self.source.steps += 1;
        Work { units: self.source.count as u64, checksum: self.way.index(&self.source, step) }
    }

    fn figures(&mut self, figures: &mut Figures) {
        if let Some(bytes) = serialized_bytes::<DIM>(self.source.count) {
            figures.set("index_bytes", bytes as f64);
        }
    }
}
