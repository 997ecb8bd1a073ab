//! Chunks of the corpus, some verses each, that all threads read.

use std::ops::Range;

use crate::corpus::Corpus;

/// Verses a chunk has: about 2 KB of prose.
const VERSES: usize = 16;

/// The text and where its chunks are.
#[derive(Debug)]
pub struct Chunks {
    text: String,
    spans: Vec<Range<usize>>,
}

impl Chunks {
    /// Splits the corpus. Prose and poetry are dealt out in turns, so that any stretch of chunks has both.
    #[must_use]
    pub fn load() -> Self {
        let corpus = Corpus::load();
        let spans: Vec<_> = corpus.verses().chunks(VERSES).map(|verses| verses[0].start..last_end(verses)).collect();
        // Every fifth chunk is poetry in the corpus as a whole; a stride that has no factor in common visits all.
        let stride = (1..spans.len()).rev().find(|&n| n < spans.len() * 5 / 8 && gcd(n, spans.len()) == 1).unwrap_or(1);
        let spans = (0..spans.len()).map(|i| spans[i * stride % spans.len()].clone()).collect();
        Self { text: corpus.into_text(), spans }
    }

    /// Chunk `index`, counted round and round.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        &self.text[self.spans[index % self.spans.len()].clone()]
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.spans.len()
    }
}

fn last_end(verses: &[Range<usize>]) -> usize {
    verses.last().map_or(0, |verse| verse.end)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_corpus_is_in_one_chunk() {
        let chunks = Chunks::load();
        let mut spans = chunks.spans.clone();
        spans.sort_by_key(|span| span.start);
        assert!(spans.windows(2).all(|pair| pair[0].end + 1 == pair[1].start));
        assert_eq!((spans[0].start, spans[spans.len() - 1].end + 1), (0, chunks.text.len()));
    }

    #[test]
    fn a_batch_has_prose_and_poetry() {
        let chunks = Chunks::load();
        let prose = (0..64).filter(|&i| chunks.get(i).is_ascii()).count();
        assert!((40..60).contains(&prose), "{prose} of 64");
    }
}
