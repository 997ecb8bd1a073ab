//! A context window: the last words of what was read, written out as one text each time it has moved.

use std::collections::VecDeque;

use crate::owned::{SEED, Word, add};

/// The window, in words.
#[derive(Debug)]
pub struct Window {
    words: VecDeque<Word>,
    capacity: usize,
}

impl Window {
    /// A window of `capacity` words, empty.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { words: VecDeque::with_capacity(capacity), capacity }
    }

    /// Moves on over `words`: takes copies of them, and lets as many old ones go.
    pub fn slide<'w>(&mut self, words: impl Iterator<Item = &'w Word>) {
        for word in words {
            if self.words.len() == self.capacity {
                self.words.pop_front();
            }
            self.words.push_back(word.clone());
        }
    }

    /// What a model would be given: all of it as one text, and the ids; and the checksum of both.
    #[must_use]
    pub fn context(&self) -> (String, Vec<u32>, u64) {
        let mut text = String::new();
        let mut ids = Vec::new();
        let mut checksum = SEED;
        for word in &self.words {
            text.push_str(&word.text);
            text.push(' ');
            ids.extend_from_slice(&word.ids);
            checksum = add(checksum, word.text.as_bytes(), &word.ids);
        }
        (text, ids, checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_last_words_in_order() {
        let word = |text: &str, id| Word { text: text.to_owned(), ids: vec![id] };
        let mut window = Window::new(2);
        assert_eq!(window.context().0, "");
        window.slide([word("a", 1), word("b", 2), word("c", 3)].iter());
        let (text, ids, _) = window.context();
        assert_eq!((text.as_str(), ids), ("b c ", vec![2, 3]));
    }
}
