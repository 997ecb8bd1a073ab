//! Scopes: how they nest, what they know of their objects, and what their end does.

use crate::chunk;
use crate::local::{Local, add, with_local};
use crate::range;
use crate::stats::{self, Count};
use std::cell::Cell;
use std::marker::PhantomData;

/// Scopes that nest deeper than this share the innermost level: their ends record no escapes and rewind nothing.
pub const MAX_LEVELS: usize = 16;

/// Runs `f` with this thread's allocations bumped, and returns what it returns.
///
/// Scopes nest. When one ends, by return or by panic, memory of objects that died in it is used again; objects that
/// live on, such as those in the result, stay valid and are counted as escapes. An object belongs to the scope that was
/// innermost when it was made, or when it had to move to grow. Threads that `f` starts are not in the scope. Where no
/// range can be reserved, `f` simply runs: see [`available`](crate::available).
///
/// An `async` block that is made in a scope is not polled in it: put the scope around the code between two awaits.
///
/// ```
/// let sum: u32 = heapgate_region::scope(|| vec![1, 2, 3].iter().sum());
/// assert_eq!(sum, 6);
/// ```
pub fn scope<R>(f: impl FnOnce() -> R) -> R {
    let _open = Open::new();
    f()
}

/// An open scope; dropping it ends the scope. It never leaves `scope`, so scopes end in the reverse of their order.
struct Open {
    /// It belongs to the thread that opened it.
    _not_send: PhantomData<*mut ()>,
}

impl Open {
    fn new() -> Self {
        with_local(Local::enter);
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
        Self { id: Cell::new(0), serial: Cell::new(0), mark: Cell::new(0), objects: Cell::new(0), bytes: Cell::new(0) }
    }

    pub(crate) fn mark(&self) -> (u64, usize) {
        (self.serial.get(), self.mark.get())
    }

    pub(crate) fn change(&self, objects: i64, bytes: i64) {
        self.objects.set(self.objects.get().wrapping_add(objects));
        self.bytes.set(self.bytes.get().wrapping_add(bytes));
    }
}

impl Local {
    fn enter(&self) {
        let depth = self.depth.get();
        add(&self.entered, 1);
        self.settle();
        self.depth.set(depth.wrapping_add(1));
        let Some(level) = self.levels.get(depth) else { return };
        level.id.set(self.entered.get());
        level.serial.set(self.serial.get());
        // Without a chunk, all that this thread made is in older ones: the mark is above every address.
        level.mark.set(if self.chunk().is_some() { self.top.get().addr() } else { usize::MAX });
        level.objects.set(0);
        level.bytes.set(0);
        if depth == 0 && range::chunks() == 0 {
            range::reserve();
        }
        self.park(false);
    }

    fn leave(&self) {
        self.count(Count::Scopes, 1);
        let outer = self.depth.get().wrapping_sub(1);
        let Some(level) = self.levels.get(outer) else { return self.depth.set(outer) };
        self.settle();
        if outer == 0 {
            self.forgive(level);
        }
        let alive = level.objects.get();
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
        let bytes = level.bytes.get().max(0) as u64;
        self.count(Count::EscapingScopes, 1);
        self.count(Count::EscapedObjects, objects);
        self.count(Count::EscapedBytes, bytes);
        stats::record_escape(level.id.get(), objects, bytes);
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
    chunk::decommit_free()
}

#[cfg(test)]
mod tests;
