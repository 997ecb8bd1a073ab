//! Memory that is kept and found again: an LRU cache whose entries are reclaimed late ([`lru`]), slabs of text
//! ([`slab`]), keys of a prompt cache ([`intern`]), and one small buffer for each token ([`buffer`]).
//!
//! Only the constants of those modules are meant for the registry; the rest is public for tests.

pub mod buffer;
pub mod intern;
pub mod lru;
pub mod slab;
