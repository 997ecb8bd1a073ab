//! The figures of one process at one moment: small, so that an agent can hold those of a thousand.

use heapgate_segment::reader::Reader;

use crate::catalogue::{ALL, Kind, MetricId, Source, Unmeasured};
use crate::gauges::Gauges;
use crate::groups::GroupFigures;
use crate::observation::Observation;
use crate::process::ProcessFigures;
use crate::stalls::{Scale, Stalls};

/// What a process exports, in the order of the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The series of all metrics but histograms, one metric after the other; not a number where a series isn't there.
    values: Box<[f64]>,
    /// `None` where nothing was timed, or it isn't known how long a tick is.
    stalls: Option<Box<Stalls>>,
    /// Of its groups, if it has any.
    groups: Vec<GroupFigures>,
}

impl Figures {
    /// Of a process that counts into the segment of `reader`. Without a `scale` there are no stalls, without `process` none
    /// of the kernel's figures.
    #[must_use]
    pub fn read(reader: Reader<'_>, scale: Option<&Scale>, process: Option<&ProcessFigures>) -> Self {
        Self::with_gauges(reader, &Gauges::default(), scale, process)
    }

    /// With figures of the process's own that are newer than those in its segment.
    pub(crate) fn with_gauges(
        reader: Reader<'_>,
        newer: &Gauges,
        scale: Option<&Scale>,
        process: Option<&ProcessFigures>,
    ) -> Self {
        let (observation, stalls) = Observation::of(reader, newer, scale, process);
        Self { values: values(&observation), stalls, groups: GroupFigures::read(reader, scale) }
    }

    /// Of a process that is not measured: why, and what the kernel says.
    #[must_use]
    pub fn unmeasured(reason: Unmeasured, process: Option<&ProcessFigures>) -> Self {
        Self { values: values(&Observation::unmeasured(reason, process)), stalls: None, groups: Vec::new() }
    }

    /// Makes them the last ones of a process that has ended: it isn't up, and the kernel says nothing of it any more.
    pub fn ended(&mut self) {
        let mut rest = &mut self.values[..];
        for &id in ALL {
            let (own, others) = rest.split_at_mut(width(id));
            match id.metric().source {
                Source::Kernel => own.fill(f64::NAN),
                _ if id == MetricId::Up => own.fill(0.0),
                _ => {}
            }
            rest = others;
        }
    }

    /// The value of series number `series` of a metric that is no histogram.
    #[must_use]
    pub fn value(&self, id: MetricId, series: usize) -> Option<f64> {
        self.series(id).nth(series).flatten()
    }

    /// All stalls, if there are any.
    #[must_use]
    pub fn stalls(&self) -> Option<&Stalls> {
        self.stalls.as_deref()
    }

    /// Its groups.
    pub(crate) fn groups(&self) -> &[GroupFigures] {
        &self.groups
    }

    /// The series of a metric that is no histogram, in their order.
    pub(crate) fn series(&self, id: MetricId) -> impl Iterator<Item = Option<f64>> {
        let first = FIRST[id as usize];
        self.values[first..first + width(id)].iter().map(|&value| (!value.is_nan()).then_some(value))
    }
}

/// Where each metric's series begin.
static FIRST: std::sync::LazyLock<Box<[usize]>> = std::sync::LazyLock::new(|| {
    let sums = ALL.iter().scan(0, |sum, &id| {
        let first = *sum;
        *sum += width(id);
        Some(first)
    });
    sums.collect()
});

/// How many values are held of a metric: histograms are held apart, and the agent's own metrics not here.
fn width(id: MetricId) -> usize {
    let metric = id.metric();
    if metric.kind == Kind::Histogram || metric.source == Source::Agent { 0 } else { metric.series() }
}

fn values(observation: &Observation<'_>) -> Box<[f64]> {
    let mut values = vec![f64::NAN; ALL.iter().map(|&id| width(id)).sum()].into_boxed_slice();
    let mut rest = &mut values[..];
    for &id in ALL {
        let (own, others) = rest.split_at_mut(width(id));
        if !own.is_empty() {
            (id.metric().read)(observation, own);
        }
        rest = others;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Segment;
    use heapgate_segment::layout::{Gauge, Level, PhaseKind};

    #[test]
    fn a_process_that_ended_keeps_its_counts_and_has_no_memory() {
        let segment = Segment::attached(Level::Count);
        let slot = segment.writer.claim(1).unwrap();
        let _ = slot.count_alloc(100);
        let process = ProcessFigures { resident_bytes: 5000, ..ProcessFigures::default() };
        let mut figures = Figures::read(segment.reader(), None, Some(&process));
        assert_eq!(figures.value(MetricId::Up, 0), Some(1.0));
        assert_eq!(figures.value(MetricId::Resident, 4), Some(4900.0));
        figures.ended();
        assert_eq!(figures.value(MetricId::Up, 0), Some(0.0));
        assert_eq!(figures.value(MetricId::LiveBytes, 0), Some(100.0));
        for id in [MetricId::Resident, MetricId::ProcessResident, MetricId::Threads] {
            assert!(figures.series(id).all(|value| value.is_none()), "{id:?}");
        }
    }

    #[test]
    fn figures_of_the_process_s_own_are_there_once_it_gave_all_of_them() {
        let segment = Segment::attached(Level::Count);
        let read = |newer: &Gauges| Figures::with_gauges(segment.reader(), newer, None, None);
        let phase = segment.writer.begin_phase(PhaseKind::Measure as u64, None);
        phase.set_gauge(Gauge::RegionStatus, 1);
        assert_eq!(read(&Gauges::default()).value(MetricId::RegionActive, 0), None);
        let regions = [
            (Gauge::RegionScopes, MetricId::RegionScopes),
            (Gauge::RegionBytes, MetricId::RegionBytes),
            (Gauge::RegionHighWaterBytes, MetricId::RegionHighWater),
            (Gauge::RegionTailWasteBytes, MetricId::RegionTailWaste),
            (Gauge::RegionChunksAcquired, MetricId::RegionChunks),
            (Gauge::RegionChunksReused, MetricId::RegionReuses),
            (Gauge::RegionChunksPeak, MetricId::RegionPeakChunks),
            (Gauge::RegionLargeFallbacks, MetricId::RegionFallbacks),
            (Gauge::RegionEscapedObjects, MetricId::RegionEscapes),
        ];
        for (value, (gauge, _)) in (10u64..).zip(regions) {
            phase.set_gauge(gauge, value);
        }
        let mut newer = Gauges::default();
        newer.set(Gauge::RegionScopes, 99);
        let figures = read(&newer);
        assert_eq!(figures.value(MetricId::RegionActive, 0), Some(1.0));
        assert_eq!(figures.value(MetricId::RegionScopes, 0), Some(99.0), "newer than the segment's");
        for (value, (_, metric)) in (10u32..).zip(regions).skip(1) {
            assert_eq!(figures.value(metric, 0), Some(f64::from(value)), "{metric:?}");
        }
        assert_eq!(figures.value(MetricId::JemallocActive, 0), None);
    }

    #[test]
    fn parts_of_resident_memory_add_up_and_are_not_made_up() {
        let segment = Segment::attached(Level::Count);
        let slot = segment.writer.claim(1).unwrap();
        let _ = slot.count_alloc(1000);
        let process = ProcessFigures { resident_bytes: 1 << 20, ..ProcessFigures::default() };
        let parts = |segment: &Segment| -> Vec<Option<f64>> {
            Figures::read(segment.reader(), None, Some(&process)).series(MetricId::Resident).collect()
        };
        let total = Some((1 << 20) as f64);
        let sum = |parts: &[Option<f64>]| parts.iter().flatten().copied().reduce(|a, b| a + b);
        let without = parts(&segment);
        assert_eq!((without[0], without[1], without[3], sum(&without)), (Some(1000.0), None, None, total));

        let phase = segment.writer.begin_phase(PhaseKind::Measure as u64, None);
        let gauges = [
            (Gauge::JemallocAllocated, 1200),
            (Gauge::JemallocActive, 4096),
            (Gauge::JemallocResident, 40_000),
            (Gauge::JemallocMapped, 50_000),
            (Gauge::JemallocRetained, 60_000),
            (Gauge::JemallocMetadata, 9000),
        ];
        gauges.into_iter().for_each(|(gauge, value)| phase.set_gauge(gauge, value));
        let with = parts(&segment);
        assert_eq!((with[1], with[2], with[3]), (Some(200.0), Some(2896.0), Some(35_904.0)));
        assert_eq!(sum(&with), total);

        segment.control().set_level(Level::Off);
        assert_eq!(sum(&parts(&segment)), None, "what is live is not known");
    }
}
