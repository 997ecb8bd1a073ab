//! Buffers that are lent and come back.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

/// Buffers that have come back, to be lent again; a new one is made only when none of them is large enough.
#[derive(Debug)]
pub struct BufferPool<A: Allocator> {
    free: Vec<Vec<f32, A>, A>,
    allocator: A,
}

impl<A: Allocator + Clone> BufferPool<A> {
    /// An empty pool that takes its buffers from `allocator`.
    pub fn new(allocator: A) -> Self {
        Self { free: Vec::new_in(allocator.clone()), allocator }
    }

    /// A buffer of `length` values, whatever they are: the smallest that is free and large enough.
    pub fn take(&mut self, length: usize) -> Vec<f32, A> {
        let large_enough = self.free.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= length);
        let mut buffer = match large_enough.min_by_key(|(_, buffer)| buffer.capacity()) {
            Some((index, _)) => self.free.swap_remove(index),
            None => Vec::with_capacity_in(length, self.allocator.clone()),
        };
        // What is there already is left: it costs nothing, and whoever takes a buffer overwrites it.
        buffer.resize(length, 0.0);
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<f32, A>) {
        self.free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use allocator_api2::alloc::Global;

    use super::*;

    #[test]
    fn buffers_that_came_back_are_lent_again_the_smallest_first() {
        let mut pool = BufferPool::new(Global);
        let (small, large) = (pool.take(10), pool.take(100));
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        pool.give(large);
        pool.give(small);
        assert_eq!(pool.take(5).as_ptr(), at_small);
        let again = pool.take(50);
        assert_eq!((again.as_ptr(), again.len()), (at_large, 50));
    }
}
