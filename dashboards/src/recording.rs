//! What is recorded of each process: the quantities that alerts are about, so that they can be looked at before and after.

use heapgate_prometheus::catalogue::MetricId::{
    JemallocMadvises, JemallocPurged, LiveObjects, ProcessCpu, ProcessLimit, ProcessResident, Stalls,
};
use heapgate_prometheus::stalls::BOUNDS_S;

use crate::rules::{Group, Record, Rule};
use crate::selector::{buckets, count, live, named};

/// Above this a single call is an alert (E28). A bound of the histogram, between which rules can't look.
pub(crate) const LONGEST_S: f64 = 0.2;
/// From here on a call is long: ordinary ones take a thousandth of it, and only page faults, locks, large mappings and
/// giving memory back take more.
pub(crate) const LONG_S: f64 = 1e-4;
/// A storm gives back this share of resident memory in a minute: most of it will have to be faulted in again...
pub(crate) const STORM_SHARE: f64 = 0.5;
/// ...by this many system calls: a single large buffer that goes is no storm.
pub(crate) const STORM_CALLS: f64 = 100.0;

pub(crate) const STALL_BUCKETS: &str = "heapgate:stall_bucket:rate5m";
pub(crate) const LONG_STALLS: &str = "heapgate:long_stall:ratio_rate5m";
pub(crate) const LONGEST_STALLS: &str = "heapgate:stalls_over_200ms:increase5m";
pub(crate) const STORM: &str = "heapgate:reclaim_storm:bool1m";
pub(crate) const LIVE_TROUGH: &str = "heapgate:live_objects:min10m";
pub(crate) const LIMIT_SHARE: &str = "heapgate:resident_limit:ratio";

pub(crate) fn group() -> Group {
    Group {
        name: "heapgate-processes",
        about: "Of each process: the quantities that alerts are about. Windows of 5 minutes want a scrape every minute, \
                windows of one minute one every 15 s.",
        rules: vec![
            record(
                STALL_BUCKETS,
                "Calls of the allocator a second by how long they took: all operations, interrupted calls too.",
                format!("sum without (op, interrupted) ({})", buckets(Stalls).rate("5m")),
            ),
            record(
                LONG_STALLS,
                "Time spent in calls of the allocator of more than 100 µs, as a share of the time of one thread, or of as many \
                 as keep CPUs busy. At least so much: each such call is taken to last as long as the bound of the histogram \
                 below it, which is 40% of it at worst. (For calls up to 10 s: each bound's distance to the one below it times \
                 the calls beyond the bound.)",
                long_stalls(),
            ),
            record(
                LONGEST_STALLS,
                "Calls of the allocator of more than 200 ms in the last 5 minutes.",
                format!(
                    "{}\n- ignoring(le)\n{}",
                    count(Stalls).increase("5m"),
                    buckets(Stalls).up_to(LONGEST_S).increase("5m")
                ),
            ),
            record(
                STORM,
                "1 if in the last minute jemalloc gave back more than half of the resident memory, by 100 system calls or more; \
                 else 0. Of processes that publish jemalloc's figures.",
                format!(
                    "({} > bool {STORM_SHARE} * {})\n* ({} >= bool {STORM_CALLS})",
                    live(JemallocPurged).increase("1m"),
                    live(ProcessResident),
                    live(JemallocMadvises).increase("1m")
                ),
            ),
            record(
                LIVE_TROUGH,
                "Fewest live objects in the last 10 minutes: what is left between peaks of load.",
                format!("min_over_time({}[10m])", live(LiveObjects)),
            ),
            record(
                LIMIT_SHARE,
                "Resident memory as a share of the most that the process may have.",
                format!("{} / {}", live(ProcessResident), live(ProcessLimit)),
            ),
        ],
    }
}

fn record(name: &'static str, about: &'static str, expr: String) -> Rule {
    Rule::Record(Record { name, about, labels: Vec::new(), expr })
}

fn long_stalls() -> String {
    let all = named(STALL_BUCKETS).with("le", "+Inf");
    let bounds: Vec<f64> = BOUNDS_S.into_iter().filter(|&bound| bound >= LONG_S).collect();
    let last = bounds[bounds.len() - 1];
    let mut below = 0.0;
    let mut expr = format!("clamp_min(\n  {last} * {all}");
    for bound in bounds {
        // Such steps are short decimals, and their differences almost.
        let width = ((bound - below) * 1e6).round() / 1e6;
        expr += &format!("\n  - ignoring(le) {width} * {}", named(STALL_BUCKETS).up_to(bound));
        below = bound;
    }
    format!("{expr},\n  0\n)\n/ ignoring(le) clamp_min({}, 1)", live(ProcessCpu).rate("5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounds_of_the_histogram() {
        for limit in [LONGEST_S, LONG_S] {
            assert!(BOUNDS_S.contains(&limit), "{limit} s");
        }
    }

    #[test]
    fn widths_add_up_to_the_last_bound() {
        let text = long_stalls();
        let widths = text.lines().filter_map(|line| line.trim().strip_prefix("- ignoring(le) ")?.split_once(' '));
        let sum: f64 = widths.map(|(width, _)| width.parse::<f64>().unwrap()).sum();
        assert!((sum - BOUNDS_S[BOUNDS_S.len() - 1]).abs() < 1e-9, "{sum}");
    }
}
