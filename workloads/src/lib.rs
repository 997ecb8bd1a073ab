//! The work that heapgate measures: real programs on real text, each in variants that do the same with memory used
//! differently.
//!
//! [`variants`] is the registry. Each workload has a folder; [`corpus`] is the text they share, and
//! `data/README.md` says where that comes from.

use heapgate_bench::Variant;

pub mod corpus;
pub mod decode;
pub mod embed;
pub mod models;
pub mod stopwatch;
pub mod tokenize;

/// Every variant of every workload.
pub static VARIANTS: &[Variant] = &[
    tokenize::WORDPIECE_HEAP,
    tokenize::WORDPIECE_ARENA,
    tokenize::WORDPIECE_SLICES,
    tokenize::HF_WORDPIECE,
    tokenize::TIKTOKEN_CL100K,
    decode::candle::SEEDED_LLAMA,
    decode::candle::SMOLLM2,
    embed::service::SEEDED_BERT,
    embed::service::MINILM,
    embed::index_runs::INDEX_HEAP,
    embed::index_runs::INDEX_ARENA,
    embed::server::SERVER_SEEDED,
    embed::server::SERVER_MINILM,
];

/// Every variant of every workload, in the order in which a table shows them.
#[must_use]
pub fn variants() -> &'static [Variant] {
    VARIANTS
}
