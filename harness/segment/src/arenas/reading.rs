//! The watching end of the registry. What it finds is hostile, as all of a segment: numbers are taken as they come, indexes are
//! checked, texts are cleaned.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Acquire};

use super::{
    ArenaRecord, BEING_WRITTEN, LevelRecord, MAX_ARENAS, MAX_PLACES, MAX_SCOPE_LEVELS, MAX_SCOPE_THREADS,
    PLACE_TEXT_BYTES, PlaceRecord, ScopeThreadRecord, THREAD_NAME_BYTES, Table,
};
use crate::identity::read_text;

/// Arenas and open scopes of a process, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArenaReading {
    /// Arenas that were made.
    pub created: u64,
    /// Arenas that were released.
    pub finalized: u64,
    /// Arenas that found no record: they are counted at their place, and not among [`Self::arenas`].
    pub untracked: u64,
    /// When one was last made or released: `CLOCK_MONOTONIC`, ns; 0 if there was none.
    pub last_ns: u64,
    /// Times that a thread found no record for its scopes.
    pub threads_untracked: u64,
    /// Where arenas were made, and scopes whose objects escaped. `OpenArena::place` and `OpenScope::place` are numbers in it.
    pub places: Vec<Place>,
    /// Open arenas.
    pub arenas: Vec<OpenArena>,
    /// Open scopes.
    pub scopes: Vec<OpenScope>,
}

/// A line of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as the compiler was told of it, or its end if that is long; empty for places beyond those that are told apart.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// Its column.
    pub column: u32,
    /// Arenas that were made here.
    pub created: u64,
    /// Arenas that were made here and released.
    pub finalized: u64,
    /// The longest life of those, ns.
    pub longest_ns: u64,
    /// Scopes of this place that ended with objects alive.
    pub escaping_scopes: u64,
    /// Objects that outlived them.
    pub escaped_objects: u64,
    /// Their bytes.
    pub escaped_bytes: u64,
}

/// An arena that was not released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenArena {
    /// Its number in its process: 1 is the first.
    pub id: u64,
    /// Where it was made.
    pub place: usize,
    /// The thread that made it.
    pub thread: u64,
    /// That thread's name then.
    pub thread_name: String,
    /// When: `CLOCK_MONOTONIC`, ns.
    pub created_ns: u64,
    /// Bytes that it holds.
    pub bytes: u64,
}

/// A scope that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenScope {
    /// Its number in its thread: 1 is the first.
    pub id: u64,
    /// Where it began.
    pub place: usize,
    /// The thread that is in it.
    pub thread: u64,
    /// The thread's name.
    pub thread_name: String,
    /// Scopes around it.
    pub depth: usize,
    /// When it began: `CLOCK_MONOTONIC`, ns, right to some milliseconds.
    pub begun_ns: u64,
    /// Bytes of its live objects when it last filled a chunk or began a scope within: at most a chunk less than now.
    pub bytes: u64,
}

/// The counts in a segment's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) created: u64,
    pub(crate) finalized: u64,
    pub(crate) untracked: u64,
}

struct Words<'a>(&'a [AtomicU64]);

impl Words<'_> {
    /// The word at `offset` bytes; 0 beyond the end.
    fn get(&self, offset: usize) -> u64 {
        self.0.get(offset / 8).map_or(0, |word| word.load(Acquire))
    }

    fn text(&self, offset: usize, bytes: usize) -> String {
        read_text((0..bytes / 8).map(|word| self.get(offset + word * 8)))
    }
}

impl ArenaReading {
    /// Reads the registry that `words` are.
    pub(crate) fn of(words: &[AtomicU64], counts: Counts) -> Self {
        let words = Words(words);
        Self {
            created: counts.created,
            finalized: counts.finalized,
            untracked: counts.untracked,
            last_ns: words.get(offset_of!(Table, last_ns)),
            threads_untracked: words.get(offset_of!(Table, threads_untracked)),
            places: (0..MAX_PLACES).map(|index| place(&words, index)).collect(),
            arenas: (0..MAX_ARENAS).filter_map(|index| arena(&words, index)).collect(),
            scopes: (0..MAX_SCOPE_THREADS).flat_map(|index| scopes(&words, index)).collect(),
        }
    }

    /// Arenas that are open, those without a record too.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.created.saturating_sub(self.finalized)
    }
}

fn place(words: &Words<'_>, index: usize) -> Place {
    let base = offset_of!(Table, places) + index * size_of::<PlaceRecord>();
    let word = |field: usize| words.get(base + field);
    let ready = word(offset_of!(PlaceRecord, ready)) != 0;
    let line = word(offset_of!(PlaceRecord, line));
    Place {
        file: if ready { words.text(base + offset_of!(PlaceRecord, text), PLACE_TEXT_BYTES) } else { String::new() },
        line: line as u32,
        column: (line >> 32) as u32,
        created: word(offset_of!(PlaceRecord, created)),
        finalized: word(offset_of!(PlaceRecord, finalized)),
        longest_ns: word(offset_of!(PlaceRecord, longest_ns)),
        escaping_scopes: word(offset_of!(PlaceRecord, escaping_scopes)),
        escaped_objects: word(offset_of!(PlaceRecord, escaped_objects)),
        escaped_bytes: word(offset_of!(PlaceRecord, escaped_bytes)),
    }
}

/// A number of a place that there is.
fn place_number(word: u64) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX).min(MAX_PLACES - 1)
}

fn arena(words: &Words<'_>, index: usize) -> Option<OpenArena> {
    let base = offset_of!(Table, arenas) + index * size_of::<ArenaRecord>();
    let word = |field: usize| words.get(base + field);
    let id = word(offset_of!(ArenaRecord, id));
    if id == 0 || id == BEING_WRITTEN {
        return None;
    }
    let arena = OpenArena {
        id,
        place: place_number(word(offset_of!(ArenaRecord, place))),
        thread: word(offset_of!(ArenaRecord, thread)),
        thread_name: words.text(base + offset_of!(ArenaRecord, thread_name), THREAD_NAME_BYTES),
        created_ns: word(offset_of!(ArenaRecord, created_ns)),
        bytes: word(offset_of!(ArenaRecord, bytes)),
    };
    // Released, and perhaps another's, while it was read.
    (word(offset_of!(ArenaRecord, id)) == id).then_some(arena)
}

fn scopes(words: &Words<'_>, thread: usize) -> Vec<OpenScope> {
    let base = offset_of!(Table, threads) + thread * size_of::<ScopeThreadRecord>();
    let owner = words.get(base + offset_of!(ScopeThreadRecord, owner));
    if owner == 0 {
        return Vec::new();
    }
    let scope = |depth: usize| {
        let level = base + offset_of!(ScopeThreadRecord, levels) + depth * size_of::<LevelRecord>();
        let word = |field: usize| words.get(level + field);
        let id = word(offset_of!(LevelRecord, id));
        let scope = OpenScope {
            id,
            place: place_number(word(offset_of!(LevelRecord, place))),
            thread: owner,
            thread_name: words.text(base + offset_of!(ScopeThreadRecord, thread_name), THREAD_NAME_BYTES),
            depth,
            begun_ns: word(offset_of!(LevelRecord, begun_ns)),
            bytes: word(offset_of!(LevelRecord, bytes)),
        };
        (id != 0 && word(offset_of!(LevelRecord, id)) == id).then_some(scope)
    };
    (0..MAX_SCOPE_LEVELS).filter_map(scope).collect()
}
