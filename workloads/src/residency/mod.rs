//! Text residency: long documents built in a burst, worked on for a while, released bit by bit, at a fixed rate.
//!
//! [`tree`] is the document, [`cache`] keeps tokenized texts, [`window`] slides over the document, [`schedule`] says
//! when each step is due, and [`stream`] has them take turns. Only the constant here is meant for the registry; the
//! rest is public for tests.

use heapgate_bench::{FigureSpec, ParamSpec, Variant};

pub mod cache;
pub mod schedule;
pub mod stream;
pub mod tree;
pub mod window;

/// Document trees, a cache and a context window, step by step on a schedule.
pub const STREAM: Variant = Variant::new(
    "residency",
    "stream",
    "token",
    "document trees built in bursts and released gradually, a 10 MB cache and a context window, at a fixed rate",
    stream::setup,
)
.params(PARAMS)
.figures(FIGURES);

/// The parameter that says for how many seconds it goes on.
pub const DURATION: &str = "duration";

/// The longest of them: a day.
pub const MAX_DURATION_S: u64 = 86_400;

const PARAMS: &[ParamSpec] = &[ParamSpec {
    name: DURATION,
    default: "20",
    choices: &[],
    help: "how long the measured phase goes on, s: so many times 50 steps, each at its time; an hour is 3600",
}];

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "response_p50_ns", help: "Median time from when a step was due to its end." },
    FigureSpec { name: "response_p99_ns", help: "99th percentile of the time from when a step was due to its end." },
    FigureSpec { name: "response_max_ns", help: "Longest time from when a step was due to its end." },
    FigureSpec { name: "late_steps", help: "Steps that were due before the one before them had ended." },
    FigureSpec { name: "cache_hit_share", help: "Share of the texts asked for that the cache had." },
    FigureSpec { name: "cache_bytes", help: "Bytes the cache holds at the end, as it counts them." },
    FigureSpec { name: "tree_tokens", help: "Tokens of the last document when it was whole." },
];
