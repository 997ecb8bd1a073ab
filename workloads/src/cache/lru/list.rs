//! Which entries there are, and which was used longest ago: a map and a doubly linked list through an array.

use rustc_hash::{FxBuildHasher, FxHashMap};

/// No entry.
const NONE: u32 = u32::MAX;

/// The index of a cache; what its handles stand for is elsewhere.
#[derive(Debug)]
pub struct Lru<H> {
    nodes: Vec<Node<H>>,
    /// By key, where in `nodes`.
    places: FxHashMap<u32, u32>,
    newest: u32,
    oldest: u32,
    capacity: usize,
}

#[derive(Debug)]
struct Node<H> {
    key: u32,
    handle: H,
    newer: u32,
    older: u32,
}

/// What [`Lru::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<H> {
    /// The entry, which is now the newest.
    Hit(H),
    /// Nothing.
    Miss,
}

impl<H: Copy> Lru<H> {
    /// An index of at most `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(capacity),
            // Twice as much: removals leave traces behind that would else make it grow in the middle of a run.
            places: FxHashMap::with_capacity_and_hasher(2 * capacity, FxBuildHasher),
            newest: NONE,
            oldest: NONE,
            capacity,
        }
    }

    /// Looks `key` up.
    pub fn find(&mut self, key: u32) -> Found<H> {
        let Some(&place) = self.places.get(&key) else { return Found::Miss };
        self.unlink(place);
        self.link_newest(place);
        Found::Hit(self.nodes[place as usize].handle)
    }

    /// Puts in a key that isn't there; the handle that had to go for it, if any.
    pub fn insert(&mut self, key: u32, handle: H) -> Option<H> {
        let mut evicted = None;
        let node = Node { key, handle, newer: NONE, older: NONE };
        let place = if self.nodes.len() < self.capacity {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            let place = self.oldest;
            self.unlink(place);
            let old = std::mem::replace(&mut self.nodes[place as usize], node);
            self.places.remove(&old.key);
            evicted = Some(old.handle);
            place
        };
        self.places.insert(key, place);
        self.link_newest(place);
        evicted
    }

    fn unlink(&mut self, place: u32) {
        let Node { newer, older, .. } = self.nodes[place as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let second = std::mem::replace(&mut self.newest, place);
        (self.nodes[place as usize].newer, self.nodes[place as usize].older) = (NONE, second);
        match self.nodes.get_mut(second as usize) {
            Some(node) => node.newer = place,
            None => self.oldest = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(2);
        assert_eq!((lru.insert(1, 'a'), lru.insert(2, 'b')), (None, None));
        assert_eq!(lru.find(1), Found::Hit('a'));
        assert_eq!(lru.insert(3, 'c'), Some('b'));
        assert_eq!((lru.find(2), lru.find(1), lru.find(3)), (Found::Miss, Found::Hit('a'), Found::Hit('c')));
    }

    #[test]
    fn it_agrees_with_a_plain_list() {
        for capacity in [1, 2, 7] {
            let mut lru = Lru::new(capacity);
            let mut model: VecDeque<u32> = VecDeque::new();
            let mut random = crate::random::SplitMix64::new(3);
            for _ in 0..2_000 {
                let key = random.below(12) as u32;
                let known = model.iter().position(|&k| k == key).map(|i| model.remove(i)).is_some();
                model.push_front(key);
                match lru.find(key) {
                    Found::Hit(handle) => assert!(known && handle == key),
                    Found::Miss => {
                        assert!(!known);
                        let goes = (model.len() > capacity).then(|| model.pop_back().expect("not empty"));
                        assert_eq!(lru.insert(key, key), goes);
                    }
                }
            }
        }
    }
}
