//! Blocks by a table.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::{Block, BlockPool, Full, KvCache, Run, Usage};

/// Keys and values in blocks that a table puts in order; they go back to the pool when the sequence is over.
#[derive(Debug)]
pub struct Paged<A: Allocator> {
    pool: BlockPool<A>,
    table: Vec<Block<A>, A>,
    positions: usize,
}

impl<A: Allocator + Clone> Paged<A> {
    /// An empty sequence whose blocks come from `pool`. A table of up to `blocks` of them never grows.
    pub fn new(pool: BlockPool<A>, blocks: usize, allocator: A) -> Self {
        Self { pool, table: Vec::with_capacity_in(blocks, allocator), positions: 0 }
    }
}

impl<A: Allocator + Clone> KvCache for Paged<A> {
    fn grow(&mut self) -> Result<(), Full> {
        if self.positions == self.table.len() * self.pool.shape().positions {
            self.table.push(self.pool.take());
        }
        self.positions += 1;
        Ok(())
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        let at = (self.positions - 1) % self.pool.shape().positions;
        let last = self.table.last_mut().expect("grow has put a block there");
        last.write(layer, at, key, value);
    }

    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>> {
        let size = self.pool.shape().positions;
        let filled = move |index: usize| size.min(self.positions - index * size);
        self.table.iter().enumerate().map(move |(index, block)| block.run(layer, filled(index)))
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn clear(&mut self) {
        self.positions = 0;
        while let Some(block) = self.table.pop() {
            self.pool.give(block);
        }
    }

    fn usage(&self) -> Usage {
        let shape = self.pool.shape();
        Usage { used_bytes: self.positions * shape.position_bytes(), held_bytes: self.table.len() * shape.bytes() }
    }
}
