//! The process's own end: noting arenas and scopes as they come and go.

use core::panic::Location;
use core::ptr::null_mut;
use core::sync::atomic::{
    AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::{
    ArenaRecord, BEING_WRITTEN, MAX_ARENAS, MAX_PLACES, MAX_SCOPE_LEVELS, PLACE_TEXT_BYTES, PlaceRecord,
    ScopeThreadRecord, THREAD_NAME_BYTES, Table,
};
use crate::layout::Header;
use crate::writer::Writer;

/// This process's; null while it has none. Written by [`install`], and by [`disown`] in a forked child.
static HEADER: AtomicPtr<Header> = AtomicPtr::new(null_mut());
static TABLE: AtomicPtr<Table> = AtomicPtr::new(null_mut());

/// Says that this process's arenas are noted in the segment of `writer`, until the process ends.
pub fn install(writer: Writer) {
    HEADER.store(core::ptr::from_ref(writer.header()).cast_mut(), Relaxed);
    // Release pairs with the Acquire in `registry`: who sees the table sees the header, and what is in both.
    TABLE.store(core::ptr::from_ref(writer.arenas()).cast_mut(), Release);
}

/// In a forked child: the registry is the parent's. Async-signal-safe.
pub fn disown() {
    TABLE.store(null_mut(), Release);
}

/// This process's registry, if it has a segment. One load and one branch where it has none.
#[inline]
#[must_use]
pub fn registry() -> Option<Registry> {
    let table = TABLE.load(Acquire);
    // SAFETY: null, or from `install`: a `Writer`'s table and header, which live until the process ends and are made of
    // atomics; the Acquire above pairs with the Release there.
    unsafe { Some(Registry { table: table.as_ref()?, header: HEADER.load(Relaxed).as_ref()? }) }
}

/// A registry that this process writes.
#[derive(Debug, Clone, Copy)]
pub struct Registry {
    table: &'static Table,
    header: &'static Header,
}

/// An arena that is open. Whoever has it closes it.
#[derive(Debug)]
pub struct ArenaHandle {
    id: u64,
    place: usize,
    created_ns: u64,
    /// None where the registry was full.
    record: Option<usize>,
}

impl ArenaHandle {
    /// The arena's number in its process: 1 is the first.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Registry {
    /// Notes that the calling thread has made an arena at `place`.
    #[must_use]
    pub fn open_arena(&self, place: &'static Location<'static>) -> ArenaHandle {
        // Relaxed, as all that only counts.
        let id = self.header.arenas_created.fetch_add(1, Relaxed).wrapping_add(1);
        let place = self.place(place);
        self.table.places[place].created.fetch_add(1, Relaxed);
        let created_ns = monotonic_ns();
        self.table.last_ns.store(created_ns, Relaxed);
        let record = self.claim();
        match record {
            Some(index) => self.table.arenas[index].fill(id, place, created_ns),
            None => _ = self.header.arenas_untracked.fetch_add(1, Relaxed),
        }
        ArenaHandle { id, place, created_ns, record }
    }

    /// Notes what it holds.
    pub fn arena_holds(&self, arena: &ArenaHandle, bytes: u64) {
        if let Some(record) = self.record_of(arena) {
            record.bytes.store(bytes, Relaxed);
        }
    }

    /// Notes that it was released.
    pub fn close_arena(&self, arena: ArenaHandle) {
        let now = monotonic_ns();
        let place = &self.table.places[arena.place.min(MAX_PLACES - 1)];
        place.longest_ns.fetch_max(now.saturating_sub(arena.created_ns), Relaxed);
        place.finalized.fetch_add(1, Relaxed);
        self.table.last_ns.store(now, Relaxed);
        self.header.arenas_finalized.fetch_add(1, Relaxed);
        if let Some(record) = self.record_of(&arena) {
            // Release: the next owner's claim comes after all that this one wrote.
            record.id.store(0, Release);
        }
    }

    /// The record, if it is still this arena's: a segment may have been installed since, or the word been overwritten.
    fn record_of(&self, arena: &ArenaHandle) -> Option<&'static ArenaRecord> {
        let record = self.table.arenas.get(arena.record?)?;
        (record.id.load(Relaxed) == arena.id).then_some(record)
    }

    fn claim(&self) -> Option<usize> {
        let first = self.table.next.fetch_add(1, Relaxed) as usize;
        (0..MAX_ARENAS).map(|step| first.wrapping_add(step) % MAX_ARENAS).find(|&index| {
            let id = &self.table.arenas[index].id;
            // The plain load first: it leaves the cache lines of taken records shared.
            id.load(Relaxed) == 0 && id.compare_exchange(0, BEING_WRITTEN, Acquire, Relaxed).is_ok()
        })
    }

    /// The number of `place`, which is written down when it is first met.
    fn place(&self, place: &'static Location<'static>) -> usize {
        let key = core::ptr::from_ref(place).addr() as u64;
        // Locations lie side by side, 24 bytes each: a multiplier spreads them (Knuth 1973, by the golden ratio).
        let first = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        const OWN: usize = MAX_PLACES - 1;
        for step in 0..OWN {
            let index = first.wrapping_add(step) % OWN;
            let record = &self.table.places[index];
            let found = record.key.load(Relaxed);
            if found == key {
                return index;
            }
            if found == 0 {
                match record.key.compare_exchange(0, key, AcqRel, Relaxed) {
                    Ok(_) => {
                        record.describe(place);
                        return index;
                    }
                    Err(now) if now == key => return index,
                    Err(_) => {}
                }
            }
        }
        OWN
    }

    /// Notes that a scope of `place` ended with objects alive.
    #[cold]
    pub fn escaped(&self, place: &'static Location<'static>, objects: u64, bytes: u64) {
        let record = &self.table.places[self.place(place)];
        record.escaping_scopes.fetch_add(1, Relaxed);
        record.escaped_objects.fetch_add(objects, Relaxed);
        record.escaped_bytes.fetch_add(bytes, Relaxed);
    }

    /// A record for the calling thread's open scopes; none where there are too many threads.
    #[cold]
    #[must_use]
    pub fn claim_thread(&self) -> Option<ScopeThread> {
        let owner = thread_id();
        let claimed = self.table.threads.iter().find(|record| {
            record.owner.load(Relaxed) == 0 && record.owner.compare_exchange(0, owner, Acquire, Relaxed).is_ok()
        });
        match claimed {
            Some(record) => {
                write_thread_name(&record.thread_name);
                Some(ScopeThread(record))
            }
            None => {
                self.table.threads_untracked.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// Notes that the thread of `record` has opened its scope number `id` at `place`, inside `level` others.
    #[inline]
    pub fn begin_scope(&self, record: ScopeThread, level: usize, id: u64, place: &'static Location<'static>) {
        let Some(scope) = record.0.levels.get(level) else { return };
        scope.place.store(self.place(place) as u64, Relaxed);
        scope.begun_ns.store(coarse_ns(), Relaxed);
        scope.bytes.store(0, Relaxed);
        // Release: who sees the number sees the rest.
        scope.id.store(id, Release);
    }

    /// Scopes that are open now, in threads that have a record.
    #[must_use]
    pub fn open_scopes(&self) -> u64 {
        let threads = self.table.threads.iter().filter(|thread| thread.owner.load(Relaxed) != 0);
        threads.flat_map(|thread| &thread.levels).filter(|level| level.id.load(Relaxed) != 0).count() as u64
    }
}

/// A thread's record of its open scopes. It must be used by that thread alone, and only while [`registry`] is there: a forked
/// child finds a copy.
#[derive(Debug, Clone, Copy)]
pub struct ScopeThread(&'static ScopeThreadRecord);

impl ScopeThread {
    /// Notes what the innermost scope, inside `level` others, holds.
    pub fn scope_holds(self, level: usize, bytes: u64) {
        if let Some(scope) = self.0.levels.get(level) {
            scope.bytes.store(bytes, Relaxed);
        }
    }

    /// Notes that it has ended.
    #[inline]
    pub fn end_scope(self, level: usize) {
        if let Some(scope) = self.0.levels.get(level) {
            scope.id.store(0, Release);
        }
    }

    /// Gives the record back: the thread ends.
    pub fn retire(self) {
        for level in 0..MAX_SCOPE_LEVELS {
            self.end_scope(level);
        }
        self.0.owner.store(0, Release);
    }
}

impl PlaceRecord {
    #[cold]
    fn describe(&self, place: &Location<'_>) {
        let file = place.file().as_bytes();
        // The end says more than the beginning, and it must not begin within a character.
        let mut end = &file[file.len().saturating_sub(PLACE_TEXT_BYTES)..];
        while end.first().is_some_and(|&byte| byte & 0xC0 == 0x80) {
            end = &end[1..];
        }
        for (word, bytes) in self.text.iter().zip(end.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Relaxed);
        }
        self.line.store(u64::from(place.line()) | u64::from(place.column()) << 32, Relaxed);
        // Release: who sees it ready sees the text.
        self.ready.store(end.len() as u64 + 1, Release);
    }
}

impl ArenaRecord {
    fn fill(&self, id: u64, place: usize, created_ns: u64) {
        self.place.store(place as u64, Relaxed);
        self.thread.store(thread_id(), Relaxed);
        self.created_ns.store(created_ns, Relaxed);
        self.bytes.store(0, Relaxed);
        write_thread_name(&self.thread_name);
        // Release: who sees the number sees the rest.
        self.id.store(id, Release);
    }
}

fn write_thread_name(into: &[AtomicU64; THREAD_NAME_BYTES / 8]) {
    let mut name = [0_u8; THREAD_NAME_BYTES];
    // Miri knows no prctl: there, threads have no name.
    #[cfg(not(miri))]
    // SAFETY: PR_GET_NAME fills in up to 16 bytes, which is what there are.
    unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr())
    };
    #[cfg(miri)]
    name.fill(0);
    for (word, bytes) in into.iter().zip(name.as_chunks().0) {
        word.store(u64::from_le_bytes(*bytes), Relaxed);
    }
}

fn thread_id() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    u64::try_from(unsafe { libc::gettid() }).unwrap_or(0)
}

fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// The same clock as of the kernel's last tick: right to some milliseconds, and a quarter of the cost.
fn coarse_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_COARSE)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arenas::{ArenaReading, MAX_SCOPE_THREADS};
    use crate::layout::{self, Level};
    use crate::reader::Reader;
    use core::ptr::NonNull;
    use std::sync::Mutex;

    const WORDS: usize = layout::segment_bytes(1) / 8;

    /// Page-aligned, zeroed memory, shared as a segment's is, for the test's process's life.
    #[repr(C, align(4096))]
    struct Memory([AtomicU64; WORDS]);

    /// All that there is: to Miri, memory that nothing points to at the end was forgotten.
    static MEMORIES: Mutex<Vec<&Memory>> = Mutex::new(Vec::new());

    struct Registered {
        registry: Registry,
        words: &'static [AtomicU64],
    }

    impl Registered {
        fn new() -> Self {
            // SAFETY: an all-zero array of atomics is a valid one, and the layout is that of `Memory`, which is not empty.
            let memory: &'static Memory = unsafe {
                let memory = std::alloc::alloc_zeroed(core::alloc::Layout::new::<Memory>());
                &*NonNull::new(memory).expect("memory").cast::<Memory>().as_ptr()
            };
            MEMORIES.lock().unwrap().push(memory);
            layout::format(&memory.0, 1, Level::Count, 1);
            // SAFETY: leaked memory of atomics, aligned to a page, is valid for the process's life.
            let writer = unsafe { Writer::from_raw(NonNull::from(memory).cast(), size_of::<Memory>()) }.unwrap();
            Self { registry: Registry { table: writer.arenas(), header: writer.header() }, words: &memory.0 }
        }

        fn read(&self) -> ArenaReading {
            Reader::new(self.words).unwrap().arenas()
        }
    }

    #[test]
    fn an_arena_is_there_from_its_making_to_its_release() {
        let of = Registered::new();
        let (first, second) = (of.registry.open_arena(Location::caller()), of.registry.open_arena(Location::caller()));
        of.registry.arena_holds(&second, 5000);
        let read = of.read();
        assert_eq!((read.created, read.finalized, read.open(), read.untracked), (2, 0, 2, 0));
        let found: Vec<_> = read.arenas.iter().map(|arena| (arena.id, arena.bytes, arena.thread)).collect();
        assert_eq!(found, [(1, 0, thread_id()), (2, 5000, thread_id())]);
        let place = &read.places[read.arenas[1].place];
        assert!(place.file.ends_with("registry.rs") && place.line > 300, "{place:?}");
        of.registry.close_arena(second);
        of.registry.close_arena(first);
        let read = of.read();
        assert_eq!((read.arenas.len(), read.open()), (0, 0));
        assert_eq!(
            read.places
                .iter()
                .map(|place| (place.created, place.finalized))
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            (2, 2)
        );
        assert!(read.last_ns > 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes half a minute, and no other path through what is unsafe than its neighbours")]
    fn arenas_beyond_the_records_are_counted_and_close_without_harm() {
        let of = Registered::new();
        let place = Location::caller();
        let mut open: Vec<_> = (0..MAX_ARENAS + 3).map(|_| of.registry.open_arena(place)).collect();
        let read = of.read();
        assert_eq!((read.arenas.len(), read.open(), read.untracked), (MAX_ARENAS, MAX_ARENAS as u64 + 3, 3));
        of.registry.close_arena(open.pop().unwrap());
        of.registry.close_arena(open.swap_remove(0));
        let again = of.registry.open_arena(place);
        assert_eq!(of.read().arenas.len(), MAX_ARENAS, "a freed record is used again");
        open.push(again);
        open.into_iter().for_each(|arena| of.registry.close_arena(arena));
        assert_eq!((of.read().open(), of.read().arenas.len()), (0, 0));
    }

    #[test]
    fn threads_share_the_records_without_losing_one() {
        let of = Registered::new();
        let registry = of.registry;
        let (threads, rounds) = if cfg!(miri) { (2, 5) } else { (8, 2_000) };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let pair = [0; 2].map(|_| registry.open_arena(Location::caller()));
                        pair.into_iter().for_each(|arena| registry.close_arena(arena));
                    }
                });
            }
        });
        let read = of.read();
        assert_eq!((read.created, read.finalized, read.arenas.len()), (threads * rounds * 2, threads * rounds * 2, 0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes half a minute, and no other path through what is unsafe than its neighbours")]
    fn scopes_are_shown_while_they_are_open_and_threads_give_their_records_back() {
        let of = Registered::new();
        let thread = of.registry.claim_thread().unwrap();
        let place = Location::caller();
        of.registry.begin_scope(thread, 0, 7, place);
        of.registry.begin_scope(thread, 1, 8, place);
        of.registry.begin_scope(thread, MAX_SCOPE_LEVELS, 99, place);
        thread.scope_holds(1, 300);
        let found: Vec<_> = of.read().scopes.iter().map(|scope| (scope.id, scope.depth, scope.bytes)).collect();
        assert_eq!((found, of.registry.open_scopes()), (vec![(7, 0, 0), (8, 1, 300)], 2));
        thread.end_scope(1);
        assert_eq!(of.registry.open_scopes(), 1);
        thread.retire();
        assert_eq!((of.read().scopes.len(), of.registry.open_scopes()), (0, 0));
        let all = (0..MAX_SCOPE_THREADS).filter_map(|_| of.registry.claim_thread()).count();
        assert_eq!((all, of.registry.claim_thread().is_none()), (MAX_SCOPE_THREADS, true));
        assert_eq!(of.read().threads_untracked, 1);
    }
}
