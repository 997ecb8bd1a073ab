//! E6, E7, E11 and E14: caches, slabs, interned strings and prompts.

use heapgate_core::experiment::{Arm, Body, Claim, Experiment, Read, Row};
use heapgate_core::metric::{MetricId, Unit};

/// An arm under jemalloc whose name is its variant's.
const fn arm(name: &'static str, variant: &'static str) -> Arm {
    Arm { name, variant, allocator: "jemalloc", params: &[] }
}

/// E6.
pub const LATE_READERS: Experiment = Experiment {
    number: 6,
    title: "LRU cache whose entries are reclaimed before they are read",
    about: "An LRU cache of 64 verses keeps the memory of an evicted entry for 10 to 15 ms; readers are stalled for \
            5 to 20 ms between taking a handle and reading. The source found dangling entries behind real GC pauses; \
            here time is a logical clock, so the shares are the same in every run, and the stalls are set, not found. \
            The grace period is chosen so that no reader is late up to 10 ms and some are from there on, as claimed; \
            only how many are stale is found. \
            A stale handle is refused by its generation in safe and in raw memory; that none can be used while its \
            slot is reclaimed is shown by tests that must not compile.",
    body: Body::Compare {
        arms: &[
            Arm { params: &[("delay_ms", "5")], ..arm("safe-5ms", "cache/lru-safe") },
            Arm { params: &[("delay_ms", "10")], ..arm("safe-10ms", "cache/lru-safe") },
            Arm { params: &[("delay_ms", "15")], ..arm("safe-15ms", "cache/lru-safe") },
            Arm { params: &[("delay_ms", "20")], ..arm("safe-20ms", "cache/lru-safe") },
            Arm { params: &[("delay_ms", "10")], ..arm("raw-10ms", "cache/lru-raw") },
            Arm { params: &[("delay_ms", "15")], ..arm("raw-15ms", "cache/lru-raw") },
        ],
        rows: &[
            stale("safe-5ms", "safe-10ms", Claim::FromTo(0.0, 0.0)),
            stale("safe-10ms", "safe-15ms", Claim::FromTo(0.0, 0.67)),
            stale("safe-10ms", "safe-20ms", Claim::FromTo(0.0, 0.67)),
            stale("raw-10ms", "raw-15ms", Claim::FromTo(0.0, 0.67)),
            Row {
                what: "stale reads that were let through",
                unit: Unit::Count,
                read: Read::Figure("undetected_reads"),
                base: "safe-15ms",
                other: "raw-15ms",
                claim: None,
            },
            Row {
                what: "CPU time per read",
                unit: Unit::Nanos,
                read: Read::Metric(MetricId::CpuPerUnit),
                base: "safe-15ms",
                other: "raw-15ms",
                claim: None,
            },
        ],
    },
};

const fn stale(base: &'static str, other: &'static str, claim: Claim) -> Row {
    Row { what: "stale handles", unit: Unit::Share, read: Read::Figure("stale_share"), base, other, claim: Some(claim) }
}

/// E7.
pub const SLABS: Experiment = Experiment {
    number: 7,
    title: "Slabs of 64 KiB: heap, pool, arena and pool",
    about: "Sessions take a slab, fill it with text of the corpus and hold it for up to 40 ticks; now and then three \
            times as many arrive. The pool keeps 64 idle slabs; the hybrid cuts slabs from 4 MiB chunks and keeps \
            all. A slab counts as reused if a session had it before; the heap's own reuse can't be seen and counts as 0. \
            The time of a get is read once for all gets of a tick. The source doesn't say what it calls pressure: \
            here it is allocations and page faults.",
    body: Body::Compare {
        arms: &[arm("heap", "cache/slab-heap"), arm("pool", "cache/slab-pool"), arm("hybrid", "cache/slab-hybrid")],
        rows: &[
            get("pool", Claim::FromTo(128.0, 42.0)),
            get("hybrid", Claim::FromTo(128.0, 18.0)),
            reuse("pool", Claim::FromTo(0.0, 0.65)),
            reuse("hybrid", Claim::FromTo(0.0, 0.92)),
            slab_metric("allocations per slab", Unit::Count, MetricId::AllocationsPerUnit, "pool"),
            slab_metric("allocations per slab", Unit::Count, MetricId::AllocationsPerUnit, "hybrid"),
            slab_metric("page faults", Unit::Count, MetricId::MinorFaults, "pool"),
            slab_metric("page faults", Unit::Count, MetricId::MinorFaults, "hybrid"),
            slab_metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "hybrid"),
        ],
    },
};

const fn get(other: &'static str, claim: Claim) -> Row {
    let read = Read::Figure("get_mean_ns");
    Row { what: "time of a get", unit: Unit::Nanos, read, base: "heap", other, claim: Some(claim) }
}

const fn reuse(other: &'static str, claim: Claim) -> Row {
    let read = Read::Figure("reuse_share");
    Row { what: "slabs reused", unit: Unit::Share, read, base: "heap", other, claim: Some(claim) }
}

const fn slab_metric(what: &'static str, unit: Unit, metric: MetricId, other: &'static str) -> Row {
    Row { what, unit, read: Read::Metric(metric), base: "heap", other, claim: None }
}

/// E11.
pub const INTERNING: Experiment = Experiment {
    number: 11,
    title: "Interned keys of a prompt cache",
    about: "Eight tenants cache answers by prefixes of prompts, cut from the corpus, many of which they share: each \
            tenant a map with strings of its own, or with ids of one pool. A step puts 160,000 keys in, then four \
            threads look up 10,000 each. All maps hash by FxHash. Each tenant draws 5,000 times from 10,000 passages, \
            each of which makes four keys; how much they share decides what is saved. Peak live memory includes the \
            corpus. The claimed time per allocation stands beside our time per insert, in which \
            hashing and the map are too.",
    body: Body::Compare {
        arms: &[
            arm("hashmap", "cache/intern-hashmap"),
            arm("pool", "cache/intern-pool"),
            arm("lasso", "cache/intern-lasso"),
        ],
        rows: &[
            interned("time of an insert", Unit::Nanos, "insert_mean_ns", "pool", Some(Claim::FromTo(84.0, 9.0))),
            interned("time of an insert", Unit::Nanos, "insert_mean_ns", "lasso", None),
            interned("time of a look-up, four threads", Unit::Nanos, "lookup_mean_ns", "pool", None),
            interned("time of a look-up, four threads", Unit::Nanos, "lookup_mean_ns", "lasso", None),
            live_bytes("pool", Some(Claim::FromTo(126e6, 41e6))),
            live_bytes("lasso", None),
        ],
    },
};

const fn interned(
    what: &'static str,
    unit: Unit,
    figure: &'static str,
    other: &'static str,
    claim: Option<Claim>,
) -> Row {
    Row { what, unit, read: Read::Figure(figure), base: "hashmap", other, claim }
}

const fn live_bytes(other: &'static str, claim: Option<Claim>) -> Row {
    let read = Read::Metric(MetricId::PeakLiveBytes);
    Row { what: "peak live memory", unit: Unit::Bytes, read, base: "hashmap", other, claim }
}

/// E14.
pub const PROMPTS: Experiment = Experiment {
    number: 14,
    title: "Prompt assembly three ways",
    about: "A system turn, four passages of six verses, four turns of history and a question become one text, the same \
            in all three: 100,000 prompts instead of 10,000 calls, since one takes microseconds here. Strings made \
            are allocations that are no growth of another: lists of lines are among them, and the prompt itself; \
            bytes are those asked for, growth included.",
    body: Body::Compare {
        arms: &[arm("format", "prompt/format"), arm("join", "prompt/join"), arm("template", "prompt/template")],
        rows: &[
            prompt_time("join", Claim::FromTo(842e3, 615e3)),
            prompt_time("template", Claim::FromTo(842e3, 498e3)),
            prompt_strings("join", Claim::FromTo(5.0, 3.0)),
            prompt_strings("template", Claim::FromTo(5.0, 1.0)),
            prompt_metric("times a string grew", MetricId::ReallocationsPerUnit, "join"),
            prompt_metric("times a string grew", MetricId::ReallocationsPerUnit, "template"),
            prompt_bytes("join", Claim::FromTo(1.7e3, 1.1e3)),
            prompt_bytes("template", Claim::FromTo(1.7e3, 0.4e3)),
        ],
    },
};

const fn prompt_time(other: &'static str, claim: Claim) -> Row {
    let read = Read::Figure("assemble_mean_ns");
    Row { what: "time of a call", unit: Unit::Nanos, read, base: "format", other, claim: Some(claim) }
}

const fn prompt_strings(other: &'static str, claim: Claim) -> Row {
    Row { what: "strings made", unit: Unit::Count, read: STRINGS_MADE, base: "format", other, claim: Some(claim) }
}

/// Allocations of a prompt that are not another one's growth.
const STRINGS_MADE: Read = Read::Of(|trial| {
    let [all, growth] = [MetricId::AllocationsPerUnit, MetricId::ReallocationsPerUnit];
    Some((all.metric().read)(trial)? - (growth.metric().read)(trial)?)
});

const fn prompt_metric(what: &'static str, metric: MetricId, other: &'static str) -> Row {
    Row { what, unit: Unit::Count, read: Read::Metric(metric), base: "format", other, claim: None }
}

const fn prompt_bytes(other: &'static str, claim: Claim) -> Row {
    let read = Read::Metric(MetricId::AllocatedBytesPerUnit);
    Row { what: "bytes asked for per prompt", unit: Unit::Bytes, read, base: "format", other, claim: Some(claim) }
}
