//! A paged sequence of scopes: blocks of a scope that is over are of no more use, and go back early or late.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::{Block, BlockPool, Full, KvCache, Run, Usage};

/// The newest blocks, all of whose positions are attended to.
const WINDOW_BLOCKS: usize = 2;
/// How many of the older blocks, evenly spread, are attended to by their first position.
const LANDMARKS: usize = 16;

/// When the blocks of a scope go back to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// When the scope is over: they are marked expired and reused first.
    Scoped,
    /// When everything is over.
    End,
}

/// The keys and values of one sequence. A scope's positions start in a block of their own, and when it ends they are
/// attended to no more. So that a step's cost doesn't grow with its length, what is attended to is the newest blocks
/// and landmarks among the older ones.
#[derive(Debug)]
pub struct Generation<A: Allocator> {
    /// What is attended to, with the number of positions in each.
    live: Vec<(Block<A>, usize), A>,
    /// Blocks of scopes that are over, kept under [`Release::End`].
    over: Vec<Block<A>, A>,
    /// Where in `live` the current scope starts.
    scope: usize,
}

impl<A: Allocator + Clone> Generation<A> {
    /// An empty sequence; its tables come from `allocator`.
    pub fn new(allocator: A) -> Self {
        Self { live: Vec::new_in(allocator.clone()), over: Vec::new_in(allocator), scope: 0 }
    }
}

impl<A: Allocator> Generation<A> {
    /// Starts a scope: what is taken in from here on is forgotten by [`Self::end_scope`].
    pub fn begin_scope(&mut self) {
        self.scope = self.live.len();
    }

    /// Ends the scope.
    pub fn end_scope(&mut self, pool: &mut BlockPool<A>, release: Release) {
        while self.live.len() > self.scope {
            let Some((block, _)) = self.live.pop() else { break };
            match release {
                Release::Scoped => pool.give_expired(block),
                Release::End => self.over.push(block),
            }
        }
    }

    /// Gives back everything.
    pub fn finish(&mut self, pool: &mut BlockPool<A>) {
        while let Some((block, _)) = self.live.pop() {
            pool.give(block);
        }
        while let Some(block) = self.over.pop() {
            pool.give(block);
        }
        self.scope = 0;
    }

    /// How many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.live.len() + self.over.len()
    }

    /// The sequence as a step of the model takes it.
    pub fn attach<'a>(&'a mut self, pool: &'a mut BlockPool<A>) -> Attached<'a, A> {
        Attached { generation: self, pool }
    }

    /// The blocks that are attended to, with how many of their positions.
    fn attended(&self) -> impl Iterator<Item = (&Block<A>, usize)> {
        let older = self.live.len().saturating_sub(WINDOW_BLOCKS);
        let stride = older.div_ceil(LANDMARKS).max(1);
        let landmarks = self.live[..older].iter().step_by(stride).map(|(block, _)| (block, 1));
        landmarks.chain(self.live[older..].iter().map(|(block, filled)| (block, *filled)))
    }
}

/// The most positions that a step attends to, with blocks of so many.
#[must_use]
pub const fn most_attended(block_positions: usize) -> usize {
    LANDMARKS + WINDOW_BLOCKS * block_positions
}

/// A [`Generation`] with the pool that it takes blocks from.
#[derive(Debug)]
pub struct Attached<'a, A: Allocator> {
    generation: &'a mut Generation<A>,
    pool: &'a mut BlockPool<A>,
}

impl<A: Allocator + Clone> KvCache for Attached<'_, A> {
    fn grow(&mut self) -> Result<(), Full> {
        let Generation { live, scope, .. } = &mut *self.generation;
        let fits = live.len() > *scope && live.last().is_some_and(|(_, filled)| *filled < self.pool.shape().positions);
        if !fits {
            live.push((self.pool.take(), 0));
        }
        if let Some((_, filled)) = live.last_mut() {
            *filled += 1;
        }
        Ok(())
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        let (block, filled) = self.generation.live.last_mut().expect("grow has put a block there");
        block.write(layer, *filled - 1, key, value);
    }

    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>> {
        self.generation.attended().map(move |(block, positions)| block.run(layer, positions))
    }

    fn positions(&self) -> usize {
        self.generation.attended().map(|(_, positions)| positions).sum()
    }

    fn clear(&mut self) {
        self.generation.finish(self.pool);
    }

    fn usage(&self) -> Usage {
        let shape = self.pool.shape();
        let used: usize = self.generation.live.iter().map(|(_, filled)| filled).sum();
        Usage { used_bytes: used * shape.position_bytes(), held_bytes: self.generation.blocks() * shape.bytes() }
    }
}
