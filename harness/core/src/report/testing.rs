//! Small reports for tests: whole, consistent (every metric is what its trial gives), and the same every time.

use std::collections::BTreeMap;

use heapgate_segment::histogram::bucket_of;
use serde::Serialize;
use serde_json::Value;

use super::*;
use crate::metric::{self, Kind, MetricId};
use crate::stats::sample;

/// Units of work of every measured phase.
const UNITS: u64 = 1000;
/// Steps of each trial.
const STEPS: u64 = 10;
/// Ticks per second of every trial: 1 tick is 1 ns.
const TICKS_PER_SECOND: f64 = 1e9;

/// A report of `cells` cells (of workloads `tokenize`, `decode` and `embed` in turn) with `reps` repetitions each.
/// Exact metrics agree between repetitions, noisy ones differ by some thousandths.
#[must_use]
pub fn report(cells: usize, reps: u32) -> Report {
    let trials = (0..reps).flat_map(|rep| (0..cells).map(move |index| trial(cell(index), rep))).collect();
    Report {
        schema_version: SCHEMA_VERSION,
        created_unix_s: 1_760_000_000,
        seed: 7,
        complete: true,
        shard: None,
        fingerprint: fingerprint(),
        trials,
    }
}

/// What the reports are made on.
#[must_use]
pub fn fingerprint() -> Fingerprint {
    Fingerprint {
        build: Build {
            heapgate: "0.1.0".into(),
            rustc: "rustc 1.95.0".into(),
            lock_hash: "5f0c".into(),
            profile: "release".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            commit: "0123abc".into(),
        },
        machine: Machine {
            arch: "x86_64".into(),
            cpu: "Intel(R) Xeon(R) Processor @ 2.10GHz".into(),
            cpus: 2,
            memory_gib: 24,
            kernel: "6.1".into(),
            libc: "glibc 2.39".into(),
            page_bytes: 4096,
            thp: "madvise".into(),
        },
    }
}

/// The cell number `index`.
#[must_use]
pub fn cell(index: usize) -> Cell {
    let (workload, variant) =
        [("tokenize", "hf-wordpiece"), ("decode", "json-owned"), ("embed", "mean-pool")][index % 3];
    Cell {
        workload: workload.into(),
        variant: if index < 3 { variant.into() } else { format!("{variant}-{}", index / 3) },
        allocator: "jemalloc".into(),
        params: BTreeMap::from([("batch".to_owned(), "32".to_owned())]),
    }
}

/// One completed trial.
#[must_use]
pub fn trial(cell: Cell, rep: u32) -> Trial {
    let jitter = 1.0 + 0.002 * f64::from(rep % 5);
    let phases = [PhaseKind::Setup, PhaseKind::Warmup, PhaseKind::Measure, PhaseKind::Drain]
        .into_iter()
        .enumerate()
        .map(|(index, kind)| phase(kind, index as f64, jitter))
        .collect();
    let mut trial = Trial {
        cell,
        unit: "token".into(),
        rep,
        outcome: Outcome::Completed,
        level: "exact".into(),
        wall_s: 4.0,
        lifetime_peak_rss_bytes: 48 << 20,
        steal_share: Some(0.001),
        phases,
        rss_series: vec![(0.0, 4 << 20), (10.0, 40 << 20)],
        live_series: vec![(3, 96), (200, 20_000)],
        memory_series: Vec::new(),
        ticks_per_second: TICKS_PER_SECOND,
        interrupted_split: "available".into(),
        metrics: BTreeMap::new(),
        figures: BTreeMap::new(),
        sites: None,
        notes: Vec::new(),
    };
    recompute(&mut trial);
    trial
}

fn phase(kind: PhaseKind, start_s: f64, jitter: f64) -> Phase {
    let measured = kind == PhaseKind::Measure;
    let noisy = |value: f64| (value * jitter).round() as u64;
    Phase {
        kind,
        ended: true,
        start_s,
        wall_s: 0.008 * jitter,
        units: if measured { UNITS } else { 0 },
        steps: if measured { STEPS } else { 0 },
        checksum: if measured { "9f86d081884c7d65".into() } else { String::new() },
        counts: if measured { counts() } else { Counts::default() },
        live: match kind {
            PhaseKind::Drain => Live { objects: 3, bytes: 96, peak_objects: 3, peak_bytes: 96, ..Live::default() },
            _ => Live { objects: 900, bytes: 90_000, peak_objects: 1_200, peak_bytes: 3_400_000, ..Live::default() },
        },
        size_classes: if measured { vec![(16, 12_000, 12_000), (64, 8_000, 7_997)] } else { Vec::new() },
        stalls: if measured { stalls() } else { Stalls::default() },
        process: Some(Process {
            rss_bytes: noisy(36e6),
            anonymous_bytes: noisy(28e6),
            file_bytes: noisy(8e6),
            page_table_bytes: noisy(180_000.0),
            peak_rss_bytes: noisy(41.2 * 1_048_576.0),
            minor_faults: noisy(10_400.0),
            involuntary_switches: noisy(1000.0),
            cpu_ns: noisy(7_600_000.0),
            threads: 1,
            rss_samples: 40,
            ..Process::default()
        }),
        allocator: Some(AllocatorStats {
            allocated_bytes: 3_200_000,
            active_bytes: 4_000_000,
            resident_bytes: 8_000_000,
            mapped_bytes: 16_000_000,
            retained_bytes: 2_000_000,
            metadata_bytes: 300_000,
        }),
        region: None,
    }
}

fn counts() -> Counts {
    Counts {
        alloc_calls: 18_000,
        alloc_bytes: 800_000,
        alloc_zeroed_calls: 500,
        alloc_zeroed_bytes: 40_000,
        realloc_calls: 1_500,
        realloc_new_bytes: 200_000,
        realloc_old_bytes: 100_000,
        dealloc_calls: 18_497,
        dealloc_bytes: 939_904,
        failed_calls: 0,
    }
}

fn stalls() -> Stalls {
    let at = |ns: &[(u64, u64)]| ns.iter().map(|&(ns, n)| (bucket_of(ns) as u32, n)).collect::<Vec<_>>();
    Stalls {
        clean: ByOperation {
            alloc: at(&[(40, 17_000), (1_200, 990), (90_000, 10)]),
            alloc_zeroed: at(&[(60, 500)]),
            realloc: at(&[(120, 1_500)]),
            dealloc: at(&[(30, 18_497)]),
        },
        interrupted: ByOperation { alloc: at(&[(4_000_000, 2)]), ..ByOperation::default() },
    }
}

/// Computes the metrics of `trial` again, after its parts were changed.
pub fn recompute(trial: &mut Trial) {
    trial.metrics = metric::read_all(trial);
}

/// Changes the parts of `trial` so that `metric` becomes `value`, as near as whole numbers allow. Setting a quantile of
/// the stalls sets them all: every call then takes that long.
///
/// # Panics
/// If the metric can't be set alone: see [`can_be_set`].
pub fn set(trial: &mut Trial, metric: MetricId, value: f64) {
    let whole = value.round().max(0.0) as u64;
    let per_unit = (value * UNITS as f64).round() as u64;
    match metric {
        MetricId::AllocationsPerUnit => {
            let counts = &mut phase_of(trial, PhaseKind::Measure).counts;
            counts.alloc_calls = per_unit.saturating_sub(counts.alloc_zeroed_calls + counts.realloc_calls);
        }
        MetricId::ReallocationsPerUnit => {
            let counts = &mut phase_of(trial, PhaseKind::Measure).counts;
            // The sum of all calls stays, as long as it can.
            counts.alloc_calls = (counts.alloc_calls + counts.realloc_calls).saturating_sub(per_unit);
            counts.realloc_calls = per_unit;
        }
        MetricId::AllocatedBytesPerUnit => {
            let counts = &mut phase_of(trial, PhaseKind::Measure).counts;
            counts.alloc_bytes = per_unit.saturating_sub(counts.alloc_zeroed_bytes + counts.realloc_new_bytes);
        }
        MetricId::PeakLiveObjects => phase_of(trial, PhaseKind::Measure).live.peak_objects = value as i64,
        MetricId::PeakLiveBytes => phase_of(trial, PhaseKind::Measure).live.peak_bytes = value as i64,
        MetricId::LeftObjects => phase_of(trial, PhaseKind::Drain).live.objects = value as i64,
        MetricId::LeftBytes => phase_of(trial, PhaseKind::Drain).live.bytes = value as i64,
        MetricId::EscapedObjects => region(trial).escaped_objects = whole,
        MetricId::RegionPeakChunks => region(trial).chunks_peak = whole,
        MetricId::PeakRss => process(trial, PhaseKind::Measure).peak_rss_bytes = whole,
        MetricId::LeftRss => process(trial, PhaseKind::Drain).rss_bytes = whole,
        MetricId::PageTables => process(trial, PhaseKind::Measure).page_table_bytes = whole,
        MetricId::Fragmentation => {
            if let Some(stats) = &mut phase_of(trial, PhaseKind::Measure).allocator {
                stats.allocated_bytes = ((1.0 - value) * stats.active_bytes as f64).round() as u64;
            }
        }
        MetricId::MinorFaults => process(trial, PhaseKind::Measure).minor_faults = whole,
        MetricId::InvoluntarySwitches => process(trial, PhaseKind::Measure).involuntary_switches = whole,
        MetricId::Throughput => phase_of(trial, PhaseKind::Measure).wall_s = UNITS as f64 / value,
        MetricId::CpuPerUnit => process(trial, PhaseKind::Measure).cpu_ns = per_unit,
        stall if stall.metric().kind == Kind::Distribution => {
            let clean = ByOperation { alloc: vec![(bucket_of(whole) as u32, 20_000)], ..ByOperation::default() };
            phase_of(trial, PhaseKind::Measure).stalls.clean = clean;
        }
        other => panic!("{other} can't be set alone"),
    }
    recompute(trial);
}

/// Whether [`set`] can set the metric alone: not one that follows from a whole histogram or series.
#[must_use]
pub fn can_be_set(metric: MetricId) -> bool {
    use MetricId::{RssSwing, StallMean, StallPerUnit, StallShare};
    ![StallShare, StallPerUnit, StallMean, RssSwing].contains(&metric)
}

/// [`set`] in every trial.
pub fn set_all(report: &mut Report, metric: MetricId, value: f64) {
    report.trials.iter_mut().for_each(|trial| set(trial, metric, value));
}

/// [`set`] in the trials of cell number `index`.
pub fn set_cell(report: &mut Report, index: usize, metric: MetricId, value: f64) {
    let cell = cell(index);
    report.trials.iter_mut().filter(|t| t.cell == cell).for_each(|trial| set(trial, metric, value));
}

fn phase_of(trial: &mut Trial, kind: PhaseKind) -> &mut Phase {
    trial.phases.iter_mut().find(|p| p.kind == kind).expect("a test's trial has every phase")
}

fn process(trial: &mut Trial, kind: PhaseKind) -> &mut Process {
    phase_of(trial, kind).process.as_mut().expect("a test's phase has a process")
}

fn region(trial: &mut Trial) -> &mut RegionStats {
    phase_of(trial, PhaseKind::Drain)
        .region
        .get_or_insert_with(|| RegionStats { status: "active".into(), ..RegionStats::default() })
}

/// Whether `a` and `b` have the same JSON, but for the last binary digit of numbers, which text and back may cost.
///
/// # Panics
/// If one of them has no JSON form.
#[must_use]
pub fn same_json<T: Serialize>(a: &T, b: &T) -> bool {
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
            }
            (Value::Number(x), Value::Number(y)) if x.is_f64() => {
                x.as_f64().zip(y.as_f64()).is_some_and(|(x, y)| sample::same(x, y))
            }
            (a, b) => a == b,
        }
    }
    let json = |value: &T| serde_json::to_value(value).expect("a test's value has a JSON form");
    same(&json(a), &json(b))
}
