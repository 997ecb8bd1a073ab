//! An embedding server under load: requests come when they come ([`load`]), are answered from earlier answers where
//! that is safe enough ([`cache`]), and otherwise embedded in batches ([`batcher`]).
//!
//! The load is open: each request has an instant at which it is meant to be sent, drawn beforehand, and its latency
//! counts from that, whether or not the server was ready for it. Measured from the sending, the requests that a stalled
//! server holds up would seem fast (Tene's "coordinated omission"). The server runs on the thread of the trial, and the
//! client on another.

use std::time::Instant;

use hdrhistogram::Histogram;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use self::batcher::Batcher;
use self::cache::{Cache, Hit};
use self::load::{Load, Queue, Taken};
use super::{DIM, HIDDEN, LAYERS, MODEL, checksum, refuse, seeded};
use crate::models::bert::{Encoder, cosine};
use crate::models::files;

pub mod batcher;
pub mod cache;
pub mod load;

/// With a model of drawn weights.
pub const SERVER_SEEDED: Variant = Variant::new(
    "embed",
    "server-seeded",
    "request",
    "an embedding server under open load, on a BERT of drawn weights (seeded)",
    |params| Run::set_up(seeded(params)?, params),
)
.params(&[BATCHING, CACHE, BAR, RATE, REQUESTS, TEXTS, LAYERS, HIDDEN, DIM])
.figures(FIGURES);

/// With the real model, which must be fetched.
pub const SERVER_MINILM: Variant = Variant::new(
    "embed",
    "server-minilm",
    "request",
    "an embedding server under open load, on all-MiniLM-L6-v2; needs ci/fetch-models",
    |params| Run::set_up(Encoder::minilm(params)?, params),
)
.params(&[BATCHING, CACHE, BAR, RATE, REQUESTS, TEXTS, MODEL])
.figures(FIGURES)
.needing(|| files::missing(&files::MINILM_WEIGHTS));

const BATCHING: ParamSpec = ParamSpec {
    name: "batching",
    default: "dynamic",
    choices: &["fixed-1", "dynamic"],
    help: "one request at a time, or as many as the rate of requests suggests",
};
const CACHE: ParamSpec = ParamSpec {
    name: "cache",
    default: "on",
    choices: &["off", "on"],
    help: "whether requests are answered from earlier answers",
};
const BAR: ParamSpec = ParamSpec {
    name: "bar",
    default: "0.95",
    choices: &[],
    help: "cosine of hashed words from which an earlier answer is taken for a similar text, 0.5 to 1; 1: for no other",
};
const RATE: ParamSpec = ParamSpec {
    name: "rate",
    default: "2000",
    choices: &[],
    help: "requests per second that are sent, whether or not the server keeps up",
};
const REQUESTS: ParamSpec =
    ParamSpec { name: "requests", default: "500", choices: &[], help: "requests that are sent, 1 to 100,000" };
const TEXTS: ParamSpec = ParamSpec {
    name: "texts",
    default: "400",
    choices: &[],
    help: "different verses they are drawn from, the i-th with a chance of 1/i, 1 to 1,288",
};

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "requests_per_s", help: "Requests answered, from the first intended to the last answered." },
    FigureSpec { name: "latency_p50_ns", help: "Latency of half the requests, or less, from the intended instant." },
    FigureSpec { name: "latency_p95_ns", help: "Latency of 95 % of them, or less." },
    FigureSpec { name: "latency_p99_ns", help: "Latency of 99 % of them, or less." },
    FigureSpec { name: "latency_max_ns", help: "The longest latency." },
    FigureSpec { name: "batch_mean", help: "Requests in a batch, on average." },
    FigureSpec { name: "cache_hit_share", help: "Share answered from the answer to the same text." },
    FigureSpec { name: "shortcut_share", help: "Share answered from the answer to a similar text." },
    FigureSpec {
        name: "shortcut_mismatch_share",
        help: "Share of those whose own vector, embedded beforehand, has a cosine under 0.98 with the answer.",
    },
    FigureSpec { name: "shortcut_cosine_mean", help: "Mean of that cosine." },
    FigureSpec {
        name: "client_late_p99_ns",
        help: "How late 99 % of requests were sent, or less: the client's fault.",
    },
];

/// An answer from a similar text is counted as another answer if its cosine with the true one is less.
const EQUAL_COSINE: f32 = 0.98;
/// Latencies are told apart up to ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;
/// Texts that warm-up embeds.
const WARMUP_TEXTS: usize = 8;

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Embedded,
    Cached,
    Similar,
}

/// What is learned of the requests of one step. All of it is made ready at set-up.
struct Record {
    latency: Histogram<u64>,
    late: Histogram<u64>,
    /// For each request which vector answers it, and how that was found.
    answers: Vec<Option<(usize, Answered)>>,
    /// All vectors that were embedded.
    vectors: Vec<Vec<f32>>,
    batches: usize,
    wall_s: f64,
}

impl Record {
    fn new(requests: usize) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that it takes");
        Self {
            latency: histogram(),
            late: histogram(),
            answers: vec![None; requests],
            vectors: Vec::with_capacity(requests),
            batches: 0,
            wall_s: 0.0,
        }
    }

    fn answer(&mut self, load: &Load, request: &Taken, vector: usize, how: Answered, start: Instant) {
        let now = start.elapsed().as_nanos() as u64;
        self.latency.saturating_record(now.saturating_sub(load.intended_ns(request.id)));
        self.late.saturating_record(request.late_ns.max(1));
        self.answers[request.id] = Some((vector, how));
        self.wall_s = now as f64 / 1e9;
    }

    fn count(&self, how: Answered) -> usize {
        self.answers.iter().flatten().filter(|answer| answer.1 == how).count()
    }
}

struct Run {
    encoder: Encoder,
    load: Load,
    dynamic: bool,
    bar: Option<f32>,
    record: Record,
    /// What the answer should be, for each text that is asked for; empty where no answer is another text's.
    references: Vec<Option<Vec<f32>>>,
    warm: bool,
}

impl Run {
    fn set_up(encoder: Encoder, params: &Params) -> Result<Box<dyn Workload>, Error> {
        let rate = params.number::<f64>(RATE.name, 0.1..=1e6)?;
        let requests = params.number::<usize>(REQUESTS.name, 1..=100_000)?;
        let texts = params.number::<usize>(TEXTS.name, 1..=load::VERSES)?;
        let bar = params.number::<f32>(BAR.name, 0.5..=1.0)?;
        let load = Load::draw(rate, requests, texts);
        for text in load.texts() {
            // Only a model that the user names can have so few positions.
            encoder.check(text).map_err(|long| {
                refuse(MODEL.name, format!("a verse has {} tokens; the model takes {}", long.tokens, long.most))
            })?;
        }
        Ok(Box::new(Self {
            encoder,
            load,
            dynamic: params.get(BATCHING.name) == "dynamic",
            bar: (params.get(CACHE.name) == "on").then_some(bar),
            record: Record::new(requests),
            references: Vec::new(),
            warm: false,
        }))
    }

    /// # Panics
    /// If `candle` refuses, which it has no reason to: no text is too long.
    fn embed(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        self.encoder.embed(texts).unwrap_or_else(|error| panic!("{error}")).vectors
    }

    /// Answers all requests, as they come through `queue`.
    fn serve(&self, queue: &Queue, start: Instant, record: &mut Record) {
        let mut batcher = Batcher::new(self.dynamic);
        let mut cache = self.bar.map(|bar| Cache::new(bar, self.load.texts().len()));
        let mut taken: Vec<Taken> = Vec::with_capacity(batcher::MOST);
        let mut waiting: Vec<Taken> = Vec::with_capacity(batcher::MOST);
        loop {
            let open = queue.take(waiting.len(), &mut batcher, start, &mut taken);
            for request in taken.drain(..) {
                let text = self.load.text(request.id);
                match cache.as_mut().and_then(|cache| cache.find(text)) {
                    Some(Hit::Same(vector)) => record.answer(&self.load, &request, vector, Answered::Cached, start),
                    Some(Hit::Similar(vector)) => record.answer(&self.load, &request, vector, Answered::Similar, start),
                    None => waiting.push(request),
                }
            }
            if waiting.is_empty() && !open {
                return;
            }
            if waiting.is_empty() || (open && !batcher.is_due(&waiting, start)) {
                continue;
            }
            let texts: Vec<&str> = waiting.iter().map(|request| self.load.text(request.id)).collect();
            let vectors = self.embed(&texts);
            record.batches += 1;
            for (request, vector) in waiting.drain(..).zip(vectors) {
                let index = record.vectors.len();
                record.vectors.push(vector);
                if let Some(cache) = &mut cache {
                    cache.put(self.load.text(request.id), index);
                }
                record.answer(&self.load, &request, index, Answered::Embedded, start);
            }
        }
    }
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        Steps { warmup: 1, measure: 1, ..Steps::default() }
    }

    /// All requests. The first step warms up, by embedding a few texts.
    fn step(&mut self) -> Work {
        if !self.warm {
            self.warm = true;
            let texts: Vec<&str> = self.load.texts().iter().take(WARMUP_TEXTS).map(String::as_str).collect();
            let vectors = self.embed(&texts);
            return Work { units: vectors.len() as u64, checksum: checksum(vectors.iter().map(Vec::as_slice)) };
        }
        let requests = self.record.answers.len();
        // Only a run of more steps than one finds a used record.
        let mut record = std::mem::replace(&mut self.record, Record::new(0));
        if record.batches > 0 {
            record = Record::new(requests);
        }
        let queue = Queue::new(requests);
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| self.load.send(&queue, start));
            self.serve(&queue, start, &mut record);
        });
        self.record = record;
        let answers = self.record.answers.iter().map(|answer| {
            let (vector, _) = answer.expect("every request is answered before the queue is closed and empty");
            self.record.vectors[vector].as_slice()
        });
        Work { units: requests as u64, checksum: checksum(answers) }
    }

    /// Embeds what answers from similar texts are compared with. Here, since the time of [`Self::figures`] is still the
    /// measured phase's.
    fn measure_begins(&mut self) {
        if self.bar.is_none_or(|bar| bar >= 1.0) {
            return;
        }
        let mut references = vec![None; self.load.texts().len()];
        for id in 0..self.record.answers.len() {
            references[self.load.text_of(id)].get_or_insert_with(|| self.embed(&[self.load.text(id)]).swap_remove(0));
        }
        self.references = references;
    }

    fn figures(&mut self, figures: &mut Figures) {
        let record = &self.record;
        let requests = record.answers.len() as f64;
        if record.latency.is_empty() {
            return;
        }
        figures.set("requests_per_s", requests / (record.wall_s - self.load.intended_ns(0) as f64 / 1e9));
        figures.set("latency_p50_ns", record.latency.value_at_quantile(0.50) as f64);
        figures.set("latency_p95_ns", record.latency.value_at_quantile(0.95) as f64);
        figures.set("latency_p99_ns", record.latency.value_at_quantile(0.99) as f64);
        figures.set("latency_max_ns", record.latency.max() as f64);
        figures.set("client_late_p99_ns", record.late.value_at_quantile(0.99) as f64);
        if record.batches > 0 {
            figures.set("batch_mean", record.vectors.len() as f64 / record.batches as f64);
        }
        let similar = record.count(Answered::Similar);
        figures.set("cache_hit_share", record.count(Answered::Cached) as f64 / requests);
        figures.set("shortcut_share", similar as f64 / requests);
        let cosines: Vec<f32> = (0..record.answers.len())
            .filter_map(|id| {
                let (vector, Answered::Similar) = record.answers[id]? else { return None };
                let reference = self.references.get(self.load.text_of(id))?.as_ref()?;
                Some(cosine(&record.vectors[vector], reference))
            })
            .collect();
        if !cosines.is_empty() {
            let mismatches = cosines.iter().filter(|&&cosine| cosine < EQUAL_COSINE).count();
            figures.set("shortcut_mismatch_share", mismatches as f64 / cosines.len() as f64);
            figures.set("shortcut_cosine_mean", f64::from(cosines.iter().sum::<f32>()) / cosines.len() as f64);
        }
    }
}
