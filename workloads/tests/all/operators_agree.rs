//! Operators give the same in place as with fresh buffers, and right answers.

use allocator_api2::alloc::Global;
use heapgate_workloads::transformer::operators::{allocating, inplace};
use proptest::prelude::*;

/// Values in rows: rows of the given width, each value of ordinary size.
fn rows() -> impl Strategy<Value = (Vec<f32>, usize)> {
    (1usize..8, 1usize..200)
        .prop_flat_map(|(rows, width)| (prop::collection::vec(-8f32..8.0, rows * width), Just(width)))
}

fn equal(left: &[f32], right: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        prop_assert!((left - right).abs() <= 1e-6 * right.abs().max(1.0), "{} {}", left, right);
    }
    Ok(())
}

proptest! {
    #[test]
    fn softmax_is_the_same_in_place_and_sums_to_one((x, width) in rows()) {
        let mut row_by_row = x.clone();
        row_by_row.chunks_exact_mut(width).for_each(inplace::softmax);
        equal(&row_by_row, &allocating::softmax(&x, width, &Global))?;
        for row in row_by_row.chunks_exact(width) {
            prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn layer_norm_is_the_same_fused((x, width) in rows(), shift in -100f32..100.0, gain in -2f32..2.0) {
        let x: Vec<f32> = x.iter().map(|x| x + shift).collect();
        let gain: Vec<f32> = (0..width).map(|i| gain + 0.01 * i as f32).collect();
        let offset: Vec<f32> = (0..width).map(|i| 0.5 - 0.02 * i as f32).collect();
        let mut fused = x.clone();
        fused.chunks_exact_mut(width).for_each(|row| inplace::layer_norm(row, &gain, &offset));
        equal(&fused, &allocating::layer_norm(&x, &gain, &offset, &Global))?;
    }

    #[test]
    fn gelu_is_the_same_in_place_and_right((x, _) in rows()) {
        let mut values = x.clone();
        inplace::gelu(&mut values);
        equal(&values, &allocating::gelu(&x, &Global))?;
        let right = x.iter().map(|&x| {
            let x = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            (0.5 * x * (1.0 + inner.tanh())) as f32
        });
        equal(&values, &right.collect::<Vec<f32>>())?;
    }

    #[test]
    fn matmul_is_right_into_a_buffer_and_fresh((x, width) in rows(), outputs in 1usize..40) {
        let weights: Vec<f32> = (0..outputs * width).map(|i| ((i * 7919) % 101) as f32 / 101.0 - 0.5).collect();
        let rows = x.len() / width;
        let mut product = vec![f32::NAN; rows * outputs];
        inplace::matmul_into(&x, &weights, width, &mut product);
        let fresh = allocating::matmul(&x, &weights, width, &Global);
        prop_assert_eq!((product.len(), fresh.len()), (rows * outputs, rows * outputs));
        for (index, (pooled, fresh)) in product.iter().zip(&fresh).enumerate() {
            let (row, output) = (index / outputs, index % outputs);
            let pairs = x[row * width..][..width].iter().zip(&weights[output * width..][..width]);
            let terms = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w));
            // What a sum in f32 may be off by grows with its terms, not with what they come to.
            let (right, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            for got in [pooled, fresh] {
                prop_assert!((f64::from(*got) - right).abs() <= 1e-6 * size.max(1.0), "{got} {right}");
            }
        }
    }
}

#[test]
fn a_row_of_equal_values_is_normed_to_the_offset() {
    let mut row = [3.0; 10];
    inplace::layer_norm(&mut row, &[2.0; 10], &[0.25; 10]);
    assert_eq!(row, [0.25; 10]);
}

#[test]
fn softmax_of_huge_values_stays_finite() {
    let mut row = [1e30, -1e30, 1e30, 0.0];
    inplace::softmax(&mut row);
    assert!((row[0] - 0.5).abs() < 1e-6 && row[1] < 1e-30 && row.iter().all(|x| x.is_finite()), "{row:?}");
}
