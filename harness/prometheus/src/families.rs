//! Figures as the `prometheus` crate holds metrics: for a registry, or any encoder.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prometheus::proto;

use crate::catalogue::{ALL, GROUP_LABEL, Kind, Metric, Source};
use crate::figures::Figures;
use crate::labels::Labels;
use crate::stalls::{BOUNDS_S, Histogram};

/// The metrics of any number of processes: one family for each metric that at least one of them has, with the series of all,
/// in the order of the catalogue.
#[must_use]
pub fn families(processes: &[(&Labels, &Figures)]) -> Vec<proto::MetricFamily> {
    let families = ALL.iter().filter_map(|&id| {
        let metric = id.metric();
        let mut series = Vec::new();
        for (labels, figures) in processes {
            if metric.source == Source::Group {
                for group in figures.groups() {
                    let labels = || labels.protobuf([(GROUP_LABEL, group.name.as_str())].into_iter());
                    if metric.kind == Kind::Histogram {
                        series.extend(group.histogram(id).map(|histogram| with_histogram(labels(), histogram)));
                    } else if let Some(value) = group.value(id) {
                        series.push(with_value(labels(), metric.kind, value));
                    }
                }
                continue;
            }
            if metric.kind == Kind::Histogram {
                let histograms = figures.stalls().map_or(&[][..], |stalls| &stalls.histograms);
                for (index, histogram) in histograms.iter().enumerate() {
                    series.push(with_histogram(labels.protobuf(metric.labels_of(index)), histogram));
                }
                continue;
            }
            for (index, value) in figures.series(id).enumerate() {
                if let Some(value) = value {
                    series.push(with_value(labels.protobuf(metric.labels_of(index)), metric.kind, value));
                }
            }
        }
        (!series.is_empty()).then(|| family(metric, series))
    });
    families.collect()
}

/// Puts families of the same name together, whoever they are from: those of processes, and others that an exporter has. In
/// the order of names; the first one's help and type hold.
#[must_use]
pub fn merge(families: impl IntoIterator<Item = proto::MetricFamily>) -> Vec<proto::MetricFamily> {
    let mut merged: BTreeMap<String, proto::MetricFamily> = BTreeMap::new();
    for mut family in families {
        match merged.entry(family.name().to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(family);
            }
            Entry::Occupied(mut entry) => entry.get_mut().mut_metric().extend(family.take_metric()),
        }
    }
    merged.into_values().collect()
}

fn family(metric: &Metric, series: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram => proto::MetricType::HISTOGRAM,
    });
    family.set_metric(series);
    family
}

fn with_value(labels: Vec<proto::LabelPair>, kind: Kind, value: f64) -> proto::Metric {
    let mut series = proto::Metric::from_label(labels);
    if kind == Kind::Counter {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        series.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        series.set_gauge(gauge);
    }
    series
}

fn with_histogram(labels: Vec<proto::LabelPair>, of: &Histogram) -> proto::Metric {
    let buckets = BOUNDS_S.iter().zip(of.cumulative).map(|(&bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(of.count);
    histogram.set_sample_sum(of.sum_s);
    let mut series = proto::Metric::from_label(labels);
    series.set_histogram(histogram);
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Segment;
    use heapgate_segment::layout::Level;

    #[test]
    fn processes_share_a_family_and_keep_their_labels() {
        let segment = Segment::attached(Level::Exact);
        let figures = Figures::read(segment.reader(), None, None);
        let [a, b] = ["a", "b"].map(|service| Labels::of_process(service, Some(1), "", ""));
        let together = families(&[(&a, &figures), (&b, &figures)]);
        let apart = merge([families(&[(&a, &figures)]), families(&[(&b, &figures)])].into_iter().flatten());
        assert_eq!(together.len(), apart.len());
        for family in &apart {
            let same = together.iter().find(|other| other.name() == family.name()).unwrap();
            assert_eq!(same.get_metric().len(), family.get_metric().len(), "{}", family.name());
        }
        let up = together.iter().find(|family| family.name() == "heapgate_up").unwrap();
        let services: Vec<_> = up.get_metric().iter().map(|series| series.get_label()[0].value()).collect();
        assert_eq!(services, ["a", "b"]);
    }
}
