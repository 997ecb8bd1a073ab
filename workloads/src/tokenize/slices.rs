//! WordPiece on slices of the input, with slots that are allocated once: nothing is allocated per token, and nothing
//! per document once the largest was seen.
//!
//! One pass over the text. A word that normalisation would not change is looked up where it stands; one with capitals
//! of ASCII goes through a small buffer; only what holds an odd character is normalised, by itself, into scratch space.

use heapgate_bench::Error;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

use super::Tokenizer;
use super::basic::{MAX_WORD_CHARS, is_accent, is_dropped, is_ideograph, words};
use super::classes::{Class, Classes};
use super::documents::Documents;
use super::pieces::Pieces;

/// The bytes of the longest word that is looked up: a longer one has too many characters whatever they are.
const MAX_WORD_BYTES: usize = MAX_WORD_CHARS * 4;

/// The variant `wordpiece-slices`.
#[derive(Debug)]
pub struct Slices {
    classes: Classes,
    words: Words,
    scratch: Scratch,
}

/// Takes words, keeps their ids.
#[derive(Debug)]
struct Words {
    pieces: Pieces,
    lowered: [u8; MAX_WORD_BYTES],
    ids: Vec<u32>,
}

impl Words {
    /// Takes a word that needs no change.
    fn push(&mut self, word: &str) {
        self.pieces.push_ids(word.as_bytes(), &mut self.ids);
    }

    /// Takes what stands between two ends of words: nothing, or a word that needs no change but lower-casing in ASCII.
    fn push_between(&mut self, word: &str, has_upper: bool) {
        let bytes = word.as_bytes();
        if bytes.is_empty() {
            return;
        }
        match self.lowered.get_mut(..bytes.len()) {
            Some(lowered) if has_upper => {
                lowered.copy_from_slice(bytes);
                lowered.make_ascii_lowercase();
                self.pieces.push_ids(lowered, &mut self.ids);
            }
            // Either nothing to change, or too long to be known in any case.
            _ => self.pieces.push_ids(bytes, &mut self.ids),
        }
    }
}

impl Slices {
    fn encode(&mut self, text: &str) {
        self.words.ids.clear();
        let bytes = text.as_bytes();
        let (mut start, mut at, mut has_upper) = (0, 0, false);
        while at < bytes.len() {
            let (class, next) = self.class_at(text, at);
            match class {
                Class::Letter => {
                    at = next;
                    continue;
                }
                Class::Upper => {
                    has_upper = true;
                    at = next;
                    continue;
                }
                Class::Space => self.words.push_between(&text[start..at], has_upper),
                Class::Alone => {
                    self.words.push_between(&text[start..at], has_upper);
                    self.words.push(&text[at..next]);
                }
                Class::Odd => {
                    let end = self.end_of_stretch(text, next);
                    for word in words(self.scratch.normalise(&text[start..end])) {
                        self.words.push(word);
                    }
                    (start, at, has_upper) = (end, end, false);
                    continue;
                }
            }
            (start, at, has_upper) = (next, next, false);
        }
        self.words.push_between(&text[start..], has_upper);
    }

    /// The class of the character at `at`, and where the next one is.
    fn class_at(&self, text: &str, at: usize) -> (Class, usize) {
        let byte = text.as_bytes()[at];
        if byte.is_ascii() {
            (self.classes.of_ascii(byte), at + 1)
        } else {
            text[at..].chars().next().map_or((Class::Odd, text.len()), |c| (self.classes.of(c), at + c.len_utf8()))
        }
    }

    /// Where the first character at or after `at` is that surely ends a word.
    fn end_of_stretch(&self, text: &str, mut at: usize) -> usize {
        while at < text.len() {
            let (class, next) = self.class_at(text, at);
            if matches!(class, Class::Space | Class::Alone) {
                break;
            }
            at = next;
        }
        at
    }
}

impl Tokenizer for Slices {
    const DEFAULT_ALLOCATORS: &'static [&'static str] = &["system", "jemalloc"];

    fn new() -> Result<Self, Error> {
        let words = Words { pieces: Pieces::load(), lowered: [0; MAX_WORD_BYTES], ids: Vec::new() };
        Ok(Self { classes: Classes::load(), words, scratch: Scratch::default() })
    }

    /// Tokenizes everything once, so that every slot and scratch space is as large as it will have to be.
    fn prepare(&mut self, documents: &Documents) {
        documents.iter().for_each(|text| self.encode(text));
    }

    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        self.encode(text);
        read(&self.words.ids)
    }
}

/// The rules of [`super::basic`] in one pass, in memory that is reused.
#[derive(Debug, Default)]
struct Scratch {
    normal: String,
    /// Marks that wait to be put in order: combining class, place, mark.
    marks: Vec<(u8, usize, char)>,
}

impl Scratch {
    fn normalise(&mut self, text: &str) -> &str {
        self.normal.clear();
        for c in text.chars().filter(|&c| !is_dropped(c)) {
            if c.is_whitespace() {
                self.push_starter(' ');
            } else if is_ideograph(c) {
                self.push_starter(' ');
                decompose_canonical(c, |d| self.push(d));
                self.push_starter(' ');
            } else {
                decompose_canonical(c, |d| self.push(d));
            }
        }
        self.flush_marks();
        &self.normal
    }

    fn push(&mut self, c: char) {
        match canonical_combining_class(c) {
            0 => self.push_starter(c),
            // Ordering is stable, so an accent, which would be dropped, may be dropped before.
            _ if is_accent(c) => {}
            class => self.marks.push((class, self.marks.len(), c)),
        }
    }

    fn push_starter(&mut self, c: char) {
        self.flush_marks();
        if !is_accent(c) {
            self.normal.extend(c.to_lowercase());
        }
    }

    fn flush_marks(&mut self) {
        // Unstable, since the stable sort allocates; the place makes it stable.
        self.marks.sort_unstable_by_key(|&(class, place, _)| (class, place));
        self.normal.extend(self.marks.drain(..).flat_map(|(_, _, c)| c.to_lowercase()));
    }
}
