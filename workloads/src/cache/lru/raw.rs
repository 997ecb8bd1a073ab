//! Slots in memory that is managed by hand: a handle is a pointer and a generation. The only unsafe code of this
//! workload.
//!
//! The memory of the slots stays until all of them are dropped, and always holds slots: a pointer that was kept over a
//! reclaim points to a slot still, though perhaps to another text. That is what makes it possible to look at the
//! generation there, and so to refuse. Memory that is given back to the allocator entry by entry has no such check.
//!
//! Generations are odd while a slot is filled and even while it is free, and handles have only odd ones: none passes on a
//! free slot, not even one of other slots whose memory was at the same place. On a filled one it may, and then reads or
//! frees that slot's text. After 2^31 reclaims a slot's generations start again.

#![allow(unsafe_code, reason = "raw memory is what is shown here")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::{Memory, SLOT_BYTES};

/// Stands for a text in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    slot: NonNull<Slot>,
    generation: u32,
}

/// All zero bytes are a free slot.
#[derive(Debug)]
#[repr(C)]
struct Slot {
    /// Odd while the slot is filled: every fill and every reclaim adds 1.
    generation: u32,
    len: u32,
    bytes: [u8; SLOT_BYTES],
}

/// Slots that are filled, reclaimed and filled again.
#[derive(Debug)]
pub struct Slots {
    /// `count` slots from `alloc_zeroed`, owned; only reached through `self`, so borrows of them follow borrows of it.
    first: NonNull<Slot>,
    count: usize,
    free: Vec<u32>,
}

impl Slots {
    fn layout(count: usize) -> Layout {
        Layout::array::<Slot>(count).expect("the slots fit in the address space")
    }

    /// Which slot the handle's pointer is at, if it is one of ours: the handle may be of other slots, long gone.
    fn index(&self, handle: Handle) -> Option<usize> {
        let offset = handle.slot.addr().get().checked_sub(self.first.addr().get())?;
        let index = offset / size_of::<Slot>();
        (offset.is_multiple_of(size_of::<Slot>()) && index < self.count).then_some(index)
    }

    /// # Safety
    /// `index` is below `self.count`.
    unsafe fn slot(&self, index: usize) -> &Slot {
        // SAFETY: the caller has `index` within the allocation of `with_slots`, which lives as long as `self`; zero
        // bytes and what `fill` and `reclaim` write are valid slots; those take `&mut self`, so while this borrow of
        // `self` lasts nothing is written.
        unsafe { self.first.add(index).as_ref() }
    }

    /// # Safety
    /// `index` is below `self.count`.
    unsafe fn slot_mut(&mut self, index: usize) -> &mut Slot {
        // SAFETY: as in `slot`; `&mut self` rules out every other borrow.
        unsafe { self.first.add(index).as_mut() }
    }

    /// What is in the slot now, whatever the handle's generation: what code without the check would read.
    #[must_use]
    pub fn get_unchecked_generation(&self, handle: Handle) -> Option<&[u8]> {
        // SAFETY: `index` gives only indices below `count`.
        let slot = unsafe { self.slot(self.index(handle)?) };
        slot.bytes.get(..slot.len as usize)
    }
}

impl Memory for Slots {
    type Handle = Handle;

    fn with_slots(count: usize) -> Self {
        assert!(count > 0, "slots of no slot");
        let layout = Self::layout(count);
        // SAFETY: the layout is of at least one slot, which is not of size 0.
        let first = unsafe { alloc_zeroed(layout) };
        let Some(first) = NonNull::new(first.cast()) else { handle_alloc_error(layout) };
        Self { first, count, free: (0..count as u32).rev().collect() }
    }

    fn fill(&mut self, text: &[u8]) -> Option<Handle> {
        let index = self.free.pop()? as usize;
        // SAFETY: the free list has only indices below `count`.
        let slot = unsafe { self.slot_mut(index) };
        slot.bytes[..text.len()].copy_from_slice(text);
        slot.len = text.len() as u32;
        slot.generation = slot.generation.wrapping_add(1);
        let generation = slot.generation;
        // SAFETY: as above; the pointer stays within the allocation.
        Some(Handle { slot: unsafe { self.first.add(index) }, generation })
    }

    fn get(&self, handle: Handle) -> Option<&[u8]> {
        // SAFETY: `index` gives only indices below `count`.
        let slot = unsafe { self.slot(self.index(handle)?) };
        if slot.generation == handle.generation { slot.bytes.get(..slot.len as usize) } else { None }
    }

    fn reclaim(&mut self, handle: Handle) {
        let Some(index) = self.index(handle) else { return };
        // SAFETY: `index` gives only indices below `count`.
        let slot = unsafe { self.slot_mut(index) };
        if slot.generation == handle.generation {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(index as u32);
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: `first` came from `alloc_zeroed` with this layout and is freed only here; slots need no drop.
        unsafe { dealloc(self.first.as_ptr().cast(), Self::layout(self.count)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_is_refused_where_a_plain_pointer_would_read_anothers_text() {
        let mut slots = Slots::with_slots(1);
        let stale = slots.fill(b"old").expect("one is free");
        assert_eq!(slots.get(stale), Some(&b"old"[..]));
        slots.reclaim(stale);
        let fresh = slots.fill(b"new").expect("it was freed");
        assert_eq!(slots.get_unchecked_generation(stale), Some(&b"new"[..]));
        assert_eq!((slots.get(stale), slots.get(fresh)), (None, Some(&b"new"[..])));
    }

    #[test]
    fn reclaiming_twice_frees_a_slot_once() {
        let mut slots = Slots::with_slots(2);
        let [one, two] = [b"one", b"two"].map(|text| slots.fill(text).expect("two are free"));
        slots.reclaim(one);
        slots.reclaim(one);
        assert!(slots.fill(b"three").is_some() && slots.fill(b"four").is_none());
        assert_eq!(slots.get(two), Some(&b"two"[..]));
    }

    #[test]
    fn a_handle_of_other_slots_passes_on_no_free_slot() {
        let mut gone = Slots::with_slots(2);
        let other = gone.fill(b"gone").expect("two are free");
        drop(gone);
        let mut slots = Slots::with_slots(2);
        // As if the allocator had given the same place again, which it may or may not.
        for index in 0..2 {
            // SAFETY: there are two slots.
            let foreign = Handle { slot: unsafe { slots.first.add(index) }, ..other };
            assert_eq!(slots.get(foreign), None);
            slots.reclaim(foreign);
        }
        slots.reclaim(other);
        let [one, two] = [b"one", b"two"].map(|text| slots.fill(text).expect("two are free"));
        assert_eq!(slots.fill(b"three"), None, "no slot was freed that was free");
        assert_eq!((slots.get(one), slots.get(two)), (Some(&b"one"[..]), Some(&b"two"[..])));
    }

    #[test]
    fn generations_that_start_again_are_still_odd_in_filled_slots_only() {
        let mut slots = Slots::with_slots(1);
        // SAFETY: there is one slot.
        unsafe { slots.slot_mut(0) }.generation = u32::MAX - 1;
        let last = slots.fill(b"last").expect("it is free");
        assert_eq!((last.generation, slots.get(last)), (u32::MAX, Some(&b"last"[..])));
        slots.reclaim(last);
        assert_eq!(slots.fill(b"first").map(|handle| handle.generation), Some(1));
        assert_eq!(slots.get(last), None);
    }
}
