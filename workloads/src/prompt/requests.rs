//! What prompts are made of: passages, turns and questions from the corpus, drawn beforehand.

use std::ops::Range;

use crate::corpus::{Corpus, spread};

/// Turns of different requests are drawn from one sequence; after this many requests they start again.
const REQUESTS: usize = 1_000;

/// How many verses or poems a passage has.
const PASSAGE_VERSES: usize = 6;

const SYSTEM: &str = "\
You are a careful assistant of a library. Answer from the passages below and from nothing else. Quote the words that an \
answer rests on, name the book that they are from, and say so when the passages do not answer the question. Answer in the \
language of the question, in at most three sentences.";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As it stands in a prompt.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "<|user|>",
            Self::Assistant => "<|assistant|>",
        }
    }
}

/// Where a text is in the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl From<&Range<usize>> for Span {
    fn from(range: &Range<usize>) -> Self {
        Self { start: range.start as u32, end: range.end as u32 }
    }
}

/// A passage that was retrieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The book it is from.
    pub title: String,
    /// Its text.
    pub text: Span,
}

/// Something that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: Span,
}

/// All that one prompt is made of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// How to answer.
    pub system: &'a str,
    /// What to answer from.
    pub passages: &'a [Passage],
    /// What was said before, oldest first.
    pub turns: &'a [Turn],
    /// What to answer.
    pub question: &'a str,
    corpus: &'a str,
}

impl<'a> Request<'a> {
    /// The text of a passage or a turn.
    #[must_use]
    pub fn text(&self, span: Span) -> &'a str {
        &self.corpus[span.start as usize..span.end as usize]
    }
}

/// Requests, taken in a fixed order.
#[derive(Debug)]
pub struct Requests {
    corpus: String,
    passages: Vec<Passage>,
    turns: Vec<Turn>,
    questions: Vec<Span>,
    passages_each: usize,
    turns_each: usize,
    taken: usize,
}

impl Requests {
    /// Draws requests with so many passages and turns each.
    #[must_use]
    pub fn load(passages_each: usize, turns_each: usize) -> Self {
        let corpus = Corpus::load();
        let verses = corpus.verses();
        let mut drawn = 0;
        let mut draw = |below: usize| {
            drawn += 1;
            spread(drawn, below as u64) as usize
        };
        let passages = (0..REQUESTS * passages_each).map(|_| {
            let section = &corpus.sections()[draw(corpus.sections().len())];
            let first = verses.partition_point(|verse| verse.start < section.span.start);
            let after = verses.partition_point(|verse| verse.start < section.span.end);
            let start = first + draw((after - first).saturating_sub(PASSAGE_VERSES) + 1);
            let end = (start + PASSAGE_VERSES).min(after);
            let text = Span::from(&(verses[start].start..verses[end - 1].end));
            Passage { title: section.title.clone(), text }
        });
        let passages = passages.collect();
        let roles = [Role::User, Role::Assistant];
        let turns = (0..REQUESTS * turns_each)
            .map(|i| Turn { role: roles[i % turns_each % 2], text: Span::from(&verses[draw(verses.len())]) });
        let turns = turns.collect();
        let questions = (0..REQUESTS).map(|_| Span::from(&verses[draw(verses.len())])).collect();
        Self { passages, turns, questions, passages_each, turns_each, taken: 0, corpus: corpus.into_text() }
    }

    /// The next request. There is always one.
    pub fn take(&mut self) -> Request<'_> {
        let at = self.taken % REQUESTS;
        self.taken += 1;
        let Span { start, end } = self.questions[at];
        Request {
            system: SYSTEM,
            passages: &self.passages[at * self.passages_each..][..self.passages_each],
            turns: &self.turns[at * self.turns_each..][..self.turns_each],
            question: &self.corpus[start as usize..end as usize],
            corpus: &self.corpus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_whole_verses_of_the_book_they_name() {
        let corpus = Corpus::load();
        let requests = Requests::load(2, 0);
        for passage in &requests.passages {
            let section = corpus.sections().iter().find(|s| s.title == passage.title).expect("a book");
            let (start, end) = (passage.text.start as usize, passage.text.end as usize);
            assert!(section.span.start <= start && end <= section.span.end);
            let text = &corpus.text()[start..end];
            assert!(text.lines().count() <= PASSAGE_VERSES && !text.is_empty());
            assert!(corpus.text()[end..].starts_with('\n'));
        }
    }
}
