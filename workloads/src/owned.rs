//! Text tokenized into owned words: the shape most programs hand from one part to the next.
//!
//! BERT's WordPiece, as in [`crate::tokenize`], but what is kept is each word with its ids, in memory of its own.
//! Shared by [`crate::residency`] and [`crate::threads`].

use crate::tokenize::basic::{clean, lower, space_ideographs, strip_accents, words};
use crate::tokenize::pieces::Pieces;

/// A word of normalised text, and the ids of its pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word, lower case, without accents.
    pub text: String,
    /// Its ids in BERT's vocabulary.
    pub ids: Vec<u32>,
}

/// Tokenizes `text`, with an owned string for every intermediate.
///
/// ```
/// use heapgate_workloads::owned::tokenize;
/// use heapgate_workloads::tokenize::pieces::Pieces;
/// let words = tokenize(&Pieces::load(), "In the beginning");
/// assert_eq!(words[1].text, "the");
/// assert_eq!(words[1].ids, [1996]);
/// ```
#[must_use]
pub fn tokenize(pieces: &Pieces, text: &str) -> Vec<Word> {
    let normalised = normalise(text);
    words(&normalised).map(|word| own(pieces, word)).collect()
}

/// `text` after all of BERT's rules, each applied to the whole of it.
#[must_use]
pub fn normalise(text: &str) -> String {
    let cleaned: String = clean(text).collect();
    let spaced: String = space_ideographs(cleaned.chars()).collect();
    let stripped: String = strip_accents(spaced.chars()).collect();
    lower(stripped.chars()).collect()
}

fn own(pieces: &Pieces, word: &str) -> Word {
    let mut ids = Vec::new();
    pieces.push_ids(word.as_bytes(), &mut ids);
    Word { text: word.to_owned(), ids }
}

/// How many ids `words` have, and a checksum of words and ids in their order.
#[must_use]
pub fn summary(words: &[Word]) -> (u64, u64) {
    let ids = words.iter().map(|word| word.ids.len() as u64).sum();
    (ids, words.iter().fold(SEED, |hash, word| add(hash, word.text.as_bytes(), &word.ids)))
}

/// What a checksum by [`add`] starts from: FNV-1a's offset basis.
pub const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// Adds a word to a checksum: FNV-1a with 64 bits, over the length of the word, its first byte and its ids.
#[must_use]
pub fn add(hash: u64, word: &[u8], ids: &[u32]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let first = word.first().copied().unwrap_or(0);
    let head = [word.len() as u64, u64::from(first)];
    head.into_iter().chain(ids.iter().map(|&id| u64::from(id))).fold(hash, |hash, n| (hash ^ n).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::Tokenizer;
    use crate::tokenize::heap::Heap;

    #[test]
    fn ids_are_those_of_the_wordpiece_tokenizers() {
        let text = "In the beginning God created the heaven, and 中文 naïveté, antidisestablishmentarianism!";
        let ids: Vec<u32> = tokenize(&Pieces::load(), text).into_iter().flat_map(|word| word.ids).collect();
        Heap::new().expect("embedded").with_ids(text, |theirs| assert_eq!(ids, theirs));
    }

    #[test]
    fn checksum_tells_order_and_boundaries_of_words() {
        let word = |text: &str, ids: &[u32]| Word { text: text.to_owned(), ids: ids.to_owned() };
        let (one, other) = (word("a", &[1, 2]), word("b", &[3]));
        let sum = |words: &[Word]| summary(words).1;
        assert_ne!(sum(&[one.clone(), other.clone()]), sum(&[other, one.clone()]));
        assert_ne!(sum(&[one]), sum(&[word("a", &[1]), word("a", &[2])]));
    }
}
