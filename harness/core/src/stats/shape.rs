//! Two groups of latency histograms compared whole: has any part of the distribution become slower?
//!
//! Each process gives one histogram, and processes, not calls, are the sample: calls of one process share its memory layout
//! and its luck. At each of a fixed row of times, the share of calls that took longer is one number for each process, and
//! the Mann–Whitney test sets the two groups against each other; the smallest probability is multiplied by the number of
//! times (Bonferroni). So what no percentile shows is seen as well as what moves one: a hump between P50 and P95, or fifty
//! microseconds in one call of ten thousand.

use heapgate_segment::histogram::bucket_bounds;

use super::rank_test::p_greater;

/// One process's histogram.
#[derive(Debug, Clone, Copy)]
pub struct Histogram<'a> {
    /// Pairs of bucket and count, sorted.
    pub buckets: &'a [(u32, u64)],
    /// Length of a tick.
    pub ns_per_tick: f64,
    /// What share of all calls these are; the others took no time. 1 where these are all.
    pub calls_share: f64,
}

/// What comparing gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slower {
    /// The probability of a difference like this beyond the limit where there is none.
    pub p_value: f64,
    /// Where the distribution is slower by most, over each group's mean, of the places that alone would be at most
    /// [`SUSPECT`]; absent where there are none.
    pub worst: Option<Place>,
}

/// One place in two distributions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Which share of calls is faster, 0 to 1.
    pub quantile: f64,
    /// The time there in the first group, ns.
    pub baseline_ns: f64,
    /// And in the second, ns.
    pub now_ns: f64,
}

impl Place {
    /// By which factor the second is slower.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.now_ns / self.baseline_ns
    }
}

/// The share of calls that may be slower by anything: interrupts that the kernel serves on our time, a hypervisor that takes
/// the CPU away. Machines of one class differ by so much from day to day; a stall in one call of ten thousand is five times
/// as many.
pub const SLACK: f64 = 2e-5;

/// Places where the groups differ with a larger probability than this by chance are not named: far out, where calls are few,
/// the largest of many differences is always large.
pub const SUSPECT: f64 = 0.025;

/// Times stand √2 apart: finer than any shift worth telling, and half of them are a few dozen.
const STEPS_PER_OCTAVE: f64 = 2.0;
/// 8 ns: less than two readings of the clock take.
const FIRST_STEP: i32 = 6;
/// 1.07 s.
const LAST_STEP: i32 = 60;

/// Sets `now` against `baseline`: is any part of it slower by more than the factor `1 + limit`, in more than a share
/// [`SLACK`] of the calls? `None` where one of them has no calls.
#[must_use]
pub fn slower(baseline: &[Histogram<'_>], now: &[Histogram<'_>], limit: f64) -> Option<Slower> {
    let [baseline, now] = [baseline, now].map(|group| group.iter().filter_map(Curve::of).collect::<Vec<_>>());
    if baseline.is_empty() || now.is_empty() {
        return None;
    }
    let (mut tested, mut least) = (0u32, 1f64);
    let mut suspected = Vec::new();
    for t in times() {
        let before: Vec<f64> = baseline.iter().map(|curve| curve.beyond(t) + SLACK).collect();
        let after: Vec<f64> = now.iter().map(|curve| curve.beyond(t * (1.0 + limit))).collect();
        // Times that no call reaches, or all do, tell nothing; which they are doesn't depend on who is in which group.
        let all = before.iter().chain(&after);
        if all.clone().any(|&share| share > SLACK) && all.clone().any(|&share| share < 1.0) {
            tested += 1;
            let p_value = p_greater(&before, &after);
            least = least.min(p_value);
            suspected.extend((p_value <= SUSPECT).then_some(t * (1.0 + limit)));
        }
    }
    let p_value = (least * f64::from(tested)).min(1.0);
    Some(Slower { p_value, worst: worst(&baseline, &now, &suspected) })
}

fn times() -> impl Iterator<Item = f64> {
    (FIRST_STEP..=LAST_STEP).map(|step| (f64::from(step) / STEPS_PER_OCTAVE).exp2())
}

/// At which of `times` the mean of `now` lies furthest right of the mean of `baseline`.
fn worst(baseline: &[Curve], now: &[Curve], times: &[f64]) -> Option<Place> {
    let mean = |group: &[Curve], t: f64| group.iter().map(|c| c.beyond(t)).sum::<f64>() / group.len() as f64;
    let places = times.iter().filter_map(|&t| {
        let share = mean(now, t);
        // What is beyond the slack, so that a few calls in a million don't name a place.
        (share > SLACK).then(|| {
            let before = time_at(share - SLACK, |t| mean(baseline, t));
            Place { quantile: 1.0 - share, baseline_ns: before, now_ns: t }
        })
    });
    places.max_by(|a, b| a.factor().total_cmp(&b.factor()))
}

/// The time that a share `share` of the calls takes longer than, by bisection on the logarithm.
fn time_at(share: f64, beyond: impl Fn(f64) -> f64) -> f64 {
    /// Halvings of the whole range: to a thousandth of an octave.
    const HALVINGS: u32 = 16;
    let (mut low, mut high) = (0f64, f64::from(LAST_STEP) / STEPS_PER_OCTAVE);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if beyond(middle.exp2()) > share { low = middle } else { high = middle }
    }
    high.exp2()
}

/// A histogram as the share of calls beyond each bucket.
struct Curve {
    /// Lower and upper end of each bucket, ns, and the shares of calls beyond its lower and its upper end.
    steps: Vec<(f64, f64, f64, f64)>,
}

impl Curve {
    fn of(histogram: &Histogram<'_>) -> Option<Self> {
        let total: u64 = histogram.buckets.iter().map(|b| b.1).sum();
        let mut beyond = total;
        let share = |count: u64| histogram.calls_share * count as f64 / total as f64;
        let steps = histogram.buckets.iter().map(|&(bucket, count)| {
            let (low, high) = bucket_bounds(bucket as usize);
            let [low, high] = [low, high].map(|ticks| ticks as f64 * histogram.ns_per_tick);
            let above = share(beyond);
            beyond -= count;
            (low, high, above, share(beyond))
        });
        let steps = steps.collect();
        (total > 0).then_some(Self { steps })
    }

    /// The share of calls that took longer than `t` ns; within a bucket, as if they were spread evenly.
    fn beyond(&self, t: f64) -> f64 {
        let index = self.steps.partition_point(|step| step.1 <= t);
        match self.steps.get(index) {
            None => 0.0,
            Some(&(low, _, above, _)) if t <= low => above,
            Some(&(low, high, above, below)) => above + (below - above) * (t - low) / (high - low),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;
    use heapgate_segment::histogram::bucket_of;
    use std::collections::BTreeMap;

    /// A process: 100,000 calls of about 20 ns with a tail, each process a little different; `change` maps a time and a
    /// uniform number to another time.
    fn process(random: &mut SplitMix64, change: impl Fn(f64, f64) -> f64) -> Vec<(u32, u64)> {
        let mut uniform = || ((random.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let own = 1.0 + 0.02 * uniform();
        let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..100_000 {
            let time = own * (18.0 / uniform().powf(0.35));
            *buckets.entry(bucket_of(change(time, uniform()) as u64) as u32).or_default() += 1;
        }
        buckets.into_iter().collect()
    }

    fn compared(seed: u64, change: impl Fn(f64, f64) -> f64) -> Slower {
        let mut random = SplitMix64::new(seed);
        let baseline: Vec<_> = (0..10).map(|_| process(&mut random, |t, _| t)).collect();
        let now: Vec<_> = (0..10).map(|_| process(&mut random, &change)).collect();
        slower(&histograms(&baseline), &histograms(&now), 0.25).unwrap()
    }

    fn histograms(processes: &[Vec<(u32, u64)>]) -> Vec<Histogram<'_>> {
        processes.iter().map(|buckets| Histogram { buckets, ns_per_tick: 1.0, calls_share: 1.0 }).collect()
    }

    #[test]
    fn the_same_is_not_slower() {
        let same = compared(1, |t, _| t);
        assert!(same.p_value > 0.5 && same.worst.is_none(), "{same:?}");
    }

    /// Three of four quick calls are not made any more: what is left has several times the share of slow ones.
    #[test]
    fn fewer_quick_calls_are_not_slower_if_they_count_as_calls_that_took_no_time() {
        let mut random = SplitMix64::new(1);
        let before: Vec<_> = (0..10).map(|_| process(&mut random, |t, _| t)).collect();
        let calls = |buckets: &[(u32, u64)]| buckets.iter().map(|b| b.1).sum::<u64>() as f64;
        let mut after = before.clone();
        after.iter_mut().flatten().for_each(|(bucket, count)| {
            *count /= 1 + 3 * u64::from(bucket_bounds(*bucket as usize).1 < 60);
        });
        let share = calls(&after[0]) / calls(&before[0]);
        let (before, mut after) = (histograms(&before), histograms(&after));
        assert!(slower(&before, &after, 0.25).unwrap().p_value < 1e-3);
        after.iter_mut().for_each(|histogram| histogram.calls_share = share);
        let slower = slower(&before, &after, 0.25).unwrap();
        assert!(slower.p_value > 0.5 && slower.worst.is_none(), "{slower:?}");
    }

    #[test]
    fn fifty_microseconds_in_one_call_of_ten_thousand_are_seen() {
        let stalls = compared(2, |t, u| if u < 1e-4 { t + 50_000.0 } else { t });
        let worst = stalls.worst.unwrap();
        assert!(stalls.p_value < 1e-3 && worst.factor() > 10.0 && worst.quantile > 0.999, "{stalls:?}");
    }

    /// Calls between the median and P95 move up to just below P95: P50, P95 and all beyond stay.
    #[test]
    fn what_no_percentile_shows_is_seen() {
        let hump = compared(3, |t, _| if (26.0..42.0).contains(&t) { 44.0 } else { t });
        let worst = hump.worst.unwrap();
        assert!(hump.p_value < 1e-3 && worst.factor() > 1.25, "{hump:?}");
        assert!((0.5..0.95).contains(&worst.quantile), "{hump:?}");
    }

    #[test]
    fn calls_that_all_take_the_same_much_longer_time_are_seen() {
        let all = compared(7, |_, _| 9e6);
        assert!(all.p_value < 1e-3 && all.worst.unwrap().factor() > 1e5, "{all:?}");
    }

    #[test]
    fn a_shift_within_the_limit_is_none() {
        let little = compared(4, |t, _| t * 1.15);
        assert!(little.p_value > 0.5 && little.worst.is_none(), "{little:?}");
        assert!(compared(4, |t, _| t * 1.5).p_value < 1e-3);
    }

    #[test]
    fn a_few_calls_in_a_million_are_left_to_the_machine() {
        let rare = compared(5, |t, u| if u < 1e-5 { t + 1e6 } else { t });
        assert!(rare.p_value > 0.01, "{rare:?}");
    }

    /// A hundred calls a process: the slowest of them are as they come.
    #[test]
    fn of_few_calls_the_slowest_name_no_place() {
        let mut random = SplitMix64::new(8);
        let mut group = || -> Vec<Vec<(u32, u64)>> {
            (0..5)
                .map(|_| {
                    let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
                    for _ in 0..100 {
                        let time = 18.0 / random.uniform().max(1e-9).powf(0.8);
                        *buckets.entry(bucket_of(time as u64) as u32).or_default() += 1;
                    }
                    buckets.into_iter().collect()
                })
                .collect()
        };
        let suspected = (0..50).filter(|_| {
            let (baseline, now) = (group(), group());
            slower(&histograms(&baseline), &histograms(&now), 0.25).unwrap().worst.is_some()
        });
        assert!(suspected.count() <= 5);
    }

    #[test]
    fn faster_is_not_slower_and_nothing_is_not_compared() {
        assert!(compared(6, |t, _| t / 2.0).p_value > 0.5);
        assert_eq!(slower(&[], &[], 0.25), None);
        assert_eq!(slower(&histograms(&[Vec::new()]), &histograms(&[vec![(3, 1)]]), 0.25), None);
    }
}
