//! Decoding: tokens out of a language model, one at a time.

pub mod candle;
