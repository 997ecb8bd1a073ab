//! Large blocks of token ids in a bump arena: an arena is made for one batch, filled, read, and given back whole.

use bumpalo::Bump;

/// Ids of a block: 256 KiB, as a batch of embeddings or attention scores would have.
const BLOCK_IDS: usize = 64 * 1024;

/// What the arenas are filled with.
#[derive(Debug)]
pub struct Blocks {
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
        Self { count: bytes / (BLOCK_IDS * size_of::<u32>()), ids, at: 0 }
    }

    /// Makes an arena, fills it with blocks, and lends them.
    pub fn with_batch<R>(&mut self, read: impl FnOnce(&[&[u32]]) -> R) -> R {
        // In one piece. The arena of no blocks takes no memory at all.
        let bump = Bump::with_capacity(self.count * BLOCK_IDS * size_of::<u32>());
        let mut blocks: Vec<&[u32]> = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            blocks.push(bump.alloc_slice_copy(&self.ids[self.at..][..BLOCK_IDS]));
            self.at = (self.at + BLOCK_IDS / 2) % (self.ids.len() - BLOCK_IDS + 1);
        }
        read(&blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_all_its_blocks_in_one_piece_of_memory() {
        let mut blocks = Blocks::new(8 << 20, (0..100_000).collect());
        for _ in 0..3 {
            blocks.with_batch(|blocks| {
                assert_eq!(blocks.iter().map(|block| size_of_val(*block)).sum::<usize>(), 8 << 20);
                assert!(blocks.iter().all(|block| block.windows(2).all(|pair| pair[0] + 1 == pair[1])));
                let addresses = || blocks.iter().map(|block| block.as_ptr().addr());
                let (first, last) = (addresses().min().expect("blocks"), addresses().max().expect("blocks"));
                assert_eq!(last - first + size_of_val(blocks[0]), 8 << 20);
            });
        }
    }

    #[test]
    fn no_bytes_are_no_blocks() {
        Blocks::new(0, vec![0; BLOCK_IDS]).with_batch(|blocks| assert!(blocks.is_empty()));
    }
}
