//! Chunks: stretches of the King James Bible of a fixed number of words, as a retrieval service cuts its documents.
//!
//! The poems are left out: the vocabulary is that of an English model, and a poem has no spaces between words.

use std::ops::Range;

use crate::corpus::Corpus;

/// Books of the Bible in the corpus, which come first.
const BOOKS: usize = 66;

/// The text and where its chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    text: String,
    spans: Vec<Range<usize>>,
}

impl Chunks {
    /// Cuts the text into chunks of `words` words, and takes `count` of them, evenly spread.
    ///
    /// # Errors
    /// How many there are, if fewer.
    pub fn cut(words: usize, count: usize) -> Result<Self, usize> {
        let corpus = Corpus::load();
        let end = corpus.sections()[BOOKS - 1].span.end;
        let text = corpus.text()[..end].to_owned();
        let mut all = Vec::new();
        let (mut start, mut taken) = (0, 0);
        let mut rest = text.as_str();
        while let Some(space) = rest.find(char::is_whitespace) {
            taken += 1;
            let at = text.len() - rest.len() + space;
            if taken == words {
                all.push(start..at);
                (start, taken) = (at + 1, 0);
            }
            rest = &rest[space + 1..];
        }
        if all.len() < count {
            return Err(all.len());
        }
        let spans = (0..count).map(|i| all[i * all.len() / count].clone()).collect();
        Ok(Self { text, spans })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The chunk of number `index`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        &self.text[self.spans[index].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_their_number_of_words() {
        let chunks = Chunks::cut(12, 20_000).expect("there are as many");
        assert_eq!(chunks.len(), 20_000);
        assert_eq!(chunks.get(0), "In the beginning God created the heaven and the earth.\nAnd the");
        assert!((0..chunks.len()).all(|i| chunks.get(i).split_whitespace().count() == 12));
    }

    #[test]
    fn more_chunks_than_there_are_is_an_error_that_says_how_many() {
        let there_are = Chunks::cut(100, 1_000_000).expect_err("the Bible has 790,000 words");
        assert!((7_500..8_000).contains(&there_are), "{there_are}");
    }
}
