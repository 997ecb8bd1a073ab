//! Addresses to functions and lines, by the debugging information of the files that the code came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::read::{Object, ObjectSegment, ReadCache};

use super::modules::{Modules, Place};
use super::source::Sources;

/// One function at an address; several where some were inlined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its name, demangled, or the module and the place in it where there is none.
    pub function: String,
    /// Its source file, as the compiler had it.
    pub file: Option<String>,
    /// The same as it is shown: from its repository's root on, or, where there is none, from its crate's folder; empty where
    /// unknown.
    pub source: String,
    /// The line; 0 where unknown.
    pub line: u32,
}

/// Resolves addresses; keeps what it has found, since repetitions of a trial have the same stacks.
#[derive(Default)]
pub struct Symbols {
    files: BTreeMap<PathBuf, Option<Symbolizer>>,
    found: BTreeMap<(PathBuf, u64), Vec<Frame>>,
    sources: Sources,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").field("files", &self.files.keys()).field("found", &self.found.len()).finish()
    }
}

impl Symbols {
    /// The functions at return address `address`, the innermost first; one without a name where nothing is known.
    pub fn frames(&mut self, modules: &Modules, address: u64) -> &[Frame] {
        // The call is before the place it returns to, which may be another line, or another function.
        let Some(place) = modules.find(address.saturating_sub(1)) else {
            return self.found.entry((PathBuf::new(), 0)).or_insert_with(|| vec![Frame::default()]);
        };
        let key = (place.path.to_owned(), place.offset);
        self.found.entry(key).or_insert_with(|| {
            let file = self.files.entry(place.path.to_owned()).or_insert_with(|| Symbolizer::new(place));
            let mut frames = file.as_ref().map(|file| file.frames(place.offset)).unwrap_or_default();
            for frame in &mut frames {
                frame.source = frame.file.as_deref().map(|file| self.sources.shown(file)).unwrap_or_default();
            }
            if frames.is_empty() { vec![unnamed(place)] } else { frames }
        })
    }
}

impl Symbols {
    /// The file that return address `address` is of, what is known of it, and the address there; `None` where no file is
    /// mapped.
    pub fn file(&mut self, modules: &Modules, address: u64) -> Option<(&Path, &FileFacts, u64)> {
        let place = modules.find(address.saturating_sub(1))?;
        self.files.entry(place.path.to_owned()).or_insert_with(|| Symbolizer::new(place));
        let (path, file) = self.files.get_key_value(place.path)?;
        Some(match file {
            Some(file) => (path, &file.facts, file.address(place.offset).unwrap_or(place.offset)),
            None => (path, &UNREADABLE, place.offset),
        })
    }
}

/// What an executable or a library says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Its build id, in hexadecimal; empty where it has none.
    pub build_id: String,
    /// Whether it names its functions.
    pub has_symbols: bool,
    /// Whether it says which line an address is of.
    pub has_lines: bool,
}

static UNREADABLE: FileFacts = FileFacts { build_id: String::new(), has_symbols: false, has_lines: false };

fn unnamed(place: Place<'_>) -> Frame {
    let module = place.path.file_name().unwrap_or_default().to_string_lossy();
    Frame { function: format!("{module}+{:#x}", place.offset), ..Frame::default() }
}

/// Where a part of a file is meant to be in memory: offset, length, address.
type Segment = (u64, u64, u64);

/// One executable or library.
struct Symbolizer {
    loader: Loader,
    segments: Vec<Segment>,
    facts: FileFacts,
}

impl Symbolizer {
    /// `None` if the file can't be read as one, or is another than the one that was mapped.
    fn new(place: Place<'_>) -> Option<Self> {
        let same = std::fs::metadata(place.path).is_ok_and(|file| file.ino() == place.inode);
        let (segments, facts) = if same { look_at(place.path)? } else { return None };
        Some(Self { loader: Loader::new(place.path).ok()?, segments, facts })
    }

    /// Where the file means byte `offset` of it to be in memory.
    fn address(&self, offset: u64) -> Option<u64> {
        let within = |&&(start, length, _): &&Segment| offset >= start && offset - start < length;
        let &(start, _, address) = self.segments.iter().find(within)?;
        Some(address.wrapping_add(offset - start))
    }

    fn frames(&self, offset: u64) -> Vec<Frame> {
        let Some(address) = self.address(offset) else { return Vec::new() };
        let mut frames = self.inlined(address);
        // The outermost has a symbol even where debugging information is missing.
        if let Some(symbol) = self.loader.find_symbol(address) {
            let name = || addr2line::demangle_auto(Cow::Borrowed(symbol), None).into_owned();
            match frames.last_mut() {
                Some(frame) if frame.function.is_empty() => frame.function = name(),
                Some(_) => {}
                None => frames.push(Frame { function: name(), ..Frame::default() }),
            }
        }
        frames.retain(|frame| !frame.function.is_empty());
        frames
    }

    /// By the debugging information; empty where there is none, or it can't be read.
    fn inlined(&self, address: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Ok(mut found) = self.loader.find_frames(address) else { return frames };
        while let Ok(Some(frame)) = found.next() {
            let location = frame.location.as_ref();
            frames.push(Frame {
                function: frame.function.and_then(|f| f.demangle().ok().map(Cow::into_owned)).unwrap_or_default(),
                file: location.and_then(|l| l.file).map(str::to_owned),
                line: location.and_then(|l| l.line).unwrap_or(0),
                source: String::new(), // said by `Symbols`, once a file
            });
        }
        frames
    }
}

/// Where parts of a file are in memory, and what it says of itself.
fn look_at(path: &Path) -> Option<(Vec<Segment>, FileFacts)> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let file = object::File::parse(&cache).ok()?;
    let segments =
        file.segments().map(|segment| (segment.file_range().0, segment.file_range().1, segment.address())).collect();
    let build_id = file.build_id().ok().flatten().unwrap_or_default();
    let facts = FileFacts {
        build_id: build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        has_symbols: file.symbols().next().is_some(),
        has_lines: file.section_by_name(".debug_line").is_some(),
    };
    Some((segments, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_name_and_the_file_of_its_function() {
        let modules = Modules::of(std::process::id()).unwrap();
        let address = an_address_has_the_name_and_the_file_of_its_function as fn() as usize as u64;
        let mut symbols = Symbols::default();
        let frames = symbols.frames(&modules, address + 2);
        let frame = frames.last().unwrap();
        assert!(frame.function.ends_with("an_address_has_the_name_and_the_file_of_its_function"), "{frame:?}");
        assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("core/src/sites/symbols.rs")), "{frame:?}");
        assert!(frame.line > 0);
    }

    #[test]
    fn what_is_in_no_file_has_no_name() {
        let modules = Modules::of(std::process::id()).unwrap();
        assert_eq!(Symbols::default().frames(&modules, 0), [Frame::default()]);
        assert_eq!(Symbols::default().frames(&modules, u64::MAX), [Frame::default()]);
    }
}
