//! A small decoder-only transformer in f32, where every buffer is where the caller wants it: what needs control over
//! memory is measured on it, since in a library's model the library decides.
//!
//! [`Decoder`] is the model with its working memory, [`cache`] the forms a KV cache may have, [`operators`] what both
//! are made of, once with a fresh buffer for everything and once in place. All are generic over
//! [`allocator_api2::alloc::Allocator`]. Weights are seeded, not trained: what is said means nothing, what it costs
//! does. The workloads `decode` and `operators` call it; it calls nothing of theirs.

pub mod cache;
mod decoder;
pub mod math;
pub mod operators;
mod weights;

pub use decoder::Decoder;
pub use weights::{Config, Weights};
