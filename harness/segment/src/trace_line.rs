//! A process's trace line: one line a second, say, that a log keeps and `grep` finds. What it is made of is here, for who
//! writes it (heapgate-alloc) and who reads it (`heapgate trace --parse`). docs/trace.md explains each field.
//!
//! ```text
//! heapgate-trace v=2 t=2026-01-31T12:00:00.123Z pid=4242 service=tokenizer level=sampled …
//! ```

/// What a line begins with, up to the version.
pub const PREFIX: &str = "heapgate-trace v=";

/// Version of the line. A field that goes, moves or changes its meaning makes a new one.
pub const VERSION: u64 = 2;

/// What a field's value is. Any but a flag can be [`NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Without spaces.
    Text,
    /// A whole number.
    Number,
    /// A number with three decimals.
    Seconds,
    /// `0` or `1`.
    Flag,
}

/// The value of a field that is not known.
pub const NONE: &str = "-";

/// How many of [`FIELDS`] a line of version 1 has: it ends with `last`.
const FIELDS_OF_1: usize = 19;

/// The fields of a line of `version`; `None` of a version that is not known.
#[must_use]
pub fn fields(version: u64) -> Option<&'static [(&'static str, Kind)]> {
    match version {
        VERSION => Some(&FIELDS),
        1 => Some(&FIELDS[..FIELDS_OF_1]),
        _ => None,
    }
}

/// The fields after the version, in their order. New ones come at the end.
pub const FIELDS: [(&str, Kind); 24] = [
    ("t", Kind::Text),
    ("pid", Kind::Number),
    ("service", Kind::Text),
    ("level", Kind::Text),
    ("up_s", Kind::Seconds),
    ("threads", Kind::Number),
    ("live_objects", Kind::Number),
    ("live_bytes", Kind::Number),
    ("allocs", Kind::Number),
    ("reallocs", Kind::Number),
    ("frees", Kind::Number),
    ("alloc_bytes", Kind::Number),
    ("rss_bytes", Kind::Number),
    ("interval_s", Kind::Seconds),
    ("timed", Kind::Number),
    ("interrupted", Kind::Number),
    ("stall_p99_ns", Kind::Number),
    ("stall_max_ns", Kind::Number),
    ("last", Kind::Flag),
    ("dirty_decay_ms", Kind::Number),
    ("muzzy_decay_ms", Kind::Number),
    ("soft_limit_bytes", Kind::Number),
    ("soft_limit_step", Kind::Number),
    ("setting_changes", Kind::Number),
];

/// Most bytes of a line, its end included: below what a pipe takes at once, so that lines of several processes don't mix.
pub const MAX_BYTES: usize = 1024;
