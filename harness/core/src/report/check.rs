//! What a report must satisfy beyond its shape. Everything after this takes a report as given, so a report that was
//! cut, edited or made by a faulty program must end here.

use std::collections::{BTreeMap, BTreeSet};

use heapgate_segment::histogram::BUCKETS;
use heapgate_segment::layout::Level;

use super::{
    AllocatorStats, Cell, Counts, Live, Phase, Process, RegionStats, Report, SCHEMA_VERSION, Shard, Site, Sites, Trial,
};
use crate::metric::MetricId;
use crate::render::human;
use crate::shard::MAX_SHARDS;

/// Whole numbers up to here are exact as `f64`, and sums of some thousands of them don't overflow. No honest count
/// comes near.
pub const LARGEST_COUNT: u64 = 1 << 53;
/// By how much, as a share, a metric may differ from its recomputation: text and back costs a last binary digit.
const RECOMPUTED: f64 = 1e-9;

/// What cannot be true about a report or baseline. `place` says where: a cell, its repetition, a phase.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[error("{place} {problem}")]
    Profile { place: String, problem: &'static str },
    #[error("schema version {found}, expected {expected}")]
    Version { found: u32, expected: u32 },
    #[error("{place}: {field} is {value}, which is not a number")]
    NotFinite { place: String, field: String, value: f64 },
    #[error("{place}: {field} is {value}, which is negative")]
    Negative { place: String, field: String, value: f64 },
    #[error("{place}: {field} is {value}, more than {largest}")]
    TooLarge { place: String, field: String, value: f64, largest: f64 },
    #[error("{place}: {field} counts in bucket {bucket}, which is out of order, twice there, or beyond the last")]
    BadBucket { place: String, field: String, bucket: u32 },
    #[error("{place} is there twice")]
    Duplicate { place: String },
    #[error("{place}: {field} is '{value}', which is none of {allowed}")]
    UnknownWord { place: String, field: String, value: String, allowed: String },
    #[error("{place}: {field} differs from the other repetitions of its cell")]
    CellDisagrees { place: String, field: String },
    #[error("{place}: {metric} is given as {given}, but its trial gives {}; the file was edited", computed.map_or("none".to_owned(), |v| v.to_string()))]
    MetricDiffers { place: String, metric: MetricId, given: f64, computed: Option<f64> },
    #[error("there is no shard {index} of {of}")]
    NoSuchShard { index: u32, of: u32 },
    #[error("{shard} of {planned} cells has {expected} of them, but here are {found}")]
    ShardCells { shard: String, planned: u64, expected: u64, found: u64 },
    #[error("{shard} has {expected} repetitions of each cell, but {found} of {cell}")]
    ShardRepetitions { shard: String, cell: String, expected: u32, found: u32 },
    #[error("{place} has no values")]
    NoValues { place: String },
    #[error("{place} belongs to workload '{found}', not '{expected}'")]
    OtherWorkload { place: String, found: String, expected: String },
}

/// Checks that `report` can be true: every figure is a possible number, no trial is there twice, repetitions of a cell
/// are of the same thing, and each metric is what its trial gives.
///
/// # Errors
/// The first fault found.
pub fn check(report: &Report) -> Result<(), Fault> {
    if report.schema_version != SCHEMA_VERSION {
        return Err(Fault::Version { found: report.schema_version, expected: SCHEMA_VERSION });
    }
    let mut seen: BTreeSet<(&Cell, u32)> = BTreeSet::new();
    let mut firsts: BTreeMap<&Cell, &Trial> = BTreeMap::new();
    for trial in &report.trials {
        let place = place_of(trial);
        if !seen.insert((&trial.cell, trial.rep)) {
            return Err(Fault::Duplicate { place });
        }
        check_trial(trial)?;
        let first = *firsts.entry(&trial.cell).or_insert(trial);
        for (field, same) in [("unit", first.unit == trial.unit), ("level", first.level == trial.level)] {
            if !same {
                return Err(Fault::CellDisagrees { place, field: field.to_owned() });
            }
        }
    }
    report.shard.as_ref().map_or(Ok(()), |shard| check_shard(shard, report))
}

/// Checks that a shard can be one, and, when it is complete, that all that it was dealt is there.
fn check_shard(shard: &Shard, report: &Report) -> Result<(), Fault> {
    let Shard { index, of, planned_cells, planned_reps, matrix: _ } = *shard;
    if !(1..=of).contains(&index) || of > MAX_SHARDS {
        return Err(Fault::NoSuchShard { index, of });
    }
    count("the shard", "planned_cells", planned_cells)?;
    let (cells, expected) = (report.cells(), shard.cells());
    let found = cells.len() as u64;
    if found > expected || (report.complete && found < expected) {
        return Err(Fault::ShardCells { shard: shard.to_string(), planned: planned_cells, expected, found });
    }
    for cell in cells {
        let found = cell.trials.len() as u32;
        if found > planned_reps || (report.complete && found < planned_reps) {
            let (shard, cell) = (shard.to_string(), cell.cell.to_string());
            return Err(Fault::ShardRepetitions { shard, cell, expected: planned_reps, found });
        }
    }
    Ok(())
}

/// What [`check`] asks of one trial: for whoever makes one, to find out before it spoils a report. A process that died
/// may have left anything in its segment.
///
/// # Errors
/// The first fault found.
pub fn check_trial(trial: &Trial) -> Result<(), Fault> {
    let place = &place_of(trial);
    let levels = Level::ALL.map(Level::name);
    if !levels.contains(&trial.level.as_str()) {
        let (field, value) = ("level".to_owned(), trial.level.clone());
        return Err(Fault::UnknownWord { place: place.to_owned(), field, value, allowed: levels.join(", ") });
    }
    measured(place, "wall_s", trial.wall_s)?;
    measured(place, "ticks_per_second", trial.ticks_per_second)?;
    count(place, "lifetime_peak_rss_bytes", trial.lifetime_peak_rss_bytes)?;
    if let Some(share) = trial.steal_share {
        measured(place, "steal_share", share)?;
        at_most(place, "steal_share", share, 1.0)?;
    }
    for &(ms, bytes) in &trial.rss_series {
        measured(place, "rss_series", ms)?;
        count(place, "rss_series", bytes)?;
    }
    let mut kinds = BTreeSet::new();
    for phase in &trial.phases {
        let place = format!("{place}, phase {}", format!("{:?}", phase.kind).to_lowercase());
        if !kinds.insert(phase.kind) {
            return Err(Fault::Duplicate { place });
        }
        check_phase(phase, &place)?;
    }
    for (name, &value) in &trial.figures {
        finite(place, name, value)?;
    }
    if let Some(sites) = &trial.sites {
        check_sites(place, sites)?;
    }
    for (&metric, &given) in &trial.metrics {
        finite(place, metric.metric().name, given)?;
        // Only now: reading needs buckets and counts that are in range.
        let computed = (metric.metric().read)(trial);
        if !computed.is_some_and(|computed| close(given, computed)) {
            return Err(Fault::MetricDiffers { place: place.to_owned(), metric, given, computed });
        }
    }
    Ok(())
}

fn check_sites(place: &str, sites: &Sites) -> Result<(), Fault> {
    let place = &format!("{place}, sites");
    let all = [
        ("period", sites.period),
        ("samples", sites.samples),
        ("sampled_bytes", sites.sampled_bytes),
        ("lost_samples", sites.lost_samples),
        ("allocation_calls", sites.allocation_calls),
        ("allocated_bytes", sites.allocated_bytes),
        ("distinct_sites", sites.distinct_sites),
    ];
    for (field, value) in all {
        count(place, field, value)?;
    }
    // Parts of a whole that can't be more than it: shares are taken of them.
    let sum = |of: fn(&Site) -> u64| sites.sites.iter().map(of).fold(0, u64::saturating_add);
    at_most(place, "samples of all sites", sum(|s| s.samples) as f64, sites.samples as f64)?;
    at_most(place, "sampled_bytes of all sites", sum(|s| s.sampled_bytes) as f64, sites.sampled_bytes as f64)
}

fn place_of(trial: &Trial) -> String {
    format!("{} repetition {}", trial.cell, human::repetition(trial.rep))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= RECOMPUTED * a.abs().max(b.abs())
}

fn check_phase(phase: &Phase, place: &str) -> Result<(), Fault> {
    measured(place, "start_s", phase.start_s)?;
    measured(place, "wall_s", phase.wall_s)?;
    count(place, "units", phase.units)?;
    count(place, "steps", phase.steps)?;
    counts(place, &phase.counts)?;
    live(place, &phase.live)?;
    // The class of the largest objects has no upper bound, so the first of the three may be anything.
    for &(_, allocated, freed) in &phase.size_classes {
        count(place, "size_classes", allocated)?;
        count(place, "size_classes", freed)?;
    }
    for (field, by_operation) in
        [("clean stalls", &phase.stalls.clean), ("interrupted stalls", &phase.stalls.interrupted)]
    {
        for buckets in by_operation.all() {
            histogram(place, field, buckets)?;
        }
    }
    phase.process.as_ref().map_or(Ok(()), |p| process(place, p))?;
    phase.allocator.as_ref().map_or(Ok(()), |a| allocator(place, a))?;
    phase.region.as_ref().map_or(Ok(()), |r| region(place, r))
}

/// Checks every one of `fields` as a count.
fn all_counts<const N: usize>(place: &str, fields: [(&str, u64); N]) -> Result<(), Fault> {
    fields.into_iter().try_for_each(|(field, value)| count(place, field, value))
}

// These take their argument apart without `..`, so that a new field cannot be forgotten.

fn counts(place: &str, counts: &Counts) -> Result<(), Fault> {
    let Counts {
        alloc_calls,
        alloc_bytes,
        alloc_zeroed_calls,
        alloc_zeroed_bytes,
        realloc_calls,
        realloc_new_bytes,
        realloc_old_bytes,
        dealloc_calls,
        dealloc_bytes,
        failed_calls,
    } = *counts;
    let fields = [
        ("alloc_calls", alloc_calls),
        ("alloc_bytes", alloc_bytes),
        ("alloc_zeroed_calls", alloc_zeroed_calls),
        ("alloc_zeroed_bytes", alloc_zeroed_bytes),
        ("realloc_calls", realloc_calls),
        ("realloc_new_bytes", realloc_new_bytes),
        ("realloc_old_bytes", realloc_old_bytes),
        ("dealloc_calls", dealloc_calls),
        ("dealloc_bytes", dealloc_bytes),
        ("failed_calls", failed_calls),
    ];
    all_counts(place, fields)
}

fn process(place: &str, process: &Process) -> Result<(), Fault> {
    let Process {
        rss_bytes,
        anonymous_bytes,
        file_bytes,
        huge_page_bytes,
        pss_bytes,
        page_table_bytes,
        peak_rss_bytes,
        minor_faults,
        major_faults,
        voluntary_switches,
        involuntary_switches,
        cpu_ns,
        threads,
        rss_samples,
    } = *process;
    let fields = [
        ("rss_bytes", rss_bytes),
        ("anonymous_bytes", anonymous_bytes),
        ("file_bytes", file_bytes),
        ("huge_page_bytes", huge_page_bytes),
        ("pss_bytes", pss_bytes),
        ("page_table_bytes", page_table_bytes),
        ("peak_rss_bytes", peak_rss_bytes),
        ("minor_faults", minor_faults),
        ("major_faults", major_faults),
        ("voluntary_switches", voluntary_switches),
        ("involuntary_switches", involuntary_switches),
        ("cpu_ns", cpu_ns),
        ("threads", threads),
        ("rss_samples", rss_samples),
    ];
    all_counts(place, fields)
}

fn allocator(place: &str, stats: &AllocatorStats) -> Result<(), Fault> {
    let AllocatorStats { allocated_bytes, active_bytes, resident_bytes, mapped_bytes, retained_bytes, metadata_bytes } =
        *stats;
    let fields = [
        ("allocated_bytes", allocated_bytes),
        ("active_bytes", active_bytes),
        ("resident_bytes", resident_bytes),
        ("mapped_bytes", mapped_bytes),
        ("retained_bytes", retained_bytes),
        ("metadata_bytes", metadata_bytes),
    ];
    all_counts(place, fields)
}

fn region(place: &str, region: &RegionStats) -> Result<(), Fault> {
    let RegionStats {
        status: _,
        scopes,
        bytes,
        high_water_bytes,
        tail_waste_bytes,
        chunks_acquired,
        chunks_reused,
        chunks_peak,
        large_fallbacks,
        escaped_objects,
    } = *region;
    let fields = [
        ("scopes", scopes),
        ("bytes", bytes),
        ("high_water_bytes", high_water_bytes),
        ("tail_waste_bytes", tail_waste_bytes),
        ("chunks_acquired", chunks_acquired),
        ("chunks_reused", chunks_reused),
        ("chunks_peak", chunks_peak),
        ("large_fallbacks", large_fallbacks),
        ("escaped_objects", escaped_objects),
    ];
    all_counts(place, fields)
}

/// Live figures may be negative: what was allocated before counting began may be freed after.
fn live(place: &str, live: &Live) -> Result<(), Fault> {
    for (field, value) in [
        ("live objects", live.objects),
        ("live bytes", live.bytes),
        ("peak_objects", live.peak_objects),
        ("peak_bytes", live.peak_bytes),
    ] {
        count(place, field, value.unsigned_abs())?;
    }
    count(place, "peak_objects_error", live.peak_objects_error)?;
    count(place, "peak_bytes_error", live.peak_bytes_error)
}

/// Checks that the buckets of a sparse histogram exist and rise, and that their sum is a possible count.
pub(crate) fn histogram(place: &str, field: &str, buckets: &[(u32, u64)]) -> Result<(), Fault> {
    let mut previous = None;
    let mut total = 0u64;
    for &(bucket, n) in buckets {
        if bucket as usize >= BUCKETS || previous.is_some_and(|p| p >= bucket) {
            return Err(Fault::BadBucket { place: place.to_owned(), field: field.to_owned(), bucket });
        }
        previous = Some(bucket);
        total = total.saturating_add(n);
    }
    count(place, field, total)
}

/// A number, and not an infinite one.
pub(crate) fn finite(place: &str, field: &str, value: f64) -> Result<(), Fault> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Fault::NotFinite { place: place.to_owned(), field: field.to_owned(), value })
}

/// A number that is not negative.
pub(crate) fn measured(place: &str, field: &str, value: f64) -> Result<(), Fault> {
    finite(place, field, value)?;
    if value >= 0.0 {
        return Ok(());
    }
    Err(Fault::Negative { place: place.to_owned(), field: field.to_owned(), value })
}

fn at_most(place: &str, field: &str, value: f64, largest: f64) -> Result<(), Fault> {
    if value <= largest {
        return Ok(());
    }
    Err(Fault::TooLarge { place: place.to_owned(), field: field.to_owned(), value, largest })
}

fn count(place: &str, field: &str, value: u64) -> Result<(), Fault> {
    at_most(place, field, value as f64, LARGEST_COUNT as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    fn fault(change: impl FnOnce(&mut Report)) -> Fault {
        let mut report = testing::report(2, 2);
        check(&report).unwrap();
        change(&mut report);
        check(&report).unwrap_err()
    }

    #[test]
    fn a_trial_may_not_be_there_twice() {
        let fault = fault(|r| r.trials.push(r.trials[0].clone()));
        assert!(matches!(fault, Fault::Duplicate { .. }), "{fault}");
    }

    #[test]
    fn impossible_figures_are_named_with_their_place() {
        let negative = fault(|r| r.trials[1].phases[2].wall_s = -1.0);
        assert!(matches!(&negative, Fault::Negative { field, .. } if field == "wall_s"), "{negative}");
        assert!(negative.to_string().contains("phase measure"), "{negative}");
        let infinite = fault(|r| r.trials[1].ticks_per_second = f64::INFINITY);
        assert!(matches!(infinite, Fault::NotFinite { .. }), "{infinite}");
        let share = fault(|r| r.trials[1].steal_share = Some(1.5));
        assert!(matches!(share, Fault::TooLarge { .. }), "{share}");
        let huge = fault(|r| r.trials[1].phases[2].counts.alloc_calls = u64::MAX);
        assert!(matches!(huge, Fault::TooLarge { .. }), "{huge}");
    }

    #[test]
    fn a_shard_has_all_that_it_was_dealt_and_no_more() {
        let shard = |index, planned_cells| Shard { index, of: 2, planned_cells, planned_reps: 2, matrix: "0".into() };
        let mut good = testing::report(2, 2);
        good.shard = Some(shard(1, 3));
        check(&good).unwrap();
        for index in [0, 3] {
            let fault = fault(|r| r.shard = Some(shard(index, 3)));
            assert_eq!(fault, Fault::NoSuchShard { index, of: 2 });
        }
        // The second of two gets one of three cells, and here are two.
        assert!(matches!(fault(|r| r.shard = Some(shard(2, 3))), Fault::ShardCells { expected: 1, found: 2, .. }));
        assert!(matches!(fault(|r| r.shard = Some(shard(1, 5))), Fault::ShardCells { expected: 3, found: 2, .. }));
        let lacking = |report: &mut Report| {
            report.shard = Some(shard(1, 3));
            report.trials.pop();
        };
        assert!(matches!(fault(lacking), Fault::ShardRepetitions { expected: 2, found: 1, .. }));
        let mut cut_off = good;
        cut_off.complete = false;
        cut_off.trials.pop();
        check(&cut_off).unwrap();
    }

    #[test]
    fn hostile_histograms_are_refused_before_they_are_read() {
        for buckets in [
            vec![(u32::MAX, 1)],
            vec![(BUCKETS as u32, 1)],
            vec![(5, 1), (4, 1)],
            vec![(5, 1), (5, 1)],
            vec![(4, u64::MAX), (5, u64::MAX)],
        ] {
            let fault = fault(|r| r.trials[0].phases[2].stalls.clean.realloc = buckets);
            assert!(matches!(fault, Fault::BadBucket { .. } | Fault::TooLarge { .. }), "{fault}");
        }
    }

    #[test]
    fn a_metric_that_its_trial_does_not_give_is_refused() {
        let edited = fault(|r| *r.trials[0].metrics.get_mut(&MetricId::PeakRss).unwrap() *= 1.000_001);
        assert!(matches!(edited, Fault::MetricDiffers { computed: Some(_), .. }), "{edited}");
        let invented = fault(|r| {
            r.trials[0].phases[3].region = None;
            r.trials[0].metrics.insert(MetricId::EscapedObjects, 0.0);
        });
        assert!(matches!(invented, Fault::MetricDiffers { computed: None, .. }), "{invented}");
    }

    #[test]
    fn repetitions_of_a_cell_are_of_the_same_thing() {
        let unit = fault(|r| r.trials[1].unit = "byte".into());
        assert!(matches!(unit, Fault::CellDisagrees { .. }), "{unit}");
        let level = fault(|r| r.trials[1].level = "loud".into());
        assert!(matches!(level, Fault::UnknownWord { .. }), "{level}");
    }

    #[test]
    fn every_level_of_the_telemetry_is_known() {
        for level in Level::ALL {
            let mut report = testing::report(1, 1);
            report.trials[0].level = level.name().to_owned();
            report.trials[0].metrics.clear();
            check(&report).unwrap();
        }
    }

    #[test]
    fn a_metric_may_be_absent() {
        // An older heapgate had fewer; the gate tells what it misses.
        let mut report = testing::report(1, 1);
        report.trials[0].metrics.remove(&MetricId::PeakRss);
        check(&report).unwrap();
    }
}
