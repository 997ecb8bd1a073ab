//! WordPiece as a pipeline whose stages hand tokens on: normalise, split, look up (E8). With owned strings, each stage
//! gives the next strings of its own; with slices, they are counted references into one slot that is filled again for
//! each document.
//!
//! The rules are [`super::basic`]'s and the look-up is that of [`super::pieces`], in both: what differs is the handing
//! on.

use bytes::{Bytes, BytesMut};
use heapgate_bench::Error;

use super::Tokenizer;
use super::basic::{clean, lower, space_ideographs, strip_accents, words};
use super::documents::Documents;
use super::pieces::Pieces;

fn normalised(text: &str) -> impl Iterator<Item = char> {
    lower(strip_accents(space_ideographs(clean(text))))
}

/// The variant `pipeline-owned`.
#[derive(Debug)]
pub struct Owned {
    pieces: Pieces,
}

impl Tokenizer for Owned {
    fn new() -> Result<Self, Error> {
        Ok(Self { pieces: Pieces::load() })
    }

    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        let normal: String = normalised(text).collect();
        let words: Vec<String> = words(&normal).map(str::to_owned).collect();
        let mut ids = Vec::new();
        for word in words {
            self.pieces.push_ids(word.as_bytes(), &mut ids);
        }
        read(&ids)
    }
}

/// The variant `pipeline-slices`.
#[derive(Debug)]
pub struct Slices {
    pieces: Pieces,
    /// The normalised text of a document.
    slot: BytesMut,
    /// Its words, on their way from one stage to the next.
    words: Vec<Bytes>,
    ids: Vec<u32>,
}

impl Slices {
    fn encode(&mut self, text: &str) {
        let mut slot = std::mem::take(&mut self.slot);
        slot.clear();
        for c in normalised(text) {
            slot.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        let normal = slot.freeze();
        let text = std::str::from_utf8(&normal).expect("it was written by characters");
        self.words.extend(words(text).map(|word| normal.slice_ref(word.as_bytes())));
        self.ids.clear();
        for word in self.words.drain(..) {
            self.pieces.push_ids(&word, &mut self.ids);
        }
        // No word is left, so the slot comes back; if one were, it would keep the slot, and there would be another.
        self.slot = normal.try_into_mut().unwrap_or_default();
    }
}

impl Tokenizer for Slices {
    const DEFAULT_ALLOCATORS: &'static [&'static str] = &["system", "jemalloc"];

    fn new() -> Result<Self, Error> {
        Ok(Self { pieces: Pieces::load(), slot: BytesMut::new(), words: Vec::new(), ids: Vec::new() })
    }

    /// Takes every document once, so that the slots are as large as they will have to be.
    fn prepare(&mut self, documents: &Documents) {
        documents.iter().for_each(|text| self.encode(text));
    }

    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        self.encode(text);
        read(&self.ids)
    }
}
