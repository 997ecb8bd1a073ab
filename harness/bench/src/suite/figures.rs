//! Reads a trial's figures off the segment it left: those of heapgate's catalogue that need no look at the process from
//! outside, by the same names.

use heapgate_alloc::segment::clock::Anchor;
use heapgate_alloc::segment::histogram::bucket_bounds;
use heapgate_alloc::segment::layout::{Operation, PhaseKind};
use heapgate_alloc::segment::reader::{PhaseReading, Reader, Totals};

/// A figure's name, and whether repetitions must agree on it.
#[derive(Debug)]
pub(super) struct FigureName {
    pub name: &'static str,
    pub exact: bool,
}

const fn exact(name: &'static str) -> FigureName {
    FigureName { name, exact: true }
}

const fn noisy(name: &'static str) -> FigureName {
    FigureName { name, exact: false }
}

/// What is read, in order.
pub(super) const FIGURES: [FigureName; 10] = [
    exact("allocations_per_unit"),
    exact("allocated_bytes_per_unit"),
    exact("reallocations_per_unit"),
    exact("peak_live_objects"),
    exact("peak_live_bytes"),
    exact("left_objects"),
    exact("left_bytes"),
    noisy("wall_ns_per_unit"),
    noisy("stall_p99_ns"),
    noisy("stall_max_ns"),
];

/// The figures of one trial.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// As in [`FIGURES`]; `None` where there is nothing to measure.
    pub values: [Option<f64>; FIGURES.len()],
    pub checksum: u64,
    /// The workload's own, in the order in which its variant names them.
    pub own: Vec<Option<f64>>,
}

/// Reads what a trial left that ended all its phases; `None` if it didn't.
pub(super) fn read(reader: Reader<'_>, own_figures: usize) -> Option<Figures> {
    let phases = reader.phases();
    let phase = |kind: PhaseKind| phases.iter().find(|phase| phase.kind == kind as u64 && phase.ended);
    let (first, measure, drain) = (phases.first()?, phase(PhaseKind::Measure)?, phase(PhaseKind::Drain)?);
    let totals = measure.end.since(&measure.begin);
    let per_unit = |number: f64| (measure.units > 0).then(|| number / measure.units as f64);
    // What was alive before the first phase is the runtime's.
    let over = |live: i64, base: i64| Some(live.wrapping_sub(base) as f64);
    let (objects, bytes) = (first.begin.live_objects(), first.begin.live_bytes());
    let wall_ns = measure.end_at.map_or(0, |end| end.ns.saturating_sub(measure.begin_at.ns));
    let rate = ticks_per_second(reader);
    let stalls = stalls(&totals);
    // As in the catalogue: 0 where calls were to be timed and there were none.
    let stall_ns = |q| match quantile(&stalls, q) {
        Some(ticks) => Some(ticks / rate? * 1e9),
        None => (totals == Totals::default()).then_some(0.0),
    };
    Some(Figures {
        values: [
            per_unit(totals.allocation_calls() as f64),
            per_unit((totals.alloc_bytes() + totals.alloc_zeroed_bytes() + totals.realloc_new_bytes()) as f64),
            per_unit(totals.realloc_calls() as f64),
            over(measure.peaks.objects, objects),
            over(measure.peaks.bytes, bytes),
            over(drain.end.live_objects(), objects),
            over(drain.end.live_bytes(), bytes),
            per_unit(wall_ns as f64),
            stall_ns(0.99),
            stall_ns(1.0),
        ],
        checksum: measure.checksum,
        own: own(measure, own_figures),
    })
}

/// The rate of the child's clock. Of a trial that was too short to tell, some more time tells.
fn ticks_per_second(reader: Reader<'_>) -> Option<f64> {
    let rate = || reader.ticks_per_second(Some(Anchor::now(reader.clock())));
    rate().or_else(|| {
        std::thread::sleep(Anchor::RATE_INTERVAL);
        rate()
    })
}

fn own(measure: &PhaseReading, figures: usize) -> Vec<Option<f64>> {
    (0..figures).map(|index| measure.figure(index)).collect()
}

/// Calls that nothing interrupted, of all operations, by latency.
fn stalls(totals: &Totals) -> Vec<u64> {
    let operations = [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc];
    let mut sum: Vec<u64> = Vec::new();
    for operation in operations {
        for (bucket, calls) in totals.clean(operation).enumerate() {
            if bucket == sum.len() {
                sum.push(0);
            }
            sum[bucket] += calls;
        }
    }
    sum
}

/// The smallest value that at least a share `q` of all values don't exceed (nearest rank), ticks; `None` where there are
/// no values.
fn quantile(buckets: &[u64], q: f64) -> Option<f64> {
    let total: u64 = buckets.iter().sum();
    let rank = ((q * total as f64).ceil() as u64).max(1);
    let mut seen = 0;
    let bucket = buckets.iter().position(|calls| {
        seen += calls;
        seen >= rank
    })?;
    let (low, high) = bucket_bounds(bucket);
    Some(if high - low <= 1 { low as f64 } else { f64::midpoint(low as f64, high as f64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_nearest_rank() {
        let mut buckets = vec![0; 20];
        (buckets[3], buckets[7]) = (99, 1);
        assert_eq!([0.5, 0.99, 1.0].map(|q| quantile(&buckets, q)), [Some(3.0), Some(3.0), Some(7.0)]);
        assert_eq!(quantile(&[0, 0], 0.5), None);
    }
}
