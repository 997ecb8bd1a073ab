//! WordPiece by the `tokenizers` crate, unmodified, set up as BERT's uncased models are: neither truncated nor padded,
//! without special tokens.

use heapgate_bench::Error;
use tokenizers::Tokenizer as HfTokenizer;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use super::Tokenizer;
use super::basic::MAX_WORD_CHARS;
use super::vocab::{self, CONTINUATION, UNKNOWN};

/// The variant `hf-wordpiece`.
#[derive(Debug)]
pub struct Hf {
    inner: HfTokenizer,
}

fn refused(error: tokenizers::Error) -> Error {
    Error::Library(format!("tokenizers: {error}"))
}

impl Tokenizer for Hf {
    fn new() -> Result<Self, Error> {
        let model = WordPiece::builder()
            .vocab(WordPiece::read_bytes(vocab::text().as_bytes()).map_err(refused)?)
            .unk_token(UNKNOWN.to_owned())
            .continuing_subword_prefix(CONTINUATION.to_owned())
            .max_input_chars_per_word(MAX_WORD_CHARS)
            .build()
            .map_err(refused)?;
        let mut inner = HfTokenizer::new(model);
        inner.with_normalizer(Some(BertNormalizer::default())).map_err(refused)?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.with_padding(None).with_truncation(None).map_err(refused)?;
        Ok(Self { inner })
    }

    /// # Panics
    /// If the library refuses a text, which no text makes it do: its only error here is a vocabulary without `[UNK]`.
    fn with_ids<R>(&mut self, text: &str, read: impl FnOnce(&[u32]) -> R) -> R {
        read(self.inner.encode(text, false).expect("WordPiece with [UNK] takes any text").get_ids())
    }
}
