//! Experiments on our own transformer: forms of KV cache, operators, and memory that is released early.

use heapgate_core::experiment::{Arm, Body, Claim, Experiment, Read, Row};
use heapgate_core::metric::{MetricId, Unit};
use heapgate_core::report::{PhaseKind, Trial};

/// E3.
pub static STREAMING_DECODE: Experiment = Experiment {
    number: 3,
    title: "Streaming decode with four forms of KV cache",
    about: "One step decodes one chunk of 320 samples (20 ms, synthesized) in our own transformer: 4 layers, width 128, \
            f32, batch 1, two streams of 512 chunks. The source's pauses are those of a garbage collector; here a stall \
            is time spent in the allocator in uninterrupted calls, summed over a step, for the mean and the P95; what \
            a step spends in changing its cache, copying included, is a row of its own. The source's model is larger, so factors are compared, not milliseconds. A cache in place stops allocating, so the \
            factor of its stall is 0. Fragmentation is jemalloc's at the end of the measured phase; what of the cache \
            itself is unused is a row of its own: a cache in place has room for the whole stream from its start, so on \
            average half of it is empty.",
    body: Body::Compare {
        arms: &[
            arm("concat", "decode/kv-concat", "jemalloc", &[]),
            arm("in-place", "decode/kv-inplace", "jemalloc", &[]),
            arm("sliding", "decode/kv-sliding", "jemalloc", &[]),
            arm("paged", "decode/kv-paged", "jemalloc", &[]),
            arm("concat, system", "decode/kv-concat", "system", &[]),
            arm("in-place, system", "decode/kv-inplace", "system", &[]),
        ],
        rows: &[
            Row { claim: Some(Claim::FromTo(8.7e6, 1.4e6)), ..stall_per_step("concat", "in-place") },
            Row { claim: Some(Claim::FromTo(14.2e6, 2.1e6)), ..stall_step_p95("concat", "in-place") },
            cache_p95("concat", "in-place"),
            Row {
                claim: Some(Claim::FromTo(0.38, 0.06)),
                ..metric("fragmentation", Unit::Share, MetricId::Fragmentation, "concat", "in-place")
            },
            row("fragmentation with dirty pages", Unit::Share, Read::Of(not_live_share), "concat", "in-place"),
            figure("KV cache unused", Unit::Share, "kv_fragmentation_share", "concat", "in-place"),
            metric("allocations per step", Unit::Count, MetricId::AllocationsPerUnit, "concat", "in-place"),
            figure("step latency, mean", Unit::Nanos, "step_mean_ns", "concat", "in-place"),
            figure("step latency, P95", Unit::Nanos, "step_p95_ns", "concat", "in-place"),
            metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "concat", "in-place"),
            stall_per_step("concat", "sliding"),
            stall_step_p95("concat", "sliding"),
            cache_p95("concat", "sliding"),
            figure("step latency, mean", Unit::Nanos, "step_mean_ns", "concat", "sliding"),
            figure("KV cache unused", Unit::Share, "kv_fragmentation_share", "concat", "sliding"),
            metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "concat", "sliding"),
            stall_per_step("concat", "paged"),
            stall_step_p95("concat", "paged"),
            cache_p95("concat", "paged"),
            metric("fragmentation", Unit::Share, MetricId::Fragmentation, "concat", "paged"),
            figure("KV cache unused", Unit::Share, "kv_fragmentation_share", "in-place", "paged"),
            figure("step latency, mean", Unit::Nanos, "step_mean_ns", "in-place", "paged"),
            metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "concat", "paged"),
            stall_per_step("concat, system", "in-place, system"),
            stall_step_p95("concat, system", "in-place, system"),
            cache_p95("concat, system", "in-place, system"),
            metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "concat, system", "in-place, system"),
        ],
    },
};

/// E15.
pub static OPERATORS: Experiment = Experiment {
    number: 15,
    title: "Operators in place against operators with fresh buffers",
    about: "Operators of our own transformer on 1024 rows of 128 values, f32: with a fresh buffer for every intermediate \
            and result, as eager tensor code has it, and in place. The source doesn't say what memory it means. The \
            claims are held against the most live bytes of the whole process, its input and weights among them, so they \
            depend on how many intermediates the allocating form has; it has those of the plain formula. Bytes \
            allocated per pass fall to 0 in place. A matmul pass is four linear layers. The fresh form keeps every \
            product to the end of the pass, by choice; in the pooled form they take turns in two buffers. Time is that \
            of the operator alone, without making its input and hashing its answer.",
    body: Body::Compare {
        arms: &[
            arm("matmul, fresh", "operators/allocating", "jemalloc", &[("op", "matmul")]),
            arm("matmul, pooled", "operators/inplace", "jemalloc", &[("op", "matmul")]),
            arm("softmax, fresh", "operators/allocating", "jemalloc", &[("op", "softmax")]),
            arm("softmax, in place", "operators/inplace", "jemalloc", &[("op", "softmax")]),
            arm("layer norm, fresh", "operators/allocating", "jemalloc", &[("op", "layer_norm")]),
            arm("layer norm, fused", "operators/inplace", "jemalloc", &[("op", "layer_norm")]),
            arm("gelu, fresh", "operators/allocating", "jemalloc", &[("op", "gelu")]),
            arm("gelu, in place", "operators/inplace", "jemalloc", &[("op", "gelu")]),
        ],
        rows: &[
            Row { claim: Some(Claim::Factor(1.0 - 0.68)), ..peak_live("matmul, fresh", "matmul, pooled") },
            Row { claim: Some(Claim::Factor(1.0 - 0.42)), ..peak_live("softmax, fresh", "softmax, in place") },
            Row { claim: Some(Claim::Factor(1.0 - 0.55)), ..peak_live("layer norm, fresh", "layer norm, fused") },
            peak_live("gelu, fresh", "gelu, in place"),
            allocated("matmul, fresh", "matmul, pooled"),
            allocated("softmax, fresh", "softmax, in place"),
            allocated("layer norm, fresh", "layer norm, fused"),
            allocated("gelu, fresh", "gelu, in place"),
            operator_time("matmul, fresh", "matmul, pooled"),
            operator_time("softmax, fresh", "softmax, in place"),
            operator_time("layer norm, fresh", "layer norm, fused"),
            operator_time("gelu, fresh", "gelu, in place"),
        ],
    },
};

/// E18.
pub static SCOPED_EXPIRY: Experiment = Experiment {
    number: 18,
    title: "KV cache released by scope",
    about: "Four generations of 65,536 or 131,072 positions think and answer in turns; the blocks of a thought expire \
            when it is over, or are kept to the end of their generation. The bookkeeping is the source's, the model is \
            not: 1 layer of width 16, on a CPU, so a position takes 128 bytes where the source's takes up to 152 KiB, \
            and a step attends to the newest two blocks and 16 landmarks among the live ones, not to all. So factors are compared, \
            and a step's latency holds little of what attention to fewer positions would save. How much is saved \
            follows from how much of a generation is thought: here somewhat under half (the figure expired_share), in \
            the source unknown. Each run is two generations a sequence; without scopes the second reuses the blocks of \
            the first, and the first reuses none.",
    body: Body::Compare {
        arms: &[
            arm("64K end", "decode/expiry", "jemalloc", &[("release", "end"), ("positions", "65536")]),
            arm("64K scoped", "decode/expiry", "jemalloc", &[("release", "scoped"), ("positions", "65536")]),
            arm(
                "64K streaming, end",
                "decode/expiry",
                "jemalloc",
                &[("release", "end"), ("positions", "65536"), ("arrival", "streaming")],
            ),
            arm(
                "64K streaming, scoped",
                "decode/expiry",
                "jemalloc",
                &[("release", "scoped"), ("positions", "65536"), ("arrival", "streaming")],
            ),
            arm("128K end", "decode/expiry", "jemalloc", &[("release", "end"), ("positions", "131072")]),
            arm("128K scoped", "decode/expiry", "jemalloc", &[("release", "scoped"), ("positions", "131072")]),
        ],
        rows: &[
            Row { claim: Some(Claim::FromTo(38.2 * GIB, 24.1 * GIB)), ..kv_peak("64K end", "64K scoped") },
            Row { claim: Some(Claim::FromTo(142e6, 98e6)), ..step_p99("64K end", "64K scoped") },
            Row {
                claim: Some(Claim::FromTo(31.5 * GIB, 19.6 * GIB)),
                ..kv_peak("64K streaming, end", "64K streaming, scoped")
            },
            Row { claim: Some(Claim::FromTo(87e6, 53e6)), ..step_p99("64K streaming, end", "64K streaming, scoped") },
            Row { claim: Some(Claim::Factor(2.1)), ..throughput("128K end", "128K scoped") },
            Row { claim: Some(Claim::FromTo(0.41, 0.68)), ..block_reuse("64K end", "64K scoped") },
            block_reuse("64K streaming, end", "64K streaming, scoped"),
            throughput("64K end", "64K scoped"),
            kv_peak("128K end", "128K scoped"),
            metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "64K end", "64K scoped"),
            metric("peak RSS", Unit::Bytes, MetricId::PeakRss, "64K streaming, end", "64K streaming, scoped"),
            metric("allocations per token", Unit::Count, MetricId::AllocationsPerUnit, "64K end", "64K scoped"),
            figure("positions in thoughts", Unit::Share, "expired_share", "64K end", "64K scoped"),
        ],
    },
};

/// E20.
pub static EARLY_RELEASE: Experiment = Experiment {
    number: 20,
    title: "Early release of activations by confidence",
    about: "A batch of verses of 64 bytes is read by our own transformer (4 layers, width 64), which keeps what every \
            layer gave at every position for the answer. Samples whose confidence (largest softmax of four classes) is \
            under 0.65 get no answer; their activations are freed at once, or at the end of the step with all others. \
            Weights are seeded, not trained, so how many samples are under the bar is a property of our head (the \
            figure unsure_share) and decides the result; the source doesn't say its own. Logits are multiplied by 2 so \
            that some samples are unsure and others not. Samples of a batch are read one after another, so those that \
            are unsure are gone before the next is read; were they read side by side, all would be held until the \
            confidences are known, and nothing would be saved at the peak. The feasible batch is \
            found by filling batches until the next sample's activations would pass 1024 KiB, which is what 16 samples \
            need when all are kept: the claimed 16 is so by choice, what is found for early release is measured.",
    body: Body::Compare {
        arms: &[
            arm("end of step", "decode/early-release", "jemalloc", &[("release", "end-of-step")]),
            arm("early", "decode/early-release", "jemalloc", &[("release", "early")]),
            arm("early, 32", "decode/early-release", "jemalloc", &[("release", "early"), ("batch", "32")]),
        ],
        rows: &[
            Row {
                claim: Some(Claim::FromTo(16.0, 32.0)),
                ..figure("feasible batch", Unit::Count, "feasible_batch", "end of step", "early")
            },
            figure("peak of activations", Unit::Bytes, "activation_peak_bytes", "end of step", "early"),
            figure("peak of activations", Unit::Bytes, "activation_peak_bytes", "end of step", "early, 32"),
            peak_live("end of step", "early"),
            peak_live("end of step", "early, 32"),
            figure("samples under the bar", Unit::Share, "unsure_share", "end of step", "early"),
            throughput("end of step", "early"),
        ],
    },
};

const GIB: f64 = (1u64 << 30) as f64;

const fn arm(
    name: &'static str,
    variant: &'static str,
    allocator: &'static str,
    params: &'static [(&'static str, &'static str)],
) -> Arm {
    Arm { name, variant, allocator, params }
}

const fn row(what: &'static str, unit: Unit, read: Read, base: &'static str, other: &'static str) -> Row {
    Row { what, unit, read, base, other, claim: None }
}

const fn metric(what: &'static str, unit: Unit, id: MetricId, base: &'static str, other: &'static str) -> Row {
    row(what, unit, Read::Metric(id), base, other)
}

const fn figure(what: &'static str, unit: Unit, name: &'static str, base: &'static str, other: &'static str) -> Row {
    row(what, unit, Read::Figure(name), base, other)
}

const fn stall_per_step(base: &'static str, other: &'static str) -> Row {
    metric("stall per step, mean", Unit::Nanos, MetricId::StallPerUnit, base, other)
}

const fn stall_step_p95(base: &'static str, other: &'static str) -> Row {
    figure("stall per step, P95", Unit::Nanos, "stall_step_p95_ns", base, other)
}

const fn cache_p95(base: &'static str, other: &'static str) -> Row {
    figure("time in the cache per step, P95", Unit::Nanos, "cache_p95_ns", base, other)
}

const fn peak_live(base: &'static str, other: &'static str) -> Row {
    metric("peak live bytes", Unit::Bytes, MetricId::PeakLiveBytes, base, other)
}

const fn allocated(base: &'static str, other: &'static str) -> Row {
    metric("bytes allocated per pass", Unit::Bytes, MetricId::AllocatedBytesPerUnit, base, other)
}

const fn operator_time(base: &'static str, other: &'static str) -> Row {
    figure("time of an operator, mean", Unit::Nanos, "operator_mean_ns", base, other)
}

const fn throughput(base: &'static str, other: &'static str) -> Row {
    metric("throughput", Unit::PerSecond, MetricId::Throughput, base, other)
}

const fn kv_peak(base: &'static str, other: &'static str) -> Row {
    figure("KV memory, peak", Unit::Bytes, "kv_peak_bytes", base, other)
}

const fn step_p99(base: &'static str, other: &'static str) -> Row {
    figure("step latency, P99", Unit::Nanos, "step_p99_ns", base, other)
}

const fn block_reuse(base: &'static str, other: &'static str) -> Row {
    figure("blocks reused", Unit::Share, "block_reuse_share", base, other)
}

/// Share of what jemalloc has resident that is in nobody's hands, pages kept for reuse among them, at the end of the
/// measured phase.
fn not_live_share(trial: &Trial) -> Option<f64> {
    let measured = trial.phases.iter().find(|phase| phase.kind == PhaseKind::Measure && phase.ended)?;
    let stats = measured.allocator.filter(|stats| stats.resident_bytes > 0)?;
    Some(1.0 - stats.allocated_bytes as f64 / stats.resident_bytes as f64)
}
