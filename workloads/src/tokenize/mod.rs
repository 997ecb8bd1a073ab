//! Tokenization: text in, ids of a vocabulary out.
//!
//! Four variants do BERT's WordPiece and must agree on every id: with owned strings ([`heap`]), in an arena
//! ([`arena`]), with slices and slots that are reused ([`slices`]), and by the `tokenizers` crate ([`hf`]).
//! [`tiktoken`] does byte-pair encoding. [`documents`] has what they are given; [`basic`], [`classes`], [`pieces`] and
//! [`vocab`] are what our three are made of. Only the constants here are meant for the registry; the rest is public for
//! tests and benches.

use heapgate_bench::{Error, ParamSpec, Params, Steps, Variant, Work, Workload};

use self::documents::Documents;

pub mod arena;
pub mod basic;
pub mod classes;
pub mod documents;
pub mod heap;
pub mod hf;
pub mod pieces;
pub mod slices;
pub mod tiktoken;
pub mod vocab;

/// WordPiece with owned strings.
pub const WORDPIECE_HEAP: Variant =
    variant::<heap::Heap>("wordpiece-heap", "BERT WordPiece with an owned string for every intermediate");
/// WordPiece in an arena.
pub const WORDPIECE_ARENA: Variant =
    variant::<arena::Arena>("wordpiece-arena", "BERT WordPiece in a bumpalo arena that is reset after each document");
/// WordPiece with slices.
pub const WORDPIECE_SLICES: Variant =
    variant::<slices::Slices>("wordpiece-slices", "BERT WordPiece on slices of the input, allocating nothing per step");
/// WordPiece by the `tokenizers` crate.
pub const HF_WORDPIECE: Variant =
    variant::<hf::Hf>("hf-wordpiece", "BERT WordPiece by the tokenizers crate, unmodified");
/// Byte-pair encoding by the `tiktoken-rs` crate.
pub const TIKTOKEN_CL100K: Variant =
    variant::<tiktoken::Tiktoken>("tiktoken-cl100k", "byte-pair encoding (cl100k_base) by the tiktoken-rs crate");

const PARAMS: &[ParamSpec] = &[ParamSpec {
    name: documents::PARAM,
    default: documents::Kind::Book.name(),
    choices: &documents::Kind::NAMES,
    help: "what one step is given: a verse, a book, everything, one repeated character, or the fetched linux-doc",
}];

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
}

impl<T: Tokenizer> Workload for Run<T> {
    fn steps(&self) -> Steps {
        self.documents.steps()
    }

    fn step(&mut self) -> Work {
        let text = self.documents.take();
        self.tokenizer.with_ids(text, |ids| Work { units: ids.len() as u64, checksum: checksum(ids) })
    }
}

const fn variant<T: Tokenizer + 'static>(name: &'static str, about: &'static str) -> Variant {
    Variant::new("tokenize", name, "token", about, setup::<T>)
        .params(PARAMS)
        .allocators(T::DEFAULT_ALLOCATORS)
        .by_default()
}

fn setup<T: Tokenizer + 'static>(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let documents = Documents::load(documents::Kind::from_params(params)?)?;
    let mut tokenizer = T::new()?;
    tokenizer.prepare(&documents);
    Ok(Box::new(Run { tokenizer, documents }))
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
