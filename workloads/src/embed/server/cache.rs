//! Earlier answers: to the same text, and to one so similar that its answer is taken for this one's too.

use std::collections::BTreeMap;

use crate::embed::features::{dot, hash_words};

/// Dimensions of the hashed words that similarity is seen by.
const DIM: usize = 256;

/// An earlier answer, by the number of its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// To this very text, but for case and spaces, which BERT's uncased models don't see either.
    Same(usize),
    /// To the text with the nearest words.
    Similar(usize),
}

/// Keeps every answer that was embedded.
#[derive(Debug, Clone)]
pub struct Cache {
    bar: f32,
    same: BTreeMap<String, usize>,
    /// Their hashed words, one after the other, and the numbers of their vectors.
    words: Vec<f32>,
    vectors: Vec<usize>,
    key: String,
    looked_up: Vec<f32>,
}

impl Cache {
    /// One that takes a text for similar from a cosine of `bar` on, and with room for `texts` texts; from 1 on none is.
    #[must_use]
    pub fn new(bar: f32, texts: usize) -> Self {
        Self {
            bar,
            same: BTreeMap::new(),
            words: Vec::with_capacity(texts * DIM),
            vectors: Vec::with_capacity(texts),
            key: String::new(),
            looked_up: vec![0.0; DIM],
        }
    }

    /// The answer to `text`, if there is one that will do.
    pub fn find(&mut self, text: &str) -> Option<Hit> {
        normalize(text, &mut self.key);
        if let Some(&vector) = self.same.get(&self.key) {
            return Some(Hit::Same(vector));
        }
        if self.bar >= 1.0 {
            return None;
        }
        hash_words(text, &mut self.looked_up);
        let nearest = self.words.chunks_exact(DIM).map(|words| dot(words, &self.looked_up)).enumerate();
        let (at, cosine) = nearest.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (cosine >= self.bar).then(|| Hit::Similar(self.vectors[at]))
    }

    /// Keeps `vector` as the answer to `text`.
    pub fn put(&mut self, text: &str, vector: usize) {
        normalize(text, &mut self.key);
        if self.same.insert(self.key.clone(), vector).is_none() {
            let start = self.words.len();
            self.words.resize(start + DIM, 0.0);
            hash_words(text, &mut self.words[start..]);
            self.vectors.push(vector);
        }
    }
}

fn normalize(text: &str, key: &mut String) {
    key.clear();
    for word in text.split_whitespace() {
        if !key.is_empty() {
            key.push(' ');
        }
        key.extend(word.chars().flat_map(char::to_lowercase));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "And the LORD spake unto Moses, saying,";
    const NEAR: &str = "And the LORD spake unto Moses and unto Aaron, saying,";

    fn after_one(bar: f32) -> Cache {
        let mut cache = Cache::new(bar, 2);
        assert_eq!(cache.find(ONE), None);
        cache.put(ONE, 7);
        cache
    }

    #[test]
    fn the_same_text_is_known_whatever_its_case_and_spaces() {
        assert_eq!(after_one(1.0).find(" and the lord SPAKE unto moses,  saying,"), Some(Hit::Same(7)));
    }

    #[test]
    fn a_similar_text_is_taken_for_it_below_the_bar_only() {
        assert_eq!(after_one(0.8).find(NEAR), Some(Hit::Similar(7)));
        assert_eq!(after_one(0.95).find(NEAR), None);
        assert_eq!(after_one(0.5).find("Jesus wept."), None);
    }

    #[test]
    fn nothing_but_the_same_is_taken_at_a_bar_of_one() {
        assert_eq!(after_one(1.0).find("Saying, and the LORD spake unto Moses"), None);
    }
}
