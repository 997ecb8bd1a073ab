//! A pool of strings that are each kept once, and never changed or freed before the pool.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// Strings are put end to end in chunks of this size; a longer one has a chunk of its own.
const CHUNK_BYTES: usize = 64 * 1024;

/// Stands for a string of the pool that gave it: equal strings have equal ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

/// Keeps every string once.
///
/// ```
/// use heapgate_workloads::cache::intern::pool::Pool;
/// let mut pool = Pool::default();
/// let id = pool.intern("a prefix");
/// assert_eq!(pool.intern(&String::from("a prefix")), id);
/// assert_eq!(pool.resolve(id), "a prefix");
/// ```
///
/// A string can't outlive its pool:
///
/// ```compile_fail,E0505
/// use heapgate_workloads::cache::intern::pool::Pool;
/// let mut pool = Pool::default();
/// let id = pool.intern("a prefix");
/// let text = pool.resolve(id);
/// drop(pool);
/// println!("{text}");
/// ```
#[derive(Debug, Default)]
pub struct Pool {
    /// Never grown beyond the capacity they were made with, so nothing in them is ever moved.
    chunks: Vec<String>,
    /// By id.
    places: Vec<Place>,
    /// Ids by the hash of their string, which is not kept a second time.
    table: HashTable<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    start: u32,
    len: u32,
}

impl Pool {
    /// The id of `text`, which is copied if it is new.
    ///
    /// # Panics
    /// With more than 2^32 strings, or one of 4 GiB.
    pub fn intern(&mut self, text: &str) -> Id {
        let hash = FxBuildHasher.hash_one(text);
        if let Some(&id) = self.table.find(hash, |&id| self.resolve(Id(id)) == text) {
            return Id(id);
        }
        let id = u32::try_from(self.places.len()).expect("ids have 32 bits");
        let place = self.keep(text);
        self.places.push(place);
        let Self { chunks, places, table } = self;
        table.insert_unique(hash, id, |&other| FxBuildHasher.hash_one(at(chunks, places[other as usize])));
        Id(id)
    }

    /// The id of `text`, if it is in the pool.
    #[must_use]
    pub fn get(&self, text: &str) -> Option<Id> {
        let hash = FxBuildHasher.hash_one(text);
        self.table.find(hash, |&id| self.resolve(Id(id)) == text).map(|&id| Id(id))
    }

    /// The string that `id` stands for.
    ///
    /// # Panics
    /// Perhaps, if `id` is of another pool; else it is some other string.
    #[must_use]
    pub fn resolve(&self, id: Id) -> &str {
        at(&self.chunks, self.places[id.0 as usize])
    }

    /// How many strings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn keep(&mut self, text: &str) -> Place {
        let has_room = |chunk: &String| chunk.capacity() - chunk.len() >= text.len();
        if !self.chunks.last().is_some_and(has_room) {
            self.chunks.push(String::with_capacity(text.len().max(CHUNK_BYTES)));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        let start = chunk.len() as u32;
        chunk.push_str(text);
        let len = u32::try_from(text.len()).expect("a string of the pool is below 4 GiB");
        Place { chunk: last as u32, start, len }
    }
}

fn at(chunks: &[String], Place { chunk, start, len }: Place) -> &str {
    &chunks[chunk as usize][start as usize..][..len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_kept_once_and_stay_where_they_are() {
        let mut pool = Pool::default();
        let texts: Vec<String> = (0..20_000).map(|i| format!("prefix {i}")).collect();
        let ids: Vec<Id> = texts.iter().map(|text| pool.intern(text)).collect();
        let places: Vec<*const u8> = ids.iter().map(|&id| pool.resolve(id).as_ptr()).collect();
        for ((text, &id), &place) in texts.iter().zip(&ids).zip(&places) {
            assert_eq!((pool.intern(text), pool.get(text)), (id, Some(id)));
            assert_eq!((pool.resolve(id), pool.resolve(id).as_ptr()), (text.as_str(), place));
        }
        assert_eq!(pool.len(), texts.len());
        assert_eq!(pool.get("prefix"), None);
    }

    #[test]
    fn empty_long_and_multibyte_strings_are_kept_too() {
        let mut pool = Pool::default();
        let long = "é".repeat(CHUNK_BYTES);
        let texts = ["", "中", &long, "a"];
        let ids = texts.map(|text| pool.intern(text));
        assert_eq!(ids.map(|id| pool.resolve(id)), texts);
    }
}
