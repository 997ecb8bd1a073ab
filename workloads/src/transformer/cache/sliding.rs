//! The last positions only.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::{Full, KvCache, Run, Usage};

/// One position of room beyond the window for so many within it: the window is moved to the front once in so many
/// steps, not on each.
const WINDOW_PER_SLACK: usize = 4;

/// Keys and values of the last `window` positions, in tensors that are truncated to them when full.
#[derive(Debug)]
pub struct Sliding<A: Allocator> {
    layers: Vec<[Vec<f32, A>; 2], A>,
    width: usize,
    window: usize,
    capacity: usize,
    /// Rows in the tensors: up to `window` of them count.
    rows: usize,
}

impl<A: Allocator + Clone> Sliding<A> {
    /// An empty cache for a window of `window` positions of a model of so many layers of this width.
    ///
    /// # Panics
    /// If `window` is 0.
    pub fn new(layers: usize, width: usize, window: usize, allocator: A) -> Self {
        assert!(window > 0, "a window of no positions");
        let capacity = window + window.div_ceil(WINDOW_PER_SLACK);
        let tensor = || Vec::with_capacity_in(capacity * width, allocator.clone());
        let mut all = Vec::with_capacity_in(layers, allocator.clone());
        all.resize_with(layers, || [tensor(), tensor()]);
        Self { layers: all, width, window, capacity, rows: 0 }
    }
}

impl<A: Allocator> KvCache for Sliding<A> {
    fn grow(&mut self) -> Result<(), Full> {
        if self.rows == self.capacity {
            let kept = self.window - 1;
            for tensor in self.layers.iter_mut().flatten() {
                tensor.copy_within((self.rows - kept) * self.width.., 0);
                tensor.truncate(kept * self.width);
            }
            self.rows = kept;
        }
        self.rows += 1;
        Ok(())
    }

    fn write(&mut self, layer: usize, key: &[f32], value: &[f32]) {
        let [keys, values] = &mut self.layers[layer];
        keys.extend_from_slice(key);
        values.extend_from_slice(value);
    }

    fn runs(&self, layer: usize) -> impl Iterator<Item = Run<'_>> {
        let [keys, values] = &self.layers[layer];
        let first = (self.rows - self.positions()) * self.width;
        std::iter::once(Run { keys: &keys[first..], values: &values[first..] })
    }

    fn positions(&self) -> usize {
        self.rows.min(self.window)
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.layers.iter_mut().flatten().for_each(Vec::clear);
    }

    fn usage(&self) -> Usage {
        let row = self.layers.len() * 2 * self.width * size_of::<f32>();
        Usage { used_bytes: self.positions() * row, held_bytes: self.capacity * row }
    }
}
