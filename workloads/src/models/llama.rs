//! Llama in `candle`, from a file in GGUF: the real SmolLM2, and one of drawn weights that is written in the same format
//! and read by the same code.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use heapgate_bench::{Error, Params};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::files::{SMOLLM2, corrupt, find, unreadable};
use super::{keep_kernels_on_this_thread, refused, seeded};

/// The turn that SmolLM2's chat template puts first; without it the model babbles.
const SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

/// A model and its tokenizer. Its clones share the weights.
#[derive(Debug, Clone)]
pub struct Llama {
    weights: ModelWeights,
    tokenizer: Tokenizer,
    shape: Shape,
    /// The id that ends an answer.
    end: u32,
}

/// What of a model's shape its users need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers in the state of a token.
    pub hidden: usize,
    /// Tokens that a conversation may have: the model's own limit or that of `candle`.
    pub context: usize,
}

impl Shape {
    /// What the key-value cache takes for a token, bytes.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> usize {
        2 * self.layers * self.kv_heads * (self.hidden / self.heads) * size_of::<f32>()
    }

    fn read(content: &Content) -> Result<Self, String> {
        let number = |name: &str| match content.metadata.get(name).map(Value::to_u32) {
            Some(Ok(0)) => Err(format!("{name} is 0")),
            Some(Ok(number)) => Ok(number as usize),
            _ => Err(format!("it has no {name}")),
        };
        match content.metadata.get("general.architecture") {
            Some(Value::String(name)) if name == "llama" => {}
            Some(Value::String(name)) => return Err(format!("the architecture is '{name}', not 'llama'")),
            _ => return Err("it names no architecture".to_owned()),
        }
        let shape = Self {
            layers: number("llama.block_count")?,
            heads: number("llama.attention.head_count")?,
            kv_heads: number("llama.attention.head_count_kv")?,
            hidden: number("llama.embedding_length")?,
            context: number("llama.context_length")?.min(MAX_SEQ_LEN),
        };
        if !shape.hidden.is_multiple_of(shape.heads) || !shape.heads.is_multiple_of(shape.kv_heads) {
            return Err("its numbers of heads don't divide".to_owned());
        }
        Ok(shape)
    }
}

impl Llama {
    /// Loads SmolLM2-135M-Instruct, or the file that the parameter `model` names.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::Corrupt`], with what to do.
    pub fn smollm2(params: &Params) -> Result<Self, Error> {
        let path = find(&SMOLLM2, params)?.path;
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        Self::read(&mut BufReader::new(file)).map_err(|reason| corrupt(&path, reason))
    }

    /// Makes a model of drawn weights with as many layers as SmolLM2, each a sixth as wide, and a vocabulary of bytes.
    ///
    /// # Errors
    /// [`Error::Library`] if `candle` refuses.
    pub fn seeded(seed: u64) -> Result<Self, Error> {
        let file = Self::seeded_file(seed).map_err(refused)?;
        Self::read(&mut Cursor::new(file)).map_err(Error::Library)
    }

    /// The file that [`Self::seeded`] reads, in GGUF.
    ///
    /// # Errors
    /// If `candle` can't write it.
    pub fn seeded_file(seed: u64) -> candle_core::Result<Vec<u8>> {
        const LAYERS: u32 = 30;
        const HEADS: usize = 6;
        const KV_HEADS: usize = 2;
        const HEAD: usize = 16;
        const HIDDEN: usize = HEADS * HEAD;
        const INNER: usize = 256;

        let tokens = byte_vocabulary();
        let kinds = tokens.iter().map(|token| Value::I32(if token.starts_with("<|") { 3 } else { 1 })).collect();
        let metadata = [
            ("general.architecture", Value::String("llama".to_owned())),
            ("llama.block_count", Value::U32(LAYERS)),
            ("llama.context_length", Value::U32(2048)),
            ("llama.embedding_length", Value::U32(HIDDEN as u32)),
            ("llama.feed_forward_length", Value::U32(INNER as u32)),
            ("llama.attention.head_count", Value::U32(HEADS as u32)),
            ("llama.attention.head_count_kv", Value::U32(KV_HEADS as u32)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.freq_base", Value::F32(100_000.0)),
            ("llama.rope.dimension_count", Value::U32(HEAD as u32)),
            ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
            ("tokenizer.ggml.pre", Value::String("smollm".to_owned())),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
            ("tokenizer.ggml.token_type", Value::Array(kinds)),
            ("tokenizer.ggml.merges", Value::Array(Vec::new())),
            ("tokenizer.ggml.tokens", Value::Array(tokens.iter().cloned().map(Value::String).collect())),
        ];

        let mut tensors = Vec::new();
        let mut draw = |name: String, shape: (usize, usize), kind| {
            let drawn = seeded::tensor(seed, &name, shape)?;
            tensors.push((name, QTensor::quantize(&drawn, kind)?));
            candle_core::Result::Ok(())
        };
        draw("token_embd.weight".to_owned(), (tokens.len(), HIDDEN), GgmlDType::Q8_0)?;
        for layer in 0..LAYERS {
            for (name, rows, columns) in [
                ("attn_q", HIDDEN, HIDDEN),
                ("attn_k", KV_HEADS * HEAD, HIDDEN),
                ("attn_v", KV_HEADS * HEAD, HIDDEN),
                ("attn_output", HIDDEN, HIDDEN),
                ("ffn_gate", INNER, HIDDEN),
                ("ffn_up", INNER, HIDDEN),
                ("ffn_down", HIDDEN, INNER),
            ] {
                draw(format!("blk.{layer}.{name}.weight"), (rows, columns), GgmlDType::Q4_1)?;
            }
        }
        let norms = (0..LAYERS).flat_map(|layer| ["attn", "ffn"].map(|part| format!("blk.{layer}.{part}_norm.weight")));
        for name in norms.chain(["output_norm.weight".to_owned()]) {
            let ones = Tensor::ones(HIDDEN, candle_core::DType::F32, &Device::Cpu)?;
            tensors.push((name, QTensor::quantize(&ones, GgmlDType::F32)?));
        }

        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(name, value)| (*name, value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &tensors)?;
        Ok(file.into_inner())
    }

    fn read(file: &mut (impl Read + Seek)) -> Result<Self, String> {
        keep_kernels_on_this_thread();
        let content = Content::read(file).map_err(said)?;
        let shape = Shape::read(&content)?;
        // As it is: for SmolLM2 it puts a space before the first word of each turn, which the model's own tokenizer
        // doesn't. With these 4-bit weights that answers better, and it is candle that is measured here.
        let tokenizer = Tokenizer::from_gguf(&content).map_err(said)?;
        let end = content.metadata.get("tokenizer.ggml.eos_token_id").map(Value::to_u32);
        let end = end.ok_or("it names no token that ends a turn")?.map_err(said)?;
        let weights = ModelWeights::from_gguf(content, file, &Device::Cpu).map_err(said)?;
        let llama = Self { weights, tokenizer, shape, end };
        // Weights whose shapes don't fit each other show only when they are multiplied.
        llama.converse().feed(&[end]).map_err(|reason| format!("a first token fails: {reason}"))?;
        Ok(llama)
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The tokens of a first question, put as the chat template puts it.
    ///
    /// # Errors
    /// [`Error::Library`] if the tokenizer refuses.
    pub fn prompt(&self, question: &str) -> Result<Vec<u32>, Error> {
        let turns = format!(
            "<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        );
        let encoding = self.tokenizer.encode(turns, false).map_err(tokenizer_refused)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`.
    ///
    /// # Errors
    /// [`Error::Library`] if the tokenizer refuses.
    pub fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens, true).map_err(tokenizer_refused)
    }

    /// The most likely answer to `question`, of `most` tokens or fewer.
    ///
    /// # Errors
    /// [`Error::Library`] if `candle` or the tokenizer refuses.
    pub fn answer(&self, question: &str, most: usize) -> Result<String, Error> {
        let prompt = self.prompt(question)?;
        let mut conversation = self.converse();
        let mut token = conversation.feed(&prompt).map_err(Error::Library)?;
        let mut answer = Vec::new();
        while token != self.end && answer.len() < most {
            answer.push(token);
            token = conversation.feed(&[token]).map_err(Error::Library)?;
        }
        self.text(&answer)
    }

    /// Starts a conversation: with these weights, and a key-value cache of its own.
    #[must_use]
    pub fn converse(&self) -> Conversation {
        Conversation { weights: self.weights.clone(), position: 0, context: self.shape.context }
    }
}

/// A key-value cache and where it ends.
#[derive(Debug, Clone)]
pub struct Conversation {
    weights: ModelWeights,
    position: usize,
    context: usize,
}

impl Conversation {
    /// Takes in `tokens` and gives the most likely next one. When the context is full, it starts over with `tokens`.
    ///
    /// # Errors
    /// What `candle` said.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<u32, String> {
        if self.position + tokens.len() > self.context {
            self.weights.clear_kv_cache();
            self.position = 0;
        }
        let next = self.next(tokens).map_err(said)?;
        self.position += tokens.len();
        Ok(next)
    }

    fn next(&mut self, tokens: &[u32]) -> candle_core::Result<u32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        self.weights.forward(&input, self.position)?.squeeze(0)?.argmax(D::Minus1)?.to_scalar()
    }

    /// Tokens in the cache.
    #[must_use]
    pub fn len(&self) -> usize {
        self.position
    }

    /// Whether nothing was fed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.position == 0
    }
}

fn said(error: candle_core::Error) -> String {
    format!("candle: {error}")
}

fn tokenizer_refused(error: tokenizers::Error) -> Error {
    Error::Library(format!("tokenizers: {error}"))
}

/// The special tokens of SmolLM2's template, then the 256 bytes as byte-level BPE writes them.
fn byte_vocabulary() -> Vec<String> {
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .map(str::to_owned)
        .into_iter()
        .chain(bytes.iter().map(char::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(edit: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut file = Llama::seeded_file(1).expect("a model");
        edit(&mut file);
        Llama::read(&mut Cursor::new(file)).expect_err("it is spoilt")
    }

    fn overwrite(file: &mut [u8], text: &[u8], with: &[u8]) {
        let at = file.windows(text.len()).position(|window| window == text).expect("it has that");
        file[at..at + with.len()].copy_from_slice(with);
    }

    #[test]
    fn prompt_is_written_as_the_chat_template_writes_it() {
        let llama = Llama::seeded(1).expect("a model");
        let prompt = llama.prompt("Who?").expect("any text");
        assert_eq!(prompt.iter().filter(|&&id| id == 1).count(), 3, "turns");
        assert_eq!(prompt.iter().filter(|&&id| id == 2).count(), 2, "ended turns");
        let text = llama.text(&prompt).expect("its own tokens");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words.join(" "), format!("system {SYSTEM} user Who? assistant"));
    }

    #[test]
    fn feeding_at_once_and_one_by_one_come_to_the_same() {
        let llama = Llama::seeded(1).expect("a model");
        let prompt = llama.prompt("Who?").expect("any text");
        let at_once = llama.converse().feed(&prompt).expect("short");
        let mut slowly = llama.converse();
        let mut next = 0;
        for &token in &prompt {
            next = slowly.feed(&[token]).expect("short");
        }
        assert_eq!((next, slowly.len()), (at_once, prompt.len()));
    }

    #[test]
    fn conversations_have_caches_of_their_own() {
        let llama = Llama::seeded(1).expect("a model");
        let prompts = ["Who?", "What is it?"].map(|question| llama.prompt(question).expect("any text"));
        let alone = llama.converse().feed(&prompts[0]).expect("short");
        let mut other = llama.converse();
        other.feed(&prompts[1]).expect("short");
        assert_eq!(llama.converse().feed(&prompts[0]), Ok(alone));
    }

    #[test]
    fn a_full_context_starts_over() {
        let llama = Llama::seeded(1).expect("a model");
        let mut conversation = Conversation { context: 4, ..llama.converse() };
        let first = conversation.feed(&[5]);
        (0..3).for_each(|_| drop(conversation.feed(&[5])));
        assert_eq!(conversation.len(), 4);
        assert_eq!(conversation.feed(&[5]), first);
        assert_eq!(conversation.len(), 1);
    }

    #[test]
    fn another_architecture_is_refused_by_name() {
        let reason = reason(|file| overwrite(file, b"llama", b"mamba"));
        assert_eq!(reason, "the architecture is 'mamba', not 'llama'");
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let reason = reason(|file| file.truncate(file.len() / 2));
        assert!(reason.contains("remaining in file"), "{reason}");
    }

    #[test]
    fn a_model_without_heads_is_refused() {
        let mut head_count = b"llama.attention.head_count".to_vec();
        head_count.extend(4u32.to_le_bytes());
        let zero: Vec<u8> = head_count.iter().copied().chain([0, 0, 0, 0]).collect();
        let reason = reason(|file| overwrite(file, &head_count, &zero));
        assert_eq!(reason, "llama.attention.head_count is 0");
    }
}
