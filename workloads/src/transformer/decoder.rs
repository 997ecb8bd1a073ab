//! One step of the transformer: a position in, logits out, nothing allocated but by the cache.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use super::cache::{Full, KvCache};
use super::math::{add, add_scaled, dot, matrix_vector};
use super::operators::inplace::{gelu, layer_norm_into, softmax};
use super::weights::{Config, Weights};

/// The base of rotary frequencies (Su et al.: "RoFormer", 2021).
const ROTARY_BASE: f64 = 10_000.0;

/// A decoder-only transformer: layer norm first, multi-head attention with rotary positions, an MLP with GELU.
#[derive(Debug)]
pub struct Decoder<A: Allocator> {
    weights: Weights<A>,
    scratch: Scratch<A>,
}

/// What a step works in, all of it there from the start.
#[derive(Debug)]
struct Scratch<A: Allocator> {
    /// The residual stream.
    stream: Vec<f32, A>,
    normed: Vec<f32, A>,
    query_key_value: Vec<f32, A>,
    attended: Vec<f32, A>,
    hidden: Vec<f32, A>,
    /// For each head, a weight for each position.
    scores: Vec<f32, A>,
    logits: Vec<f32, A>,
    /// For each pair of a head's elements, frequency, cosine and sine.
    rotary: Vec<(f64, f32, f32), A>,
}

impl<A: Allocator + Clone> Decoder<A> {
    /// A decoder with these weights, and working memory from `allocator`.
    pub fn new(weights: Weights<A>, allocator: A) -> Self {
        let Config { heads, width, hidden, outputs, context, .. } = weights.config;
        let zeros = |length| {
            let mut vector = Vec::with_capacity_in(length, allocator.clone());
            vector.resize(length, 0.0);
            vector
        };
        let scratch = Scratch {
            stream: zeros(width),
            normed: zeros(width),
            query_key_value: zeros(3 * width),
            attended: zeros(width),
            hidden: zeros(hidden),
            scores: zeros(heads * context),
            logits: zeros(outputs),
            rotary: rotary(weights.config.head_width(), allocator),
        };
        Self { weights, scratch }
    }
}

fn rotary<A: Allocator>(head_width: usize, allocator: A) -> Vec<(f64, f32, f32), A> {
    let mut rotary = Vec::with_capacity_in(head_width / 2, allocator);
    let frequency = |pair: usize| ROTARY_BASE.powf(-2.0 * pair as f64 / head_width as f64);
    rotary.extend((0..head_width / 2).map(|pair| (frequency(pair), 1.0, 0.0)));
    rotary
}

impl<A: Allocator> Decoder<A> {
    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> Config {
        self.weights.config
    }

    /// Takes `input` (of the model's width) in at `position` of the stream, attending to it and to what `cache` holds.
    /// Gives the logits.
    ///
    /// # Errors
    /// [`Full`] if the cache takes no more, or more than the model's context would be attended to; `cache` must be
    /// cleared before another step.
    pub fn step(&mut self, cache: &mut impl KvCache, position: usize, input: &[f32]) -> Result<&[f32], Full> {
        self.step_watched(cache, position, input, |_, _| ())
    }

    /// As [`Self::step`], showing the residual stream after each layer to `watch`, with the layer's index.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_watched(
        &mut self,
        cache: &mut impl KvCache,
        position: usize,
        input: &[f32],
        mut watch: impl FnMut(usize, &[f32]),
    ) -> Result<&[f32], Full> {
        let Config { heads, width, context, .. } = self.weights.config;
        let s = &mut self.scratch;
        cache.grow()?;
        if cache.positions() > context {
            return Err(Full { positions: context });
        }
        for (frequency, cosine, sine) in &mut s.rotary {
            let (sin, cos) = (position as f64 * *frequency).sin_cos();
            (*cosine, *sine) = (cos as f32, sin as f32);
        }
        s.stream.copy_from_slice(input);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            layer_norm_into(&s.stream, &layer.attention_norm.gain, &layer.attention_norm.offset, &mut s.normed);
            matrix_vector(&layer.query_key_value, &s.normed, &mut s.query_key_value);
            let (query, key_value) = s.query_key_value.split_at_mut(width);
            let (key, value) = key_value.split_at_mut(width);
            rotate(query, &s.rotary);
            rotate(key, &s.rotary);
            cache.write(index, key, value);
            attend(cache, index, query, heads, &mut s.scores, &mut s.attended);
            matrix_vector(&layer.projection, &s.attended, &mut s.normed);
            add(&mut s.stream, &s.normed);

            layer_norm_into(&s.stream, &layer.mlp_norm.gain, &layer.mlp_norm.offset, &mut s.normed);
            matrix_vector(&layer.up, &s.normed, &mut s.hidden);
            gelu(&mut s.hidden);
            matrix_vector(&layer.down, &s.hidden, &mut s.normed);
            add(&mut s.stream, &s.normed);
            watch(index, &s.stream);
        }
        let norm = &self.weights.norm;
        layer_norm_into(&s.stream, &norm.gain, &norm.offset, &mut s.normed);
        matrix_vector(&self.weights.outputs, &s.normed, &mut s.logits);
        Ok(&s.logits)
    }
}

/// Turns each head's pairs of elements by the position's angles.
fn rotate(row: &mut [f32], rotary: &[(f64, f32, f32)]) {
    for head in row.chunks_exact_mut(rotary.len() * 2) {
        for (pair, (_, cosine, sine)) in head.as_chunks_mut::<2>().0.iter_mut().zip(rotary) {
            let [x, y] = *pair;
            *pair = [x * cosine - y * sine, x * sine + y * cosine];
        }
    }
}

/// Attention of one position to all that `cache` gives, its own among them.
fn attend(cache: &impl KvCache, layer: usize, query: &[f32], heads: usize, scores: &mut [f32], attended: &mut [f32]) {
    let (width, context) = (query.len(), scores.len() / heads);
    let head_width = width / heads;
    let scale = 1.0 / (head_width as f32).sqrt();
    let mut positions = 0;
    for run in cache.runs(layer) {
        for key in run.keys.chunks_exact(width) {
            for (head, (query, key)) in query.chunks_exact(head_width).zip(key.chunks_exact(head_width)).enumerate() {
                scores[head * context + positions] = dot(query, key) * scale;
            }
            positions += 1;
        }
    }
    for scores in scores.chunks_exact_mut(context) {
        softmax(&mut scores[..positions]);
    }
    attended.fill(0.0);
    let mut position = 0;
    for run in cache.runs(layer) {
        for value in run.values.chunks_exact(width) {
            let heads = attended.chunks_exact_mut(head_width).zip(value.chunks_exact(head_width));
            for (head, (attended, value)) in heads.enumerate() {
                add_scaled(attended, scores[head * context + position], value);
            }
            position += 1;
        }
    }
}
