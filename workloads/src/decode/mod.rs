//! Decoding: one position after another, each attending to those before.
//!
//! [`streaming`] decodes audio-like chunks with each form of KV cache, [`expiry`] decodes generations whose phases end
//! before they do, and [`early_release`] drops the activations of samples that the model is not sure of. All run our
//! own [`crate::transformer`]; [`candle`] decodes with a Llama by the candle crates, unmodified. [`audio`] is what ours hear
//! and [`latency`] how they time it. Only the constants are meant for the registry.

pub mod audio;
pub mod candle;
pub mod early_release;
pub mod expiry;
pub mod latency;
pub mod streaming;

pub use early_release::EARLY_RELEASE;
pub use expiry::EXPIRY;
pub use streaming::{KV_CONCAT, KV_INPLACE, KV_PAGED, KV_SLIDING};
