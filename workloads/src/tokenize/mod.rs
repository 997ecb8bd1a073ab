//! Tokenization: text in, ids of a vocabulary out.
//!
//! Four variants do BERT's WordPiece and must agree on every id: with owned strings ([`heap`]), in an arena
//! ([`arena`]), with slices and slots that are reused ([`slices`]), and by the `tokenizers` crate ([`hf`]).
//! Two more do it as a [`pipeline`]. [`tiktoken`] does byte-pair encoding. [`documents`] has what they are given; [`basic`], [`classes`], [`pieces`] and
//! [`vocab`] are what our three are made of. Only the constants here are meant for the registry; the rest is public for
//! tests and benches.

use std::time::Instant;

use hdrhistogram::Histogram;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use self::documents::Documents;
use crate::perf::{Counters, Event};

pub mod arena;
pub mod basic;
pub mod classes;
pub mod documents;
pub mod heap;
pub mod hf;
pub mod pieces;
pub mod pipeline;
pub mod slices;
pub mod tiktoken;
pub mod vocab;

/// WordPiece with owned strings.
pub const WORDPIECE_HEAP: Variant =
    variant::<heap::Heap>("wordpiece-heap", "BERT WordPiece with an owned string for every intermediate").by_default();
/// WordPiece in an arena.
pub const WORDPIECE_ARENA: Variant =
    variant::<arena::Arena>("wordpiece-arena", "BERT WordPiece in a bumpalo arena that is reset after each document")
        .by_default();
/// WordPiece with slices.
pub const WORDPIECE_SLICES: Variant =
    variant::<slices::Slices>("wordpiece-slices", "BERT WordPiece on slices of the input, allocating nothing per step")
        .by_default();
/// WordPiece by the `tokenizers` crate.
pub const HF_WORDPIECE: Variant =
    variant::<hf::Hf>("hf-wordpiece", "BERT WordPiece by the tokenizers crate, unmodified").by_default();
/// Byte-pair encoding by the `tiktoken-rs` crate.
pub const TIKTOKEN_CL100K: Variant =
    variant::<tiktoken::Tiktoken>("tiktoken-cl100k", "byte-pair encoding (cl100k_base) by the tiktoken-rs crate")
        .by_default();

/// The pipeline with owned strings.
pub const PIPELINE_OWNED: Variant =
    variant::<pipeline::Owned>("pipeline-owned", "a pipeline of stages that hand owned strings on");
/// The pipeline with slices.
pub const PIPELINE_SLICES: Variant = variant::<pipeline::Slices>(
    "pipeline-slices",
    "a pipeline of stages that hand counted references into one slot on",
);

const SYSCALLS: &str = "syscalls";

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: documents::PARAM,
        default: documents::Kind::Book.name(),
        choices: &documents::Kind::NAMES,
        help: "what one step is given: a sentence, a verse, a book, everything, one repeated character, the fetched \
               linux-doc, or a file",
    },
    ParamSpec { name: documents::TEXT, default: "", choices: &[], help: "with document=file, the file" },
    ParamSpec {
        name: documents::LOSSY,
        default: "",
        choices: &["yes"],
        help: "with document=file, whether what is not UTF-8 in it becomes U+FFFD; else it is an error",
    },
    ParamSpec {
        name: SYSCALLS,
        default: "",
        choices: &["counted"],
        help: "count the system calls that map and unmap memory (needs root and a mounted tracefs)",
    },
];

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "document_p50_ns", help: "median time of one document" },
    FigureSpec { name: "document_p99_ns", help: "99th percentile of the time of one document" },
    FigureSpec {
        name: "allocator_syscalls",
        help: "calls of mmap, munmap, mremap, madvise and brk while measuring, with syscalls=counted",
    },
];

/// Longest time of a document that is told from longer ones.
const LONGEST_NS: u64 = 600_000_000_000;

/// Turns text into ids.
pub trait Tokenizer: Sized {
    /// The allocators worth comparing. What manages its own memory has nothing to gain from a region.
    const DEFAULT_ALLOCATORS: &'static [&'static str] = &["system", "jemalloc", "region"];

    /// Loads the vocabulary.
    ///
    /// # Errors
    /// [`Error::Library`] if the library under test refuses.
    fn new() -> Result<Self, Error>;

    /// Makes ready for `documents`. What a variant allocates once, it allocates here.
    fn prepare(&mut self, documents: &Documents) {
        let _ = documents;
    }

    /// Tokenizes `text` and lends the ids, held as this variant naturally holds them; they are gone on return.
    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R;
}

/// A tokenizer and the documents it is given, one a step.
struct Run<T> {
    tokenizer: T,
    documents: Documents,
    /// Time of each document, ns. As large from the start as it ever gets.
    latency: Histogram<u64>,
    syscalls: Option<Counters>,
}

impl<T: Tokenizer> Workload for Run<T> {
    fn steps(&self) -> Steps {
        self.documents.steps()
    }

    fn step(&mut self) -> Work {
        let text = self.documents.take();
        let start = Instant::now();
        let work = self.tokenizer.with_ids(text, |ids| Work { units: ids.len() as u64, checksum: checksum(ids) });
        self.latency.saturating_record(start.elapsed().as_nanos() as u64);
        work
    }

    fn measure_begins(&mut self) {
        self.latency.reset();
        if let Some(counters) = &mut self.syscalls {
            counters.start();
        }
    }

    fn figures(&mut self, figures: &mut Figures) {
        // Before anything else is done here, which may need memory.
        if let Some(calls) = self.syscalls.as_mut().and_then(Counters::read_sum) {
            figures.set("allocator_syscalls", calls as f64);
        }
        if !self.latency.is_empty() {
            figures.set("document_p50_ns", self.latency.value_at_quantile(0.5) as f64);
            figures.set("document_p99_ns", self.latency.value_at_quantile(0.99) as f64);
        }
    }
}

const fn variant<T: Tokenizer + 'static>(name: &'static str, about: &'static str) -> Variant {
    Variant::new("tokenize", name, "token", about, setup::<T>)
        .params(PARAMS)
        .figures(FIGURES)
        .allocators(T::DEFAULT_ALLOCATORS)
}

fn setup<T: Tokenizer + 'static>(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let documents = Documents::from_params(params)?;
    let mut tokenizer = T::new()?;
    tokenizer.prepare(&documents);
    let latency = Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("bounds that it takes");
    let syscalls = (!params.get(SYSCALLS).is_empty()).then(|| Counters::open(&Event::ALLOCATOR_SYSCALLS));
    // All for one reason, as a rule.
    if let Some(unavailable) = syscalls.as_ref().and_then(|counters| counters.unavailable().next()) {
        eprintln!("heapgate: {unavailable}");
    }
    Ok(Box::new(Run { tokenizer, documents, latency, syscalls }))
}

/// A hash of ids that depends on their order: FNV-1a with 64 bits, an id at a time.
///
/// ```
/// use heapgate_workloads::tokenize::checksum;
/// assert_ne!(checksum(&[1, 2]), checksum(&[2, 1]));
/// ```
#[must_use]
pub fn checksum(ids: &[u32]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    ids.iter().fold(OFFSET_BASIS, |hash, &id| (hash ^ u64::from(id)).wrapping_mul(PRIME))
}
