//! What the service does: BERT's WordPiece by the `tokenizers` crate.

use std::io::Read;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{Result, Tokenizer};

/// BERT's uncased vocabulary, which heapgate's own workloads have too; its origin and licence are beside it.
const VOCABULARY: &[u8] = include_bytes!("../../../workloads/data/bert-vocab.txt.bz2");

/// Loads the vocabulary.
///
/// # Errors
/// What the library says.
pub fn tokenizer() -> Result<Tokenizer> {
    let mut vocabulary = Vec::new();
    bzip2::read::BzDecoder::new(VOCABULARY).read_to_end(&mut vocabulary)?;
    let model = WordPiece::builder().vocab(WordPiece::read_bytes(&vocabulary)?).build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::default()))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    Ok(tokenizer)
}

/// The ids of `text`.
///
/// # Errors
/// What the library says.
pub fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    Ok(tokenizer.encode(text, false)?.get_ids().to_vec())
}
