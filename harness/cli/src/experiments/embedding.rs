//! Embedding: E4, E12 and E19.

use heapgate_core::experiment::{Arm, Body, Claim, Experiment, Read, Row, rss_at};
use heapgate_core::metric::{MetricId, Unit};

/// 20,000 chunks in batches of 512, vectors of 512 numbers.
const SERVICE: &[(&str, &str)] =
    &[("chunks", "20000"), ("batch", "512"), ("dim", "512"), ("hidden", "128"), ("layers", "1")];

const fn service(name: &'static str, allocator: &'static str) -> Arm {
    Arm { name, variant: "embed/seeded-bert", allocator, params: SERVICE }
}

/// The real model, with fewer chunks.
const fn real_service(name: &'static str, allocator: &'static str) -> Arm {
    Arm { name, variant: "embed/minilm", allocator, params: &[("chunks", "512"), ("batch", "128")] }
}

const fn rss(what: &'static str, at: fn(&heapgate_core::report::Trial) -> Option<f64>, claim: Option<Claim>) -> Row {
    Row { what, unit: Unit::Bytes, read: Read::Of(at), base: "lax", other: "strict", claim }
}

/// Batch embedding with pages given back late, as by default, or at once.
pub static E4: Experiment = Experiment {
    number: 4,
    title: "Batch embedding service under lax and strict reclaim",
    about: "The source ran a Go service for ten minutes at GOGC 100 and 20. Here 20,000 chunks of the King James Bible, \
        12 words each, go through a one-layer BERT of drawn (seeded) weights with 128 hidden units and a dense layer to \
        512 numbers, in batches of 512, on one thread; each vector is kept. It is the size of model, not the number of \
        chunks, that makes a run seconds long rather than minutes, so megabytes compare with the source's in direction \
        only, and 0, 5 and 10 minutes are the beginning, middle and end of the run. jemalloc's decay times stand for \
        GOGC: lax never gives pages back (-1), strict at once (0). Live objects can't differ between the arms, since \
        nothing is garbage here that is still counted; purges stand for collections. Two arms put 512 chunks through \
        the real MiniLM in batches of 128; its weights are most of their memory.",
    body: Body::Compare {
        arms: &[
            service("lax", "jemalloc:dirty_decay_ms=-1,muzzy_decay_ms=-1"),
            service("default", "jemalloc"),
            service("strict", "jemalloc:dirty_decay_ms=0,muzzy_decay_ms=0"),
            real_service("minilm, default", "jemalloc"),
            real_service("minilm, strict", "jemalloc:dirty_decay_ms=0,muzzy_decay_ms=0"),
        ],
        rows: &[
            rss("RSS at the start", |trial| rss_at(trial, 0.0), Some(Claim::FromTo(1210e6, 1195e6))),
            rss("RSS halfway", |trial| rss_at(trial, 0.5), Some(Claim::FromTo(4360e6, 1870e6))),
            rss("RSS at the end", |trial| rss_at(trial, 1.0), Some(Claim::FromTo(5720e6, 2140e6))),
            Row { other: "default", ..rss("RSS at the end, by default", |trial| rss_at(trial, 1.0), None) },
            Row {
                base: "minilm, default",
                other: "minilm, strict",
                ..rss("RSS at the end, MiniLM", |trial| rss_at(trial, 1.0), None)
            },
            Row {
                what: "purges (collections)",
                unit: Unit::Count,
                read: Read::Figure("purges"),
                base: "strict",
                other: "lax",
                claim: Some(Claim::Factor(0.38)),
            },
            Row {
                what: "peak live objects",
                unit: Unit::Count,
                read: Read::Metric(MetricId::PeakLiveObjects),
                base: "strict",
                other: "lax",
                claim: Some(Claim::Factor(3.4)),
            },
            Row {
                what: "chunks per second",
                unit: Unit::PerSecond,
                read: Read::Metric(MetricId::Throughput),
                base: "lax",
                other: "strict",
                claim: None,
            },
        ],
    },
};

const fn index(name: &'static str, variant: &'static str) -> Arm {
    Arm { name, variant, allocator: "jemalloc", params: &[] }
}

const fn index_row(what: &'static str, unit: Unit, read: Read, claim: Option<Claim>) -> Row {
    Row { what, unit, read, base: "heap", other: "arena", claim }
}

/// An index of vectors that is written and read without a copy.
pub static E12: Experiment = Experiment {
    number: 12,
    title: "Serialized index of vectors in an arena, read in place",
    about: "An index of 512 vectors of 1024 numbers, of real verses by hashed words, is written, read back and searched, \
        96 times. heap: a vector of bytes that grows, and a copy of each vector on reading. arena: one bumpalo buffer \
        with a checked header, read where it is. The arena's one large allocation is made in warm-up, so the measured \
        steps should show none.",
    body: Body::Compare {
        arms: &[index("heap", "embed/index-heap"), index("arena", "embed/index-arena")],
        rows: &[
            index_row(
                "allocations per vector, once the buffer is there",
                Unit::Count,
                Read::Metric(MetricId::AllocationsPerUnit),
                Some(Claim::Factor(0.0)),
            ),
            index_row("bytes asked for per vector", Unit::Bytes, Read::Metric(MetricId::AllocatedBytesPerUnit), None),
            index_row("peak live objects", Unit::Count, Read::Metric(MetricId::PeakLiveObjects), None),
            index_row("peak RSS", Unit::Bytes, Read::Metric(MetricId::PeakRss), None),
            index_row("vectors per second", Unit::PerSecond, Read::Metric(MetricId::Throughput), None),
        ],
    },
};

const fn server(name: &'static str, params: &'static [(&'static str, &'static str)]) -> Arm {
    Arm { name, variant: "embed/server-seeded", allocator: "jemalloc", params }
}

const fn server_row(
    what: &'static str,
    unit: Unit,
    figure: &'static str,
    base: &'static str,
    other: &'static str,
) -> Row {
    Row { what, unit, read: Read::Figure(figure), base, other, claim: None }
}

const fn minilm_row(what: &'static str, unit: Unit, figure: &'static str) -> Row {
    server_row(what, unit, figure, "minilm-similar", "minilm-loose")
}

/// An embedding server with and without batches and cached answers.
pub static E19: Experiment = Experiment {
    number: 19,
    title: "Dynamic batching and cached answers in an embedding server",
    about: "A model of MiniLM's size with drawn (seeded) weights answers requests for 400 verses of Numbers, the i-th most \
        popular asked for with a chance of 1/i, on one thread. Capacity is measured by 300 requests sent at 2,000 a \
        second, more than any arm can answer; latency, always from the intended instant of sending, in arms at 15 a \
        second. bar=1 answers from the cache only what is the same text, so that answers are equal; other arms also \
        take a text for another whose hashed words have a cosine of 0.95 (similar) or 0.85 (loose). Drawn weights do \
        the work of trained ones, but which texts they find alike means nothing, so how many of those answers are \
        wrong (a cosine under 0.98 with the text's own vector) is asked of the real MiniLM, in two arms of the same \
        load. The claimed 87 to 312 requests per second is for \
        both together; the rows tell them apart.",
    body: Body::Compare {
        arms: &[
            server(
                "one-by-one",
                &[CAPACITY, REQUESTS, LAYERS, HIDDEN, ("dim", "384"), ("batching", "fixed-1"), NO_CACHE],
            ),
            server("batches", &[CAPACITY, REQUESTS, LAYERS, HIDDEN, ("dim", "384"), NO_CACHE]),
            server("both", &[CAPACITY, REQUESTS, LAYERS, HIDDEN, ("dim", "384"), EQUAL]),
            server("both-similar", &[CAPACITY, REQUESTS, LAYERS, HIDDEN, ("dim", "384")]),
            server("calm-one-by-one", &[CALM, FEW, LAYERS, HIDDEN, ("dim", "384"), ("batching", "fixed-1"), NO_CACHE]),
            server("calm-both", &[CALM, FEW, LAYERS, HIDDEN, ("dim", "384"), EQUAL]),
            Arm { variant: "embed/server-minilm", ..server("minilm-similar", &[CAPACITY, REQUESTS]) },
            Arm { variant: "embed/server-minilm", ..server("minilm-loose", &[CAPACITY, REQUESTS, LOOSE]) },
        ],
        rows: &[
            Row {
                claim: Some(Claim::FromTo(87.0, 312.0)),
                ..server_row("requests per second", Unit::PerSecond, "requests_per_s", "one-by-one", "both")
            },
            server_row("… by batches alone", Unit::PerSecond, "requests_per_s", "one-by-one", "batches"),
            server_row("… with similar texts", Unit::PerSecond, "requests_per_s", "one-by-one", "both-similar"),
            server_row("requests in a batch", Unit::Count, "batch_mean", "one-by-one", "both"),
            server_row("share from the cache", Unit::Share, "cache_hit_share", "one-by-one", "both"),
            minilm_row("share by similarity", Unit::Share, "shortcut_share"),
            minilm_row("… of it another answer", Unit::Share, "shortcut_mismatch_share"),
            minilm_row("… cosine with the true answer", Unit::Count, "shortcut_cosine_mean"),
            server_row("P95 latency at 15 a second", Unit::Nanos, "latency_p95_ns", "calm-one-by-one", "calm-both"),
        ],
    },
};

const CAPACITY: (&str, &str) = ("rate", "2000");
const REQUESTS: (&str, &str) = ("requests", "300");
const CALM: (&str, &str) = ("rate", "15");
const FEW: (&str, &str) = ("requests", "75");
const LAYERS: (&str, &str) = ("layers", "6");
const HIDDEN: (&str, &str) = ("hidden", "384");
const NO_CACHE: (&str, &str) = ("cache", "off");
const EQUAL: (&str, &str) = ("bar", "1");
const LOOSE: (&str, &str) = ("bar", "0.85");
