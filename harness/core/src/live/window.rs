//! What a side did in a window: the differences of its processes' counters between two looks.

use std::collections::BTreeMap;

use heapgate_segment::histogram::bucket_bounds;
use heapgate_segment::requests::Requests;
use serde::Serialize;

use crate::metric::Unit;

/// Looks after which a process that began while it was watched counts in resident and live memory: what it holds grows at
/// first, and would look like the side's doing. One that was there from the beginning counts at once.
const SETTLING_LOOKS: u32 = 60;

/// Fewest timed calls, or requests, of a window for a P99 of it: 10 beyond it.
const FEWEST_FOR_P99: f64 = 1_000.0;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveMetric {
    /// Time in the allocator, a call.
    StallPerCall,
    /// Time in the allocator, as a share of CPU time.
    StallShare,
    /// 99 of 100 calls are faster.
    StallP99,
    /// Resident bytes, a worker (a bound thread's arena) or a process.
    Resident,
    /// Live objects, a process.
    LiveObjects,
    /// Mean time of requests, where the program says it.
    RequestTime,
    /// 99 of 100 requests are faster.
    RequestP99,
}

impl LiveMetric {
    /// Of groups of threads. What is live of one group alone is not compared: one group may free what another allocated.
    pub const OF_GROUPS: [Self; 3] = [Self::StallPerCall, Self::StallP99, Self::Resident];
    /// Of processes: the signals of the dashboards' roll-out verdict, and P99.
    pub const OF_PROCESSES: [Self; 4] = [Self::StallShare, Self::StallP99, Self::Resident, Self::LiveObjects];

    /// All that is compared of groups of threads, or else of processes: with requests where every side has finished some by the
    /// end of the `first` window, and their P99 where each has enough of them in it. One that is never there would leave the
    /// comparison undecided for ever.
    #[must_use]
    pub fn compared(of_threads: bool, first: &BTreeMap<String, Figures>) -> Vec<Self> {
        let mut metrics = if of_threads { Self::OF_GROUPS.to_vec() } else { Self::OF_PROCESSES.to_vec() };
        let all_have = |has: fn(&Figures) -> bool| !first.is_empty() && first.values().all(has);
        metrics.extend(all_have(|side| side.requests.is_some()).then_some(Self::RequestTime));
        metrics.extend(all_have(|side| side.request_p99_ns.is_some()).then_some(Self::RequestP99));
        metrics
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StallPerCall => "stall time per call",
            Self::StallShare => "stall share of CPU time",
            Self::StallP99 => "stall P99",
            Self::Resident => "resident",
            Self::LiveObjects => "live objects",
            Self::RequestTime => "request time",
            Self::RequestP99 => "request P99",
        }
    }

    /// What it is in.
    #[must_use]
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Self::StallPerCall | Self::StallP99 | Self::RequestTime | Self::RequestP99 => Some(Unit::Nanos),
            Self::Resident => Some(Unit::Bytes),
            Self::StallShare | Self::LiveObjects => None,
        }
    }
}

/// A process: its number, which is given again, and when it began.
pub type ProcessKey = (u32, u64);

/// What one side's part of a process has counted since it began, and holds now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Calls of all operations.
    pub calls: u64,
    /// Timed calls that were not interrupted, by bucket, of all operations; weighted where they are sampled.
    pub clean: Vec<u64>,
    /// Of the clock that they are in; `None` while it isn't known.
    pub ticks_per_second: Option<f64>,
    /// CPU time, s.
    pub cpu_s: Option<f64>,
    /// Objects allocated and not freed.
    pub live_objects: i64,
    /// Bytes allocated and not freed.
    pub live_bytes: i64,
    /// Resident bytes.
    pub resident_bytes: Option<u64>,
    /// Arenas, or processes: what resident memory is divided by.
    pub workers: u64,
    /// Requests that it has finished; `None` where there were none, or the program doesn't say.
    pub requests: Option<Requests>,
}

/// One side's part of one process, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Whose it is.
    pub process: ProcessKey,
    /// Of which side.
    pub side: String,
    /// What it has.
    pub counts: Counts,
}

/// What a side did in a window. Absent where nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Calls of the allocator.
    pub calls: u64,
    /// Processes that were looked at twice.
    pub processes: u32,
    /// ns.
    pub stall_ns_per_call: Option<f64>,
    /// 0 to 1.
    pub stall_share: Option<f64>,
    /// ns.
    pub stall_p99_ns: Option<f64>,
    /// A worker.
    pub resident_bytes: Option<f64>,
    /// A process; of a group of threads, all.
    pub live_objects: Option<f64>,
    /// A process; of a group of threads, all.
    pub live_bytes: Option<f64>,
    /// Requests that were finished; absent, and so are their times, of a program that doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Mean, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_ns: Option<f64>,
    /// ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_p99_ns: Option<f64>,
}

impl Figures {
    /// The figure of `metric`, if it is known and above 0: only then it has a logarithm.
    #[must_use]
    pub fn of(&self, metric: LiveMetric) -> Option<f64> {
        let value = match metric {
            LiveMetric::StallPerCall => self.stall_ns_per_call,
            LiveMetric::StallShare => self.stall_share,
            LiveMetric::StallP99 => self.stall_p99_ns,
            LiveMetric::Resident => self.resident_bytes,
            LiveMetric::LiveObjects => self.live_objects,
            LiveMetric::RequestTime => self.request_ns,
            LiveMetric::RequestP99 => self.request_p99_ns,
        };
        value.filter(|value| value.is_finite() && *value > 0.0)
    }
}

/// Makes windows of looks.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    last: BTreeMap<(ProcessKey, String), (Counts, u32)>,
    has_looked: bool,
}

impl Windows {
    /// Takes a look at all processes, and returns each side's figures since the last one. Only what was there both times
    /// counts: a process that begins or ends is no change of its side.
    pub fn look(&mut self, observed: Vec<Observed>) -> BTreeMap<String, Figures> {
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        let mut present = BTreeMap::new();
        for Observed { process, side, counts } in observed {
            let key = (process, side);
            // What was there at the first look has settled as far as we know.
            let first = if self.has_looked { 0 } else { SETTLING_LOOKS };
            let looks = self.last.get(&key).map_or(first, |(_, looks)| looks.saturating_add(1));
            if let Some((before, _)) = self.last.get(&key) {
                sums.entry(key.1.clone()).or_default().add(before, &counts, looks >= SETTLING_LOOKS);
            }
            present.insert(key, (counts, looks));
        }
        (self.last, self.has_looked) = (present, true);
        sums.into_iter().map(|(side, sum)| (side, sum.figures())).collect()
    }
}

/// What is added up over a side's processes.
#[derive(Debug, Default)]
struct Sum {
    calls: u64,
    processes: u32,
    /// By length of a tick: processes of one machine have one, or nearly.
    clean: Vec<f64>,
    seconds_per_tick: f64,
    stall_s: f64,
    cpu_s: Option<f64>,
    resident_bytes: u64,
    workers: u64,
    live_objects: i64,
    live_bytes: i64,
    settled: u32,
    /// By time, ns; `None` while no process has any.
    requests: Option<Vec<f64>>,
    request_ns: u64,
}

impl Sum {
    fn add(&mut self, before: &Counts, now: &Counts, settled: bool) {
        self.processes += 1;
        self.calls = self.calls.saturating_add(now.calls.saturating_sub(before.calls));
        if let Some(rate) = now.ticks_per_second.filter(|rate| *rate > 0.0) {
            self.seconds_per_tick = 1.0 / rate;
            let new = new(&before.clean, &now.clean);
            self.stall_s += new.iter().enumerate().map(|(bucket, count)| count * middle(bucket)).sum::<f64>() / rate;
            add(&mut self.clean, &new);
        }
        if let Some(requests) = &now.requests {
            let before = before.requests.clone().unwrap_or_default();
            add(self.requests.get_or_insert_default(), &new(&before.buckets, &requests.buckets));
            self.request_ns = self.request_ns.saturating_add(requests.sum_ns.saturating_sub(before.sum_ns));
        }
        if let (Some(before), Some(now)) = (before.cpu_s, now.cpu_s) {
            *self.cpu_s.get_or_insert(0.0) += (now - before).max(0.0);
        }
        if settled {
            self.settled += 1;
            self.live_objects = self.live_objects.saturating_add(now.live_objects);
            self.live_bytes = self.live_bytes.saturating_add(now.live_bytes);
            if let Some(resident) = now.resident_bytes.filter(|_| now.workers > 0) {
                self.resident_bytes = self.resident_bytes.saturating_add(resident);
                self.workers += now.workers;
            }
        }
    }

    fn figures(&self) -> Figures {
        let timed: f64 = self.clean.iter().sum();
        let p99 = |buckets: &[f64]| quantile(buckets, 0.99).filter(|_| buckets.iter().sum::<f64>() >= FEWEST_FOR_P99);
        let requests: Option<f64> = self.requests.as_ref().map(|requests| requests.iter().sum());
        let each = |sum: i64| (self.settled > 0).then(|| sum as f64 / f64::from(self.settled));
        Figures {
            calls: self.calls,
            processes: self.processes,
            stall_ns_per_call: (timed > 0.0).then(|| self.stall_s * 1e9 / timed),
            stall_share: self.cpu_s.filter(|cpu| *cpu > 0.0 && timed > 0.0).map(|cpu| self.stall_s / cpu),
            stall_p99_ns: p99(&self.clean).map(|ticks| ticks * self.seconds_per_tick * 1e9),
            resident_bytes: (self.workers > 0).then(|| self.resident_bytes as f64 / self.workers as f64),
            live_objects: each(self.live_objects),
            live_bytes: each(self.live_bytes),
            requests: requests.map(|requests| requests as u64),
            request_ns: requests.filter(|count| *count > 0.0).map(|count| self.request_ns as f64 / count),
            request_p99_ns: self.requests.as_deref().and_then(p99),
        }
    }
}

/// What was counted in each bucket since `before`.
fn new(before: &[u64], now: &[u64]) -> Vec<f64> {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    now.iter().zip(before).map(|(now, before)| now.saturating_sub(before) as f64).collect()
}

fn add(sums: &mut Vec<f64>, new: &[f64]) {
    sums.resize(sums.len().max(new.len()), 0.0);
    sums.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
}

/// The value that a share `q` of all counts is below; `None` without any. Within a bucket in proportion: or a side would be
/// equal to the other, or 6% off.
fn quantile(buckets: &[f64], q: f64) -> Option<f64> {
    let mut left = q * buckets.iter().sum::<f64>();
    for (bucket, &count) in buckets.iter().enumerate() {
        if count > 0.0 && left <= count {
            let (low, high) = bucket_bounds(bucket);
            return Some(low as f64 + (high - low) as f64 * left / count);
        }
        left -= count;
    }
    None
}

/// The middle of a bucket, ticks.
fn middle(bucket: usize) -> f64 {
    let (low, high) = bucket_bounds(bucket);
    // The last value is the one below the bound.
    u64::midpoint(low, high - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use heapgate_segment::histogram::{BUCKETS, bucket_of};

    fn counts(calls: u64, ns: u64, resident_mib: u64) -> Counts {
        let mut clean = vec![0; BUCKETS];
        clean[bucket_of(ns)] = calls;
        Counts {
            calls,
            clean,
            ticks_per_second: Some(1e9),
            cpu_s: Some(calls as f64 / 1e6),
            resident_bytes: Some(resident_mib << 20),
            live_objects: 10,
            workers: 1,
            ..Counts::default()
        }
    }

    fn of(pid: u32, side: &str, counts: Counts) -> Observed {
        Observed { process: (pid, 1), side: side.to_owned(), counts }
    }

    #[test]
    fn a_window_is_the_difference_of_two_looks() {
        let mut windows = Windows::default();
        assert!(windows.look(vec![of(1, "a", counts(1_000, 100, 64))]).is_empty(), "one look is no window");
        let figures = windows.look(vec![of(1, "a", counts(3_000, 100, 32))])["a"];
        assert_eq!((figures.calls, figures.processes), (2_000, 1));
        assert!(figures.stall_ns_per_call.is_some_and(|ns| (ns / 100.0 - 1.0).abs() < 0.05));
        assert!(figures.stall_p99_ns.is_some_and(|ns| (ns / 100.0 - 1.0).abs() < 0.05));
        assert!(figures.stall_share.is_some_and(|share| (share / 0.1 - 1.0).abs() < 0.05));
        assert_eq!(figures.of(LiveMetric::Resident), Some(f64::from(32 << 20)));
    }

    #[test]
    fn a_process_that_begins_or_ends_is_no_change() {
        let mut windows = Windows::default();
        let old = |calls| of(1, "a", counts(calls, 100, 64));
        windows.look(vec![old(1_000), of(2, "a", counts(9_000_000, 5_000, 900))]);
        // 2 has ended; 3 has begun, and done much already.
        let figures = windows.look(vec![old(2_000), of(3, "a", counts(5_000_000, 9_000, 1))])["a"];
        assert_eq!((figures.calls, figures.resident_bytes), (1_000, Some(f64::from(64 << 20))));
        // From its second look on its calls count, and its memory once it has settled.
        let figures = windows.look(vec![old(3_000), of(3, "a", counts(5_000_500, 9_000, 1))])["a"];
        assert_eq!((figures.calls, figures.resident_bytes), (1_500, Some(f64::from(64 << 20))));
        for look in 0..u64::from(SETTLING_LOOKS) {
            windows.look(vec![old(3_000), of(3, "a", counts(5_001_000 + look, 9_000, 1))]);
        }
        let figures = windows.look(vec![old(3_000), of(3, "a", counts(5_002_000, 9_000, 2))])["a"];
        assert_eq!(figures.resident_bytes, Some(f64::from(33 << 20)));
    }

    #[test]
    fn requests_of_a_window_are_those_that_were_finished_in_it() {
        let with = |requests: &[(u64, u64)]| {
            let mut counts = counts(1_000, 100, 64);
            let all = counts.requests.insert(Requests { sum_ns: 0, buckets: vec![0; BUCKETS] });
            for &(count, ns) in requests {
                all.sum_ns += count * ns;
                all.buckets[bucket_of(ns)] += count;
            }
            counts
        };
        let mut windows = Windows::default();
        windows.look(vec![of(1, "a", with(&[(5, 9_000_000)])), of(2, "a", counts(1, 100, 64))]);
        let slow_too = with(&[(5, 9_000_000), (30, 8_000_000), (1_970, 2_000_000)]);
        let figures = windows.look(vec![of(1, "a", slow_too.clone()), of(2, "a", with(&[(1, 4_000_000)]))])["a"];
        assert_eq!(
            (figures.requests, figures.request_ns),
            (Some(2_001), Some((30.0 * 8e6 + 1_970.0 * 2e6 + 4e6) / 2_001.0))
        );
        assert!(figures.request_p99_ns.is_some_and(|ns| (ns / 8e6 - 1.0).abs() < 0.05), "{figures:?}");
        let quiet = windows.look(vec![of(1, "a", slow_too), of(2, "b", counts(2, 100, 64))]);
        assert_eq!((quiet["a"].requests, quiet["a"].request_ns, quiet["a"].request_p99_ns), (Some(0), None, None));
    }

    #[test]
    fn requests_are_compared_where_every_side_says_them() {
        use LiveMetric::{RequestP99, RequestTime};
        let side = |requests, request_p99_ns| Figures { requests, request_p99_ns, ..Figures::default() };
        let compared = |sides: [Figures; 2]| {
            let sides = ["a", "b"].map(str::to_owned).into_iter().zip(sides).collect();
            LiveMetric::compared(true, &sides).split_off(LiveMetric::OF_GROUPS.len())
        };
        let (none, few, many) = (side(None, None), side(Some(0), None), side(Some(5_000), Some(2e6)));
        assert_eq!(compared([none, many]), []);
        assert_eq!(compared([few, many]), [RequestTime]);
        assert_eq!(compared([many, many]), [RequestTime, RequestP99]);
        assert_eq!(LiveMetric::compared(false, &BTreeMap::new()), LiveMetric::OF_PROCESSES);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let mut windows = Windows::default();
        windows.look(vec![of(1, "a", counts(1_000, 100, 64))]);
        let figures = windows.look(vec![of(1, "a", counts(1_000, 100, 64))])["a"];
        assert_eq!((figures.calls, figures.stall_ns_per_call, figures.stall_p99_ns), (0, None, None));
        let negative = Figures { live_objects: Some(-5.0), ..Figures::default() };
        assert_eq!(negative.of(LiveMetric::LiveObjects), None);
    }
}
