//! The operators of a transformer, twice: [`allocating`] has a fresh buffer for every intermediate and result, as
//! eager code has; [`inplace`] writes into what it is given, which [`BufferPool`] lends where it is not the input.
//! Both give the same to a millionth, which a test holds.

pub mod allocating;
pub mod inplace;
mod pool;

pub use pool::BufferPool;

/// Added to a variance, so that a row of equal values has a norm.
pub(crate) const EPSILON: f32 = 1e-5;

/// √(2/π) and the weight of the cube, in GELU by tanh (Hendrycks, Gimpel: "Gaussian error linear units", 2016).
pub(crate) const GELU: [f32; 2] = [0.797_884_6, 0.044_715];
