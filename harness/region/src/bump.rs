//! The fast paths: what the owning thread does in its current chunk, with plain loads and stores. The state they work
//! on, and its invariants, are in [`local`](crate::local).

use crate::local::{Local, MAX_OBJECT_BYTES, add};
use std::alloc::Layout;
use std::ptr::null_mut;

impl Local {
    /// Allocates in the current chunk; null when there is none or the object won't fit.
    #[inline(always)]
    pub(crate) fn bump(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        let top = self.top.get();
        // No wrap: `top` is a user address, and a layout's size and alignment sum to at most 3/4 of the space.
        let start = top.addr().wrapping_add(align - 1) & align.wrapping_neg();
        let end = start.wrapping_add(size);
        if end > self.limit.get() || size > MAX_OBJECT_BYTES {
            return null_mut();
        }
        self.top.set(top.with_addr(end));
        add(&self.objects, 1);
        add(&self.bytes, size as u64);
        top.with_addr(start)
    }

    /// As `bump`, and the object is zero. Memory that was never written is not touched.
    #[inline]
    pub(crate) fn bump_zeroed(&self, layout: Layout) -> *mut u8 {
        let start = self.bump(layout);
        if !start.is_null() && start.addr() < self.clean_from.get() {
            let dirty = self.clean_from.get().wrapping_sub(start.addr()).min(layout.size());
            // SAFETY: `bump` gave us `layout.size()` bytes in a committed chunk, and `dirty` is no more.
            unsafe { start.write_bytes(0, dirty) };
        }
        start
    }

    /// Frees an object of the window; false if `addr` is not in it.
    ///
    /// # Safety
    /// `addr` is where a live object of `size` bytes starts, and it is not used again.
    #[inline(always)]
    pub(crate) unsafe fn free_young(&self, addr: usize, size: usize) -> bool {
        if !self.in_window(addr) {
            return false;
        }
        let mut top = self.top.get();
        // Whether the block is the last is hard to predict: so there is no branch on it, nor on what follows from it.
        self.note_dirty(top.addr());
        top = if addr.wrapping_add(size) == top.addr() { top.with_addr(addr) } else { top };
        self.top.set(top);
        add(&self.freed, 1);
        add(&self.freed_bytes, size as u64);
        // Without the second test, a scope that makes and drops one object at a time would come here each time.
        if self.freed.get() == self.objects.get() && top.addr() != self.floor.get() {
            self.reset();
        }
        true
    }

    /// Resizes an object of the window without moving it, as far as that can be done; null otherwise.
    ///
    /// # Safety
    /// `addr` is where a live object of `old` bytes starts.
    #[inline]
    pub(crate) unsafe fn resize_young(&self, addr: usize, old: usize, new: usize) -> *mut u8 {
        if !self.in_window(addr) {
            return null_mut();
        }
        let top = self.top.get();
        let last = addr.wrapping_add(old) == top.addr();
        if new > old {
            let end = addr.wrapping_add(new);
            if !last || new > MAX_OBJECT_BYTES || end > self.limit.get() {
                return null_mut();
            }
            self.top.set(top.with_addr(end));
            add(&self.bytes, (new - old) as u64);
        } else {
            if last {
                self.note_dirty(top.addr());
                self.top.set(top.with_addr(addr.wrapping_add(new)));
            }
            add(&self.freed_bytes, (old - new) as u64);
        }
        top.with_addr(addr)
    }

    /// One comparison: parked, both ends are 0 and nothing is inside.
    #[inline(always)]
    fn in_window(&self, addr: usize) -> bool {
        let floor = self.floor.get();
        addr.wrapping_sub(floor) < self.limit.get().wrapping_sub(floor)
    }

    /// Must come before `top` moves down: what lay below it has been written (invariant 2).
    #[inline(always)]
    pub(crate) fn note_dirty(&self, top: usize) {
        self.clean_from.set(self.clean_from.get().max(top));
    }
}
