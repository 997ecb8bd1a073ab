//! Embedding: text in, vectors out.
//!
//! [`service`] embeds chunks of the corpus in batches and keeps the vectors; [`server`] answers requests as they come;
//! [`index`] is the serialized index of vectors, which [`index_runs`] writes and searches on the heap and in an arena.
//! [`chunks`] and [`features`] are what they are given, [`purges`] is what jemalloc tells. Only the constants are meant
//! for the registry; the rest is public for tests.

use heapgate_bench::{Error, ParamSpec, Params};

use crate::models::bert::{Encoder, Size};
use crate::models::files;

pub mod chunks;
pub mod features;
pub mod index;
pub mod index_runs;
pub mod purges;
pub mod server;
pub mod service;

const SEED: u64 = 20_260_102;

pub(crate) const MODEL: ParamSpec = ParamSpec {
    name: files::PARAM,
    default: "",
    choices: &[],
    help: "a file of weights in safetensors in place of the fetched one, with config.json and tokenizer.json beside it",
};
pub(crate) const LAYERS: ParamSpec =
    ParamSpec { name: "layers", default: "2", choices: &[], help: "layers of the seeded model, 1 to 24" };
pub(crate) const HIDDEN: ParamSpec =
    ParamSpec { name: "hidden", default: "64", choices: &[], help: "its hidden units, a multiple of 32 up to 1024" };
pub(crate) const DIM: ParamSpec = ParamSpec {
    name: "dim",
    default: "64",
    choices: &[],
    help: "numbers in a vector, 1 to 4096; where not its hidden units, by a dense layer after pooling",
};

/// The seeded model that `params` ask for.
fn seeded(params: &Params) -> Result<Encoder, Error> {
    let hidden = params.number::<usize>(HIDDEN.name, Size::HEAD_UNITS..=1024)?;
    if !hidden.is_multiple_of(Size::HEAD_UNITS) {
        return Err(refuse(HIDDEN.name, format!("{hidden} is not a multiple of {}", Size::HEAD_UNITS)));
    }
    let size = Size { layers: params.number(LAYERS.name, 1..=24)?, hidden, dim: params.number(DIM.name, 1..=4096)? };
    Encoder::seeded(size, SEED)
}

fn refuse(name: &str, reason: String) -> Error {
    Error::Param { name: name.to_owned(), reason }
}

/// A hash of what vectors say, in order: where each is largest and where smallest. Unlike the numbers themselves these
/// don't depend on the order in which a kernel adds, which differs between processors.
#[must_use]
pub fn checksum<'a>(vectors: impl IntoIterator<Item = &'a [f32]>) -> u64 {
    vectors.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, vector| {
        let extremes = (0..vector.len()).fold((0, 0), |(low, high), i| {
            (if vector[i] < vector[low] { i } else { low }, if vector[i] > vector[high] { i } else { high })
        });
        [extremes.0, extremes.1].iter().fold(hash, |hash, &at| (hash ^ at as u64).wrapping_mul(0x0000_0100_0000_01b3))
    })
}
