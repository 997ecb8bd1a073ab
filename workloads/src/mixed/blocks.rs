//! Large blocks of token ids in a bump arena: filled for one batch, read, and taken back at once.

use bumpalo::Bump;

/// Ids of a block: 256 KiB, as a batch of embeddings or attention scores would have.
const BLOCK_IDS: usize = 64 * 1024;

/// An arena with room for so many blocks.
#[derive(Debug)]
pub struct Blocks {
    bump: Bump,
    count: usize,
    ids: Vec<u32>,
    /// Where in the ids the next block begins.
    at: usize,
}

impl Blocks {
    /// As many blocks as fit in `bytes`, each a stretch of `ids`.
    ///
    /// # Panics
    /// If there are fewer ids than a block has.
    #[must_use]
    pub fn new(bytes: usize, ids: Vec<u32>) -> Self {
        assert!(ids.len() >= BLOCK_IDS, "{} ids fill no block", ids.len());
        let count = bytes / (BLOCK_IDS * size_of::<u32>());
        Self { bump: Bump::with_capacity(bytes), count, ids, at: 0 }
    }

    /// Takes the blocks of the last batch back, fills others, and lends them.
    pub fn with_batch<R>(&mut self, read: impl FnOnce(&[&[u32]]) -> R) -> R {
        self.bump.reset();
        let mut blocks: Vec<&[u32]> = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            blocks.push(self.bump.alloc_slice_copy(&self.ids[self.at..][..BLOCK_IDS]));
            self.at = (self.at + BLOCK_IDS / 2) % (self.ids.len() - BLOCK_IDS + 1);
        }
        read(&blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_all_its_blocks_in_the_memory_of_the_last() {
        let mut blocks = Blocks::new(8 << 20, (0..100_000).collect());
        let mut address = || {
            blocks.with_batch(|blocks| {
                assert_eq!(blocks.iter().map(|block| size_of_val(*block)).sum::<usize>(), 8 << 20);
                assert!(blocks.iter().all(|block| block.windows(2).all(|pair| pair[0] + 1 == pair[1])));
                blocks[0].as_ptr().addr()
            })
        };
        assert_eq!(address(), address());
    }
}
