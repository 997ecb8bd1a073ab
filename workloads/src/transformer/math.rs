//! Arithmetic on slices, written so that the compiler makes vector instructions of it.
//!
//! Sums go over a fixed number of lanes, so the answer is the same to the last bit on every machine; so is [`exp`],
//! which is not the C library's for that reason and because that one is not inlined.

/// How many sums run side by side: enough to hide the latency of an addition.
const LANES: usize = 16;

/// The inner product.
///
/// ```
/// use heapgate_workloads::transformer::math::dot;
/// assert_eq!(dot(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 32.0);
/// ```
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    // By halves, not one after another: those additions would wait for each other.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// `sum += factor * row`, element by element.
pub fn add_scaled(sum: &mut [f32], factor: f32, row: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(row) {
        *sum += factor * x;
    }
}

/// `sum += row`, element by element.
pub fn add(sum: &mut [f32], row: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(row) {
        *sum += x;
    }
}

/// The product of a matrix, row by row in `matrix`, and the column `x`.
pub fn matrix_vector(matrix: &[f32], x: &[f32], out: &mut [f32]) {
    for (out, row) in out.iter_mut().zip(matrix.chunks_exact(x.len())) {
        *out = dot(row, x);
    }
}

/// Where the largest is; the first of equals, and 0 where there are none.
#[must_use]
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in values.iter().enumerate() {
        if value > values[best] {
            best = i;
        }
    }
    best
}

/// e to the power of `x`, within 2 units of the last place; `x` is taken to be from -87 to 88.
///
/// Range reduction and polynomial as in Cephes' `expf` (Moshier).
#[must_use]
pub fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits: 1.5 · 2^23.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first so short that its product with an exponent is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5];

    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let r = (x - power * LN_2[0]) - power * LN_2[1];
    let polynomial = POLYNOMIAL.iter().fold(0.0, |sum, c| sum * r + c);
    let mantissa = polynomial * r * r + r + 1.0;
    // Adding to the exponent's bits multiplies by a power of two.
    f32::from_bits(mantissa.to_bits().wrapping_add(rounded.to_bits().wrapping_sub(ROUND.to_bits()) << 23))
}

/// The hyperbolic tangent.
#[must_use]
pub fn tanh(x: f32) -> f32 {
    // Beyond ±9 an f32 holds nothing but ±1.
    1.0 - 2.0 / (exp(2.0 * x.clamp(-9.5, 9.5)) + 1.0)
}

/// A hash of values that depends on their order and every bit: FNV-1a with 64 bits, a value at a time.
#[must_use]
pub fn checksum(values: &[f32]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    values.iter().fold(OFFSET_BASIS, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exp_is_right_to_two_units_of_the_last_place(x in -87f32..88.0) {
            let right = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - right).abs() <= right * 2.4e-7, "{} {right}", exp(x));
        }

        #[test]
        fn tanh_is_right_to_a_millionth(x in -100f32..100.0) {
            prop_assert!((tanh(x) - x.tanh()).abs() < 1e-6);
        }

        #[test]
        fn dot_is_the_plain_sum(pairs in prop::collection::vec((-1f32..1.0, -1f32..1.0), 0..100)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let right: f64 = pairs.iter().map(|&(a, b)| f64::from(a) * f64::from(b)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - right).abs() < 1e-5);
        }
    }

    #[test]
    fn argmax_is_the_first_of_equals() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }
}
