//! Weights drawn from a seed: the same on every machine and in every run.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0, inclusive, to 1, exclusive.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws a tensor of `shape` evenly from −√(3/fan-in) to √(3/fan-in), so that a product with it keeps the variance of
/// what it is given. Each name has numbers of its own.
///
/// # Errors
/// If `candle` refuses the shape.
pub fn tensor(seed: u64, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let fan_in = shape.dims().last().copied().unwrap_or(1).max(1);
    let bound = (3.0 / fan_in as f64).sqrt();
    let mut random = SplitMix64::new(
        name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)),
    );
    let numbers: Vec<f32> = (0..shape.elem_count()).map(|_| ((random.unit() * 2.0 - 1.0) * bound) as f32).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// Gives a model the weights it asks for: those of a normalization one and zero, all others drawn.
#[derive(Debug)]
pub struct SeededWeights {
    /// Another seed, another model.
    pub seed: u64,
}

impl SimpleBackend for SeededWeights {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let weights = match name.rsplit_once('.') {
            Some((_, "bias")) => Tensor::zeros(shape, DType::F32, device)?,
            Some((layer, "weight")) if layer.ends_with("LayerNorm") => Tensor::ones(shape, DType::F32, device)?,
            _ => tensor(self.seed, name, shape)?,
        };
        weights.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("a seeded tensor has the shape it is asked for; none was given for {name}")
    }

    /// None has a name that the model doesn't ask for.
    fn contains_tensor(&self, _: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_agrees_with_the_published_sequence() {
        let mut random = SplitMix64::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn tensors_of_one_name_are_equal_and_of_two_are_not() {
        let numbers = |name| tensor(1, name, (4, 8)).expect("a shape").flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers("a"), numbers("a"));
        assert_ne!(numbers("a"), numbers("b"));
    }
}
