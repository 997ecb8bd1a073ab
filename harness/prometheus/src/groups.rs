//! Figures of a process's groups: threads under different settings of the allocator (docs/live-ab.md). Few processes have any.

use std::sync::LazyLock;

use heapgate_segment::groups::{Group, GroupGauge};
use heapgate_segment::reader::{Reader, Totals};
use heapgate_segment::requests::Requests;

use crate::catalogue::{ALL, Kind, MetricId, Source};
use crate::stalls::{Histogram, Scale};

/// One group's figures, in the order of [`metrics`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupFigures {
    pub(crate) name: String,
    /// Not a number where the process doesn't say.
    values: Box<[f64]>,
    stalls: Option<Box<Histogram>>,
    /// None where the program doesn't say.
    requests: Option<Box<Histogram>>,
}

/// Requests are in nanoseconds.
static NANOSECONDS: LazyLock<Scale> = LazyLock::new(|| Scale::new(1e9).expect("a rate"));

/// The metrics of groups that are single values.
fn metrics() -> impl Iterator<Item = MetricId> {
    ALL.iter().copied().filter(|id| id.metric().source == Source::Group && id.metric().kind != Kind::Histogram)
}

impl GroupFigures {
    /// Of all groups of a process.
    pub(crate) fn read(reader: Reader<'_>, scale: Option<&Scale>) -> Vec<Self> {
        let of = |group: Group| {
            let totals = reader.group_totals(&group);
            let values = metrics().map(|id| value(id, &group, &totals)).collect();
            let stalls = scale.map(|scale| Box::new(scale.fold_clean(&totals)));
            let requests = reader.group_requests(&group).map(|requests| Box::new(fold(requests)));
            Self { name: group.name, values, stalls, requests }
        };
        reader.groups().into_iter().map(of).collect()
    }

    /// The value of `id`, where there is one.
    pub(crate) fn value(&self, id: MetricId) -> Option<f64> {
        let at = metrics().position(|metric| metric == id)?;
        Some(self.values[at]).filter(|value| !value.is_nan())
    }

    /// The histogram of `id`, where there is one.
    pub(crate) fn histogram(&self, id: MetricId) -> Option<&Histogram> {
        match id {
            MetricId::GroupStalls => self.stalls.as_deref(),
            MetricId::GroupRequests => self.requests.as_deref(),
            _ => None,
        }
    }
}

/// The sum is exact, so long as it is below 104 days.
fn fold(requests: Requests) -> Histogram {
    let (histogram, _) = NANOSECONDS.histogram(requests.buckets.into_iter());
    Histogram { sum_s: requests.sum_ns as f64 / 1e9, ..histogram }
}

fn value(id: MetricId, group: &Group, totals: &Totals) -> f64 {
    let gauge = |gauge| group.gauge(gauge).map_or(f64::NAN, |value| value as f64);
    match id {
        MetricId::GroupAllocations => totals.allocation_calls() as f64,
        MetricId::GroupDeallocations => totals.dealloc_calls() as f64,
        MetricId::GroupLiveObjects => totals.live_objects() as f64,
        MetricId::GroupLiveBytes => totals.live_bytes() as f64,
        MetricId::GroupAllocated => gauge(GroupGauge::Allocated),
        MetricId::GroupResident => gauge(GroupGauge::Resident),
        MetricId::GroupActive => gauge(GroupGauge::Active),
        MetricId::GroupDirty => gauge(GroupGauge::Dirty),
        MetricId::GroupPurged => gauge(GroupGauge::Purged),
        MetricId::GroupArenas if !group.whole_process => group.arenas as f64,
        MetricId::GroupShare => group.share,
        MetricId::GroupDecay if !group.whole_process => group.dirty_decay_ms as f64 / 1e3,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::families;
    use crate::figures::Figures;
    use crate::labels::Labels;
    use crate::testing::Segment;
    use heapgate_segment::groups::GroupSettings;
    use heapgate_segment::layout::{Level, Operation};
    use prometheus::{Encoder, TextEncoder};

    #[test]
    fn groups_are_a_label_and_add_up_to_no_more_than_the_whole() {
        let segment = Segment::attached(Level::Exact);
        for (number, name) in [(1, "control"), (2, "strict")] {
            let settings =
                GroupSettings { name, share: 0.5, dirty_decay_ms: 0, muzzy_decay_ms: 0, whole_process: false };
            segment.writer.group(number).define(&settings);
            let slot = segment.writer.claim_first(7, number).unwrap();
            for _ in 0..number {
                let _ = slot.count_alloc(100);
                slot.record::<false>(Operation::Alloc, 1_000, false, 1);
            }
            segment.writer.retire(slot);
        }
        let _ = segment.writer.claim(9).unwrap().count_alloc(100);
        segment.writer.group(2).set_gauge(GroupGauge::Resident, 4096);
        // The last is beyond all bounds.
        segment.writer.requests(2).record(1_500_000);
        segment.writer.requests(2).record(20_000_000_000);
        let figures = Figures::read(segment.reader(), Scale::new(1e9).as_ref(), None);
        let labels = Labels::of_process("tokenizer", Some(1), "", "");
        let mut text = Vec::new();
        crate::text::write(&[(&labels, &figures)], &mut text).unwrap();
        let mut theirs = Vec::new();
        TextEncoder::new().encode(&families(&[(&labels, &figures)]), &mut theirs).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, String::from_utf8(theirs).unwrap());
        for line in [
            "heapgate_group_allocations_total{service=\"tokenizer\",pid=\"1\",group=\"control\"} 1",
            "heapgate_group_allocations_total{service=\"tokenizer\",pid=\"1\",group=\"strict\"} 2",
            "heapgate_group_resident_bytes{service=\"tokenizer\",pid=\"1\",group=\"strict\"} 4096",
            "heapgate_group_stall_seconds_count{service=\"tokenizer\",pid=\"1\",group=\"strict\"} 2",
            "heapgate_group_request_seconds_bucket{service=\"tokenizer\",pid=\"1\",group=\"strict\",le=\"0.001\"} 0",
            "heapgate_group_request_seconds_bucket{service=\"tokenizer\",pid=\"1\",group=\"strict\",le=\"10\"} 1",
            "heapgate_group_request_seconds_count{service=\"tokenizer\",pid=\"1\",group=\"strict\"} 2",
            "heapgate_group_request_seconds_sum{service=\"tokenizer\",pid=\"1\",group=\"strict\"} 20.0015",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        for absent in ["heapgate_group_resident_bytes", "heapgate_group_request_seconds_count"] {
            let series = format!("{absent}{{service=\"tokenizer\",pid=\"1\",group=\"control\"}}");
            assert!(!text.contains(&series), "{series}");
        }
        assert_eq!(figures.value(MetricId::Allocations, 0), Some(4.0));
    }

    #[test]
    fn a_process_without_groups_has_none_of_their_series() {
        let segment = Segment::attached(Level::Count);
        assert!(GroupFigures::read(segment.reader(), None).is_empty());
        let text = families(&[(&Labels::default(), &Figures::read(segment.reader(), None, None))]);
        assert!(text.iter().all(|family| !family.name().starts_with("heapgate_group_")));
    }
}
