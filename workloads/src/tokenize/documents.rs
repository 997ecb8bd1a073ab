//! What the tokenizers are given: kinds of document, and which of them a run takes, in which order.

use std::ops::Range;
use std::path::Path;

use heapgate_bench::{Error, Params, Steps};

use crate::corpus::{Corpus, read_fetched, read_text, spread};

/// The parameter that chooses a [`Kind`].
pub const PARAM: &str = "document";

/// The parameter that names the file of [`Kind::File`].
pub const TEXT: &str = "text";

/// The parameter that takes a file that is not all UTF-8.
pub const LOSSY: &str = "lossy";

/// How many characters a document of [`Kind::Repeated`] has.
pub const REPEATED_CHARS: usize = 65_536;

/// The characters of [`Kind::Repeated`], one a document: a word far too long, nothing but punctuation, nothing at all,
/// ideographs, a capital that loses its accent, an endless run of combining marks, syllables that come apart, and
/// characters of four bytes.
const REPEATED: [char; 8] = ['a', '.', ' ', '中', 'É', '\u{301}', '한', '😀'];

/// What one step is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Very short: a clause of a verse, or a few of them, of about fifteen tokens.
    Sentence,
    /// Short: a verse of the Bible or a poem.
    Verse,
    /// Long: a book of the Bible or a group of poems.
    Book,
    /// The whole corpus as one document.
    Corpus,
    /// One character, 65,536 times.
    Repeated,
    /// The documentation of the Linux kernel as one document, which must be fetched.
    LinuxDoc,
    /// A file of the user's as one document.
    File,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Sentence, Self::Verse, Self::Book, Self::Corpus, Self::Repeated, Self::LinuxDoc, Self::File];

    /// The names of all kinds, as the parameter takes them.
    pub const NAMES: [&'static str; 7] = {
        let mut names = [""; 7];
        let mut i = 0;
        while i < names.len() {
            names[i] = Self::ALL[i].name();
            i += 1;
        }
        names
    };

    /// The name that the parameter takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sentence => "sentence",
            Self::Verse => "verse",
            Self::Book => "book",
            Self::Corpus => "corpus",
            Self::Repeated => "repeated",
            Self::LinuxDoc => "linux-doc",
            Self::File => "file",
        }
    }

    /// The kind that `params` ask for.
    ///
    /// # Errors
    /// [`Error::Param`] if it is no kind.
    pub fn from_params(params: &Params) -> Result<Self, Error> {
        let name = params.get(PARAM);
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| Error::Param {
            name: PARAM.to_owned(),
            reason: format!("'{name}' is not one of: {}", Self::NAMES.join(", ")),
        })
    }

    /// 100,000 sentences and 10,000 verses, as E9 and E13 have it; about one megabyte of books, of which a quarter is poetry; otherwise each
    /// document once. A document of many megabytes is not warmed up with: that would double a run for little.
    fn steps(self) -> Steps {
        let steps = |warmup, measure| Steps { warmup, measure, ..Steps::default() };
        match self {
            Self::Sentence => steps(5_000, 100_000),
            Self::Verse => steps(1_000, 10_000),
            Self::Book => steps(4, 16),
            Self::Corpus | Self::LinuxDoc | Self::File => steps(0, 1),
            Self::Repeated => steps(2, REPEATED.len() as u64),
        }
    }
}

/// Documents of one kind, taken in a fixed order.
#[derive(Debug, Clone)]
pub struct Documents {
    text: String,
    spans: Vec<Range<usize>>,
    kind: Kind,
    taken: u64,
}

impl Documents {
    /// Loads the documents that `params` ask for.
    ///
    /// # Errors
    /// As [`Self::load`] and [`read_text`]; [`Error::Param`] for a file that is named and not asked for.
    pub fn from_params(params: &Params) -> Result<Self, Error> {
        let kind = Kind::from_params(params)?;
        let (path, lossy) = (params.get(TEXT), !params.get(LOSSY).is_empty());
        let stray = |name: &str| {
            let reason = "it goes with document=file; --text FILE says all that is needed".to_owned();
            Err(Error::Param { name: name.to_owned(), reason })
        };
        match kind {
            Kind::File if !path.is_empty() => {
                let (text, spans) = whole(read_text(Path::new(path), lossy)?);
                Ok(Self { text, spans, kind, taken: 0 })
            }
            _ if !path.is_empty() => stray(TEXT),
            _ if lossy => stray(LOSSY),
            _ => Self::load(kind),
        }
    }

    /// Loads the documents of `kind`.
    ///
    /// # Errors
    /// As [`read_fetched`], for [`Kind::LinuxDoc`]; [`Error::Param`] for [`Kind::File`], which needs a name.
    pub fn load(kind: Kind) -> Result<Self, Error> {
        let (text, spans) = match kind {
            Kind::Sentence => {
                let corpus = Corpus::load();
                let spans = corpus.verses().iter().flat_map(|verse| sentences(corpus.text(), verse.clone())).collect();
                (corpus.into_text(), spans)
            }
            Kind::File => {
                let reason = "document=file needs a file; --text FILE names one".to_owned();
                return Err(Error::Param { name: TEXT.to_owned(), reason });
            }
            Kind::Verse => {
                let corpus = Corpus::load();
                let spans = corpus.verses().to_vec();
                (corpus.into_text(), spans)
            }
            Kind::Book => {
                let corpus = Corpus::load();
                let spans = corpus.sections().iter().map(|section| section.span.clone()).collect();
                (corpus.into_text(), spans)
            }
            Kind::Corpus => whole(Corpus::load().into_text()),
            Kind::Repeated => repeated(),
            Kind::LinuxDoc => whole(read_fetched("linux-doc.txt")?),
        };
        Ok(Self { text, spans, kind, taken: 0 })
    }

    /// How many steps a run takes by default.
    #[must_use]
    pub fn steps(&self) -> Steps {
        self.kind.steps()
    }

    /// All documents, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|span| &self.text[span.clone()])
    }

    /// The document for the next step. There is always one.
    pub fn take(&mut self) -> &str {
        let count = self.spans.len() as u64;
        let index = match self.kind {
            Kind::Sentence | Kind::Verse | Kind::Book => spread(self.taken, count),
            Kind::Corpus | Kind::Repeated | Kind::LinuxDoc | Kind::File => self.taken % count,
        };
        self.taken += 1;
        &self.text[self.spans[index as usize].clone()]
    }
}

/// Cuts a verse after the punctuation that ends a clause, once there are words enough: a word and its part of the
/// punctuation are about 1.2 tokens.
fn sentences(text: &str, verse: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const LEAST_WORDS: usize = 9;
    let (mut at, end) = (verse.start, verse.end);
    std::iter::from_fn(move || {
        let start = at;
        let mut words = 0;
        let mut cut = end;
        for (offset, c) in text[start..end].char_indices() {
            // Ideographs are words, and have no spaces between them.
            words += usize::from(c == ' ' || super::basic::is_ideograph(c));
            if words >= LEAST_WORDS && matches!(c, ',' | ';' | ':' | '.' | '?' | '!' | '，' | '。' | '？' | '！' | '；')
            {
                cut = start + offset + c.len_utf8();
                break;
            }
        }
        at = cut;
        // What is left may be the space alone that stood after the punctuation.
        (!text[start..cut].trim().is_empty()).then_some(start..cut)
    })
}

fn whole(text: String) -> (String, Vec<Range<usize>>) {
    let span = 0..text.len();
    (text, vec![span])
}

fn repeated() -> (String, Vec<Range<usize>>) {
    let mut text = String::new();
    let mut spans = Vec::new();
    for c in REPEATED {
        let start = text.len();
        text.extend(std::iter::repeat_n(c, REPEATED_CHARS));
        spans.push(start..text.len());
    }
    (text, spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::Tokenizer;

    #[test]
    fn books_measured_are_about_a_megabyte_with_poetry() {
        let mut books = Documents::load(Kind::Book).expect("embedded");
        let Steps { warmup, measure, .. } = books.steps();
        for _ in 0..warmup {
            books.take();
        }
        let taken: Vec<String> = (0..measure).map(|_| books.take().to_owned()).collect();
        let bytes: usize = taken.iter().map(String::len).sum();
        let poetry: usize = taken.iter().filter(|text| !text.is_ascii()).map(String::len).sum();
        assert!((800_000..1_250_000).contains(&bytes), "{bytes}");
        assert!((150_000..400_000).contains(&poetry), "{poetry}");
    }

    #[test]
    fn sentences_are_all_of_the_text_in_parts_of_about_fifteen_tokens() {
        let documents = Documents::load(Kind::Sentence).expect("embedded");
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        let corpus = Corpus::load();
        assert_eq!(documents.iter().map(letters).sum::<usize>(), letters(corpus.text()));
        let mut slices = crate::tokenize::slices::Slices::new().expect("embedded");
        let tokens: usize = documents.iter().map(|text| slices.with_ids(text, <[u32]>::len)).sum();
        let mean = tokens as f64 / documents.iter().count() as f64;
        assert!((13.0..17.0).contains(&mean), "{mean} tokens in the mean");
    }

    #[test]
    fn repeated_documents_have_65536_characters_each() {
        let documents = Documents::load(Kind::Repeated).expect("made here");
        assert!(documents.iter().all(|text| text.chars().count() == REPEATED_CHARS));
    }
}
