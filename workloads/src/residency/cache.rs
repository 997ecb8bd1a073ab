//! A cache of tokenized texts, bounded by bytes; the oldest goes first.

use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;

use crate::owned::{Word, tokenize};
use crate::tokenize::pieces::Pieces;

/// Tokenized texts by number.
#[derive(Debug)]
pub struct Cache {
    // A map without a seed: the same keys take the same nodes in every run.
    texts: BTreeMap<u32, Vec<Word>>,
    /// Keys, oldest first.
    order: VecDeque<u32>,
    capacity_bytes: usize,
    bytes: usize,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// A cache of at most `capacity_bytes`.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let (texts, order) = (BTreeMap::new(), VecDeque::new());
        Self { texts, order, capacity_bytes, bytes: 0, hits: 0, misses: 0 }
    }

    /// The words of `text`, which always has the number `key`, and whether they had to be tokenized now.
    pub fn get(&mut self, pieces: &Pieces, key: u32, text: &str) -> (&[Word], bool) {
        let missed = !self.texts.contains_key(&key);
        if missed {
            self.misses += 1;
            let words = tokenize(pieces, text);
            self.make_room(footprint(&words));
            self.bytes += footprint(&words);
            self.order.push_back(key);
            self.texts.insert(key, words);
        } else {
            self.hits += 1;
        }
        (&self.texts[&key], missed)
    }

    fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > self.capacity_bytes {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= self.texts.remove(&oldest).map_or(0, |words| footprint(&words));
        }
    }

    /// Bytes of the texts it holds, by their capacities.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the next text of ordinary length pushes out another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes + self.capacity_bytes / 1_000 >= self.capacity_bytes
    }

    /// Share of lookups since [`Self::forget_lookups`] that found their text; nothing before the first.
    #[must_use]
    pub fn hit_share(&self) -> Option<f64> {
        let lookups = self.hits + self.misses;
        (lookups > 0).then(|| self.hits as f64 / lookups as f64)
    }

    /// Counts hits and misses from 0 again.
    pub fn forget_lookups(&mut self) {
        (self.hits, self.misses) = (0, 0);
    }
}

/// Bytes that `words` own, themselves included.
fn footprint(words: &Vec<Word>) -> usize {
    let owned = |word: &Word| word.text.capacity() + word.ids.capacity() * size_of::<u32>();
    words.capacity() * size_of::<Word>() + words.iter().map(owned).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "And the earth was without form, and void";

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let pieces = Pieces::load();
        let one = footprint(&tokenize(&pieces, TEXT));
        let mut cache = Cache::new(3 * one);
        for key in 0..10 {
            assert!(cache.get(&pieces, key, TEXT).1);
            assert_eq!(cache.bytes(), one * (key as usize + 1).min(3));
        }
        assert!(!cache.get(&pieces, 9, TEXT).1, "the youngest is there");
        assert!(cache.get(&pieces, 6, TEXT).1, "the oldest is not");
        assert_eq!(cache.hit_share(), Some(1.0 / 12.0));
    }

    #[test]
    fn what_it_gives_is_the_text_tokenized() {
        let pieces = Pieces::load();
        let mut cache = Cache::new(1 << 20);
        for _ in 0..2 {
            assert_eq!(cache.get(&pieces, 7, TEXT).0, tokenize(&pieces, TEXT));
        }
    }
}
