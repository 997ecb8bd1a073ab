//! The keys and values of positions that later ones attend to, kept in different ways.
//!
//! [`Concat`] makes a new tensor for every position, [`InPlace`] has room for the whole context from the start,
//! [`Sliding`] keeps the last positions only, [`Paged`] takes blocks from a [`BlockPool`]. [`Generation`] is paged too
//! and gives blocks back by scope. What a step attends to is given in the order of positions, so that all of them lead
//! to the same logits, to the last bit.

mod blocks;
mod concat;
mod generation;
mod inplace;
mod paged;
mod sliding;

pub use blocks::{Block, BlockPool, BlockShape, PoolCounts};
pub use concat::Concat;
pub use generation::{Attached, Generation, Release, most_attended};
pub use inplace::InPlace;
pub use paged::Paged;
pub use sliding::Sliding;

/// A KV cache of one sequence. A step calls [`Self::grow`], then for each layer [`Self::write`] and [`Self::runs`].
pub trait KvCache {
    /// Makes room for one more position.
    ///
    /// # Errors
    /// [`Full`] if there is none.
    fn grow(&mut self) -> Result<(), Full>;

    /// Puts in the key and the value of the newest position.
    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]);

    /// The keys and values of all positions that are attended to, oldest first, in runs that lie together.
    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>>;

    /// How many positions are attended to, the newest among them.
    fn positions(&self) -> usize;

    /// Forgets all positions, to start another sequence.
    fn clear(&mut self);

    /// What of its memory is in use.
    fn usage(&self) -> Usage;
}

/// Keys and values, a row for each position.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The keys.
    pub keys: &'a [f32],
    /// The values of the same positions.
    pub values: &'a [f32],
}

/// Bytes of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Those of keys and values that are attended to.
    pub used_bytes: usize,
    /// All that the sequence has to itself. Free blocks of a pool are anyone's.
    pub held_bytes: usize,
}

/// No more positions can be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the context of {positions} positions is full")]
pub struct Full {
    /// How many there may be.
    pub positions: usize,
}
