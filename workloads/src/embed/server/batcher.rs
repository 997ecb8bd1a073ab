//! How many requests are embedded together, and how long the first of them waits for the others.
//!
//! The limit is the number of requests that come, at their present rate, while one may wait: at a low rate it is one, and
//! nobody waits. So a batch grows with the load, up to [`MOST`].

use std::time::{Duration, Instant};

use super::load::Taken;

/// The largest batch.
pub const MOST: usize = 32;

/// The longest that a request waits for others to come.
pub const LINGER: Duration = Duration::from_millis(10);

/// Requests that the rate is taken over.
const WINDOW: usize = 32;

/// Watches the rate of requests and decides.
#[derive(Debug, Clone)]
pub struct Batcher {
    dynamic: bool,
    /// When the last requests were sent, ns from the start: a ring.
    sent_ns: [u64; WINDOW],
    seen: usize,
    oldest_ns: u64,
}

impl Batcher {
    /// One that follows the rate, or one that never waits and takes one at a time.
    #[must_use]
    pub fn new(dynamic: bool) -> Self {
        Self { dynamic, sent_ns: [0; WINDOW], seen: 0, oldest_ns: 0 }
    }

    /// Takes note of a request.
    pub fn saw(&mut self, request: &Taken) {
        self.sent_ns[self.seen % WINDOW] = request.sent_ns;
        self.seen += 1;
    }

    /// Requests per second, over the last of them; 0 while there are too few.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let count = self.seen.min(WINDOW);
        if count < 2 {
            return 0.0;
        }
        let last = self.sent_ns[(self.seen - 1) % WINDOW];
        let first = self.sent_ns[(self.seen - count) % WINDOW];
        // Requests that were sent late come all at once: an infinite rate, for the moment.
        (count - 1) as f64 / (last.saturating_sub(first).max(1) as f64 / 1e9)
    }

    /// How many are embedded together now.
    #[must_use]
    pub fn limit(&self) -> usize {
        if !self.dynamic {
            return 1;
        }
        ((self.rate() * LINGER.as_secs_f64()) as usize).clamp(1, MOST)
    }

    /// How long the oldest that waits may still wait.
    #[must_use]
    pub fn patience(&self, start: Instant) -> Duration {
        let waited = start.elapsed().saturating_sub(Duration::from_nanos(self.oldest_ns));
        LINGER.saturating_sub(waited)
    }

    /// Whether those `waiting` are to be embedded now: there are enough, or the oldest has waited long enough.
    pub fn is_due(&mut self, waiting: &[Taken], start: Instant) -> bool {
        let Some(oldest) = waiting.first() else { return false };
        self.oldest_ns = oldest.sent_ns;
        waiting.len() >= self.limit() || self.patience(start).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_rate(dynamic: bool, per_s: u64) -> Batcher {
        let mut batcher = Batcher::new(dynamic);
        (0..100).for_each(|i| batcher.saw(&Taken { id: 0, sent_ns: i * 1_000_000_000 / per_s, late_ns: 0 }));
        batcher
    }

    #[test]
    fn limit_follows_the_rate() {
        let limits = [10, 150, 1_000, 2_000, 1_000_000].map(|rate| at_rate(true, rate).limit());
        assert_eq!(limits, [1, 1, 10, 20, MOST]);
    }

    #[test]
    fn without_batching_there_is_one_at_any_rate() {
        assert_eq!(at_rate(false, 1_000_000).limit(), 1);
    }

    #[test]
    fn the_first_request_does_not_wait() {
        let mut batcher = Batcher::new(true);
        let request = Taken { id: 0, sent_ns: 0, late_ns: 0 };
        batcher.saw(&request);
        assert!(batcher.is_due(&[request], Instant::now()));
    }
}
