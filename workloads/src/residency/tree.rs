//! A document as a tree: sections of paragraphs of words, every node owned.

use std::collections::VecDeque;

use crate::owned::{Word, summary, tokenize};
use crate::tokenize::pieces::Pieces;

/// A document: its sections, of which the first is the first to go.
#[derive(Debug, Default)]
pub struct Document {
    sections: VecDeque<Section>,
}

/// A heading and what is under it.
#[derive(Debug)]
pub struct Section {
    /// Where the text is from.
    pub title: String,
    /// Its paragraphs.
    pub paragraphs: Vec<Paragraph>,
}

/// A paragraph as it was read, and its words.
#[derive(Debug)]
pub struct Paragraph {
    /// The text.
    pub text: String,
    /// The words, tokenized.
    pub words: Vec<Word>,
}

impl Document {
    /// Tokenizes `paragraphs` and appends them as a section; returns how many tokens they have, and their checksum.
    pub fn push_section<'t>(
        &mut self,
        pieces: &Pieces,
        title: String,
        paragraphs: impl Iterator<Item = &'t str>,
    ) -> (u64, u64) {
        let paragraph = |text: &str| Paragraph { text: text.to_owned(), words: tokenize(pieces, text) };
        let section = Section { title, paragraphs: paragraphs.map(paragraph).collect() };
        let (mut tokens, mut checksum) = (0, 0u64);
        for paragraph in &section.paragraphs {
            let (count, sum) = summary(&paragraph.words);
            tokens += count;
            checksum = checksum.rotate_left(1) ^ sum;
        }
        self.sections.push_back(section);
        (tokens, checksum)
    }

    /// Takes off the first section, to be dropped.
    pub fn pop_section(&mut self) -> Option<Section> {
        self.sections.pop_front()
    }

    /// The sections that are still there.
    pub fn sections(&self) -> impl ExactSizeIterator<Item = &Section> {
        self.sections.iter()
    }

    /// Section `index`, counted round and round.
    #[must_use]
    pub fn section_around(&self, index: usize) -> Option<&Section> {
        self.sections.get(index.checked_rem(self.sections.len())?)
    }

    /// How many tokens it has.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let words = self.sections.iter().flat_map(|section| &section.paragraphs).flat_map(|p| &p.words);
        words.map(|word| word.ids.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_go_in_the_order_in_which_they_came() {
        let (pieces, mut document) = (Pieces::load(), Document::default());
        for title in ["one", "two"] {
            document.push_section(&pieces, title.to_owned(), ["In the beginning", "the end"].into_iter());
        }
        assert_eq!(document.tokens(), 10);
        assert_eq!(document.section_around(3).map(|section| section.title.as_str()), Some("two"));
        assert_eq!(document.pop_section().map(|section| section.title).as_deref(), Some("one"));
        assert_eq!((document.sections().len(), document.tokens()), (1, 5));
        document.pop_section();
        assert!(document.section_around(0).is_none());
    }
}
