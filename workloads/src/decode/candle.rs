//! Llama through `candle`, unmodified: requests whose prompts are taken in first, then answered a token each in turn.
//!
//! Its key-value cache is one tensor for each of keys and values, layer and request, and grows by concatenation: each
//! token copies all that came before it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use crate::corpus::Corpus;
use crate::models::files;
use crate::models::llama::{Conversation, Llama};

/// The real model, which must be fetched.
pub const SMOLLM2: Variant = Variant::new(
    "decode",
    "smollm2",
    "token",
    "SmolLM2-135M-Instruct (Q4_1) through candle, one thread, built for baseline x86-64 (not v3); needs ci/fetch-models",
    |params| Run::set_up(Llama::smollm2(params)?, params),
)
.params(&[REQUESTS, TOKENS, MODEL])
.figures(FIGURES)
.needing(|| files::missing(&files::SMOLLM2));

/// The same code on drawn weights.
pub const SEEDED_LLAMA: Variant = Variant::new(
    "decode",
    "seeded-llama",
    "token",
    "a Llama of drawn weights (seeded, 30 narrow layers) through candle: SmolLM2's code and calls, no meaning",
    |params| Run::set_up(Llama::seeded(SEED)?, params),
)
.params(&[REQUESTS, TOKENS])
.figures(FIGURES)
.by_default();

const SEED: u64 = 20_260_101;

const REQUESTS: ParamSpec =
    ParamSpec { name: "requests", default: "2", choices: &[], help: "conversations that are decoded in turn, 1 to 64" };
const TOKENS: ParamSpec = ParamSpec {
    name: "tokens",
    default: "48",
    choices: &[],
    help: "tokens of each answer; with its prompt it must fit the model's context",
};
const MODEL: ParamSpec =
    ParamSpec { name: files::PARAM, default: "", choices: &[], help: "a GGUF file in place of the fetched one" };

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "layers", help: "Layers of the model." },
    FigureSpec { name: "prompt_tokens", help: "Tokens of all prompts." },
    FigureSpec { name: "prefill_tokens_per_s", help: "Tokens of prompts taken in per second." },
    FigureSpec { name: "kv_cache_bytes", help: "Keys and values of all requests at the end." },
    FigureSpec { name: "token_p50_ns", help: "Time of half the tokens, or less." },
    FigureSpec { name: "token_p99_ns", help: "Time of 99 % of the tokens, or less." },
];

/// Of the prompt that warm-up takes in.
const REHEARSED_TOKENS: usize = 16;
/// Of the answer that it is then given.
const WARMUP_TOKENS: u64 = 8;
/// Tokens are told apart up to ten seconds.
const LONGEST_TOKEN_NS: u64 = 10_000_000_000;

struct Request {
    conversation: Conversation,
    last: u32,
}

struct Run {
    llama: Llama,
    prompts: Vec<Vec<u32>>,
    requests: Vec<Request>,
    /// What warm-up talks to, and how many tokens it was told.
    rehearsal: Option<Request>,
    rehearsed: u64,
    tokens: u64,
    taken: usize,
    prefill_time: Duration,
    times: Histogram<u64>,
}

impl Run {
    fn set_up(llama: Llama, params: &Params) -> Result<Box<dyn Workload>, Error> {
        let requests = params.number::<usize>("requests", 1..=64)?;
        let tokens = params.number::<usize>("tokens", 1..=1_000_000)?;
        let prompts = questions(&Corpus::load(), requests)
            .iter()
            .map(|question| llama.prompt(question))
            .collect::<Result<Vec<_>, _>>()?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let context = llama.shape().context;
        if longest + tokens > context {
            return Err(Error::Param {
                name: "tokens".to_owned(),
                reason: format!("{tokens} after a prompt of {longest} is more than the model's context of {context}"),
            });
        }
        let times = Histogram::new_with_bounds(1, LONGEST_TOKEN_NS, 3).expect("bounds that it takes");
        Ok(Box::new(Self {
            llama,
            prompts,
            requests: Vec::with_capacity(requests),
            rehearsal: None,
            rehearsed: 0,
            tokens: tokens as u64,
            taken: 0,
            prefill_time: Duration::ZERO,
            times,
        }))
    }

    fn start(&self, prompt: &[u32]) -> Request {
        let mut conversation = self.llama.converse();
        let last = fed(&mut conversation, prompt);
        Request { conversation, last }
    }
}

/// # Panics
/// If `candle` fails at a token, which it would have done at the first, when the model was loaded.
fn fed(conversation: &mut Conversation, tokens: &[u32]) -> u32 {
    conversation.feed(tokens).unwrap_or_else(|reason| panic!("{reason}"))
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        let requests = self.prompts.len() as u64;
        Steps { warmup: WARMUP_TOKENS, prefill: requests, measure: requests * self.tokens }
    }

    /// One token of one request. An answer isn't ended by the token that would end it, so that every run has as many.
    fn step(&mut self) -> Work {
        if self.requests.is_empty() && self.rehearsal.is_none() {
            let prompt = &self.prompts[0];
            self.rehearsal = Some(self.start(&prompt[..prompt.len().min(REHEARSED_TOKENS)]));
        }
        let count = self.requests.len();
        let request = match self.requests.get_mut(self.taken % count.max(1)) {
            Some(request) => request,
            None => self.rehearsal.as_mut().expect("just started"),
        };
        let start = Instant::now();
        request.last = fed(&mut request.conversation, &[request.last]);
        let work = Work { units: 1, checksum: u64::from(request.last) };
        if count > 0 {
            self.times.saturating_record(start.elapsed().as_nanos() as u64);
            self.taken += 1;
        } else {
            self.rehearsed += 1;
            if self.rehearsed == WARMUP_TOKENS {
                // In warm-up, so that no later phase has to free it.
                self.rehearsal = None;
            }
        }
        work
    }

    /// One prompt.
    fn prefill(&mut self) -> Work {
        let start = Instant::now();
        let prompt = &self.prompts[self.requests.len() % self.prompts.len()];
        let request = self.start(prompt);
        self.prefill_time += start.elapsed();
        let work = Work { units: prompt.len() as u64, checksum: u64::from(request.last) };
        self.requests.push(request);
        work
    }

    /// A warm-up that was cut short leaves its conversation, which is freed where nothing is counted.
    fn measure_begins(&mut self) {
        self.rehearsal = None;
    }

    fn figures(&mut self, figures: &mut Figures) {
        let shape = self.llama.shape();
        figures.set("layers", shape.layers as f64);
        let prompts: usize = self.prompts.iter().map(Vec::len).sum();
        figures.set("prompt_tokens", prompts as f64);
        if !self.prefill_time.is_zero() {
            figures.set("prefill_tokens_per_s", prompts as f64 / self.prefill_time.as_secs_f64());
        }
        let cached: usize = self.requests.iter().map(|request| request.conversation.len()).sum();
        figures.set("kv_cache_bytes", (cached * shape.kv_bytes_per_token()) as f64);
        if !self.times.is_empty() {
            figures.set("token_p50_ns", self.times.value_at_quantile(0.5) as f64);
            figures.set("token_p99_ns", self.times.value_at_quantile(0.99) as f64);
        }
    }
}

/// Questions about short verses, from all over the Bible.
fn questions(corpus: &Corpus, count: usize) -> Vec<String> {
    let verses = corpus.verses().iter().map(|span| &corpus.text()[span.clone()]);
    let short: Vec<&str> = verses.filter(|verse| verse.is_ascii() && (24..=48).contains(&verse.len())).collect();
    (0..count).map(|i| format!("What does this mean? {}", short[i * short.len() / count])).collect()
}
