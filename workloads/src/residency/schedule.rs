//! A fixed schedule: step `n` is due `n` intervals after the start, whatever the steps before it took.
//!
//! An open loop. A step that is late starts at once and the schedule stands, so that a stall delays the steps behind
//! it and shows in their response times instead of being left out ("coordinated omission": Gil Tene, "How NOT to
//! Measure Latency", and wrk2).

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest response time that is told from longer ones.
const LONGEST_NS: u64 = 600_000_000_000;

/// When steps are due, and how long after that they ended.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    start: Instant,
    taken: u32,
    late: u64,
    responses_ns: Histogram<u64>,
}

impl Schedule {
    /// A schedule that starts now.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        // All counters are made here, so that none is ever added while measuring.
        let responses_ns = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds are in order");
        Self { interval, start: Instant::now(), taken: 0, late: 0, responses_ns }
    }

    /// Starts anew: the next step is due now, and nothing is recorded.
    pub fn restart(&mut self) {
        self.start = Instant::now();
        (self.taken, self.late) = (0, 0);
        self.responses_ns.reset();
    }

    /// Waits until the next step is due and returns when that was, which is in the past for a step that is late.
    pub fn wait(&mut self) -> Instant {
        let due = self.start + self.interval * self.taken;
        self.taken += 1;
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            // The first is always due at once.
            self.late += u64::from(self.taken > 1);
        } else {
            thread::sleep(wait);
        }
        due
    }

    /// Records that the step that was due at `due` has ended.
    pub fn ended(&mut self, due: Instant) {
        let response_ns = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.responses_ns.saturating_record(response_ns);
    }

    /// Steps that could not start when they were due.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Times from when steps were due to their ends.
    #[must_use]
    pub fn responses_ns(&self) -> &Histogram<u64> {
        &self.responses_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_due_one_interval_apart_however_late_they_are() {
        let mut schedule = Schedule::new(Duration::from_nanos(1));
        let dues: Vec<Instant> = (0..4).map(|_| schedule.wait()).collect();
        assert!(dues.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_nanos(1)));
    }

    #[test]
    fn no_step_starts_before_it_is_due() {
        let mut schedule = Schedule::new(Duration::from_millis(2));
        for _ in 0..3 {
            let due = schedule.wait();
            assert!(Instant::now() >= due);
            schedule.ended(due);
        }
        assert_eq!(schedule.responses_ns().len(), 3);
    }

    #[test]
    fn a_restart_forgets_what_was_recorded() {
        let mut schedule = Schedule::new(Duration::from_nanos(1));
        for _ in 0..3 {
            let due = schedule.wait();
            schedule.ended(due);
        }
        schedule.restart();
        assert_eq!((schedule.late(), schedule.responses_ns().len()), (0, 0));
    }
}
