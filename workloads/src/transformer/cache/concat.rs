//! A new tensor for every position, as `torch.cat` makes it.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::{Full, KvCache, Run, Usage};

/// Keys and values in tensors of exactly their size: on every step new ones are allocated, everything is copied, and
/// the old ones are freed.
#[derive(Debug)]
pub struct Concat<A: Allocator> {
    layers: Vec<[Vec<f32, A>; 2], A>,
    width: usize,
    positions: usize,
    allocator: A,
}

impl<A: Allocator + Clone> Concat<A> {
    /// An empty cache for a model of so many layers of this width.
    pub fn new(layers: usize, width: usize, allocator: A) -> Self {
        let mut cache = Self {
            layers: Vec::with_capacity_in(layers, allocator.clone()),
            width,
            positions: 0,
            allocator: allocator.clone(),
        };
        let empty = || Vec::new_in(allocator.clone());
        cache.layers.resize_with(layers, || [empty(), empty()]);
        cache
    }
}

impl<A: Allocator + Clone> KvCache for Concat<A> {
    fn grow(&mut self) -> Result<(), Full> {
        self.positions += 1;
        Ok(())
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        for (tensor, row) in self.layers[layer].iter_mut().zip([key, value]) {
            let mut longer = Vec::with_capacity_in(tensor.len() + row.len(), self.allocator.clone());
            longer.extend_from_slice(tensor);
            longer.extend_from_slice(row);
            *tensor = longer;
        }
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
        for tensor in self.layers.iter_mut().flatten() {
            *tensor = Vec::new_in(self.allocator.clone());
        }
    }

    fn usage(&self) -> Usage {
        let held = self.layers.iter().flatten().map(|tensor| size_of::<f32>() * tensor.capacity()).sum();
        let used = self.positions * self.layers.len() * 2 * self.width * size_of::<f32>();
        Usage { used_bytes: used, held_bytes: held }
    }
}
