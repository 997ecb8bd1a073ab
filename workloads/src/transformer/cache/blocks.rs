//! Blocks of positions, and the pool they come from and go back to (Kwon et al.: "Efficient memory management for large
//! language model serving with PagedAttention", 2023).
//!
//! A block is owned by whoever took it, so that no two sequences can have the same one.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::Run;

/// The size of every block of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// Positions a block has room for.
    pub positions: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Width of a key, and of a value.
    pub width: usize,
}

impl BlockShape {
    const fn values(self) -> usize {
        self.positions * self.layers * 2 * self.width
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.values() * size_of::<f32>()
    }

    /// Bytes of one position in it.
    #[must_use]
    pub const fn position_bytes(self) -> usize {
        self.bytes() / self.positions
    }

    /// Where the keys of a layer start; its values follow.
    const fn layer(self, layer: usize) -> usize {
        layer * 2 * self.positions * self.width
    }
}

/// Keys and values of a few positions that follow each other, for all layers.
#[derive(Debug)]
pub struct Block<A: Allocator> {
    rows: Vec<f32, A>,
    shape: BlockShape,
    used_before: bool,
}

impl<A: Allocator> Block<A> {
    /// Puts in the key and the value of the block's position `at`.
    pub fn write(&mut self, layer: usize, at: usize, key: &[f32], value: &[f32]) {
        let BlockShape { positions, width, .. } = self.shape;
        let keys = self.shape.layer(layer) + at * width;
        let values = keys + positions * width;
        self.rows[keys..keys + width].copy_from_slice(key);
        self.rows[values..values + width].copy_from_slice(value);
    }

    /// The first `count` positions.
    #[must_use]
    pub fn run(&self, layer: usize, count: usize) -> Run<'_> {
        let BlockShape { positions, width, .. } = self.shape;
        let keys = self.shape.layer(layer);
        let values = keys + positions * width;
        Run { keys: &self.rows[keys..keys + count * width], values: &self.rows[values..values + count * width] }
    }
}

/// What a pool has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolCounts {
    /// Blocks handed out.
    pub taken: u64,
    /// Those among them that had been used before.
    pub reused: u64,
    /// Blocks that were allocated, in use and free.
    pub allocated: u64,
}

/// Blocks that are free; more are allocated when there are none.
#[derive(Debug)]
pub struct BlockPool<A: Allocator> {
    shape: BlockShape,
    /// Of scopes that are over: handed out first, the last to come back first of all, since it may still be cached.
    expired: Vec<Block<A>, A>,
    free: Vec<Block<A>, A>,
    counts: PoolCounts,
    allocator: A,
}

impl<A: Allocator + Clone> BlockPool<A> {
    /// An empty pool.
    ///
    /// # Panics
    /// If blocks of this shape have no room.
    pub fn new(shape: BlockShape, allocator: A) -> Self {
        assert!(shape.values() > 0, "blocks without room: {shape:?}");
        let lists = [Vec::new_in(allocator.clone()), Vec::new_in(allocator.clone())];
        let [expired, free] = lists;
        Self { shape, expired, free, counts: PoolCounts::default(), allocator }
    }

    /// Allocates `count` blocks ahead.
    pub fn reserve(&mut self, count: usize) {
        self.free.reserve(count);
        for _ in 0..count {
            let block = self.fresh();
            self.free.push(block);
        }
    }

    /// Hands a block out: an expired one, else a free one, else a new one.
    pub fn take(&mut self) -> Block<A> {
        let block = self.expired.pop().or_else(|| self.free.pop());
        let mut block = block.unwrap_or_else(|| self.fresh());
        self.counts.taken += 1;
        self.counts.reused += u64::from(block.used_before);
        block.used_before = true;
        block
    }

    fn fresh(&mut self) -> Block<A> {
        let mut rows = Vec::with_capacity_in(self.shape.values(), self.allocator.clone());
        rows.resize(self.shape.values(), 0.0);
        self.counts.allocated += 1;
        Block { rows, shape: self.shape, used_before: false }
    }
}

impl<A: Allocator> BlockPool<A> {
    /// Takes a block back whose sequence is over.
    pub fn give(&mut self, block: Block<A>) {
        self.free.push(block);
    }

    /// Takes a block back whose scope is over, though its sequence goes on.
    pub fn give_expired(&mut self, block: Block<A>) {
        self.expired.push(block);
    }

    /// The size of its blocks.
    #[must_use]
    pub fn shape(&self) -> BlockShape {
        self.shape
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        self.counts
    }

    /// How many blocks are free now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.expired.len() + self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use allocator_api2::alloc::Global;

    use super::*;

    const SHAPE: BlockShape = BlockShape { positions: 2, layers: 2, width: 3 };

    #[test]
    fn expired_blocks_are_reused_before_free_ones_and_before_new_ones() {
        let mut pool = BlockPool::new(SHAPE, Global);
        let (mut first, mut second) = (pool.take(), pool.take());
        first.write(0, 0, &[1.0; 3], &[1.0; 3]);
        second.write(0, 0, &[2.0; 3], &[2.0; 3]);
        pool.give(first);
        pool.give_expired(second);
        assert_eq!(pool.take().run(0, 1).keys, [2.0; 3]);
        assert_eq!(pool.take().run(0, 1).keys, [1.0; 3]);
        assert_eq!(pool.take().run(0, 1).keys, [0.0; 3]);
        assert_eq!(pool.counts(), PoolCounts { taken: 5, reused: 2, allocated: 3 });
    }

    #[test]
    fn reserved_blocks_are_allocated_but_not_reused() {
        let mut pool = BlockPool::new(SHAPE, Global);
        pool.reserve(2);
        let block = pool.take();
        assert_eq!((pool.counts(), pool.free()), (PoolCounts { taken: 1, reused: 0, allocated: 2 }, 1));
        pool.give(block);
    }

    #[test]
    fn keys_and_values_of_layers_do_not_overlap() {
        let mut block = BlockPool::new(SHAPE, Global).take();
        for layer in 0..2 {
            for at in 0..2 {
                let key = (layer * 2 + at) as f32;
                block.write(layer, at, &[key; 3], &[-key; 3]);
            }
        }
        let run = block.run(1, 2);
        assert_eq!((run.keys, run.values), (&[2., 2., 2., 3., 3., 3.][..], &[-2., -2., -2., -3., -3., -3.][..]));
    }
}
