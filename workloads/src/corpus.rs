//! The text that the workloads work on: the King James Bible, then 7,000 Tang poems.
//!
//! Both are embedded, compressed, so that the one executable needs no folder beside it. `data/README.md` has their
//! origins and licences. Larger text is fetched, not embedded: [`read_fetched`].

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use heapgate_bench::Error;

const BIBLE: &[u8] = include_bytes!("../data/bible-kjv.txt.bz2");
const POEMS: &[u8] = include_bytes!("../data/tang-poems.txt.bz2");

/// Where `ci/fetch-data` puts what it fetches, from the root of the repository.
const FETCHED: &str = "workloads/data/fetched";

/// Names the folder of fetched data, for an executable that runs outside the repository.
const FETCHED_VARIABLE: &str = "HEAPGATE_DATA";

/// A book of the Bible, or a group of poems of about a book's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, for instance `Genesis`.
    pub title: String,
    /// Where it is in [`Corpus::text`].
    pub span: Range<usize>,
}

/// The whole text, and where its parts are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Corpus {
    text: String,
    sections: Vec<Section>,
    verses: Vec<Range<usize>>,
}

impl Corpus {
    /// Decompresses the embedded text.
    ///
    /// ```
    /// let corpus = heapgate_workloads::corpus::Corpus::load();
    /// let genesis = &corpus.sections()[0];
    /// assert_eq!(genesis.title, "Genesis");
    /// assert!(corpus.text()[genesis.span.clone()].starts_with("In the beginning"));
    /// ```
    #[must_use]
    pub fn load() -> Self {
        let mut corpus = Self::default();
        for packed in [BIBLE, POEMS] {
            corpus.append(&unpack(packed));
        }
        corpus
    }

    /// Takes a file of the format in `data/README.md`: `# title` starts a section, any other line is a verse.
    fn append(&mut self, file: &str) {
        for line in file.lines() {
            let start = self.text.len();
            if let Some(title) = line.strip_prefix("# ") {
                self.sections.push(Section { title: title.to_owned(), span: start..start });
                continue;
            }
            self.text.push_str(line);
            let verse = start..self.text.len();
            if let Some(section) = self.sections.last_mut() {
                section.span.end = verse.end;
            }
            self.verses.push(verse);
            self.text.push('\n');
        }
    }

    /// All of it: verses and poems, each ended by a line feed, without titles.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The 66 books, then the 28 groups of 250 poems.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The 31,102 verses and 7,000 poems, without their line feeds.
    #[must_use]
    pub fn verses(&self) -> &[Range<usize>] {
        &self.verses
    }

    /// Gives up the text, to be kept with the spans of one segmentation only.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// The `i`-th index below `count` of a sequence whose every stretch is spread evenly over all of them: multiples of the
/// golden ratio, modulo one (the additive recurrence with the lowest discrepancy). So warm-up and measurement both see
/// prose and poetry in proportion, and so does a run of any other length.
#[must_use]
pub fn spread(i: u64, count: u64) -> u64 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    ((u128::from(i.wrapping_mul(GOLDEN_RATIO)) * u128::from(count)) >> 64) as u64
}

/// Decompresses one embedded file.
pub(crate) fn unpack(packed: &[u8]) -> String {
    let mut text = String::new();
    bzip2::read::BzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("embedded files are bzip2 of UTF-8, as their checksums hold");
    text
}

/// The first verses, each ended by a line feed, of at most `bytes` and little less: for those who need no more, without
/// unpacking the rest.
///
/// ```
/// let start = heapgate_workloads::corpus::opening(1_000);
/// assert!(start.starts_with("In the beginning") && start.len() <= 1_000);
/// ```
#[must_use]
pub fn opening(bytes: usize) -> String {
    let mut start = Vec::new();
    let mut unpacked = bzip2::read::BzDecoder::new(BIBLE).take(bytes as u64);
    unpacked.read_to_end(&mut start).expect("embedded files are bzip2, as their checksums hold");
    let whole_lines = start.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let text = str::from_utf8(&start[..whole_lines]).expect("embedded files are UTF-8, as their checksums hold");
    text.split_inclusive('\n').filter(|line| !line.starts_with("# ")).collect()
}

/// Reads a document that `ci/fetch-data` fetches, from `$HEAPGATE_DATA` if that is set, else from the repository that
/// the current folder is in.
///
/// # Errors
/// [`Error::Missing`] if it was not fetched, [`Error::Corrupt`] if it can't be read as UTF-8.
pub fn read_fetched(name: &str) -> Result<String, Error> {
    let path = find_fetched(FETCHED_VARIABLE, Path::new(FETCHED), name);
    fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { path, way_out: "run ci/fetch-data" },
        _ => Error::Corrupt { path, reason: error.to_string(), way_out: "remove it and run ci/fetch-data again" },
    })
}

/// Reads a file of the user's. With `lossy`, what is not UTF-8 in it becomes U+FFFD.
///
/// # Errors
/// [`Error::Missing`] if it isn't there, [`Error::Corrupt`] if it is a folder, is empty, can't be read, or is not UTF-8.
pub fn read_text(path: &Path, lossy: bool) -> Result<String, Error> {
    let corrupt = |reason: String, way_out| Error::Corrupt { path: path.to_owned(), reason, way_out };
    if path.is_dir() {
        return Err(corrupt("it is a folder".to_owned(), "name a file"));
    }
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.to_owned(), way_out: "check the path" },
        _ => corrupt(error.to_string(), "check its permissions"),
    })?;
    if bytes.is_empty() {
        return Err(corrupt("it is empty".to_owned(), "name a file with text in it"));
    }
    String::from_utf8(bytes).or_else(|error| {
        if lossy {
            return Ok(String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        let at = error.utf8_error().valid_up_to();
        Err(corrupt(format!("it is not UTF-8 from byte {at} on"), "--lossy puts U+FFFD there"))
    })
}

/// Where the fetched file `name` should be: in the folder that `variable` names if that is set, else in `folder` of the
/// repository that the current folder is in.
pub(crate) fn find_fetched(variable: &str, folder: &Path, name: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(folder) => PathBuf::from(folder).join(name),
        None => from_repository(folder, name),
    }
}

/// The nearest `folder/name` at or above the current folder; where there is none, the relative path itself.
fn from_repository(folder: &Path, name: &str) -> PathBuf {
    let wanted = folder.join(name);
    let current = env::current_dir().unwrap_or_default();
    current.ancestors().map(|root| root.join(&wanted)).find(|path| path.is_file()).unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_has_all_books_verses_and_poems() {
        let corpus = Corpus::load();
        assert_eq!(corpus.sections().len(), 66 + 28);
        assert_eq!(corpus.verses().len(), 31_102 + 7_000);
        assert_eq!(corpus.sections()[66].title, "Tang poems 1-250");
        let last = corpus.verses().last().expect("there are verses");
        assert_eq!(last.end + 1, corpus.text().len());
    }

    #[test]
    fn spread_reaches_every_index() {
        let mut seen = [false; 94];
        for i in 0..400 {
            seen[spread(i, 94) as usize] = true;
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn the_opening_is_the_start_of_the_text() {
        let corpus = Corpus::load();
        for bytes in [0, 10, 5_000, 200_000] {
            let start = opening(bytes);
            assert!(corpus.text().starts_with(&start) && start.len() <= bytes, "{bytes}");
            assert!(start.len() + 1_000 > bytes, "{bytes}: {}", start.len());
        }
    }

    #[test]
    fn sections_cover_the_text_without_overlap() {
        let corpus = Corpus::load();
        let mut end = 0;
        for section in corpus.sections() {
            assert_eq!(section.span.start, end, "{}", section.title);
            end = section.span.end + 1;
        }
        assert_eq!(end, corpus.text().len());
    }
}
