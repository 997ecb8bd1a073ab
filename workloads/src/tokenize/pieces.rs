//! The vocabulary as [`super::slices`] searches it: by bytes, apart for pieces that start a word and those that
//! continue one, so that no mark is ever put before a piece to look it up.

use super::basic::MAX_WORD_CHARS;
use super::vocab::{self, CONTINUATION, UNKNOWN};

/// More bytes than any piece may have. BERT's longest has 18.
const MAX_PIECE_BYTES: usize = 64;

/// Splits words into pieces.
#[derive(Debug, Clone)]
pub struct Pieces {
    starts: Table,
    continuations: Table,
    unknown: u32,
}

impl Pieces {
    /// Decompresses and indexes the vocabulary.
    ///
    /// # Panics
    /// If the embedded vocabulary is not what its checksum says.
    #[must_use]
    pub fn load() -> Self {
        let text = vocab::text();
        let pieces = || text.lines().zip(0..);
        let starts: Vec<_> = pieces().filter(|(piece, _)| !piece.starts_with(CONTINUATION)).collect();
        // "##" itself would continue a word with nothing, and never ends.
        let continuations: Vec<_> = pieces()
            .filter_map(|(piece, id)| Some((piece.strip_prefix(CONTINUATION)?, id)))
            .filter(|(piece, _)| !piece.is_empty())
            .collect();
        let (_, unknown) = pieces().find(|&(piece, _)| piece == UNKNOWN).expect("the vocabulary has [UNK]");
        Self { starts: Table::new(&starts), continuations: Table::new(&continuations), unknown }
    }

    /// Appends the ids of `word`, which is valid UTF-8.
    pub fn push_ids(&self, word: &[u8], ids: &mut Vec<u32>) {
        if let Some(id) = self.starts.whole(word) {
            ids.push(id);
            return;
        }
        let known = ids.len();
        let mut table = &self.starts;
        let mut rest = if is_too_long(word) { None } else { Some(word) };
        while let Some(left @ [_, ..]) = rest {
            // A piece is whole characters and so is what is left, so a match of bytes ends where a character does.
            rest = table.longest(left).map(|(id, len)| {
                ids.push(id);
                &left[len..]
            });
            table = &self.continuations;
        }
        if rest.is_none() {
            ids.truncate(known);
            ids.push(self.unknown);
        }
    }
}

/// Whether `word`, which is valid UTF-8, has more characters than are looked up.
fn is_too_long(word: &[u8]) -> bool {
    let is_first = |&&byte: &&u8| byte & 0xC0 != 0x80;
    word.len() > MAX_WORD_CHARS && word.iter().filter(is_first).count() > MAX_WORD_CHARS
}

/// A hash table from byte strings to ids, open-addressed with linear probing, that is filled once. Its hash grows with
/// the key, so that one pass gives the hashes of every prefix.
#[derive(Debug, Clone)]
struct Table {
    /// A power of two of them, at most half used.
    slots: Box<[Slot]>,
    /// Leaves of a hash the bits that choose a slot.
    shift: u32,
    /// All keys, end to end.
    keys: Box<[u8]>,
    /// The length of the longest key.
    longest: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Other bits of the key's hash, to tell most strangers without a look at the key.
    tag: u32,
    id: u32,
    /// The key's place in [`Table::keys`].
    start: u32,
    /// Its length; 0 if the slot is empty.
    len: u32,
}

/// FNV-1a's start and a larger odd factor than its own, since only the high bits choose a slot and short keys must
/// reach them: the golden ratio's, as in Fibonacci hashing.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

fn grow(hash: u64, byte: u8) -> u64 {
    // The rotation brings high bits back down, where the next factor spreads them again.
    (hash.rotate_left(23) ^ u64::from(byte)).wrapping_mul(FACTOR)
}

fn hash(key: &[u8]) -> u64 {
    key.iter().fold(SEED, |hash, &byte| grow(hash, byte))
}

impl Table {
    fn new(entries: &[(&str, u32)]) -> Self {
        let capacity = (entries.len() * 2).next_power_of_two().max(2);
        let longest = entries.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        assert!(longest <= MAX_PIECE_BYTES, "a piece has {longest} bytes");
        let mut table = Self {
            slots: vec![Slot::default(); capacity].into(),
            shift: u64::BITS - capacity.ilog2(),
            keys: Box::default(),
            longest,
        };
        let mut keys = Vec::new();
        for &(key, id) in entries {
            let hash = hash(key.as_bytes());
            let slot = Slot { tag: tag(hash), id, start: keys.len() as u32, len: key.len() as u32 };
            keys.extend_from_slice(key.as_bytes());
            let free = table.probe(hash).find(|&at| table.slots[at].len == 0).expect("half the slots are free");
            table.slots[free] = slot;
        }
        table.keys = keys.into();
        table
    }

    fn probe(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let first = (hash >> self.shift) as usize;
        (0..=mask).map(move |step| (first + step) & mask)
    }

    fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        for at in self.probe(hash) {
            let slot = self.slots[at];
            if slot.len == 0 {
                return None;
            }
            let (start, len) = (slot.start as usize, slot.len as usize);
            if slot.tag == tag(hash) && len == key.len() && self.keys[start..start + len] == *key {
                return Some(slot.id);
            }
        }
        None
    }

    /// The id of `key`.
    fn whole(&self, key: &[u8]) -> Option<u32> {
        if key.len() > self.longest { None } else { self.find(key, hash(key)) }
    }

    /// The id and length of the longest key that `text` starts with.
    fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let mut hashes = [0; MAX_PIECE_BYTES];
        let mut hash = SEED;
        let reach = text.len().min(self.longest);
        for (slot, &byte) in hashes.iter_mut().zip(&text[..reach]) {
            hash = grow(hash, byte);
            *slot = hash;
        }
        (1..=reach).rev().find_map(|len| Some((self.find(&text[..len], hashes[len - 1])?, len)))
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::vocab::Vocab;

    #[test]
    fn every_piece_is_found_and_no_other() {
        let (pieces, vocab, text) = (Pieces::load(), Vocab::load(), vocab::text());
        for line in text.lines() {
            let (table, key) = match line.strip_prefix(CONTINUATION) {
                Some(key) => (&pieces.continuations, key),
                None => (&pieces.starts, line),
            };
            assert_eq!(table.whole(key.as_bytes()), vocab.id(line), "{line}");
            assert_eq!(table.whole(format!("{key}\u{1}").as_bytes()), None);
        }
    }

    #[test]
    fn probes_are_short() {
        let pieces = Pieces::load();
        for table in [&pieces.starts, &pieces.continuations] {
            let displaced = |(at, slot): (usize, &Slot)| {
                let key = &table.keys[slot.start as usize..][..slot.len as usize];
                at.wrapping_sub((hash(key) >> table.shift) as usize) & (table.slots.len() - 1)
            };
            let used = || table.slots.iter().enumerate().filter(|(_, slot)| slot.len > 0);
            let mean = used().map(displaced).sum::<usize>() as f64 / used().count() as f64;
            assert!(mean < 0.5, "{mean} slots from home in the mean");
        }
    }
}
