//! Small strings in the heap, replaced one after the other at random places.

use crate::corpus::Corpus;
use crate::random::SplitMix64;

/// Bytes of a string: from a word or two to a verse, 128 in the mean.
const LEAST_BYTES: usize = 16;
const MOST_BYTES: usize = 240;

/// The strings, and the text that they are pieces of.
#[derive(Debug)]
pub struct Strings {
    corpus: Corpus,
    strings: Vec<Box<str>>,
    random: SplitMix64,
}

impl Strings {
    /// As many strings as have `bytes` in the mean.
    #[must_use]
    pub fn new(corpus: Corpus, bytes: usize) -> Self {
        let count = bytes * 2 / (LEAST_BYTES + MOST_BYTES);
        let mut strings = Self { corpus, strings: Vec::with_capacity(count), random: SplitMix64::new(1) };
        for _ in 0..count {
            let piece = strings.piece();
            strings.strings.push(piece);
        }
        strings
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.strings.len()
    }

    /// String `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        &self.strings[index]
    }

    /// Frees one of them and puts another in its place.
    pub fn replace(&mut self) {
        let index = self.random.below(self.strings.len());
        self.strings[index] = self.piece();
    }

    /// A copy of a piece of text that begins with a verse.
    fn piece(&mut self) -> Box<str> {
        let verses = self.corpus.verses();
        let start = verses[self.random.below(verses.len())].start;
        let bytes = LEAST_BYTES + self.random.below(MOST_BYTES - LEAST_BYTES + 1);
        let text = &self.corpus.text()[start..];
        text[..text.floor_char_boundary(bytes)].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_have_about_the_bytes_that_were_asked_for_whatever_is_replaced() {
        let mut strings = Strings::new(Corpus::load(), 1 << 20);
        let bytes = |strings: &Strings| (0..strings.count()).map(|i| strings.get(i).len()).sum::<usize>();
        let is_near = |bytes: usize| (1 << 20) * 95 / 100 < bytes && bytes < (1 << 20) * 105 / 100;
        assert!(is_near(bytes(&strings)), "{}", bytes(&strings));
        (0..10_000).for_each(|_| strings.replace());
        assert!(is_near(bytes(&strings)), "{}", bytes(&strings));
    }
}
