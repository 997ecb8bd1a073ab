//! Operators that write into what they are given and allocate nothing.

use super::{EPSILON, GELU};
use crate::transformer::math::{dot, exp};

/// How many rows of `x` one row of weights is used for while it is in the first cache.
const TILE_ROWS: usize = 16;

/// Sums side by side, as in [`dot`].
const LANES: usize = 8;

/// `x` (rows of `width`) times the transpose of `weights` (rows of `width`) into `product`.
///
/// # Panics
/// If `product` has another length than the product.
pub fn matmul_into(x: &[f32], weights: &[f32], width: usize, product: &mut [f32]) {
    let outputs = weights.len() / width;
    assert_eq!(product.len(), x.len() / width * outputs, "the product has another size");
    for (x, product) in x.chunks(TILE_ROWS * width).zip(product.chunks_mut(TILE_ROWS * outputs)) {
        for (output, weights) in weights.chunks_exact(width).enumerate() {
            for (row, out) in x.chunks_exact(width).zip(product.chunks_exact_mut(outputs)) {
                out[output] = dot(row, weights);
            }
        }
    }
}

/// Softmax of one row: after a look for the maximum, two passes.
pub fn softmax(row: &mut [f32]) {
    let maximum = row.iter().copied().fold(f32::MIN, f32::max);
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (x, sum) in chunk.iter_mut().zip(&mut sums) {
            *x = exp(*x - maximum);
            *sum += *x;
        }
    }
    let mut sum = sums.iter().sum::<f32>();
    for x in rest {
        *x = exp(*x - maximum);
        sum += *x;
    }
    for x in row {
        *x /= sum;
    }
}

/// Mean and one over the standard deviation in one pass. Sums in f64 hold the squares of any f32 that a model has, so
/// that what is lost in `E[x²] - E[x]²` is far below an f32's last place.
fn statistics(row: &[f32]) -> (f32, f32) {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [[0.0; LANES]; 2];
    for chunk in chunks {
        for (lane, &x) in chunk.iter().enumerate() {
            let x = f64::from(x);
            sums[0][lane] += x;
            sums[1][lane] += x * x;
        }
    }
    let [mut sum, mut squares] = sums.map(|lanes| lanes.iter().sum::<f64>());
    for &x in rest {
        let x = f64::from(x);
        sum += x;
        squares += x * x;
    }
    let mean = sum / row.len() as f64;
    let variance = (squares / row.len() as f64 - mean * mean).max(0.0);
    (mean as f32, 1.0 / (variance as f32 + EPSILON).sqrt())
}

/// Layer norm of one row, fused: statistics in one pass, then the answer.
pub fn layer_norm(row: &mut [f32], gain: &[f32], offset: &[f32]) {
    let (mean, scale) = statistics(row);
    for ((x, gain), offset) in row.iter_mut().zip(gain).zip(offset) {
        *x = (*x - mean) * scale * gain + offset;
    }
}

/// As [`layer_norm`], into `normed`.
pub fn layer_norm_into(row: &[f32], gain: &[f32], offset: &[f32], normed: &mut [f32]) {
    normed.copy_from_slice(row);
    layer_norm(normed, gain, offset);
}

/// GELU by tanh of each value.
pub fn gelu(values: &mut [f32]) {
    for x in values {
        let inner = GELU[0] * (*x + GELU[1] * *x * *x * *x);
        // 0.5 · (1 + tanh y) is 1 / (1 + e^-2y).
        *x /= 1.0 + exp(-2.0 * inner);
    }
}
