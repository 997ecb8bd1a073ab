//! One thread's state: the chunk it fills, which of the objects in it belong to the innermost scope, and the slow paths
//! that change chunks or concern other objects. `bump` has the fast ones.
//!
//! # Invariants
//! Only this thread writes its `Local`, and every function here and in `bump` leaves these true:
//! 1. **Free above `top`.** Every live object of the current chunk lies in `base..top`.
//! 2. **Zero above both.** The bytes of the current chunk from `max(top, clean_from)` on read as zero.
//! 3. **The count.** `objects - freed` is the number of objects of the current chunk that this thread has not freed.
//! 4. **Order.** An object's position is (its chunk's serial, its address). Each level's mark is above the position of
//!    every object that lived when the level was entered, and at most that of every object made since.
//! 5. **The window.** `floor..limit` is the part of the current chunk above the innermost level's mark; it is empty
//!    outside scopes and without a chunk. `floor <= top` while it is not empty.

use crate::chunk::{self, Chunk};
use crate::os;
use crate::range::{self, CHUNK_BYTES};
use crate::scope::{Level, MAX_LEVELS};
use crate::stats::{self, COUNTS, Count};
use heapgate_segment::arenas::{self, Registry, ScopeThread};
use std::alloc::Layout;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest object that is bumped, in bytes, and the largest alignment: more would waste too much of a chunk's tail.
pub const MAX_OBJECT_BYTES: usize = CHUNK_BYTES / 4;

thread_local! {
    // Constant and without a destructor: reached by one instruction, and valid to the thread's last.
    static LOCAL: Local = const { Local::new() };
}

/// Runs `f` on this thread's state.
#[inline(always)]
pub(crate) fn with_local<R>(f: impl FnOnce(&Local) -> R) -> R {
    // `LocalKey::with` is inlined only around a closure as small as this one.
    let local = LOCAL.with(std::ptr::from_ref);
    // SAFETY: without a destructor the state lives until its thread ends; `f` runs on that thread, and the reference
    // ends with `f`, whatever its lifetime.
    f(unsafe { &*local })
}

/// The first eight fields are all that the fast paths touch: one cache line.
#[repr(C, align(64))]
pub(crate) struct Local {
    /// The next free byte; kept while no scope is open.
    pub(crate) top: Cell<*mut u8>,
    /// The end of the current chunk; 0 outside scopes, so that nothing fits.
    pub(crate) limit: Cell<usize>,
    pub(crate) floor: Cell<usize>,
    pub(crate) clean_from: Cell<usize>,
    pub(crate) objects: Cell<u64>,
    pub(crate) freed: Cell<u64>,
    pub(crate) bytes: Cell<u64>,
    pub(crate) freed_bytes: Cell<u64>,

    /// Net objects and bytes of the window that its level already knows of.
    settled_objects: Cell<u64>,
    settled_bytes: Cell<u64>,
    /// `objects` and `bytes` when they were last added to `counts`.
    counted_objects: Cell<u64>,
    counted_bytes: Cell<u64>,
    pub(crate) counts: [Cell<u64>; COUNTS],
    /// The current chunk's number plus one; 0 for none.
    chunk: Cell<usize>,
    /// Rises with each chunk that is begun.
    pub(crate) serial: Cell<u64>,
    /// This thread's number; 0 before its first chunk.
    thread: Cell<u64>,
    exited: Cell<bool>,
    /// Where the process's registry shows this thread's scopes. A forked child must not use it: see `registered`.
    pub(crate) scopes: Cell<Option<ScopeThread>>,
    /// Open scopes; those above `MAX_LEVELS` share the last level.
    pub(crate) depth: Cell<usize>,
    pub(crate) levels: [Level; MAX_LEVELS],
    /// Scopes entered so far: their numbers.
    pub(crate) entered: Cell<u64>,
}

/// Adds to a cell. Wraps, because an allocator must not panic.
#[inline(always)]
pub(crate) fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get().wrapping_add(more));
}

impl Local {
    const fn new() -> Self {
        Self {
            top: Cell::new(null_mut()),
            limit: Cell::new(0),
            floor: Cell::new(0),
            clean_from: Cell::new(0),
            objects: Cell::new(0),
            freed: Cell::new(0),
            bytes: Cell::new(0),
            freed_bytes: Cell::new(0),
            settled_objects: Cell::new(0),
            settled_bytes: Cell::new(0),
            counted_objects: Cell::new(0),
            counted_bytes: Cell::new(0),
            counts: [const { Cell::new(0) }; COUNTS],
            chunk: Cell::new(0),
            serial: Cell::new(0),
            thread: Cell::new(0),
            exited: Cell::new(false),
            scopes: Cell::new(None),
            depth: Cell::new(0),
            levels: [const { Level::new() }; MAX_LEVELS],
            entered: Cell::new(0),
        }
    }

    pub(crate) fn count(&self, what: Count, more: u64) {
        add(&self.counts[what as usize], more);
    }

    /// Objects of the current chunk that this thread has not freed.
    pub(crate) fn live(&self) -> u64 {
        self.objects.get().wrapping_sub(self.freed.get())
    }

    /// The current chunk's number, if there is one.
    pub(crate) fn chunk(&self) -> Option<usize> {
        self.chunk.get().checked_sub(1)
    }

    /// Frees an object that is not in the window: of an outer or ended scope, or in another chunk.
    ///
    /// # Safety
    /// `addr` is where a live object of `size` bytes starts, `offset` bytes into the range; it is not used again.
    #[inline(never)]
    pub(crate) unsafe fn free_elsewhere(&self, offset: usize, addr: usize, size: usize) {
        let index = offset / CHUNK_BYTES;
        let chunk = chunk::entry(index);
        if let Some(level) = self.level_of(chunk, addr) {
            level.change(-1, -(size as i64));
        }
        if self.chunk() == Some(index) {
            self.free_old(addr, size);
        } else if chunk.free_one() {
            chunk::release(index);
        }
    }

    /// Frees an object of the current chunk whose level has been told.
    fn free_old(&self, addr: usize, size: usize) {
        let top = self.top.get();
        if addr.wrapping_add(size) == top.addr() {
            self.note_dirty(top.addr());
            // Not below the floor (0 while parked): what comes next belongs to the innermost level (invariant 4).
            self.top.set(top.with_addr(addr.max(self.floor.get())));
        }
        add(&self.freed, 1);
        // The settled net falls with it, so that the window's level does not take this free for its own.
        add(&self.settled_objects, u64::MAX);
        if self.live() == 0 {
            self.reset();
        }
    }

    /// Shrinks an object that is not in the window: it stays where it is.
    ///
    /// # Safety
    /// `addr` is where a live object starts, `offset` bytes into the range, and `less` is below its size.
    #[cold]
    pub(crate) unsafe fn shrink_elsewhere(&self, offset: usize, addr: usize, less: usize) {
        if let Some(level) = self.level_of(chunk::entry(offset / CHUNK_BYTES), addr) {
            level.change(0, -(less as i64));
        }
    }

    /// The level in which the live object at `addr` of `chunk` was made, if this thread made it in an open scope.
    fn level_of(&self, chunk: &Chunk, addr: usize) -> Option<&Level> {
        // A thread without a number has made nothing, and 0 owns no chunk that holds an object.
        let position = (chunk.serial_if_owned(self.thread.get())?, addr);
        self.open_levels().iter().rev().find(|level| level.mark() <= position)
    }

    pub(crate) fn open_levels(&self) -> &[Level] {
        self.levels.get(..self.depth.get()).unwrap_or(&self.levels)
    }

    /// Tells the innermost level what its window has done since it was last told.
    pub(crate) fn settle(&self) {
        let live_bytes = self.bytes.get().wrapping_sub(self.freed_bytes.get());
        if let Some(level) = self.open_levels().last() {
            let objects = self.live().wrapping_sub(self.settled_objects.get());
            let bytes = live_bytes.wrapping_sub(self.settled_bytes.get());
            // As differences of unsigned counts they wrap; as signed numbers they are right.
            level.change(objects as i64, bytes as i64);
        }
        self.settled_objects.set(self.live());
        self.settled_bytes.set(live_bytes);
    }

    /// Forgets objects of the current chunk: they are counted elsewhere from now on, or others have freed them.
    fn forget_live(&self) {
        self.settle();
        self.freed.set(self.objects.get());
        self.settled_objects.set(0);
    }

    /// Allocates an object that did not fit, in a chunk begun for it. Null sends it to the inner allocator.
    #[cold]
    #[inline(never)]
    pub(crate) fn refill_and_bump(&self, layout: Layout, zeroed: bool) -> *mut u8 {
        match (self.refill(layout), zeroed) {
            (false, _) => null_mut(),
            (true, false) => self.bump(layout),
            (true, true) => self.bump_zeroed(layout),
        }
    }

    /// Makes room for an object of `layout` in a chunk.
    fn refill(&self, layout: Layout) -> bool {
        if layout.size().max(layout.align()) > MAX_OBJECT_BYTES {
            self.count(Count::LargeFallbacks, 1);
            return false;
        }
        if self.try_reset() {
            return true;
        }
        self.seal();
        self.note_held();
        let found = self.acquire();
        self.count(Count::ExhaustedFallbacks, u64::from(!found));
        found
    }

    /// Begins the current chunk again if nothing in it is alive, whoever freed it.
    pub(crate) fn try_reset(&self) -> bool {
        let Some(index) = self.chunk() else { return false };
        if self.live() > 0 {
            if !chunk::entry(index).others_freed(self.live()) {
                return false;
            }
            self.forget_live();
        }
        self.reset();
        true
    }

    /// Begins the current chunk again. Only when no object in it is alive. A new serial keeps invariant 4: what comes
    /// lies below the marks, but later.
    #[cold]
    pub(crate) fn reset(&self) {
        let Some(index) = self.chunk() else { return };
        let base = range::chunk_base(index);
        if self.top.get() == base {
            return;
        }
        self.note_dirty(self.top.get().addr());
        self.begin(index, base);
        self.count(Count::ChunkResets, 1);
    }

    /// Puts `top` back to `mark`, above which the caller knows every object to be dead.
    pub(crate) fn rewind(&self, mark: usize) {
        let top = self.top.get();
        self.note_dirty(top.addr());
        self.top.set(top.with_addr(mark));
    }

    fn begin(&self, index: usize, base: *mut u8) {
        add(&self.serial, 1);
        chunk::entry(index).begin(self.thread.get(), self.serial.get());
        self.top.set(base);
        self.park(self.depth.get() == 0);
    }

    /// Closes the window outside scopes, and opens it inside.
    pub(crate) fn park(&self, parked: bool) {
        let (mut floor, mut limit) = (0, 0);
        if let (Some(index), false) = (self.chunk(), parked) {
            let base = range::chunk_base(index).addr();
            limit = base.wrapping_add(CHUNK_BYTES);
            floor = match self.open_levels().last().map(Level::mark) {
                Some((serial, mark)) if serial == self.serial.get() => mark,
                _ => base,
            };
        }
        self.floor.set(floor);
        self.limit.set(limit);
    }

    /// Gives up the current chunk, to the stack if it is empty and to its objects if not.
    pub(crate) fn seal(&self) {
        let Some(index) = self.chunk() else { return };
        let (base, top) = (range::chunk_base(index).addr(), self.top.get().addr());
        self.note_dirty(top);
        let live = self.live();
        if live > 0 {
            self.count(Count::TailWasteBytes, base.wrapping_add(CHUNK_BYTES).wrapping_sub(top) as u64);
        }
        self.forget_live();
        self.chunk.set(0);
        self.top.set(null_mut());
        self.park(true);
        if chunk::entry(index).seal(live, self.clean_from.get().wrapping_sub(base)) {
            chunk::release(index);
        }
    }

    /// Takes a chunk and begins it.
    fn acquire(&self) -> bool {
        if self.thread.get() == 0 && !self.enrol() || self.exited.get() {
            return false;
        }
        let Some(index) = chunk::acquire() else { return false };
        let base = range::chunk_base(index);
        self.chunk.set(index.wrapping_add(1));
        self.clean_from.set(base.addr().wrapping_add(chunk::entry(index).dirty_bytes()));
        self.begin(index, base);
        true
    }

    /// Takes a place in the process's registry, if there is one. Only a thread whose end is seen does: it gives the place back.
    #[inline]
    pub(crate) fn register(&self) {
        if let Some(registry) = arenas::registry() {
            self.register_in(registry);
        }
    }

    #[cold]
    #[inline(never)]
    fn register_in(&self, registry: Registry) {
        if !self.exited.get() && (self.thread.get() != 0 || self.enrol()) {
            self.scopes.set(registry.claim_thread());
        }
    }

    /// The registry and this thread's place in it; none in a forked child, whose registry is its parent's.
    #[inline]
    pub(crate) fn registered(&self) -> Option<(Registry, ScopeThread)> {
        Some((arenas::registry()?, self.scopes.get()?))
    }

    /// Gives the thread its number and arms its exit handler.
    fn enrol(&self) -> bool {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // `glibc` allocates here once the process has 32 keys: from `malloc`, and before any of our state has changed.
        let armed = range::chunks() > 0 && range::exit_key().is_some_and(os::arm_exit);
        if armed {
            // Relaxed: a number that nobody else gets. 64 bits never come round, so a dead thread's is not met again.
            self.thread.set(LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        }
        armed
    }

    /// Adds this thread's counts to the process's.
    pub(crate) fn flush(&self) {
        let (objects, bytes) = (self.objects.get(), self.bytes.get());
        self.count(Count::Objects, objects.wrapping_sub(self.counted_objects.replace(objects)));
        self.count(Count::Bytes, bytes.wrapping_sub(self.counted_bytes.replace(bytes)));
        stats::collect(self.thread.get(), &self.counts);
    }
}

/// Returns the dying thread's chunk. Whatever the thread allocates after this comes from the inner allocator, and what
/// it frees is freed as by any other thread.
pub(crate) unsafe extern "C" fn on_thread_exit(_: *mut c_void) {
    with_local(|local| {
        local.exited.set(true);
        if let Some((_, thread)) = local.registered() {
            thread.retire();
        }
        local.scopes.set(None);
        local.seal();
        local.flush();
    });
}
