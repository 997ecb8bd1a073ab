//! Embedding by BERT in `candle`: text in, a vector of length one out.

use std::path::Path;

use candle_core::{D, Device, Tensor};
use candle_nn::{Linear, Module, VarBuilder};
use candle_transformers::models::bert::{BertModel, Config, DTYPE, HiddenAct};
use heapgate_bench::{Error, Params};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PostProcessor, Tokenizer};

use super::files::{self, MINILM_CONFIG, MINILM_TOKENIZER, MINILM_WEIGHTS, corrupt, find};
use super::seeded::SeededWeights;
use super::{keep_kernels_on_this_thread, refused};
use crate::tokenize::basic::MAX_WORD_CHARS;
use crate::tokenize::vocab::{self, CONTINUATION, UNKNOWN};

/// A text that ends up with more pieces than a model has positions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Its pieces, with the special ones.
    pub tokens: usize,
    /// How many the model takes.
    pub most: usize,
}

/// How large a seeded model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Layers.
    pub layers: usize,
    /// Hidden units; a multiple of [`Self::HEAD_UNITS`].
    pub hidden: usize,
    /// Numbers in a vector. Where it isn't `hidden`, a dense layer with tanh makes it so, as in distiluse.
    pub dim: usize,
}

impl Size {
    /// Hidden units a head has, as in MiniLM.
    pub const HEAD_UNITS: usize = 32;

    fn config(self) -> Config {
        Config {
            hidden_size: self.hidden,
            num_hidden_layers: self.layers,
            num_attention_heads: (self.hidden / Self::HEAD_UNITS).max(1),
            intermediate_size: self.hidden * 4,
            hidden_act: HiddenAct::Gelu,
            ..Config::default()
        }
    }
}

/// What a batch came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// A vector for each text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Pieces in all, with the special ones, without padding.
    pub tokens: usize,
    /// Pieces that were only padding.
    pub padding: usize,
}

/// A tokenizer, a BERT, and mean pooling.
pub struct Encoder {
    tokenizer: Tokenizer,
    model: BertModel,
    head: Option<Linear>,
    positions: usize,
    /// Pieces that the tokenizer puts around a text.
    special: usize,
    layers: usize,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("positions", &self.positions)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads all-MiniLM-L6-v2, or the model whose weights the parameter `model` names; `config.json` and
    /// `tokenizer.json` are then beside them.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::Corrupt`], with what to do.
    pub fn minilm(params: &Params) -> Result<Self, Error> {
        let weights = find(&MINILM_WEIGHTS, params)?;
        let beside = |name, pinned| match weights.named {
            true => Ok(weights.path.with_file_name(name)),
            false => files::fetched(pinned),
        };
        let config = beside("config.json", &MINILM_CONFIG)?;
        let tokenizer = beside("tokenizer.json", &MINILM_TOKENIZER)?;
        Self::load(&weights.path, &config, &tokenizer)
    }

    fn load(weights: &Path, config_path: &Path, tokenizer_path: &Path) -> Result<Self, Error> {
        let config = files::read(config_path)?;
        let described: serde_json::Value = serde_json::from_slice(&config).map_err(|e| corrupt(config_path, e))?;
        match described.get("model_type").and_then(serde_json::Value::as_str) {
            None | Some("bert") => {}
            Some(other) => return Err(corrupt(config_path, format!("the architecture is '{other}', not 'bert'"))),
        }
        let config: Config = serde_json::from_value(described).map_err(|e| corrupt(config_path, e))?;
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(corrupt(config_path, "its hidden units can't be shared out among its heads"));
        }
        let tokenizer = read_tokenizer(tokenizer_path, config.vocab_size)?;
        let data = files::read(weights)?;
        let weights_of = VarBuilder::from_buffered_safetensors(data, DTYPE, &Device::Cpu);
        let model =
            weights_of.and_then(|builder| BertModel::load(builder, &config)).map_err(|e| corrupt(weights, e))?;
        Ok(Self::new(tokenizer, model, None, &config))
    }

    /// Makes a model of drawn weights, with BERT's vocabulary.
    ///
    /// # Errors
    /// [`Error::Library`] if the libraries refuse.
    pub fn seeded(size: Size, seed: u64) -> Result<Self, Error> {
        let config = size.config();
        let weights = || VarBuilder::from_backend(Box::new(SeededWeights { seed }), DTYPE, Device::Cpu);
        let model = BertModel::load(weights(), &config).map_err(refused)?;
        let head = (size.dim != size.hidden)
            .then(|| candle_nn::linear(size.hidden, size.dim, weights().pp("head")))
            .transpose()
            .map_err(refused)?;
        Ok(Self::new(berts_tokenizer()?, model, head, &config))
    }

    fn new(tokenizer: Tokenizer, model: BertModel, head: Option<Linear>, config: &Config) -> Self {
        keep_kernels_on_this_thread();
        let (positions, layers) = (config.max_position_embeddings, config.num_hidden_layers);
        let special = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        Self { tokenizer, model, head, positions, special, layers }
    }

    /// Layers of the model.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Refuses a text that is too long for the model, which [`Self::embed`] must not be given.
    ///
    /// # Errors
    /// [`TooLong`].
    ///
    /// # Panics
    /// As [`Self::embed`].
    pub fn check(&self, text: &str) -> Result<(), TooLong> {
        // A piece has a byte at least, so a short text needs no counting. Accents that come apart are then dropped.
        if text.len() + self.special <= self.positions {
            return Ok(());
        }
        let tokens = self.ids(text).len();
        if tokens > self.positions { Err(TooLong { tokens, most: self.positions }) } else { Ok(()) }
    }

    /// # Panics
    /// If the tokenizer refuses a text, which one that knows what to do with [`UNHEARD_OF`] has no reason to.
    fn ids(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, true).expect("a tokenizer that takes any text").get_ids().to_vec()
    }

    /// Embeds `texts` as one batch, each padded to the longest of them.
    ///
    /// # Errors
    /// [`Error::Library`] if `candle` refuses: a text is too long.
    ///
    /// # Panics
    /// If the tokenizer refuses a text, as one without a piece for the unknown would; loading refuses such a one.
    pub fn embed(&self, texts: &[&str]) -> Result<Batch, Error> {
        if texts.is_empty() {
            return Ok(Batch::default());
        }
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| self.ids(text)).collect();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let tokens = rows.iter().map(Vec::len).sum();
        let vectors = self.forward(&rows, longest).map_err(refused)?;
        Ok(Batch { vectors, tokens, padding: rows.len() * longest - tokens })
    }

    fn forward(&self, rows: &[Vec<u32>], longest: usize) -> candle_core::Result<Vec<Vec<f32>>> {
        let shape = (rows.len(), longest);
        let mut ids = Vec::with_capacity(rows.len() * longest);
        let mut mask = Vec::with_capacity(rows.len() * longest);
        for row in rows {
            let padding = longest - row.len();
            // [PAD] is 0, and masked away besides.
            ids.extend(row.iter().copied().chain(std::iter::repeat_n(0, padding)));
            mask.extend(std::iter::repeat_n(1f32, row.len()).chain(std::iter::repeat_n(0f32, padding)));
        }
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;

        let column = mask.unsqueeze(2)?;
        let mean = hidden.broadcast_mul(&column)?.sum(1)?.broadcast_div(&column.sum(1)?)?;
        let pooled = match &self.head {
            Some(head) => head.forward(&mean)?.tanh()?,
            None => mean,
        };
        let norm = pooled.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        pooled.broadcast_div(&norm)?.to_vec2()
    }
}

/// What no vocabulary has, in three ways, since BERT's normalizer drops a character for private use, and a model may know
/// every script: such a one, a hieroglyph, and a word that is longer than WordPiece looks at.
const UNHEARD_OF: &str = concat!(
    "\u{10FFFD} \u{13000} ",
    "zqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjkzqxjk",
);

/// Reads a tokenizer for a model whose table of pieces has `rows` rows, and makes sure that no text makes it fail or
/// give an id beyond the table.
fn read_tokenizer(path: &Path, rows: usize) -> Result<Tokenizer, Error> {
    let mut tokenizer = Tokenizer::from_bytes(files::read(path)?).map_err(|e| corrupt(path, e))?;
    // MiniLM's comes with both, to exactly 128 pieces: a verse would be nine tenths padding.
    tokenizer.with_padding(None).with_truncation(None).map_err(|e| corrupt(path, e))?;
    let refused = |error| corrupt(path, format!("it refuses what its vocabulary doesn't have: {error}"));
    let unheard_of = tokenizer.encode(UNHEARD_OF, true).map_err(refused)?;
    // Ids need not be without gaps, and special pieces have theirs from the post-processor.
    let largest = tokenizer.get_vocab(true).into_values().chain(unheard_of.get_ids().iter().copied()).max();
    match largest {
        Some(largest) if largest as usize >= rows => {
            Err(corrupt(path, format!("its largest id is {largest}, and the model has a table of {rows} pieces")))
        }
        _ => Ok(tokenizer),
    }
}

/// BERT's uncased tokenizer, with `[CLS]` and `[SEP]`, on the embedded vocabulary.
fn berts_tokenizer() -> Result<Tokenizer, Error> {
    let refused = |error: tokenizers::Error| Error::Library(format!("tokenizers: {error}"));
    let text = vocab::text();
    let id = |piece: &str| {
        let line = text.lines().position(|line| line == piece).expect("BERT's vocabulary has its special pieces");
        (piece.to_owned(), line as u32)
    };
    let model = WordPiece::builder()
        .vocab(WordPiece::read_bytes(text.as_bytes()).map_err(refused)?)
        .unk_token(UNKNOWN.to_owned())
        .continuing_subword_prefix(CONTINUATION.to_owned())
        .max_input_chars_per_word(MAX_WORD_CHARS)
        .build()
        .map_err(refused)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::default())).map_err(refused)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    // As MiniLM's tokenizer.json has it, down to how special pieces are put in: so it allocates what that does.
    let template = TemplateProcessing::builder()
        .try_single("[CLS] $A [SEP]")
        .map_err(|reason| Error::Library(format!("tokenizers: {reason}")))?
        .special_tokens(vec![id("[CLS]"), id("[SEP]")])
        .build()
        .map_err(|error| Error::Library(format!("tokenizers: {error}")))?;
    tokenizer.with_post_processor(Some(template));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|piece| AddedToken::from(piece, true));
    tokenizer.add_special_tokens(special).map_err(refused)?;
    Ok(tokenizer)
}

/// The cosine of two vectors of length one.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { layers: 2, hidden: 64, dim: 64 };

    #[test]
    fn vectors_have_length_one_and_the_asked_for_numbers() {
        for dim in [64, 96] {
            let encoder = Encoder::seeded(Size { dim, ..SMALL }, 1).expect("a size it takes");
            let batch = encoder.embed(&["Jesus wept.", "And God said, Let there be light"]).expect("short texts");
            for vector in &batch.vectors {
                assert_eq!(vector.len(), dim);
                assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn padding_does_not_change_a_vector() {
        let encoder = Encoder::seeded(SMALL, 1).expect("a size it takes");
        let alone = encoder.embed(&["Jesus wept."]).expect("short");
        let beside = encoder.embed(&["Jesus wept.", "In the beginning God created the heaven and the earth."]);
        let beside = beside.expect("short");
        assert_eq!((alone.padding, alone.tokens), (0, 5));
        assert!(beside.padding > 0);
        assert!(cosine(&alone.vectors[0], &beside.vectors[0]) > 0.9999);
        assert!(cosine(&alone.vectors[0], &beside.vectors[1]) < 0.999, "two texts, one vector");
    }

    #[test]
    fn nothing_is_embedded_as_nothing() {
        let encoder = Encoder::seeded(SMALL, 1).expect("a size it takes");
        assert_eq!(encoder.embed(&[]).expect("nothing to refuse"), Batch::default());
    }

    #[test]
    fn text_beyond_the_last_position_is_too_long() {
        let encoder = Encoder::seeded(SMALL, 1).expect("a size it takes");
        assert_eq!(encoder.check(&"word ".repeat(510)), Ok(()));
        assert_eq!(encoder.check(&"word ".repeat(511)), Err(TooLong { tokens: 513, most: 512 }));
    }
}
