//! Room for the whole context from the start.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::{Full, KvCache, Run, Usage};

/// Keys and values in tensors that were allocated for the whole context and are appended to.
#[derive(Debug)]
pub struct InPlace<A: Allocator> {
    layers: Vec<[Vec<f32, A>; 2], A>,
    width: usize,
    positions: usize,
    context: usize,
}

impl<A: Allocator + Clone> InPlace<A> {
    /// An empty cache for `context` positions of a model of so many layers of this width.
    pub fn new(layers: usize, width: usize, context: usize, allocator: A) -> Self {
        let tensor = || Vec::with_capacity_in(context * width, allocator.clone());
        let mut all = Vec::with_capacity_in(layers, allocator.clone());
        all.resize_with(layers, || [tensor(), tensor()]);
        Self { layers: all, width, positions: 0, context }
    }
}

impl<A: Allocator> KvCache for InPlace<A> {
    fn grow(&mut self) -> Result<(), Full> {
        if self.positions == self.context {
            return Err(Full { positions: self.context });
        }
        self.positions += 1;
        Ok(())
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        let [keys, values] = &mut self.layers[layer];
        keys.extend_from_slice(key);
        values.extend_from_slice(value);
    }

    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>> {
        let [keys, values] = &self.layers[layer];
        std::iter::once(Run { keys, values })
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn clear(&mut self) {
        self.positions = 0;
        self.layers.iter_mut().flatten().for_each(Vec::clear);
    }

    fn usage(&self) -> Usage {
        let row = self.layers.len() * 2 * self.width * size_of::<f32>();
        Usage { used_bytes: self.positions * row, held_bytes: self.context * row }
    }
}
