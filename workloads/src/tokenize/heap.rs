//! WordPiece with an owned string for every intermediate, as most code does it: the baseline to improve on.

use heapgate_bench::Error;

use super::Tokenizer;
use super::basic::{MAX_WORD_CHARS, clean, lower, space_ideographs, strip_accents, words};
use super::vocab::{CONTINUATION, Vocab};

/// The variant `wordpiece-heap`.
#[derive(Debug)]
pub struct Heap {
    vocab: Vocab,
}

impl Heap {
    fn encode(&self, text: &str) -> Vec<u32> {
        let cleaned: String = clean(text).collect();
        let spaced: String = space_ideographs(cleaned.chars()).collect();
        let stripped: String = strip_accents(spaced.chars()).collect();
        let lowered: String = lower(stripped.chars()).collect();
        let words: Vec<String> = words(&lowered).map(str::to_owned).collect();
        words.iter().flat_map(|word| self.pieces(word)).collect()
    }

    /// The longest piece that the word starts with, then the longest that goes on from there; all or nothing.
    fn pieces(&self, word: &str) -> Vec<u32> {
        let chars: Vec<char> = word.chars().collect();
        if chars.len() > MAX_WORD_CHARS {
            return vec![self.vocab.unknown()];
        }
        let mut ids = Vec::new();
        let mut start = 0;
        while start < chars.len() {
            let longest = (start + 1..=chars.len()).rev().find_map(|end| {
                let mut piece: String = chars[start..end].iter().collect();
                if start > 0 {
                    piece = format!("{CONTINUATION}{piece}");
                }
                Some((self.vocab.id(&piece)?, end))
            });
            let Some((id, end)) = longest else {
                return vec![self.vocab.unknown()];
            };
            ids.push(id);
            start = end;
        }
        ids
    }
}

impl Tokenizer for Heap {
    fn new() -> Result<Self, Error> {
        Ok(Self { vocab: Vocab::load() })
    }

    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        read(&self.encode(text))
    }
}
