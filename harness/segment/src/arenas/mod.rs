//! The registry of a process's arenas and open scopes: who made which, when, where in the source, and what it holds.
//!
//! It is the last part of a segment, of fixed size. heapgate-alloc says which is this process's ([`install`]) and heapgate-region
//! writes it; both find it here, so a program needs no line to join them. Nothing in it allocates, locks or waits.
//!
//! What does not fit is counted: arenas beyond [`MAX_ARENAS`] open ones have no record, but their place counts them; threads
//! beyond [`MAX_SCOPE_THREADS`] show no open scopes; places beyond [`MAX_PLACES`] share the last one.

mod reading;
mod registry;

use core::sync::atomic::AtomicU64;

pub(crate) use reading::Counts;
pub use reading::{ArenaReading, OpenArena, OpenScope, Place};
pub use registry::{ArenaHandle, Registry, ScopeThread, disown, install, registry};

/// Places in the source that are told apart: a program has few lines that make arenas.
pub const MAX_PLACES: usize = 128;

/// Open arenas that have a record each: one leaked in 10,000 fills it after ten million.
pub const MAX_ARENAS: usize = 1024;

/// Threads whose open scopes are shown.
pub const MAX_SCOPE_THREADS: usize = 64;

/// Nested scopes of a thread that are shown: as many as heapgate-region tells apart.
pub const MAX_SCOPE_LEVELS: usize = 16;

/// Bytes kept of a file's name: its end.
pub const PLACE_TEXT_BYTES: usize = 112;

/// Bytes of a thread's name, as the kernel has it.
pub const THREAD_NAME_BYTES: usize = 16;

/// A line of the source.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct PlaceRecord {
    /// Where the process keeps the [`core::panic::Location`]; 0 while free.
    pub(crate) key: AtomicU64,
    /// 1 + length of the text, once it is whole.
    pub(crate) ready: AtomicU64,
    /// Line, and the column in the high half.
    pub(crate) line: AtomicU64,
    pub(crate) created: AtomicU64,
    pub(crate) finalized: AtomicU64,
    /// The longest life of an arena that was finalized, ns.
    pub(crate) longest_ns: AtomicU64,
    /// Scopes of this place that ended with objects alive: scopes, objects, bytes.
    pub(crate) escaping_scopes: AtomicU64,
    pub(crate) escaped_objects: AtomicU64,
    pub(crate) escaped_bytes: AtomicU64,
    pub(crate) unused: AtomicU64,
    pub(crate) text: [AtomicU64; PLACE_TEXT_BYTES / 8],
}

/// An open arena.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct ArenaRecord {
    /// 0 while free, [`BEING_WRITTEN`] while it is filled, else the arena's number.
    pub(crate) id: AtomicU64,
    pub(crate) place: AtomicU64,
    pub(crate) thread: AtomicU64,
    /// `CLOCK_MONOTONIC`.
    pub(crate) created_ns: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) thread_name: [AtomicU64; THREAD_NAME_BYTES / 8],
    pub(crate) unused: AtomicU64,
}

/// No arena gets this number.
pub(crate) const BEING_WRITTEN: u64 = u64::MAX;

/// One open scope of a thread.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LevelRecord {
    /// The scope's number in its thread; 0 while none is open here.
    pub(crate) id: AtomicU64,
    pub(crate) place: AtomicU64,
    pub(crate) begun_ns: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// A thread that opens scopes. Only its owner writes it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct ScopeThreadRecord {
    /// The thread's id; 0 while free.
    pub(crate) owner: AtomicU64,
    pub(crate) thread_name: [AtomicU64; THREAD_NAME_BYTES / 8],
    pub(crate) unused: [AtomicU64; 5],
    pub(crate) levels: [LevelRecord; MAX_SCOPE_LEVELS],
}

/// The registry. How many arenas there were is in the segment's header, where it is read without the rest.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Table {
    /// When an arena was last made or finalized: of a process that has ended, the last that is known.
    pub(crate) last_ns: AtomicU64,
    /// Where the search for a free record begins.
    pub(crate) next: AtomicU64,
    /// Times that a thread found no record for its scopes.
    pub(crate) threads_untracked: AtomicU64,
    pub(crate) unused: [AtomicU64; 5],
    pub(crate) places: [PlaceRecord; MAX_PLACES],
    pub(crate) threads: [ScopeThreadRecord; MAX_SCOPE_THREADS],
    pub(crate) arenas: [ArenaRecord; MAX_ARENAS],
}

/// Room for the registry in every segment.
pub const ARENAS_BYTES: usize = size_of::<Table>().next_multiple_of(4096);

const _: () = {
    assert!(size_of::<PlaceRecord>() == 192 && size_of::<ArenaRecord>() == 64);
    assert!(size_of::<ScopeThreadRecord>() == 64 + 32 * MAX_SCOPE_LEVELS);
    assert!(size_of::<Table>() == 64 + 192 * MAX_PLACES + 576 * MAX_SCOPE_THREADS + 64 * MAX_ARENAS);
};
