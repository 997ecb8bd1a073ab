//! Scopes: how they nest, what they know of their objects, and what their end does.

use crate::chunk;
use crate::local::{Local, add, with_local};
use crate::range;
use crate::stats::{self, Count};
use heapgate_segment::{arenas, probes};
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::Location;

/// Scopes that nest deeper than this share the innermost level: their ends record no escapes and rewind nothing.
pub const MAX_LEVELS: usize = 16;

/// Runs `f` with this thread's allocations bumped, and returns what it returns.
///
/// Scopes nest. When one ends, by return or by panic, memory of objects that died in it is used again; objects that
/// live on, such as those in the result, stay valid and are counted as escapes. An object belongs to the scope that was
/// innermost when it was made, or when it had to move to grow. Threads that `f` starts are not in the scope. Where no
/// range can be reserved, `f` simply runs: see [`available`](crate::available).
///
/// In a process with a segment of heapgate-alloc's, a scope is shown while it is open, with its thread, its age and the line
/// that called this function: `heapgate leaks`.
///
/// An `async` block that is made in a scope is not polled in it: put the scope around the code between two awaits.
///
/// ```
/// let sum: u32 = heapgate_region::scope(|| vec![1, 2, 3].iter().sum());
/// assert_eq!(sum, 6);
/// ```
#[track_caller]
pub fn scope<R>(f: impl FnOnce() -> R) -> R {
    let _open = Open::new(Location::caller());
    f()
}

/// An open scope; dropping it ends the scope. It never leaves `scope`, so scopes end in the reverse of their order.
struct Open {
    /// It belongs to the thread that opened it.
    _not_send: PhantomData<*mut ()>,
}

impl Open {
    fn new(place: &'static Location<'static>) -> Self {
        with_local(|local| local.enter(place));
        Self { _not_send: PhantomData }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        with_local(Local::leave);
    }
}

/// What an open scope knows: where its objects begin, and how many of them are alive.
pub(crate) struct Level {
    id: Cell<u64>,
    place: Cell<Option<&'static Location<'static>>>,
    /// Its objects are those at or above this position: see the invariants of `local`.
    serial: Cell<u64>,
    mark: Cell<usize>,
    /// Objects and bytes made in this scope, or left by a scope inside it, that this thread has not freed. What the
    /// window has done since `settle` is not in it yet.
    objects: Cell<i64>,
    bytes: Cell<i64>,
}

impl Level {
    pub(crate) const fn new() -> Self {
        Self {
            id: Cell::new(0),
            place: Cell::new(None),
            serial: Cell::new(0),
            mark: Cell::new(0),
            objects: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    pub(crate) fn mark(&self) -> (u64, usize) {
        (self.serial.get(), self.mark.get())
    }

    /// Bytes that it holds, without what its window has done since `settle`.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.bytes.get().max(0) as u64
    }

    pub(crate) fn change(&self, objects: i64, bytes: i64) {
        self.objects.set(self.objects.get().wrapping_add(objects));
        self.bytes.set(self.bytes.get().wrapping_add(bytes));
    }
}

impl Local {
    fn enter(&self, place: &'static Location<'static>) {
        let depth = self.depth.get();
        add(&self.entered, 1);
        if depth == 0 && range::chunks() == 0 {
            range::reserve();
        }
        self.settle();
        // What the scope around this one holds is known now, and the registry tells it.
        self.note_held();
        self.note_begin(depth, place);
        probes::scope_start(|| {
            let file = place.file();
            [self.entered.get(), depth as u64, file.as_ptr().addr() as u64, file.len() as u64, place.line().into()]
        });
        self.depth.set(depth.wrapping_add(1));
        let Some(level) = self.levels.get(depth) else { return };
        level.id.set(self.entered.get());
        level.place.set(Some(place));
        level.serial.set(self.serial.get());
        // Without a chunk, all that this thread made is in older ones: the mark is above every address.
        level.mark.set(if self.chunk().is_some() { self.top.get().addr() } else { usize::MAX });
        level.objects.set(0);
        level.bytes.set(0);
        self.park(false);
    }

    fn leave(&self) {
        self.count(Count::Scopes, 1);
        let outer = self.depth.get().wrapping_sub(1);
        let Some(level) = self.levels.get(outer) else { return self.depth.set(outer) };
        if let Some((_, thread)) = self.registered() {
            thread.end_scope(outer);
        }
        self.settle();
        if outer == 0 {
            self.forgive(level);
        }
        let alive = level.objects.get();
        probes::scope_end(level.id.get(), alive.max(0) as u64, level.held_bytes());
        if alive > 0 {
            self.record(level);
        }
        self.take_back(level, alive == 0);
        self.depth.set(outer);
        if let Some(parent) = self.open_levels().last() {
            parent.change(alive, level.bytes.get());
        }
        self.park(outer == 0);
        if outer == 0 {
            self.flush();
        }
    }

    /// Where other threads have emptied the current chunk, takes its objects off the outermost level: they are no
    /// escapes.
    fn forgive(&self, level: &Level) {
        let Some(index) = self.chunk() else { return };
        if self.live() == 0 || !chunk::entry(index).others_freed(self.live()) {
            return;
        }
        // Begun before the scope, the chunk holds all of the scope's objects and perhaps older ones; begun in it, it
        // holds none but the scope's.
        let all = level.serial.get() == self.serial.get();
        let dead = if all { level.objects.get() } else { self.live() as i64 };
        level.change(-dead, 0);
        if level.objects.get() == 0 {
            level.bytes.set(0);
        }
        self.try_reset();
    }

    fn record(&self, level: &Level) {
        let objects = level.objects.get().max(0) as u64;
        let bytes = level.held_bytes();
        self.count(Count::EscapingScopes, 1);
        self.count(Count::EscapedObjects, objects);
        self.count(Count::EscapedBytes, bytes);
        probes::escape(level.id.get(), objects, bytes);
        stats::record_escape(level.id.get(), level.place.get(), objects, bytes);
        if let (Some(registry), Some(place)) = (arenas::registry(), level.place.get()) {
            registry.escaped(place, objects, bytes);
        }
    }

    /// Tells the process's registry, if there is one, that the scope begins.
    #[inline]
    fn note_begin(&self, depth: usize, place: &'static Location<'static>) {
        if depth == 0 && self.scopes.get().is_none() {
            self.register();
        }
        if let Some((registry, thread)) = self.registered() {
            registry.begin_scope(thread, depth, self.entered.get(), place);
        }
    }

    /// Tells it what the innermost scope holds, as far as that is settled.
    pub(crate) fn note_held(&self) {
        if let (Some((_, thread)), Some(depth)) = (self.registered(), self.open_levels().len().checked_sub(1)) {
            thread.scope_holds(depth, self.levels[depth].held_bytes());
        }
    }

    /// Takes back the current chunk's memory as far as its objects are known to be dead.
    fn take_back(&self, level: &Level, all_dead: bool) {
        if self.live() == 0 {
            self.try_reset();
        } else if all_dead && level.serial.get() == self.serial.get() {
            // This thread freed all that was made above the mark: what others freed would still be counted.
            self.rewind(level.mark.get());
        }
    }
}

/// Gives the pages of all empty chunks back to the kernel, this thread's own too if it is outside scopes. Returns the
/// bytes that had been used in them.
///
/// ```
/// heapgate_region::scope(|| ());
/// heapgate_region::purge();
/// ```
pub fn purge() -> usize {
    with_local(|local| {
        if local.depth.get() == 0 && local.try_reset() {
            local.seal();
        }
    });
    let bytes = chunk::decommit_free();
    probes::purge(bytes as u64);
    bytes
}

#[cfg(test)]
mod tests;
