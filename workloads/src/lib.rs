//! The work that heapgate measures: real programs on real text, each in variants that do the same with memory used
//! differently.
//!
//! [`variants`] is the registry. Each workload has a folder; [`corpus`] is the text they share, and
//! `data/README.md` says where that comes from.

use heapgate_bench::Variant;

pub mod cache;
pub mod checksum;
pub mod corpus;
pub mod decode;
pub mod embed;
pub mod jemalloc;
pub mod mixed;
pub mod models;
pub mod operators;
pub mod owned;
pub mod perf;
pub mod prompt;
pub mod random;
pub mod residency;
pub mod stopwatch;
pub mod threads;
pub mod tokenize;
pub mod transformer;

/// Every variant of every workload.
pub static VARIANTS: &[Variant] = &[
    tokenize::WORDPIECE_HEAP,
    tokenize::WORDPIECE_ARENA,
    tokenize::WORDPIECE_SLICES,
    tokenize::HF_WORDPIECE,
    tokenize::TIKTOKEN_CL100K,
    tokenize::PIPELINE_OWNED,
    tokenize::PIPELINE_SLICES,
    decode::KV_CONCAT,
    decode::KV_INPLACE,
    decode::KV_SLIDING,
    decode::KV_PAGED,
    decode::EXPIRY,
    decode::EARLY_RELEASE,
    decode::candle::SEEDED_LLAMA,
    decode::candle::SMOLLM2,
    embed::service::SEEDED_BERT,
    embed::service::MINILM,
    embed::index_runs::INDEX_HEAP,
    embed::index_runs::INDEX_ARENA,
    embed::server::SERVER_SEEDED,
    embed::server::SERVER_MINILM,
    operators::ALLOCATING,
    operators::INPLACE,
    prompt::FORMAT,
    prompt::JOIN,
    prompt::TEMPLATE,
    cache::lru::SAFE,
    cache::lru::RAW,
    cache::slab::HEAP,
    cache::slab::POOL,
    cache::slab::HYBRID,
    cache::intern::HASHMAP,
    cache::intern::POOL,
    cache::intern::LASSO,
    cache::buffer::HEAP,
    cache::buffer::ARENA,
    residency::STREAM,
    threads::CHUNKS,
    threads::ARENA_SHARED,
    threads::ARENA_LOCAL,
    mixed::SIDE_BY_SIDE,
];

/// Every variant of every workload, in the order in which a table shows them.
#[must_use]
pub fn variants() -> &'static [Variant] {
    VARIANTS
}
