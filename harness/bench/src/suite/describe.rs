//! What a bench says of itself when heapgate asks.

use heapgate_alloc::segment::layout::ABI_VERSION;

use super::Suite;
use crate::json::Json;
use crate::switch;
use crate::workload::Variant;

/// The first argument that asks for a description.
pub const DESCRIBE: &str = "heapgate-describe";

/// The first argument that asks for one trial, named by the rest.
pub const TRIAL: &str = "heapgate-trial";

/// The first argument that asks for nothing: does a process start under these settings?
pub const PROBE: &str = "heapgate-probe";

/// Version of the description and of the arguments that a trial takes. Another one is refused by the tool.
pub const PROTOCOL: u64 = 1;

/// The description, on one line.
pub(super) fn describe(suite: &Suite) -> Json {
    Json::object([
        ("heapgate_bench", Json::text(env!("CARGO_PKG_VERSION"))),
        ("protocol", Json::Integer(PROTOCOL)),
        ("segment_abi", Json::Integer(ABI_VERSION)),
        ("name", Json::text(suite.name)),
        ("switches_allocators", Json::Bool(switch::in_use().is_some())),
        ("variants", Json::list(suite.variants.iter().map(variant))),
    ])
}

fn variant(variant: &Variant) -> Json {
    let texts = |texts: &[&str]| Json::list(texts.iter().map(|&text| Json::text(text)));
    Json::object([
        ("workload", Json::text(variant.workload)),
        ("variant", Json::text(variant.name)),
        ("unit", Json::text(variant.unit)),
        ("about", Json::text(variant.about)),
        ("by_default", Json::Bool(variant.by_default)),
        ("default_allocators", texts(variant.default_allocators)),
        (
            "params",
            Json::list(variant.params.iter().map(|param| {
                Json::object([
                    ("name", Json::text(param.name)),
                    ("default", Json::text(param.default)),
                    ("choices", texts(param.choices)),
                    ("help", Json::text(param.help)),
                ])
            })),
        ),
        ("figures", texts(&variant.figures.iter().map(|figure| figure.name).collect::<Vec<_>>())),
    ])
}
