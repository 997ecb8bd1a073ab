//! Slots in safe code: a handle is an index and a generation, and a text is borrowed from the slots.

use super::{Memory, SLOT_BYTES};

/// Stands for a text in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    index: u32,
    generation: u32,
}

/// Slots that are filled, reclaimed and filled again.
///
/// ```
/// use heapgate_workloads::cache::lru::{Memory, safe::Slots};
/// let mut slots = Slots::with_slots(1);
/// let first = slots.fill(b"in the beginning").expect("it is empty");
/// slots.reclaim(first);
/// let second = slots.fill(b"was the word").expect("it was freed");
/// assert_eq!((slots.get(first), slots.get(second)), (None, Some(&b"was the word"[..])));
/// ```
///
/// A text that is still used when its slot is reclaimed does not compile:
///
/// ```compile_fail,E0502
/// use heapgate_workloads::cache::lru::{Memory, safe::Slots};
/// let mut slots = Slots::with_slots(1);
/// let handle = slots.fill(b"in the beginning").expect("it is empty");
/// let text = slots.get(handle).expect("it was just filled");
/// slots.reclaim(handle);
/// assert_eq!(text, b"in the beginning");
/// ```
///
/// Nor does one that outlives the slots:
///
/// ```compile_fail,E0597
/// use heapgate_workloads::cache::lru::{Memory, safe::Slots};
/// let text = {
///     let mut slots = Slots::with_slots(1);
///     let handle = slots.fill(b"in the beginning").expect("it is empty");
///     slots.get(handle)
/// };
/// assert_eq!(text, Some(&b"in the beginning"[..]));
/// ```
///
/// After 2^31 reclaims a slot's generations start again: a handle kept for that long would pass for a new one. Handles
/// don't say whose they are: one of other slots may pass for one of these, but never on a slot that is free.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Odd while the slot is filled: every fill and every reclaim adds 1. Handles have only odd ones.
    generation: u32,
    len: u32,
    bytes: [u8; SLOT_BYTES],
}

impl Memory for Slots {
    type Handle = Handle;

    fn with_slots(count: usize) -> Self {
        let slots = vec![Slot { generation: 0, len: 0, bytes: [0; SLOT_BYTES] }; count];
        Self { slots, free: (0..count as u32).rev().collect() }
    }

    fn fill(&mut self, text: &[u8]) -> Option<Handle> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        slot.bytes[..text.len()].copy_from_slice(text);
        slot.len = text.len() as u32;
        slot.generation = slot.generation.wrapping_add(1);
        Some(Handle { index, generation: slot.generation })
    }

    fn get(&self, handle: Handle) -> Option<&[u8]> {
        let slot = self.slots.get(handle.index as usize)?;
        (slot.generation == handle.generation).then(|| &slot.bytes[..slot.len as usize])
    }

    fn reclaim(&mut self, handle: Handle) {
        let Some(slot) = self.slots.get_mut(handle.index as usize) else { return };
        if slot.generation == handle.generation {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(handle.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reclaimed_handle_is_refused_even_when_its_slot_is_filled_again() {
        let mut slots = Slots::with_slots(1);
        let stale = slots.fill(b"old").expect("one is free");
        slots.reclaim(stale);
        assert_eq!(slots.get(stale), None);
        let fresh = slots.fill(b"new").expect("it was freed");
        assert_eq!((slots.get(stale), slots.get(fresh)), (None, Some(&b"new"[..])));
    }

    #[test]
    fn reclaiming_twice_frees_a_slot_once() {
        let mut slots = Slots::with_slots(1);
        let handle = slots.fill(b"old").expect("one is free");
        slots.reclaim(handle);
        slots.reclaim(handle);
        assert!(slots.fill(b"one").is_some());
        assert_eq!(slots.fill(b"two"), None);
    }

    #[test]
    fn a_handle_of_other_slots_passes_on_no_free_slot() {
        let mut others = Slots::with_slots(2);
        let foreign = [b"one", b"two"].map(|text| others.fill(text).expect("two are free"));
        let mut slots = Slots::with_slots(2);
        for handle in foreign {
            assert_eq!(slots.get(handle), None);
            slots.reclaim(handle);
        }
        let [one, two] = [b"one", b"two"].map(|text| slots.fill(text).expect("two are free"));
        assert_eq!(slots.fill(b"three"), None, "no slot was freed that was free");
        assert_eq!((slots.get(one), slots.get(two)), (Some(&b"one"[..]), Some(&b"two"[..])));
    }
}
