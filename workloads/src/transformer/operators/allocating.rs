//! Operators with a fresh buffer for every intermediate and result, one loop for each, as eager tensor code has it:
//! every buffer lives to the end of its function.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::inplace::matmul_into;
use super::{EPSILON, GELU};
use crate::transformer::math::{exp, tanh};

fn collect<A: Allocator + Clone>(allocator: &A, values: impl ExactSizeIterator<Item = f32>) -> Vec<f32, A> {
    let mut vector = Vec::with_capacity_in(values.len(), allocator.clone());
    vector.extend(values);
    vector
}

/// `x` (rows of `width`) times the transpose of `weights` (rows of `width`): a linear layer. It has no intermediates, so
/// the arithmetic is that of [`matmul_into`]; only the result is fresh.
pub fn matmul<A: Allocator + Clone>(x: &[f32], weights: &[f32], width: usize, allocator: &A) -> Vec<f32, A> {
    let values = x.len() / width * (weights.len() / width);
    let mut product = Vec::with_capacity_in(values, allocator.clone());
    product.resize(values, 0.0);
    matmul_into(x, weights, width, &mut product);
    product
}

/// Softmax of each row of `width`.
pub fn softmax<A: Allocator + Clone>(x: &[f32], width: usize, allocator: &A) -> Vec<f32, A> {
    let rows = x.len() / width;
    let maxima = collect(allocator, x.chunks_exact(width).map(|row| row.iter().copied().fold(f32::MIN, f32::max)));
    let shifted = collect(allocator, (0..rows * width).map(|i| x[i] - maxima[i / width]));
    let powers = collect(allocator, shifted.iter().map(|&x| exp(x)));
    let sums = collect(allocator, powers.chunks_exact(width).map(|row| row.iter().sum()));
    collect(allocator, (0..rows * width).map(|i| powers[i] / sums[i / width]))
}

/// Layer norm of each row.
pub fn layer_norm<A: Allocator + Clone>(x: &[f32], gain: &[f32], offset: &[f32], allocator: &A) -> Vec<f32, A> {
    let width = gain.len();
    let mean = |row: &[f32]| (row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64) as f32;
    let means = collect(allocator, x.chunks_exact(width).map(mean));
    let centred = collect(allocator, (0..x.len()).map(|i| x[i] - means[i / width]));
    let squares = collect(allocator, centred.iter().map(|x| x * x));
    let variances = collect(allocator, squares.chunks_exact(width).map(mean));
    let scales = collect(allocator, variances.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()));
    let normed = collect(allocator, (0..x.len()).map(|i| centred[i] * scales[i / width]));
    collect(allocator, (0..x.len()).map(|i| normed[i] * gain[i % width] + offset[i % width]))
}

/// GELU by tanh of each value.
pub fn gelu<A: Allocator + Clone>(x: &[f32], allocator: &A) -> Vec<f32, A> {
    let cubes = collect(allocator, x.iter().map(|x| x * x * x));
    let inner = collect(allocator, x.iter().zip(&cubes).map(|(x, cube)| GELU[0] * (x + GELU[1] * cube)));
    let gates = collect(allocator, inner.iter().map(|&inner| 0.5 * (1.0 + tanh(inner))));
    collect(allocator, x.iter().zip(&gates).map(|(x, gate)| x * gate))
}
