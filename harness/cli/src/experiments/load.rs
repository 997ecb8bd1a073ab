//! Experiments on memory under load: residency over time (E1), locks between threads (E5, E16), two allocators in one
//! process (E17).

use heapgate_core::experiment::{Arm, Body, Claim, Experiment, Read, Row};
use heapgate_core::metric::{MetricId, Unit};
use heapgate_core::report::{PhaseKind, Trial};

/// Text residency.
pub static E1: Experiment = Experiment {
    number: 1,
    title: "Text residency: bursts, residency, gradual release",
    about: "Ours: documents of about 45,000 tokens are built in bursts, worked on through a sliding window of 1,024 \
            words beside a full 10 MB cache of tokenized texts, and released section by section, one document a second \
            on a fixed schedule. The source ran an hour on two versions of a garbage-collected runtime; here the old \
            runtime is the C library's malloc and the new one is jemalloc, and a trial measures 5 s (--duration 3600 \
            on residency/stream makes it an hour). A pause stands for one allocator call, so means are nanoseconds \
            where the source has milliseconds: only the direction compares. Stalls of an hour are those of 5 s times \
            720. The source's ±38% is a swing of 0.76 from lowest to highest.",
    body: Body::Compare { arms: E1_ARMS, rows: E1_ROWS },
};

const E1_ARMS: &[Arm] = &[
    residency("glibc", "system"),
    residency("jemalloc", "jemalloc"),
    residency("jemalloc, purging in the background", "jemalloc:background_thread=true"),
];

const fn residency(name: &'static str, allocator: &'static str) -> Arm {
    Arm { name, variant: "residency/stream", allocator, params: &[("duration", "5")] }
}

const E1_ROWS: &[Row] = &[
    Row {
        what: "mean stall",
        unit: Unit::Nanos,
        read: Read::Metric(MetricId::StallMean),
        base: "glibc",
        other: "jemalloc",
        claim: Some(Claim::FromTo(0.8e6, 0.12e6)),
    },
    Row {
        what: "stalls of an hour, together",
        unit: Unit::Nanos,
        read: Read::Of(stalls_of_an_hour),
        base: "glibc",
        other: "jemalloc",
        claim: Some(Claim::FromTo(2.3e9, 0.41e9)),
    },
    Row {
        what: "RSS swing",
        unit: Unit::Share,
        read: Read::Metric(MetricId::RssSwing),
        base: "glibc",
        other: "jemalloc",
        claim: Some(Claim::FromTo(0.76, 0.22)),
    },
    Row {
        what: "swing of live bytes",
        unit: Unit::Share,
        read: Read::Of(live_swing),
        base: "glibc",
        other: "jemalloc",
        claim: None,
    },
    Row {
        what: "RSS swing, purging in the background",
        unit: Unit::Share,
        read: Read::Metric(MetricId::RssSwing),
        base: "jemalloc",
        other: "jemalloc, purging in the background",
        claim: None,
    },
    Row {
        what: "longest stall, purging in the background",
        unit: Unit::Nanos,
        read: Read::Metric(MetricId::StallMax),
        base: "jemalloc",
        other: "jemalloc, purging in the background",
        claim: None,
    },
    Row {
        what: "P99 of a step from when it was due",
        unit: Unit::Nanos,
        read: Read::Figure("response_p99_ns"),
        base: "glibc",
        other: "jemalloc",
        claim: None,
    },
];

/// What an hour has at the share of the measured time that went into allocator calls.
fn stalls_of_an_hour(trial: &Trial) -> Option<f64> {
    const HOUR_NS: f64 = 3_600e9;
    Some((MetricId::StallShare.metric().read)(trial)? * HOUR_NS)
}

/// (highest − lowest) / mean of the live bytes within the measured phase.
fn live_swing(trial: &Trial) -> Option<f64> {
    let phase = trial.phases.iter().find(|p| p.kind == PhaseKind::Measure && p.ended)?;
    let within = phase.start_s * 1e3..=(phase.start_s + phase.wall_s) * 1e3;
    let samples = trial.rss_series.iter().zip(&trial.live_series);
    let bytes: Vec<f64> = samples.filter(|((ms, _), _)| within.contains(ms)).map(|(_, live)| live.1 as f64).collect();
    let highest = bytes.iter().copied().reduce(f64::max)?;
    let lowest = bytes.iter().copied().reduce(f64::min)?;
    let mean = bytes.iter().sum::<f64>() / bytes.len() as f64;
    (mean > 0.0).then_some((highest - lowest) / mean)
}

/// Locks of the allocator between threads.
pub static E5: Experiment = Experiment {
    number: 5,
    title: "Threads contending for the allocator's locks",
    about: "Ours: threads tokenize chunks of 16 verses into owned words, which another thread reads and frees; one \
            thread against four, and four with one arena, and four with one arena and no thread caches, which forces \
            every call through a lock. The source gives absolute times, not changes: 120 µs for the root scan lock \
            (we scan no roots), 85 µs for the central list lock (ours: the locks of jemalloc's bins), workers starved \
            for 10 ms or longer; so no direction can hold or not. The root scan lock's 120 µs stand beside our locks \
            that are neither of bins nor of pages. Waits are jemalloc's own count; it times them with the kernel's \
            coarse clock, in ticks of 1 to 10 ms, and most come out as 0: the longest calls are our own measurement. \
            What the scheduler causes is told apart twice: stalls are those of calls it did not interrupt, and chunks \
            whose thread waited for a CPU for 10 ms are counted as starved. A call that blocks for a lock counts as \
            interrupted too. Stall histograms of threads are merged.",
    body: Body::Compare { arms: E5_ARMS, rows: E5_ROWS },
};

const E5_ARMS: &[Arm] = &[
    chunks("one thread", "jemalloc", &[("threads", "1")]),
    chunks("four threads", "jemalloc", &[("threads", "4")]),
    chunks("one arena", "jemalloc:narenas=1", &[("threads", "4")]),
    chunks("one arena, no caches", "jemalloc:narenas=1,tcache=false", &[("threads", "4")]),
    chunks("glibc, four threads", "system", &[("threads", "4")]),
];

const fn chunks(name: &'static str, allocator: &'static str, params: &'static [(&'static str, &'static str)]) -> Arm {
    Arm { name, variant: "threads/chunks", allocator, params }
}

const E5_ROWS: &[Row] = &[
    contended("waits for locks of bins", Unit::Count, Read::Figure("bin_lock_waits")),
    Row {
        claim: Some(Claim::At(85_000.0)),
        ..contended("longest wait for one, to the tick", Unit::Nanos, Read::Figure("bin_lock_wait_max_ns"))
    },
    contended("time in waits for locks of bins, all threads", Unit::Nanos, Read::Figure("bin_lock_wait_total_ns")),
    contended("waits for locks of pages", Unit::Count, Read::Figure("page_lock_waits")),
    contended("longest wait for one of pages, to the tick", Unit::Nanos, Read::Figure("page_lock_wait_max_ns")),
    contended("time in waits for locks of pages, all threads", Unit::Nanos, Read::Figure("page_lock_wait_total_ns")),
    contended("waits for other locks", Unit::Count, Read::Figure("other_lock_waits")),
    Row {
        claim: Some(Claim::At(120_000.0)),
        ..contended("longest wait for another lock, to the tick", Unit::Nanos, Read::Figure("other_lock_wait_max_ns"))
    },
    contended("time in waits for other locks, all threads", Unit::Nanos, Read::Figure("other_lock_wait_total_ns")),
    contended("locks taken after spinning", Unit::Count, Read::Figure("lock_spins")),
    contended("P99.9 stall, not interrupted", Unit::Nanos, Read::Metric(MetricId::StallP999)),
    contended("longest stall, interrupted or blocked", Unit::Nanos, Read::Metric(MetricId::StallAllMax)),
    contended("CPU time of a chunk", Unit::Nanos, Read::Metric(MetricId::CpuPerUnit)),
    Row {
        what: "waits for locks of bins, default settings",
        unit: Unit::Count,
        read: Read::Figure("bin_lock_waits"),
        base: "one thread",
        other: "four threads",
        claim: None,
    },
    Row {
        what: "waits for locks of bins, one arena",
        unit: Unit::Count,
        read: Read::Figure("bin_lock_waits"),
        base: "four threads",
        other: "one arena",
        claim: None,
    },
    Row {
        what: "chunks starved of a CPU",
        unit: Unit::Count,
        read: Read::Figure("starved_chunks"),
        base: "one thread",
        other: "four threads",
        claim: None,
    },
    Row {
        what: "longest wait for a CPU with a chunk in hand",
        unit: Unit::Nanos,
        read: Read::Figure("run_queue_max_ns"),
        base: "one thread",
        other: "four threads",
        claim: Some(Claim::At(10e6)),
    },
    Row {
        what: "chunks per second",
        unit: Unit::PerSecond,
        read: Read::Metric(MetricId::Throughput),
        base: "glibc, four threads",
        other: "four threads",
        claim: None,
    },
];

const fn contended(what: &'static str, unit: Unit, read: Read) -> Row {
    Row { what, unit, read, base: "four threads", other: "one arena, no caches", claim: None }
}

/// Arenas of threads.
pub static E16: Experiment = Experiment {
    number: 16,
    title: "One arena for all threads, one for each, one for each on its NUMA node",
    about: "Ours: four threads tokenize chunks of 16 verses into bumpalo arenas that are reset after each batch of 64; \
            every word takes two allocations. With one arena, each allocation takes its lock. Bound to a node, a \
            thread runs on that node's CPUs and is the first to touch its arena's memory. Where the kernel tells of no \
            nodes, there is one. On a machine with one node \
            (figure numa_nodes = 1) there is nothing to choose between: the rows on nodes have no figure then, and the \
            source's 100 ns for local and 300 ns for remote memory, as its 52% with further tuning, are not tried at \
            all.",
    body: Body::Compare { arms: E16_ARMS, rows: E16_ROWS },
};

const E16_ARMS: &[Arm] = &[
    Arm { name: "shared", variant: "threads/arena-shared", allocator: "jemalloc", params: &[] },
    Arm { name: "local", variant: "threads/arena-local", allocator: "jemalloc", params: &[] },
    Arm { name: "bound", variant: "threads/arena-local", allocator: "jemalloc", params: &[("placement", "node")] },
];

const E16_ROWS: &[Row] = &[
    Row {
        what: "chunks per second",
        unit: Unit::PerSecond,
        read: Read::Metric(MetricId::Throughput),
        base: "shared",
        other: "local",
        claim: None,
    },
    Row {
        what: "CPU time of a chunk",
        unit: Unit::Nanos,
        read: Read::Metric(MetricId::CpuPerUnit),
        base: "shared",
        other: "local",
        claim: None,
    },
    Row {
        what: "chunks per second, bound to a NUMA node (more than one node only)",
        unit: Unit::PerSecond,
        read: Read::Figure("numa_chunks_per_s"),
        base: "local",
        other: "bound",
        claim: Some(Claim::Factor(1.38)),
    },
    Row {
        what: "NUMA nodes (1: one node, nothing to bind to)",
        unit: Unit::Count,
        read: Read::Figure("numa_nodes"),
        base: "shared",
        other: "local",
        claim: None,
    },
];

/// Two allocators side by side.
pub static E17: Experiment = Experiment {
    number: 17,
    title: "Arena and malloc side by side",
    about: "Ours: 64 MiB, all in large blocks of an arena that is made and given back with each batch, all in small \
            strings from malloc that are replaced all the time, or half and half; as many dependent reads at random \
            places in each case. The arena is bumpalo's, and so its memory comes from the allocator under test, in one \
            piece. The source counts misses of \
            the data TLB per second (124k and 98k alone, 412k mixed, which it calls 3.2 times) and 17.4% of the time \
            in page-table walks. Where the hardware counts misses, the rows with claims have a figure; a virtual \
            machine without such counters has none, and the time of a read (with its page-table walks, and its share of \
            filling arenas and replacing strings), page faults, page tables and the share of huge pages stand in for \
            it, without claims. The arena is made anew for each batch: that alone is where its page faults come from.",
    body: Body::Compare { arms: E17_ARMS, rows: E17_ROWS },
};

const E17_ARMS: &[Arm] = &[
    mixed("arena", "jemalloc", &[("part", "arena")]),
    mixed("malloc", "jemalloc", &[("part", "malloc")]),
    mixed("both", "jemalloc", &[("part", "both")]),
    mixed("both, huge pages", "jemalloc:thp=always", &[("part", "both")]),
];

const fn mixed(name: &'static str, allocator: &'static str, params: &'static [(&'static str, &'static str)]) -> Arm {
    Arm { name, variant: "mixed/side-by-side", allocator, params }
}

const E17_ROWS: &[Row] = &[
    side_by_side(
        "dTLB misses per second, against the arena",
        Unit::PerSecond,
        "dtlb_load_misses_per_s",
        "arena",
        Some(Claim::FromTo(124_000.0, 412_000.0)),
    ),
    side_by_side(
        "dTLB misses per second, against malloc",
        Unit::PerSecond,
        "dtlb_load_misses_per_s",
        "malloc",
        Some(Claim::FromTo(98_000.0, 412_000.0)),
    ),
    side_by_side("time of a read and its share of the rest, against the arena", Unit::Nanos, "read_ns", "arena", None),
    side_by_side("time of a read and its share of the rest, against malloc", Unit::Nanos, "read_ns", "malloc", None),
    side_by_side("page faults, against the arena", Unit::Count, "minor_faults", "arena", None),
    side_by_side("page faults, against malloc", Unit::Count, "minor_faults", "malloc", None),
    side_by_side("page tables, against the arena", Unit::Bytes, "page_table_bytes", "arena", None),
    side_by_side("page tables, against malloc", Unit::Bytes, "page_table_bytes", "malloc", None),
    huge_pages("resident memory in huge pages", Unit::Share, "huge_page_share"),
    huge_pages("time of a read and its share of the rest, with huge pages", Unit::Nanos, "read_ns"),
    huge_pages("page tables, with huge pages", Unit::Bytes, "page_table_bytes"),
];

const fn side_by_side(
    what: &'static str,
    unit: Unit,
    figure: &'static str,
    base: &'static str,
    claim: Option<Claim>,
) -> Row {
    Row { what, unit, read: Read::Figure(figure), base, other: "both", claim }
}

const fn huge_pages(what: &'static str, unit: Unit, figure: &'static str) -> Row {
    Row { what, unit, read: Read::Figure(figure), base: "both", other: "both, huge pages", claim: None }
}
