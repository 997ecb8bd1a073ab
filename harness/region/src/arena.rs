//! An explicit arena: a bump allocator with a name, a birthplace and an end.
//!
//! For code that is written for an arena and must know when it is not given back. What it holds comes from the program's global
//! allocator, in blocks that double, so telemetry counts it as all else.

use heapgate_segment::{arenas, probes};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::panic::Location;
use std::ptr::{NonNull, null_mut};

/// The first block: what a small request needs.
const FIRST_BLOCK_BYTES: usize = 4 << 10;

/// Blocks double up to this; larger objects get a block of their own.
const LARGEST_BLOCK_BYTES: usize = 1 << 20;

/// At the head of each block.
struct Block {
    /// The block before; null for the first.
    previous: *mut Block,
    layout: Layout,
}

/// An arena that says where it was made, and whether it was released.
///
/// In a process with a segment of heapgate-alloc's it is noted from its making to its drop: number, thread, time, the line that
/// made it, bytes. `heapgate leaks` names those that are never released. Without a segment it is a plain arena.
///
/// Objects are not dropped when the arena is: what owns memory or files elsewhere must not be put in it.
///
/// ```
/// let arena = heapgate_region::Arena::new();
/// let word: &mut str = arena.alloc_str("bumped");
/// word.make_ascii_uppercase();
/// assert_eq!((&*word, arena.alloc_slice(&[1, 2, 3]).len()), ("BUMPED", 3));
/// assert!(arena.held_bytes() >= 9);
/// ```
#[derive(Debug)]
pub struct Arena {
    /// The next free byte, and the end of the block.
    top: Cell<*mut u8>,
    limit: Cell<*mut u8>,
    last: Cell<*mut Block>,
    held_bytes: Cell<usize>,
    entry: Option<arenas::ArenaHandle>,
}

// SAFETY: the blocks are the arena's alone, and nothing in it belongs to a thread; it is not `Sync`, so one thread at a time
// allocates.
unsafe impl Send for Arena {}

impl Arena {
    /// An empty one; it takes memory when it is used.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let place = Location::caller();
        let entry = arenas::registry().map(|registry| registry.open_arena(place));
        probes::arena_start(entry.as_ref().map_or(0, arenas::ArenaHandle::id));
        Self {
            top: Cell::new(null_mut()),
            limit: Cell::new(null_mut()),
            last: Cell::new(null_mut()),
            held_bytes: Cell::new(0),
            entry,
        }
    }

    /// Its number in the process, from 1; `None` in one without a segment.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.entry.as_ref().map(arenas::ArenaHandle::id)
    }

    /// Bytes of its blocks.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// Puts `value` into the arena. It is not dropped with it.
    #[expect(clippy::mut_from_ref, reason = "each call gives memory that no other reference has")]
    pub fn alloc<T: Copy>(&self, value: T) -> &mut T {
        let place = self.alloc_layout(Layout::new::<T>()).cast::<T>();
        // SAFETY: the place is as large as a T, aligned for it, unshared and lives as long as `self` is borrowed; a T is
        // written before it is referred to.
        unsafe {
            place.write(value);
            &mut *place.as_ptr()
        }
    }

    /// Puts a copy of `values` into the arena.
    #[expect(clippy::mut_from_ref, reason = "each call gives memory that no other reference has")]
    pub fn alloc_slice<T: Copy>(&self, values: &[T]) -> &mut [T] {
        let place = self.alloc_layout(Layout::for_value(values)).cast::<T>();
        // SAFETY: the place is as large as the slice, aligned for it, unshared, new (so it can't overlap) and lives as long as
        // `self` is borrowed; it is filled before it is referred to.
        unsafe {
            place.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
            std::slice::from_raw_parts_mut(place.as_ptr(), values.len())
        }
    }

    /// Puts a copy of `text` into the arena.
    #[expect(clippy::mut_from_ref, reason = "each call gives memory that no other reference has")]
    pub fn alloc_str(&self, text: &str) -> &mut str {
        let bytes = self.alloc_slice(text.as_bytes());
        // SAFETY: a copy of UTF-8.
        unsafe { std::str::from_utf8_unchecked_mut(bytes) }
    }

    /// Memory for an object of `layout`, not yet written; for as long as the arena lives.
    #[must_use]
    pub fn alloc_layout(&self, layout: Layout) -> NonNull<u8> {
        self.bump(layout).unwrap_or_else(|| {
            self.grow(layout);
            // The new block has room for it, alignment included.
            self.bump(layout).unwrap_or_else(|| handle_alloc_error(layout))
        })
    }

    fn bump(&self, layout: Layout) -> Option<NonNull<u8>> {
        let top = self.top.get();
        let start = top.addr().checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size())?;
        if end > self.limit.get().addr() {
            return None;
        }
        self.top.set(top.with_addr(end));
        NonNull::new(top.with_addr(start))
    }

    #[cold]
    fn grow(&self, layout: Layout) {
        let head = Layout::new::<Block>();
        let doubled = self.held_bytes.get().clamp(FIRST_BLOCK_BYTES, LARGEST_BLOCK_BYTES);
        let needed = layout.size().saturating_add(layout.align()).saturating_add(head.size());
        let Ok(whole) = Layout::from_size_align(doubled.max(needed), head.align()) else { handle_alloc_error(layout) };
        // SAFETY: the size is above 0.
        let block = unsafe { alloc(whole) };
        if block.is_null() {
            handle_alloc_error(whole);
        }
        let previous = self.last.replace(block.cast());
        // SAFETY: the block is new, aligned for its head and larger than it.
        unsafe { block.cast::<Block>().write(Block { previous, layout: whole }) };
        self.top.set(block.wrapping_add(head.size()));
        self.limit.set(block.wrapping_add(whole.size()));
        self.held_bytes.set(self.held_bytes.get() + whole.size());
        self.note_held();
    }

    fn note_held(&self) {
        if let (Some(entry), Some(registry)) = (&self.entry, arenas::registry()) {
            registry.arena_holds(entry, self.held_bytes.get() as u64);
        }
    }

    /// Gives all memory back. Nothing of it is in use, since that would borrow the arena.
    pub fn reset(&mut self) {
        let mut block = self.last.replace(null_mut());
        while !block.is_null() {
            // SAFETY: each block was written by `grow` with its layout, and is freed once: it is off the list.
            unsafe {
                let Block { previous, layout } = block.read();
                dealloc(block.cast(), layout);
                block = previous;
            }
        }
        self.top.set(null_mut());
        self.limit.set(null_mut());
        self.held_bytes.set(0);
        self.note_held();
    }
}

impl Default for Arena {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        probes::arena_end(self.id().unwrap_or(0), self.held_bytes.get() as u64);
        self.reset();
        // In a forked child there is no registry, and the parent's keeps the parent's arena.
        if let (Some(entry), Some(registry)) = (self.entry.take(), arenas::registry()) {
            registry.close_arena(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_aligned_apart_and_keep_their_contents() {
        let arena = Arena::new();
        let mut kept: Vec<(&mut [u8], u8)> = Vec::new();
        for step in 0..if cfg!(miri) { 100 } else { 2_000_usize } {
            let byte = step as u8;
            kept.push((arena.alloc_slice(&vec![byte; step % 67]), byte));
            let number = arena.alloc(u64::from(byte) << 40);
            assert_eq!((std::ptr::from_ref(number).addr() % 8, *number), (0, u64::from(byte) << 40));
        }
        assert!(kept.iter().all(|(bytes, byte)| bytes.iter().all(|found| found == byte)));
    }

    #[test]
    fn an_object_larger_than_a_block_gets_its_own_and_alignment_is_kept() {
        let arena = Arena::new();
        for (size, align) in [(3 << 20, 1), (1, 4096), (0, 64), (100, 1)] {
            let place = arena.alloc_layout(Layout::from_size_align(size, align).unwrap());
            assert_eq!(place.addr().get() % align, 0);
            // SAFETY: the place has `size` bytes that are nobody else's.
            unsafe { place.write_bytes(7, size) };
        }
    }

    #[test]
    fn a_reset_gives_all_back_and_the_arena_works_on() {
        let mut arena = Arena::new();
        arena.alloc_str(&"x".repeat(100_000));
        assert!(arena.held_bytes() > 100_000);
        arena.reset();
        assert_eq!((arena.held_bytes(), &*arena.alloc_str("again")), (0, "again"));
    }

    #[test]
    fn it_moves_between_threads_and_has_no_number_without_a_segment() {
        let arena = Arena::new();
        arena.alloc(1_u8);
        let held = std::thread::spawn(move || (arena.id(), arena.held_bytes())).join().unwrap();
        assert_eq!(held, (None, FIRST_BLOCK_BYTES));
    }
}
