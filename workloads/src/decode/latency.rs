//! How long steps take, recorded without allocating.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use heapgate_bench::Error;

/// What is longer counts as this.
const LONGEST: Duration = Duration::from_secs(60);
/// Two digits: quantiles are right to 1 %.
const DIGITS: u8 = 2;

/// A histogram of durations, all of it there from the start.
#[derive(Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// An empty one.
    ///
    /// # Errors
    /// [`Error::Library`] if the histogram refuses its bounds.
    pub fn new() -> Result<Self, Error> {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, DIGITS);
        histogram.map(Self).map_err(|error| Error::Library(error.to_string()))
    }

    /// Records the time since `start`.
    pub fn record_since(&mut self, start: Instant) {
        self.record(start.elapsed());
    }

    /// Records a duration.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(duration.as_nanos() as u64);
    }

    /// Forgets what was recorded.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// The mean, ns; none where nothing was recorded.
    #[must_use]
    pub fn mean_ns(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean())
    }

    /// The `quantile` (0 to 1), ns; none where nothing was recorded.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_hundredth_and_absent_of_nothing() {
        let mut latency = Latency::new().expect("valid bounds");
        assert_eq!(latency.quantile_ns(0.95), None);
        (1..=1_000).for_each(|micros| latency.record(Duration::from_micros(micros)));
        let p95 = latency.quantile_ns(0.95).expect("recorded");
        assert!((p95 / 950_000.0 - 1.0).abs() < 0.01, "{p95}");
        latency.record(Duration::from_secs(3_600));
        assert!(latency.quantile_ns(1.0).expect("recorded") >= LONGEST.as_nanos() as f64);
        latency.clear();
        assert_eq!(latency.mean_ns(), None);
    }
}
