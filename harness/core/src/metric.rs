//! The catalogue of metrics: the one place that names them. Reports, the gate, exporters, dashboards and docs derive
//! from it.
//!
//! To add a metric, add one entry to the table below.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::report::{Counts, Live, Phase, PhaseKind, Stalls, Trial};
use crate::stats::histogram;

/// What a metric's values measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A plain number.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanos,
    /// Units of work per second.
    PerSecond,
    /// A share from 0 to 1.
    Share,
}

impl Unit {
    /// The unit that the name of a workload's own figure ends in: `_bytes`, `_ns`, `_per_s`, `_share`; else a plain
    /// number.
    #[must_use]
    pub fn of_figure(name: &str) -> Self {
        let suffixes =
            [("_bytes", Self::Bytes), ("_ns", Self::Nanos), ("_per_s", Self::PerSecond), ("_share", Self::Share)];
        suffixes.into_iter().find(|(suffix, _)| name.ends_with(suffix)).map_or(Self::Count, |(_, unit)| unit)
    }

    /// `value` in Prometheus's base unit: seconds for nanoseconds, all else as it is.
    #[must_use]
    pub fn to_base(self, value: f64) -> f64 {
        match self {
            Self::Nanos => value / 1e9,
            Self::Count | Self::Bytes | Self::PerSecond | Self::Share => value,
        }
    }
}

/// Which way is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// What kind of evidence a metric gives, and so by which rule it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same in every repetition and on every machine: a single difference is news.
    Exact,
    /// Differs from run to run: decided on repeated fresh processes.
    Noisy,
    /// Read off a latency histogram.
    Distribution,
}

/// When a value is a regression. `None` in both: reported, never gated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, JsonSchema)]
pub struct Limits {
    /// Largest allowed change for the worse against the baseline, as a fraction: 0.15 is 15 %.
    pub soft: Option<f64>,
    /// A value, in the metric's unit, that may not be passed whatever the baseline says.
    pub hard: Option<f64>,
}

/// One entry of the catalogue.
#[derive(Debug)]
pub struct Metric {
    /// Name in reports and in `heapgate.toml`.
    pub name: &'static str,
    /// Unit of the value.
    pub unit: Unit,
    /// Which way is an improvement.
    pub better: Better,
    /// By which rule it is decided.
    pub kind: Kind,
    /// Limits where `heapgate.toml` gives none.
    pub limits: Limits,
    /// Name for Prometheus, by its conventions: base units ([`Unit::to_base`]), ratios for shares, no unit shortened.
    pub prometheus: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Computes the value from a trial; `None` where the trial did not measure it.
    pub read: fn(&Trial) -> Option<f64>,
}

const UNGATED: Limits = Limits { soft: None, hard: None };
/// Exact counts: any difference counts.
const EXACT: Limits = Limits { soft: Some(0.0), hard: None };
/// Live objects may grow by a fifth before it is called a regression (E25).
const LIVE: Limits = Limits { soft: Some(0.20), hard: None };
/// Resident memory may grow by 15 % (E25).
const RSS: Limits = Limits { soft: Some(0.15), hard: None };
/// A P95 stall of 8 ms is half a frame of 60 Hz and a missed deadline whatever it was before (E25).
const STALL_P95: Limits = Limits { soft: None, hard: Some(8_000_000.0) };

/// From day to day one machine class serves page faults and locks at half or twice the speed; what is slower by more is
/// the program. Interleaved comparisons (`heapgate ab`) hold it to [`INTERLEAVED_SHAPE`].
const SHAPE: Limits = Limits { soft: Some(1.0), hard: None };

/// The limit of [`MetricId::StallDistribution`] where both sides ran at the same time on one machine. Two builds of the same
/// code in different folders were seen to differ by 28% at some place, by nothing but how the linker laid them out.
pub const INTERLEAVED_SHAPE: f64 = 0.5;

macro_rules! catalogue {
    ($($id:ident { $name:literal, $unit:ident, $better:ident, $kind:ident, $limits:expr, $prom:literal, $help:literal, $read:expr })*) => {
        /// Names one metric of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum MetricId { $(#[doc = $help] $id),* }

        /// Every metric, in the order in which tables show them.
        pub const ALL: &[MetricId] = &[$(MetricId::$id),*];

        impl MetricId {
            /// The metric's entry.
            #[must_use]
            pub fn metric(self) -> &'static Metric {
                match self {
                    $(Self::$id => &Metric {
                        name: $name, unit: Unit::$unit, better: Better::$better, kind: Kind::$kind, limits: $limits,
                        prometheus: $prom, help: $help, read: $read,
                    }),*
                }
            }
        }
    };
}

catalogue! {
    AllocationsPerUnit { "allocations_per_unit", Count, Lower, Exact, EXACT, "heapgate_run_allocations_per_unit",
        "Calls of alloc, alloc_zeroed and realloc per unit of work.",
        |t| per_unit(t, |p| p.counts.allocation_calls()) }
    ReallocationsPerUnit { "reallocations_per_unit", Count, Lower, Exact, EXACT, "heapgate_run_reallocations_per_unit",
        "Calls of realloc per unit of work: containers that grow.",
        |t| per_unit(t, |p| p.counts.realloc_calls) }
    AllocatedBytesPerUnit { "allocated_bytes_per_unit", Bytes, Lower, Exact, EXACT, "heapgate_run_allocated_bytes_per_unit",
        "Bytes asked for per unit of work.",
        |t| per_unit(t, |p| p.counts.allocated_bytes()) }
    PeakLiveObjects { "peak_live_objects", Count, Lower, Exact, LIVE, "heapgate_run_peak_live_objects",
        "Most objects alive at one time while measuring.",
        |t| live(t, measure(t), |live| live.peak_objects) }
    PeakLiveBytes { "peak_live_bytes", Bytes, Lower, Exact, LIVE, "heapgate_run_peak_live_bytes",
        "Most bytes alive at one time while measuring, as requested.",
        |t| live(t, measure(t), |live| live.peak_bytes) }
    LeftObjects { "left_objects", Count, Lower, Exact, EXACT, "heapgate_run_left_objects",
        "Objects still alive after everything was dropped: leaks and caches.",
        |t| live(t, drain(t), |live| live.objects) }
    LeftBytes { "left_bytes", Bytes, Lower, Exact, EXACT, "heapgate_run_left_bytes",
        "Bytes still alive after everything was dropped, as requested.",
        |t| live(t, drain(t), |live| live.bytes) }
    EscapedObjects { "escaped_objects", Count, Lower, Exact, EXACT, "heapgate_run_escaped_objects",
        "Objects alive when their region scope ended.",
        |t| drain(t)?.region.as_ref().map(|r| r.escaped_objects as f64) }
    RegionPeakChunks { "region_peak_chunks", Count, Lower, Exact, LIVE, "heapgate_run_region_peak_chunks",
        "Most region chunks in use at one time.",
        |t| drain(t)?.region.as_ref().map(|r| r.chunks_peak as f64) }
    PeakRss { "peak_rss_bytes", Bytes, Lower, Noisy, RSS, "heapgate_run_peak_rss_bytes",
        "Most resident memory while measuring.",
        |t| measure(t)?.process.map(|p| p.peak_rss_bytes as f64) }
    LeftRss { "left_rss_bytes", Bytes, Lower, Noisy, RSS, "heapgate_run_left_rss_bytes",
        "Resident memory after everything was dropped and purging was asked for: what the allocator kept.",
        |t| drain(t)?.process.map(|p| p.rss_bytes as f64) }
    PageTables { "page_table_bytes", Bytes, Lower, Noisy, UNGATED, "heapgate_run_page_table_bytes",
        "Page tables at the end of measuring.",
        |t| measure(t)?.process.map(|p| p.page_table_bytes as f64) }
    Fragmentation { "fragmentation_share", Share, Lower, Noisy, UNGATED, "heapgate_run_fragmentation_ratio",
        "Share of the allocator's active pages that hold no live byte (jemalloc), at the end of measuring.",
        |t| measure(t)?.allocator.filter(|a| a.active_bytes > 0)
            .map(|a| 1.0 - a.allocated_bytes as f64 / a.active_bytes as f64) }
    MinorFaults { "minor_faults", Count, Lower, Noisy, UNGATED, "heapgate_run_minor_faults",
        "Page faults without I/O while measuring.",
        |t| measure(t)?.process.map(|p| p.minor_faults as f64) }
    InvoluntarySwitches { "involuntary_switches", Count, Lower, Noisy, UNGATED, "heapgate_run_involuntary_switches",
        "Times the scheduler took the process off its CPU while measuring: how disturbed the run was.",
        |t| measure(t)?.process.map(|p| p.involuntary_switches as f64) }
    Throughput { "throughput_per_s", PerSecond, Higher, Noisy, UNGATED, "heapgate_run_throughput_per_second",
        "Units of work per second, telemetry included.",
        |t| measure(t).filter(|p| p.wall_s > 0.0).map(|p| p.units as f64 / p.wall_s) }
    CpuPerUnit { "cpu_ns_per_unit", Nanos, Lower, Noisy, UNGATED, "heapgate_run_cpu_seconds_per_unit",
        "CPU time per unit of work, telemetry included.",
        |t| measure(t).filter(|p| p.units > 0).and_then(|p| Some(p.process?.cpu_ns as f64 / p.units as f64)) }
    StallShare { "stall_share", Share, Lower, Noisy, UNGATED, "heapgate_run_stall_ratio",
        "Share of the measured wall time spent inside the allocator, uninterrupted calls.",
        |t| Some(stall_sum_ns(t)? / 1e9 / measure(t).filter(|p| p.wall_s > 0.0)?.wall_s) }
    StallPerUnit { "stall_ns_per_unit", Nanos, Lower, Noisy, UNGATED, "heapgate_run_stall_seconds_per_unit",
        "Time spent inside the allocator per unit of work, uninterrupted calls.",
        |t| Some(stall_sum_ns(t)? / measure(t).filter(|p| p.units > 0)?.units as f64) }
    StallMean { "stall_mean_ns", Nanos, Lower, Noisy, UNGATED, "heapgate_run_stall_mean_seconds",
        "Mean time of an uninterrupted allocator call.",
        |t| mean_ns(t, |stalls| histogram::merged(&stalls.clean)) }
    RssSwing { "rss_swing_share", Share, Lower, Noisy, UNGATED, "heapgate_run_rss_swing_ratio",
        "How far resident memory swings while measuring: highest less lowest, over the mean.",
        rss_swing }
    StallP50 { "stall_p50_ns", Nanos, Lower, Distribution, UNGATED, "heapgate_run_stall_p50_seconds",
        "Median time of an uninterrupted allocator call.", |t| stall(t, 0.50) }
    StallP95 { "stall_p95_ns", Nanos, Lower, Distribution, STALL_P95, "heapgate_run_stall_p95_seconds",
        "95th percentile of the time of an allocator call, interrupted ones too: they are too few to move it, unless the allocator itself waits.",
        |t| stall_of_all(t, 0.95) }
    StallP99 { "stall_p99_ns", Nanos, Lower, Distribution, UNGATED, "heapgate_run_stall_p99_seconds",
        "99th percentile of the time of an uninterrupted allocator call.", |t| stall(t, 0.99) }
    StallP999 { "stall_p999_ns", Nanos, Lower, Distribution, UNGATED, "heapgate_run_stall_p999_seconds",
        "99.9th percentile of the time of an uninterrupted allocator call.", |t| stall(t, 0.999) }
    StallDistribution { "stall_distribution_ns", Nanos, Lower, Distribution, SHAPE, "heapgate_run_stall_distribution_seconds",
        "Times of uninterrupted allocator calls, shown by their mean and compared as whole histograms: no part may become slower by more than the limit.",
        |t| mean_ns(t, |stalls| histogram::merged(&stalls.clean)) }
    InterruptedDistribution { "interrupted_distribution_ns", Nanos, Lower, Distribution, UNGATED, "heapgate_run_interrupted_distribution_seconds",
        "Times of allocator calls that the scheduler interrupted, shown by their mean and compared as whole histograms.",
        |t| mean_ns(t, |stalls| histogram::merged(&stalls.interrupted)) }
    StallMax { "stall_max_ns", Nanos, Lower, Distribution, UNGATED, "heapgate_run_stall_max_seconds",
        "Longest uninterrupted allocator call.", |t| stall(t, 1.0) }
    StallAllMax { "stall_all_max_ns", Nanos, Lower, Distribution, UNGATED, "heapgate_run_stall_all_max_seconds",
        "Longest allocator call, interrupted ones too: what it has over stall_max_ns is the scheduler's, or a wait inside the allocator.",
        |t| stall_of_all(t, 1.0) }
}

/// Every metric that `trial` measured: what belongs in [`Trial::metrics`].
#[must_use]
pub fn read_all(trial: &Trial) -> BTreeMap<MetricId, f64> {
    ALL.iter().filter_map(|&id| Some((id, (id.metric().read)(trial)?))).collect()
}

/// The trial's phase of `kind`, if it ended.
fn phase(trial: &Trial, kind: PhaseKind) -> Option<&Phase> {
    trial.phases.iter().find(|p| p.kind == kind && p.ended)
}

fn measure(trial: &Trial) -> Option<&Phase> {
    phase(trial, PhaseKind::Measure)
}

fn drain(trial: &Trial) -> Option<&Phase> {
    phase(trial, PhaseKind::Drain)
}

/// A figure of what is live, unless nothing was counted.
fn live(trial: &Trial, phase: Option<&Phase>, figure: fn(&Live) -> i64) -> Option<f64> {
    phase.filter(|_| trial.level != "off").map(|phase| figure(&phase.live) as f64)
}

fn per_unit(trial: &Trial, count: fn(&Phase) -> u64) -> Option<f64> {
    measure(trial).filter(|p| p.units > 0 && trial.level != "off").map(|p| count(p) as f64 / p.units as f64)
}

/// Time spent in clean calls of the measured phase, ns.
fn stall_sum_ns(trial: &Trial) -> Option<f64> {
    let phase = measure(trial).filter(|_| trial.ticks_per_second > 0.0)?;
    Some(histogram::sum_ticks(&histogram::merged(&phase.stalls.clean)) / trial.ticks_per_second * 1e9)
}

/// Mean of a histogram of the measured phase, ns; `None` of no calls.
fn mean_ns(trial: &Trial, histogram: fn(&Stalls) -> Vec<(u32, u64)>) -> Option<f64> {
    let phase = measure(trial).filter(|_| trial.ticks_per_second > 0.0)?;
    let buckets = histogram(&phase.stalls);
    let calls = histogram::count(&buckets);
    (calls > 0).then(|| histogram::sum_ticks(&buckets) / trial.ticks_per_second * 1e9 / calls as f64)
}

/// (highest − lowest) / mean of the samples within the measured phase.
fn rss_swing(trial: &Trial) -> Option<f64> {
    /// Fewer samples than this (a tenth of a second) are a snapshot, not a curve.
    const LEAST_SAMPLES: usize = 10;
    let phase = measure(trial)?;
    let within = phase.start_s * 1e3..=(phase.start_s + phase.wall_s) * 1e3;
    let samples: Vec<f64> =
        trial.rss_series.iter().filter(|(ms, _)| within.contains(ms)).map(|&(_, bytes)| bytes as f64).collect();
    if samples.len() < LEAST_SAMPLES {
        return None;
    }
    let (lowest, highest) =
        samples.iter().fold((f64::INFINITY, 0f64), |(low, high), &bytes| (low.min(bytes), high.max(bytes)));
    let mean = samples.iter().sum::<f64>() / samples.len() as f64;
    (mean > 0.0).then_some((highest - lowest) / mean)
}

/// Quantile `q` of the clean calls of the measured phase, all operations together, ns.
fn stall(trial: &Trial, q: f64) -> Option<f64> {
    stall_in(trial, q, |stalls| histogram::merged(&stalls.clean))
}

/// Quantile `q` of all calls, clean and interrupted.
fn stall_of_all(trial: &Trial, q: f64) -> Option<f64> {
    stall_in(trial, q, |stalls| {
        let [clean, interrupted] = [&stalls.clean, &stalls.interrupted].map(histogram::merged);
        histogram::total([clean.as_slice(), interrupted.as_slice()])
    })
}

/// 0 where calls were to be timed and there were none.
fn stall_in(trial: &Trial, q: f64, histogram: fn(&Stalls) -> Vec<(u32, u64)>) -> Option<f64> {
    let phase = measure(trial)?;
    if trial.ticks_per_second <= 0.0 {
        return None;
    }
    if phase.counts == Counts::default() {
        return Some(0.0);
    }
    Some(histogram::quantile(&histogram(&phase.stalls), q)? / trial.ticks_per_second * 1e9)
}

impl fmt::Display for MetricId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.metric().name)
    }
}

/// A name that no metric of the catalogue has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric '{0}'; `heapgate list metrics` shows them all")]
pub struct UnknownMetric(pub String);

impl FromStr for MetricId {
    type Err = UnknownMetric;
    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        ALL.iter().copied().find(|m| m.metric().name == name).ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}

impl Serialize for MetricId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.metric().name)
    }
}

impl<'de> Deserialize<'de> for MetricId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for MetricId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MetricId".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = ALL.iter().map(|m| m.metric().name).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}
