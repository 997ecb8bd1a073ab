//! Weights drawn from a seed: the same on every machine and in every run.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

use crate::random::SplitMix64;

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
    fn tensors_of_one_name_are_equal_and_of_two_are_not() {
        let numbers = |name| tensor(1, name, (4, 8)).expect("a shape").flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers("a"), numbers("a"));
        assert_ne!(numbers("a"), numbers("b"));
    }
}
