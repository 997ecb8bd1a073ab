//! `Region`: which of the two, the bump arena or the inner allocator, serves a call.

use crate::local::with_local;
use crate::range;
use std::alloc::{GlobalAlloc, Layout};

/// A global allocator that bumps inside [`scope`](crate::scope) and is `A` outside.
///
/// The range of addresses and the counters belong to the process, not to the value: see the [crate](crate) for what
/// that means, what a call costs, and an example.
#[derive(Debug, Default, Clone, Copy)]
pub struct Region<A> {
    inner: A,
}

impl<A> Region<A> {
    /// A region over `inner`.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }

    /// The allocator below, for its own statistics and controls.
    pub const fn inner(&self) -> &A {
        &self.inner
    }
}

// SAFETY: a block of the range is unshared because `Local` and `chunk` hand out only memory in which nothing is alive,
// aligned and as large as asked; all other blocks are `A`'s, which the author of `A` vouches for, and go back to it:
// an address is in the range if and only if its block was bumped. Nothing here unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Region<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        with_local(|local| {
            let block = local.bump(layout);
            if !block.is_null() {
                return block;
            }
            if local.depth.get() > 0 {
                let block = local.refill_and_bump(layout, false);
                if !block.is_null() {
                    return block;
                }
            }
            // SAFETY: the caller's contract, unchanged.
            unsafe { self.inner.alloc(layout) }
        })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        with_local(|local| {
            let block = local.bump_zeroed(layout);
            if !block.is_null() {
                return block;
            }
            if local.depth.get() > 0 {
                let block = local.refill_and_bump(layout, true);
                if !block.is_null() {
                    return block;
                }
            }
            // SAFETY: the caller's contract, unchanged.
            unsafe { self.inner.alloc_zeroed(layout) }
        })
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        with_local(|local| {
            // SAFETY: the caller's contract: a live block of this layout, not used again.
            if unsafe { local.free_young(ptr.addr(), layout.size()) } {
                return;
            }
            match range::offset(ptr) {
                // SAFETY: the caller's contract, and the address is in the range.
                Some(offset) => unsafe { local.free_elsewhere(offset, ptr.addr(), layout.size()) },
                // SAFETY: the caller's contract; outside the range the block is `A`'s.
                None => unsafe { self.inner.dealloc(ptr, layout) },
            }
        });
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        with_local(|local| {
            // SAFETY: the caller's contract: a live block of this layout.
            let block = unsafe { local.resize_young(ptr.addr(), layout.size(), new_size) };
            if !block.is_null() {
                return block;
            }
            match range::offset(ptr) {
                // SAFETY: the caller's contract, and the address is in the range.
                Some(offset) => unsafe { self.resize_elsewhere(offset, ptr, layout, new_size) },
                // SAFETY: the caller's contract; outside the range the block is `A`'s, and stays there.
                None => unsafe { self.inner.realloc(ptr, layout, new_size) },
            }
        })
    }
}

impl<A: GlobalAlloc> Region<A> {
    /// Resizes a bumped block that can't be resized as part of the window: it shrinks in place or moves. Outside scopes
    /// it moves to `A`, which frees its chunk from it.
    ///
    /// # Safety
    /// As for `realloc`, with `ptr` `offset` bytes into the range.
    #[inline(never)]
    unsafe fn resize_elsewhere(&self, offset: usize, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if new_size <= layout.size() {
            // SAFETY: the caller's contract; the block is as large as before, of which its owner uses less.
            with_local(|local| unsafe { local.shrink_elsewhere(offset, ptr.addr(), layout.size() - new_size) });
            return range::widen(ptr);
        }
        // SAFETY: `realloc`'s caller vouches that the new size, rounded up to the alignment, is a valid one.
        let grown = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the size is above the old one, so it is not 0.
        let block = unsafe { self.alloc(grown) };
        if !block.is_null() {
            // SAFETY: both blocks are live, distinct, and at least the old size long.
            unsafe { block.copy_from_nonoverlapping(ptr, layout.size()) };
            // SAFETY: the caller gives up the old block.
            unsafe { self.dealloc(ptr, layout) };
        }
        block
    }
}

#[cfg(test)]
mod tests;
