//! Memory that is kept and found again: an LRU cache whose entries are reclaimed late ([`lru`]), slabs of text
//! ([`slab`]), keys of a prompt cache ([`intern`]), and one small buffer for each token ([`buffer`]).
//!
//! Only the constants of those modules are meant for the registry; the rest is public for tests.

pub mod buffer;
pub mod intern;
pub mod lru;
pub mod slab;

/// Numbers that are the same in every run: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, by multiplication: a bias of at most `end` in 2^64.
    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}
