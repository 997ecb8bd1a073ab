//! A batch whose activations are kept for the answer: those of samples that the model is not sure of may go early.
//!
//! Each sample is a verse that is read through all layers; what every layer gave at every position is kept, since the
//! answer is a mixture of all of them (Peters et al.: "Deep contextualized word representations", 2018). Of a sample
//! whose confidence is under the bar there will be no answer, so its activations are of no use as soon as that is
//! known.

use allocator_api2::alloc::Global;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use crate::corpus::opening;
use crate::random::SplitMix64;
use crate::transformer::cache::{InPlace, KvCache};
use crate::transformer::math::{add_scaled, argmax, checksum};
use crate::transformer::operators::inplace::softmax;
use crate::transformer::{Config, Decoder, Weights};

/// Activations of unsure samples are freed at once, or with all others at the end of the step.
pub const EARLY_RELEASE: Variant = Variant::new(
    "decode",
    "early-release",
    "sample",
    "a batch that keeps its activations to the end of the step, but for samples that the model is not sure of",
    setup,
)
.params(&[
    ParamSpec {
        name: "release",
        default: "early",
        choices: &["early", "end-of-step"],
        help: "when the activations of a sample with a confidence under 0.65 are freed",
    },
    ParamSpec { name: "batch", default: "16", choices: &[], help: "samples or sequences side by side, up to 64" },
    ParamSpec {
        name: "budget_kib",
        default: "1024",
        choices: &[],
        help: "memory for activations that the feasible batch is found for, KiB",
    },
])
.figures(&[
    FigureSpec { name: "activation_peak_bytes", help: "Most bytes of activations at one time in any step." },
    FigureSpec {
        name: "feasible_batch",
        help: "Samples whose activations fit in the budget at one time: the fewest of several batches that were filled.",
    },
    FigureSpec { name: "unsure_share", help: "Share of the samples whose confidence is under the bar." },
]);

/// A sample with less confidence gets no answer.
const CONFIDENCE_BAR: f32 = 0.65;
/// Positions of a sample: bytes of a verse.
const SAMPLE_POSITIONS: usize = 64;
/// Samples, each of another verse, and the text that has at least so many verses.
const SAMPLES: usize = 512;
const TEXT_BYTES: usize = 100_000;
/// Samples of a run, whatever the batch.
const MEASURED_SAMPLES: usize = 128;
const MAX_BATCH: usize = 64;
const MAX_BUDGET_KIB: usize = 1 << 20;
/// Batches that are filled to find out how many samples are feasible, and where that ends if nothing is ever too much.
const FILLED_BATCHES: usize = 4;
const MOST_FILLED: usize = 256;
const SEED: u64 = 20;
/// Logits are multiplied by it before softmax. Weights that were never trained are sure of nothing; with this the
/// model is sure of some samples and not of others.
const SHARPNESS: f32 = 2.0;

const MODEL: Config = Config { layers: 4, heads: 4, width: 64, hidden: 256, outputs: 4, context: SAMPLE_POSITIONS };

fn setup(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let batch = params.number("batch", 1..=MAX_BATCH)?;
    let budget_kib = params.number("budget_kib", 1..=MAX_BUDGET_KIB)?;
    let mut random = SplitMix64::new(SEED);
    Ok(Box::new(Batches {
        model: Model {
            decoder: Decoder::new(Weights::seeded(MODEL, SEED, Global), Global),
            cache: InPlace::new(MODEL.layers, MODEL.width, MODEL.context, Global),
            embedding: (0..256 * MODEL.width).map(|_| random.signed()).collect(),
            mixture: vec![0.0; MODEL.width],
        },
        samples: samples(),
        next: 0,
        batch,
        budget_bytes: budget_kib << 10,
        early: params.get("release") == "early",
        feasible: None,
        peak_bytes: 0,
        unsure: 0,
        taken: 0,
    }))
}

/// The starts of verses that are long enough.
fn samples() -> Vec<[u8; SAMPLE_POSITIONS]> {
    let text = opening(TEXT_BYTES);
    text.lines().filter_map(|verse| verse.as_bytes().first_chunk().copied()).take(SAMPLES).collect()
}

/// What every layer gave at every position of a sample.
struct Activations(Vec<Vec<f32>>);

impl Activations {
    fn with_room() -> Self {
        Self((0..MODEL.layers).map(|_| Vec::with_capacity(SAMPLE_POSITIONS * MODEL.width)).collect())
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|layer| layer.capacity() * size_of::<f32>()).sum()
    }
}

struct Model {
    decoder: Decoder<Global>,
    cache: InPlace<Global>,
    embedding: Vec<f32>,
    mixture: Vec<f32>,
}

impl Model {
    /// Reads a sample, keeping its activations; how sure the model is of its class, and a hash of that.
    fn read(&mut self, sample: &[u8], activations: &mut Activations) -> (f32, u64) {
        self.cache.clear();
        let mut classes = [0.0; MODEL.outputs];
        for (position, &byte) in sample.iter().enumerate() {
            let input = &self.embedding[usize::from(byte) * MODEL.width..][..MODEL.width];
            let keep = |layer: usize, stream: &[f32]| activations.0[layer].extend_from_slice(stream);
            let logits = self.decoder.step_watched(&mut self.cache, position, input, keep);
            classes.copy_from_slice(logits.expect("a sample is as long as the context"));
        }
        classes.iter_mut().for_each(|logit| *logit *= SHARPNESS);
        softmax(&mut classes);
        (classes[argmax(&classes)], checksum(&classes))
    }

    /// The answer to a sample: the mean of all its activations.
    fn answer(&mut self, activations: &Activations) -> u64 {
        self.mixture.fill(0.0);
        let rows = activations.0.iter().flat_map(|layer| layer.chunks_exact(MODEL.width));
        rows.for_each(|row| add_scaled(&mut self.mixture, 1.0 / (MODEL.layers * SAMPLE_POSITIONS) as f32, row));
        checksum(&self.mixture)
    }
}

/// What one batch came to.
#[derive(Debug, Default)]
struct Outcome {
    checksum: u64,
    peak_bytes: usize,
    unsure: u64,
}

/// A model that is given one batch after another.
struct Batches {
    model: Model,
    samples: Vec<[u8; SAMPLE_POSITIONS]>,
    next: usize,
    batch: usize,
    budget_bytes: usize,
    early: bool,
    /// The fewest samples of several batches that were filled to the budget.
    feasible: Option<usize>,
    peak_bytes: usize,
    unsure: u64,
    taken: u64,
}

impl Batches {
    /// Reads up to `most` samples, and stops before the first that would take activations beyond `budget_bytes`; the
    /// number that were read.
    fn batch(&mut self, most: usize, budget_bytes: usize) -> (usize, Outcome) {
        let mut outcome = Outcome::default();
        let (mut live_bytes, mut read) = (0, 0);
        // The list of samples is as long from the start; what grows and shrinks is activations.
        let mut kept: Vec<(bool, Activations)> = Vec::with_capacity(most);
        while read < most {
            let mut activations = Activations::with_room();
            let bytes = activations.bytes();
            if live_bytes + bytes > budget_bytes {
                break;
            }
            live_bytes += bytes;
            outcome.peak_bytes = outcome.peak_bytes.max(live_bytes);
            let (confidence, hash) = self.model.read(&self.samples[self.next], &mut activations);
            self.next = (self.next + 1) % self.samples.len();
            outcome.checksum = outcome.checksum.rotate_left(1) ^ hash;
            read += 1;
            let sure = confidence >= CONFIDENCE_BAR;
            outcome.unsure += u64::from(!sure);
            if !sure && self.early {
                drop(activations);
                live_bytes -= bytes;
            } else {
                kept.push((sure, activations));
            }
        }
        for (_, activations) in kept.iter().filter(|(sure, _)| *sure) {
            outcome.checksum = outcome.checksum.rotate_left(1) ^ self.model.answer(activations);
        }
        (read, outcome)
    }
}

impl Workload for Batches {
    fn steps(&self) -> Steps {
        Steps { measure: MEASURED_SAMPLES.div_ceil(self.batch) as u64, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let (units, outcome) = self.batch(self.batch, usize::MAX);
        self.peak_bytes = self.peak_bytes.max(outcome.peak_bytes);
        self.unsure += outcome.unsure;
        self.taken += units as u64;
        Work { units: units as u64, checksum: outcome.checksum }
    }

    /// Fills batches here, since the CPU time and the page faults of [`Self::figures`] would be the phase's.
    fn measure_begins(&mut self) {
        let next = std::mem::take(&mut self.next);
        let filled = (0..FILLED_BATCHES).map(|_| self.batch(MOST_FILLED, self.budget_bytes).0).min();
        // One that was ended by its length says nothing of the budget.
        self.feasible = filled.filter(|&feasible| feasible < MOST_FILLED);
        self.next = next;
    }

    fn figures(&mut self, figures: &mut Figures) {
        if let Some(feasible) = self.feasible {
            figures.set("feasible_batch", feasible as f64);
        }
        if self.taken == 0 {
            return;
        }
        figures.set("activation_peak_bytes", self.peak_bytes as f64);
        figures.set("unsure_share", self.unsure as f64 / self.taken as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_samples_as_there_should_be_all_different() {
        let mut samples = samples();
        assert_eq!(samples.len(), SAMPLES);
        samples.sort_unstable();
        samples.dedup();
        assert!(samples.len() > SAMPLES * 9 / 10, "{}", samples.len());
    }
}
