//! The sizes of a model and its weights.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;

use crate::random::SplitMix64;

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Layers.
    pub layers: usize,
    /// Attention heads a layer; they divide `width` into even parts, which rotary positions turn in pairs.
    pub heads: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the layer within the MLP.
    pub hidden: usize,
    /// How many logits come out.
    pub outputs: usize,
    /// The most positions that one step may attend to.
    pub context: usize,
}

impl Config {
    /// The width of one head.
    #[must_use]
    pub const fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Whether the sizes fit each other.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.layers > 0
            && self.heads > 0
            && self.context > 0
            && self.outputs > 0
            && self.hidden > 0
            && self.width > 0
            && self.width.is_multiple_of(self.heads * 2)
    }
}

/// One layer's weights. Matrices have a row for each output.
#[derive(Debug)]
pub(super) struct Layer<A: Allocator> {
    pub attention_norm: Norm<A>,
    /// Queries, keys and values, one below the other.
    pub query_key_value: Vec<f32, A>,
    pub projection: Vec<f32, A>,
    pub mlp_norm: Norm<A>,
    pub up: Vec<f32, A>,
    pub down: Vec<f32, A>,
}

/// The gain and offset of a layer norm.
#[derive(Debug)]
pub(super) struct Norm<A: Allocator> {
    pub gain: Vec<f32, A>,
    pub offset: Vec<f32, A>,
}

/// A model's weights.
#[derive(Debug)]
pub struct Weights<A: Allocator> {
    pub(super) config: Config,
    pub(super) layers: Vec<Layer<A>, A>,
    pub(super) norm: Norm<A>,
    pub(super) outputs: Vec<f32, A>,
}

impl<A: Allocator + Clone> Weights<A> {
    /// Weights drawn from `seed`, scaled so that every layer's output has about its input's variance (LeCun's
    /// initialization) and activations stay finite whatever comes in.
    ///
    /// # Panics
    /// If `config` is not valid.
    pub fn seeded(config: Config, seed: u64, allocator: A) -> Self {
        assert!(config.is_valid(), "sizes that don't fit each other: {config:?}");
        let mut draw = Draw { random: SplitMix64::new(seed), allocator: allocator.clone() };
        let width = config.width;
        let mut layers = Vec::with_capacity_in(config.layers, allocator);
        for _ in 0..config.layers {
            layers.push(Layer {
                attention_norm: draw.norm(width),
                query_key_value: draw.matrix(3 * width, width),
                projection: draw.matrix(width, width),
                mlp_norm: draw.norm(width),
                up: draw.matrix(config.hidden, width),
                down: draw.matrix(width, config.hidden),
            });
        }
        Self { config, layers, norm: draw.norm(width), outputs: draw.matrix(config.outputs, width) }
    }

    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }
}

struct Draw<A> {
    random: SplitMix64,
    allocator: A,
}

impl<A: Allocator + Clone> Draw<A> {
    fn vector(&mut self, length: usize, mut one: impl FnMut(f32) -> f32) -> Vec<f32, A> {
        let mut vector = Vec::with_capacity_in(length, self.allocator.clone());
        vector.extend((0..length).map(|_| one(self.random.signed())));
        vector
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Vec<f32, A> {
        // Numbers from -1 to 1 have a variance of 1/3.
        let scale = (3.0 / columns as f32).sqrt();
        self.vector(rows * columns, |x| x * scale)
    }

    fn norm(&mut self, width: usize) -> Norm<A> {
        Norm { gain: self.vector(width, |x| 1.0 + 0.1 * x), offset: self.vector(width, |x| 0.1 * x) }
    }
}
