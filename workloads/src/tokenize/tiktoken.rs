//! Byte-pair encoding by the `tiktoken-rs` crate, unmodified: `cl100k_base`, special tokens taken as text.

use heapgate_bench::Error;
use tiktoken_rs::{CoreBPE, cl100k_base};

use super::Tokenizer;

/// The variant `tiktoken-cl100k`. It has its own encoder, not the crate's singleton, so that dropping it frees it.
pub struct Tiktoken {
    inner: CoreBPE,
}

impl Tokenizer for Tiktoken {
    fn new() -> Result<Self, Error> {
        let inner = cl100k_base().map_err(|error| Error::Library(format!("tiktoken-rs: {error}")))?;
        Ok(Self { inner })
    }

    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        read(&self.inner.encode_ordinary(text))
    }
}
