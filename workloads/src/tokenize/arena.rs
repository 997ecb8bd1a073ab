//! WordPiece in an explicit arena: the steps of [`super::heap`], with every string and list in a `bumpalo` arena that
//! is reset after each document.

use bumpalo::Bump;
use bumpalo::collections::{String, Vec};
use heapgate_bench::Error;

use super::Tokenizer;
use super::basic::{MAX_WORD_CHARS, clean, lower, space_ideographs, strip_accents, words};
use super::vocab::{CONTINUATION, Vocab};

/// The arena's first chunk: enough for a short document. A longer one takes more chunks, of which the last, the
/// largest, stays.
const FIRST_CHUNK_BYTES: usize = 64 * 1024;

/// The variant `wordpiece-arena`.
#[derive(Debug)]
pub struct Arena {
    vocab: Vocab,
    bump: Bump,
}

fn encode<'b>(vocab: &Vocab, text: &str, bump: &'b Bump) -> Vec<'b, u32> {
    let cleaned = String::from_iter_in(clean(text), bump);
    let spaced = String::from_iter_in(space_ideographs(cleaned.chars()), bump);
    let stripped = String::from_iter_in(strip_accents(spaced.chars()), bump);
    let lowered = String::from_iter_in(lower(stripped.chars()), bump);
    let words = Vec::from_iter_in(words(&lowered), bump);
    let mut ids = Vec::with_capacity_in(words.len(), bump);
    let mut piece = String::new_in(bump);
    for word in words {
        push_pieces(vocab, word, &mut piece, &mut ids);
    }
    ids
}

/// Appends the pieces of `word`; `piece` is where a piece that continues a word gets its mark.
fn push_pieces(vocab: &Vocab, word: &str, piece: &mut String<'_>, ids: &mut Vec<'_, u32>) {
    let known = ids.len();
    if word.chars().count() > MAX_WORD_CHARS {
        ids.push(vocab.unknown());
        return;
    }
    let mut rest = word;
    while !rest.is_empty() {
        piece.clear();
        if rest.len() < word.len() {
            piece.push_str(CONTINUATION);
        }
        let mark = piece.len();
        piece.push_str(rest);
        let longest = loop {
            match vocab.id(piece) {
                Some(id) => break Some(id),
                None if piece.len() == mark => break None,
                None => drop(piece.pop()),
            }
        };
        // The mark alone is no piece, whatever the vocabulary says.
        let Some(id) = longest.filter(|_| piece.len() > mark) else {
            ids.truncate(known);
            ids.push(vocab.unknown());
            return;
        };
        ids.push(id);
        rest = &rest[piece.len() - mark..];
    }
}

impl Tokenizer for Arena {
    const DEFAULT_ALLOCATORS: &'static [&'static str] = &["system", "jemalloc"];

    fn new() -> Result<Self, Error> {
        Ok(Self { vocab: Vocab::load(), bump: Bump::with_capacity(FIRST_CHUNK_BYTES) })
    }

    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        let answer = read(&encode(&self.vocab, text, &self.bump));
        self.bump.reset();
        answer
    }
}
