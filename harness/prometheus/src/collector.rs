//! The collector that a service registers: this process's own segment, looked at when Prometheus asks.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Mutex, OnceLock, PoisonError};

use heapgate_segment::layout::{Gauge, Level};
use heapgate_segment::reader::Reader;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::catalogue::{ALL, MetricId, PROCESS_LABELS, Source, Unmeasured};
use crate::families::families;
use crate::figures::Figures;
use crate::gauges::Gauges;
use crate::labels::Labels;
use crate::process::ProcessReader;
use crate::stalls::Scale;
use heapgate_segment::limit::memory_limit_bytes;

type Refresh = dyn Fn(&mut dyn FnMut(Gauge, u64)) + Send + Sync;

/// Exports this process: one line registers it.
///
/// ```
/// let registry = prometheus::Registry::new();
/// registry.register(Box::new(heapgate_prometheus::collector())).unwrap();
///
/// // This example has no segment, and says so.
/// let families = registry.gather();
/// assert!(families.iter().any(|family| family.name() == "heapgate_up"));
/// assert!(families.iter().any(|family| family.name() == "heapgate_unmeasured_info"));
/// ```
///
/// Without a segment it exports `heapgate_up 0`, the reason, and what the kernel says; it finds the segment of a program that
/// attaches later.
#[must_use]
pub fn collector() -> HeapgateCollector {
    HeapgateCollector {
        descriptions: descriptions(),
        service: String::new(),
        version: String::new(),
        allocator: String::new(),
        refresh: None,
        scale: OnceLock::new(),
        process: Mutex::default(),
    }
}

/// See [`collector`].
pub struct HeapgateCollector {
    descriptions: Vec<Desc>,
    service: String,
    version: String,
    allocator: String,
    refresh: Option<Box<Refresh>>,
    /// Once it is known: see [`Scale`].
    scale: OnceLock<Scale>,
    process: Mutex<ProcessReader>,
}

impl std::fmt::Debug for HeapgateCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeapgateCollector").field("service", &self.service).finish_non_exhaustive()
    }
}

impl HeapgateCollector {
    /// Names the service; else it goes by the name it is published under, or that of its executable.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        name.clone_into(&mut self.service);
        self
    }

    /// Names the version, by which a roll-out's two sides are told apart; else it is the published one.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Names the allocator below the telemetry; else it is the published one.
    #[must_use]
    pub fn allocator(mut self, name: &str) -> Self {
        name.clone_into(&mut self.allocator);
        self
    }

    /// Calls `refresh` whenever Prometheus asks, for figures that only the program knows: `refresh` hands them to the function
    /// that it is given.
    #[must_use]
    pub fn refreshed_by(mut self, refresh: impl Fn(&mut dyn FnMut(Gauge, u64)) + Send + Sync + 'static) -> Self {
        self.refresh = Some(Box::new(refresh));
        self
    }

    /// Asks jemalloc for its figures whenever Prometheus asks; for programs whose allocator it is.
    #[cfg(feature = "jemalloc")]
    #[must_use]
    pub fn with_jemalloc(self) -> Self {
        // A jemalloc without statistics has no figures to show, and the metrics that need them are not there.
        self.allocator("jemalloc").refreshed_by(|set| {
            for (gauge, value) in crate::jemalloc::gauges().into_iter().flatten() {
                set(gauge, value);
            }
        })
    }

    /// This process's figures, now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut newer = Gauges::default();
        if let Some(refresh) = &self.refresh {
            refresh(&mut |gauge, value| newer.set(gauge, value));
        }
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).read_own().ok();
        let limit_bytes = memory_limit_bytes(std::process::id());
        let process = process.map(|process| crate::process::ProcessFigures { limit_bytes, ..process });
        let Some(session) = heapgate_alloc::session() else {
            return Figures::unmeasured(Unmeasured::NoSegment, process.as_ref());
        };
        // An allocation that nobody can miss.
        drop(black_box(Box::new(0u8)));
        let reader = session.reader();
        let figures = Figures::with_gauges(reader, &newer, self.scale(reader), process.as_ref());
        let counted: f64 = figures.series(MetricId::Allocations).flatten().sum();
        if reader.level() != Level::Off && counted == 0.0 {
            return Figures::unmeasured(Unmeasured::NotInstalled, process.as_ref());
        }
        figures
    }

    fn scale(&self, reader: Reader<'_>) -> Option<&Scale> {
        if self.scale.get().is_none() {
            // Another thread that asks at the same time gives the same one, as good as always.
            let scale = Scale::of(reader)?;
            return Some(self.scale.get_or_init(|| scale));
        }
        self.scale.get()
    }

    fn labels(&self) -> Labels {
        let segment = heapgate_alloc::session().map(|session| session.reader());
        let label = |given: &str, published: fn(&Reader<'static>) -> String| match (given, &segment) {
            ("", Some(reader)) => published(reader),
            (given, _) => given.to_owned(),
        };
        let service =
            Some(label(&self.service, Reader::service)).filter(|name| !name.is_empty()).unwrap_or_else(own_name);
        let (allocator, version) = (label(&self.allocator, Reader::allocator), label(&self.version, Reader::version));
        Labels::of_process(&service, Some(std::process::id()), &allocator, &version)
    }
}

impl Collector for HeapgateCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&[(&self.labels(), &self.figures())])
    }
}

fn descriptions() -> Vec<Desc> {
    let metrics = ALL.iter().map(|id| id.metric()).filter(|metric| metric.source != Source::Agent);
    let describe = |metric: &crate::catalogue::Metric| {
        let labels = PROCESS_LABELS.iter().map(|(name, _)| *name).chain(metric.labels.iter().map(|label| label.name));
        Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels.map(str::to_owned).collect(), HashMap::new())
            .expect("names that Prometheus takes, as the catalogue's tests hold")
    };
    metrics.map(describe).collect()
}

/// The file name of this program.
fn own_name() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heapgate_segment::layout;
    use heapgate_segment::map::{Mapping, create_file};
    use std::os::fd::AsFd;

    /// This test's own executable has a segment after it attached, and no telemetry in any case.
    #[test]
    fn a_program_that_is_not_measured_says_why() {
        let collector = collector().service("test");
        let reason = |reason: Unmeasured| {
            let figures = collector.figures();
            assert_eq!(figures.value(MetricId::Up, 0), Some(0.0));
            assert!(figures.value(MetricId::ProcessResident, 0).is_some_and(|bytes| bytes > 0.0));
            assert_eq!(figures.value(MetricId::Unmeasured, reason as usize), Some(1.0), "{reason:?}");
            assert_eq!(figures.series(MetricId::Unmeasured).flatten().count(), 1);
        };
        reason(Unmeasured::NoSegment);
        let file = create_file(c"test", layout::segment_bytes(4)).unwrap();
        layout::format(Mapping::new(file.as_fd()).unwrap().words(), 4, Level::Count, 1);
        heapgate_alloc::attach(file.into()).unwrap();
        reason(Unmeasured::NotInstalled);
    }

    #[test]
    fn it_registers_once() {
        let registry = prometheus::Registry::new();
        registry.register(Box::new(collector())).unwrap();
        assert!(registry.register(Box::new(collector())).is_err());
    }
}
