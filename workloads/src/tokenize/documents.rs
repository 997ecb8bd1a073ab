//! What the tokenizers are given: kinds of document, and which of them a run takes, in which order.

use std::ops::Range;

use heapgate_bench::{Error, Params, Steps};

use crate::corpus::{Corpus, read_fetched, spread};

/// The parameter that chooses a [`Kind`].
pub const PARAM: &str = "document";

/// How many characters a document of [`Kind::Repeated`] has.
pub const REPEATED_CHARS: usize = 65_536;

/// The characters of [`Kind::Repeated`], one a document: a word far too long, nothing but punctuation, nothing at all,
/// ideographs, a capital that loses its accent, an endless run of combining marks, syllables that come apart, and
/// characters of four bytes.
const REPEATED: [char; 8] = ['a', '.', ' ', '中', 'É', '\u{301}', '한', '😀'];

/// What one step is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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
}

impl Kind {
    const ALL: [Self; 5] = [Self::Verse, Self::Book, Self::Corpus, Self::Repeated, Self::LinuxDoc];

    /// The names of all kinds, as the parameter takes them.
    pub const NAMES: [&'static str; 5] = {
        let mut names = [""; 5];
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
            Self::Verse => "verse",
            Self::Book => "book",
            Self::Corpus => "corpus",
            Self::Repeated => "repeated",
            Self::LinuxDoc => "linux-doc",
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

    /// About half a megabyte of verses; about one megabyte of books, of which a quarter is poetry; otherwise each
    /// document once. A document of many megabytes is not warmed up with: that would double a run for little.
    fn steps(self) -> Steps {
        let steps = |warmup, measure| Steps { warmup, measure, ..Steps::default() };
        match self {
            Self::Verse => steps(1_000, 4_000),
            Self::Book => steps(4, 16),
            Self::Corpus | Self::LinuxDoc => steps(0, 1),
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
    /// Loads the documents of `kind`.
    ///
    /// # Errors
    /// As [`read_fetched`], for [`Kind::LinuxDoc`].
    pub fn load(kind: Kind) -> Result<Self, Error> {
        let (text, spans) = match kind {
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
            Kind::Verse | Kind::Book => spread(self.taken, count),
            Kind::Corpus | Kind::Repeated | Kind::LinuxDoc => self.taken % count,
        };
        self.taken += 1;
        &self.text[self.spans[index as usize].clone()]
    }
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
    fn repeated_documents_have_65536_characters_each() {
        let documents = Documents::load(Kind::Repeated).expect("made here");
        assert!(documents.iter().all(|text| text.chars().count() == REPEATED_CHARS));
    }
}
