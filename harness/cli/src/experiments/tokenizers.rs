//! E8, E9, E10 and E13: tokenizers and their buffers.

use heapgate_core::experiment::{Arm, Body, Claim, Experiment, Read, Row};
use heapgate_core::metric::{MetricId, Unit};
use heapgate_core::report::{PhaseKind, Trial};

const fn arm(name: &'static str, variant: &'static str, params: &'static [(&'static str, &'static str)]) -> Arm {
    Arm { name, variant, allocator: "jemalloc", params }
}

/// A metric that is per unit of work, for all of the measured work.
fn total(trial: &Trial, per_unit: MetricId) -> Option<f64> {
    let phase = trial.phases.iter().find(|phase| phase.kind == PhaseKind::Measure && phase.ended)?;
    Some((per_unit.metric().read)(trial)? * phase.units as f64)
}

const TOTAL_STALL: Read = Read::Of(|trial| total(trial, MetricId::StallPerUnit));
const TOTAL_ALLOCATIONS: Read = Read::Of(|trial| total(trial, MetricId::AllocationsPerUnit));
const TOTAL_BYTES: Read = Read::Of(|trial| total(trial, MetricId::AllocatedBytesPerUnit));

const fn row(what: &'static str, unit: Unit, read: Read, [base, other]: [&'static str; 2], claim: Claim) -> Row {
    Row { what, unit, read, base, other, claim: Some(claim) }
}

/// E8.
pub const PIPELINE: Experiment = Experiment {
    number: 8,
    title: "Tokenizer pipeline: owned strings against counted slices",
    about: "10,000 verses pass through three stages, normalise, split and look up, which hand on owned strings, or \
            counted slices (the bytes crate) of one slot that is filled again. The source counts full collections, \
            8 against 0; there are none here, so allocations stand in their place, with nothing claimed.",
    body: Body::Compare {
        arms: &[
            arm("owned", "tokenize/pipeline-owned", &[("document", "verse")]),
            arm("slices", "tokenize/pipeline-slices", &[("document", "verse")]),
        ],
        rows: &[
            row("memory allocated", Unit::Bytes, TOTAL_BYTES, ["owned", "slices"], Claim::FromTo(42.7e6, 0.3e6)),
            Row {
                what: "allocations",
                unit: Unit::Count,
                read: TOTAL_ALLOCATIONS,
                base: "owned",
                other: "slices",
                claim: None,
            },
        ],
    },
};

const HEAP_ARENA: [&str; 2] = ["heap", "arena"];

/// E9.
pub const ARENA: Experiment = Experiment {
    number: 9,
    title: "Tokenization in an arena against the heap",
    about: "100,000 sentences of about fifteen tokens through BERT's WordPiece, every intermediate on the heap or in an \
            arena that is reset after each. A GC pause is a stall here: time in the allocator. Both hold the same \
            vocabulary and corpus, which is most of their RSS; objects are allocations.",
    body: Body::Compare {
        arms: &[
            arm("heap", "tokenize/wordpiece-heap", &[("document", "sentence")]),
            arm("arena", "tokenize/wordpiece-arena", &[("document", "sentence")]),
        ],
        rows: &[
            row("time in the allocator", Unit::Nanos, TOTAL_STALL, HEAP_ARENA, Claim::FromTo(184e6, 12e6)),
            row("peak RSS", Unit::Bytes, Read::Metric(MetricId::PeakRss), HEAP_ARENA, Claim::FromTo(216e6, 47e6)),
            row("objects allocated", Unit::Count, TOTAL_ALLOCATIONS, HEAP_ARENA, Claim::FromTo(1.5e6, 0.0)),
            Row {
                what: "peak live objects",
                unit: Unit::Count,
                read: Read::Metric(MetricId::PeakLiveObjects),
                base: "heap",
                other: "arena",
                claim: None,
            },
        ],
    },
};

/// E10.
pub const BUFFERS: Experiment = Experiment {
    number: 10,
    title: "Tokenizer buffer: heap buffers against arena slices",
    about: "A buffer for each word of the corpus, filled with it, 10,000 a batch: heap allocations that are freed with \
            the batch, or slices of an arena that is reset. A time is that of a batch, with filling and freeing, \
            divided by its buffers; the telemetry of each call is in it, so the heap's is some tens of nanoseconds \
            over what it would be without.",
    body: Body::Compare {
        arms: &[arm("heap", "cache/buffer-heap", &[]), arm("arena", "cache/buffer-arena", &[])],
        rows: &[
            row("one buffer", Unit::Nanos, Read::Figure("buffer_mean_ns"), HEAP_ARENA, Claim::FromTo(12.4, 0.9)),
            row(
                "a batch of 10,000",
                Unit::Nanos,
                Read::Figure("batch_mean_ns"),
                HEAP_ARENA,
                Claim::FromTo(142_800.0, 8_600.0),
            ),
        ],
    },
};

/// Gives pages back as soon as they are free, as the source's allocator seems to.
const EAGER: &str = "jemalloc:dirty_decay_ms=0,muzzy_decay_ms=0";

const COUNTED: &[(&str, &str)] = &[("document", "verse"), ("syscalls", "counted")];

/// E13.
pub const BERT: Experiment = Experiment {
    number: 13,
    title: "BERT tokenization with an arena of 64 KiB that is reset per call",
    about: "10,000 verses, one thread, WordPiece on the heap and in an arena of 64 KiB. The source's samples take \
            milliseconds, our verses microseconds: only the ratio can be compared. An allocator that is warm makes \
            hardly any system call for such work, so both also run with pages given back at once. System calls are \
            mmap, munmap, mremap, madvise and brk while measuring; without root and a mounted tracefs they are not \
            counted, and the rows stay empty.",
    body: Body::Compare {
        arms: &[
            arm("heap", "tokenize/wordpiece-heap", COUNTED),
            arm("arena", "tokenize/wordpiece-arena", COUNTED),
            Arm { allocator: EAGER, ..arm("heap-eager", "tokenize/wordpiece-heap", COUNTED) },
            Arm { allocator: EAGER, ..arm("arena-eager", "tokenize/wordpiece-arena", COUNTED) },
        ],
        rows: &[
            document_p99(HEAP_ARENA),
            document_p99(["heap-eager", "arena-eager"]),
            syscalls(HEAP_ARENA),
            syscalls(["heap-eager", "arena-eager"]),
        ],
    },
};

const fn document_p99(arms: [&'static str; 2]) -> Row {
    row("P99 of a document", Unit::Nanos, Read::Figure("document_p99_ns"), arms, Claim::FromTo(14.7e6, 8.2e6))
}

const fn syscalls(arms: [&'static str; 2]) -> Row {
    let claim = Claim::FromTo(321_000.0, 16.0);
    row("allocator system calls", Unit::Count, Read::Figure("allocator_syscalls"), arms, claim)
}
