//! The files heapgate keeps (reports and baselines) are JSON with a schema version. What they share is here: reading
//! them with errors that say exactly what is wrong, and printing them so that a diff of two is readable.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::report::Fault;

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// What `heapgate run` writes.
    Report,
    /// What `heapgate baseline record` writes.
    Baseline,
    /// What `heapgate calibrate` writes.
    Calibration,
    /// What `docs/accuracy.md` is made of.
    Accuracy,
    /// What `heapgate profile` writes.
    Profile,
}

impl Document {
    fn again(self) -> &'static str {
        match self {
            Self::Report => "make it again with `heapgate run`",
            Self::Baseline => "record it again with `heapgate baseline record`",
            Self::Calibration => "make it again with `heapgate calibrate`, or delete it",
            Self::Profile => "make it again with `heapgate profile`",
            Self::Accuracy => {
                "take it from the repository again, or delete it and make it again as `docs/accuracy.md` says"
            }
        }
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Report => "report",
            Self::Baseline => "baseline",
            Self::Calibration => "calibration",
            Self::Accuracy => "accuracy file",
            Self::Profile => "profile",
        })
    }
}

/// Why a file could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("{document} {}: {fault}; {}", path.display(), fault.way_out(*document))]
pub struct LoadError {
    /// What was expected.
    pub document: Document,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: LoadFault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadFault {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// There is no such file, but what a run left that did not end.
    #[error("there is no such file, but a run that did not end left its trials in {}", partial.display())]
    Unfinished {
        /// Where those are.
        partial: PathBuf,
    },
    /// The system refused to read it.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It has no content.
    #[error("the file is empty")]
    Empty,
    /// It ends too early.
    #[error("it breaks off at line {line}, column {column}")]
    Truncated {
        /// Where it ends, from 1.
        line: usize,
        /// Where it ends, from 1.
        column: usize,
    },
    /// It is not JSON.
    #[error("it is not JSON: {reason} at line {line}, column {column}")]
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// It is JSON, but of something else.
    #[error("it is JSON of something else: {reason} at line {line}, column {column}")]
    WrongShape {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// It is another of heapgate's files.
    #[error("it is JSON of something else: a {found}")]
    OtherDocument {
        /// What it is.
        found: Document,
    },
    /// An older schema.
    #[error(
        "it has schema version {found}, written by heapgate {heapgate}; this is heapgate {}, which reads version {expected}",
        this_version()
    )]
    Older {
        /// The file's version.
        found: u64,
        /// The version this program reads.
        expected: u32,
        /// Who wrote it.
        heapgate: String,
    },
    /// A newer schema.
    #[error(
        "it has schema version {found}, written by heapgate {heapgate}; this is heapgate {}, which reads version {expected}",
        this_version()
    )]
    Newer {
        /// The file's version.
        found: u64,
        /// The version this program reads.
        expected: u32,
        /// Who wrote it.
        heapgate: String,
    },
    /// Its content cannot be true.
    #[error("its content cannot be true: {0}")]
    Invalid(Box<Fault>),
    /// A baseline that was changed after it was recorded.
    #[error("it was changed after it was recorded (content_hash says {stored}, the content gives {computed})")]
    Edited {
        /// The hash in the file.
        stored: String,
        /// The hash of what the file holds.
        computed: String,
    },
    /// A baseline in a place where it doesn't belong.
    #[error("it lies in the wrong place: the path says {path_says}, the content {content_says}")]
    Misplaced {
        /// What the path stands for.
        path_says: String,
        /// What the file is of.
        content_says: String,
    },
}

/// This program's version.
fn this_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

impl LoadFault {
    /// What to do about it.
    fn way_out(&self, document: Document) -> String {
        match self {
            Self::Missing => format!("check the path, or {}", document.again()),
            Self::Unfinished { .. } => format!("name that, or {}", document.again()),
            Self::Unreadable(_) => "check its rights and that it is a file".to_owned(),
            Self::Newer { heapgate, .. } => format!("use heapgate {heapgate}, or {}", document.again()),
            Self::Misplaced { .. } => format!("move it back, or {}", document.again()),
            _ => document.again().to_owned(),
        }
    }
}

/// The part of a document that is understood whatever its version.
#[derive(Deserialize)]
struct Header {
    schema_version: Option<serde_json::Value>,
    fingerprint: Option<serde_json::Value>,
    /// Only reports have it.
    trials: Option<IgnoredAny>,
    /// Only baselines have it.
    cells: Option<IgnoredAny>,
}

/// The bytes of a file that may be missing, unreadable or empty.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadFault> {
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LoadFault::Missing,
        _ => LoadFault::Unreadable(source),
    })?;
    if bytes.iter().all(u8::is_ascii_whitespace) { Err(LoadFault::Empty) } else { Ok(bytes) }
}

/// `fault` of `bytes`, of which a `wanted` was expected: what is another of our files is told as such, not by its
/// version or shape, which are right for what it is.
pub(crate) fn explained(fault: LoadFault, bytes: &[u8], wanted: Document) -> LoadFault {
    if !matches!(fault, LoadFault::Older { .. } | LoadFault::Newer { .. } | LoadFault::WrongShape { .. }) {
        return fault;
    }
    let found = serde_json::from_slice::<Header>(bytes).ok().and_then(|header| match (header.trials, header.cells) {
        (Some(_), None) => Some(Document::Report),
        (None, Some(_)) => Some(Document::Baseline),
        _ => None,
    });
    found.filter(|found| *found != wanted).map_or(fault, |found| LoadFault::OtherDocument { found })
}

/// The document in `bytes`, if it has the schema version `expected` and the right shape. What it says is not looked at.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], expected: u32) -> Result<T, LoadFault> {
    let header: Header = serde_json::from_slice(bytes).map_err(|e| fault_of(&e, bytes))?;
    if let Some(found) = header.schema_version.and_then(|v| v.as_u64())
        && found != u64::from(expected)
    {
        let heapgate =
            header.fingerprint.as_ref().and_then(|f| f.pointer("/build/heapgate")?.as_str()).unwrap_or("?").to_owned();
        return Err(if found < u64::from(expected) {
            LoadFault::Older { found, expected, heapgate }
        } else {
            LoadFault::Newer { found, expected, heapgate }
        });
    }
    serde_json::from_slice(bytes).map_err(|e| fault_of(&e, bytes))
}

fn fault_of(error: &serde_json::Error, bytes: &[u8]) -> LoadFault {
    let (line, column) = (error.line(), error.column());
    let words = error.to_string();
    let reason = words.split(" at line ").next().unwrap_or(&words).to_owned();
    match error.classify() {
        Category::Eof => LoadFault::Truncated { line, column },
        // A number that is cut after its point or sign is no number to the parser.
        Category::Syntax if reason == "invalid number" && ends_at(bytes, line, column) => {
            LoadFault::Truncated { line, column }
        }
        Category::Data => LoadFault::WrongShape { line, column, reason },
        Category::Syntax | Category::Io => LoadFault::NotJson { line, column, reason },
    }
}

/// Whether `bytes` end at a place.
fn ends_at(bytes: &[u8], line: usize, column: usize) -> bool {
    let mut lines = bytes.split(|&b| b == b'\n');
    lines.nth(line.saturating_sub(1)).is_some_and(|last| last.len() <= column) && lines.next().is_none()
}

/// `value` as JSON: down to `depth` levels one member a line, what lies deeper on the line it begins.
pub(crate) fn to_json<T: Serialize>(value: &T, depth: usize) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = Lines { pretty: PrettyFormatter::new(), depth: 0, limit: depth };
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// serde_json's pretty format down to a depth, and its compact one below.
struct Lines {
    pretty: PrettyFormatter<'static>,
    depth: usize,
    limit: usize,
}

impl Lines {
    fn open(&self) -> bool {
        self.depth <= self.limit
    }
}

/// Forwards to the formatter for the present depth.
macro_rules! by_depth {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<W: ?Sized + io::Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
            if self.open() { self.pretty.$method(writer $(, $argument)*) } else { CompactFormatter.$method(writer $(, $argument)*) }
        }
    )*};
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.open() { self.pretty.begin_array(writer) } else { CompactFormatter.begin_array(writer) }
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let result = if self.open() { self.pretty.end_array(writer) } else { CompactFormatter.end_array(writer) };
        self.depth -= 1;
        result
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.open() { self.pretty.begin_object(writer) } else { CompactFormatter.begin_object(writer) }
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let result = if self.open() { self.pretty.end_object(writer) } else { CompactFormatter.end_object(writer) };
        self.depth -= 1;
        result
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.open() { self.pretty.end_array_value(writer) } else { Ok(()) }
    }
    by_depth! {
        begin_array_value(first: bool)
        begin_object_key(first: bool)
        begin_object_value()
        end_object_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_lies_deep_stays_on_its_line() {
        let text = to_json(&json!({ "a": { "b": [1, [2, 3]], "c": {} }, "d": [] }), 2).unwrap();
        assert_eq!(text, "{\n  \"a\": {\n    \"b\": [1,[2,3]],\n    \"c\": {}\n  },\n  \"d\": []\n}\n");
    }

    #[test]
    fn every_depth_gives_the_same_value() {
        let value = json!({ "a": [{ "b": [1, { "c": [] }], "d": "x y" }, [], {}], "e": { "f": { "g": 1.5 } } });
        for depth in 0..8 {
            let text = to_json(&value, depth).unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value, "{text}");
        }
    }
}
