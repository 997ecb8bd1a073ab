//! What to look at when a metric failed: the experienced colleague's first question, by metric (E25), with the call sites
//! that changed where both sides know theirs.

use super::verdict::{Decision, Line, MemoryLine};
use crate::baseline::BaselineCell;
use crate::metric::MetricId;
use crate::render::human;
use crate::report::{CellTrials, MemoryPart, PhaseKind, Site, Sites};

/// How to get call sites where one side has none.
pub(super) const RUN_WITH_SITES: &str =
    "what newly allocates? run both sides with `heapgate run --sites`, and `heapgate diff` names the lines";

/// Call sites that are named.
const MOST_SITES: usize = 3;

/// Hints for `line` if it failed.
pub(super) fn advice(
    line: &Line,
    now: &CellTrials<'_>,
    baseline: Option<&BaselineCell>,
    memory: &[MemoryLine],
) -> Vec<String> {
    use MetricId::{
        AllocatedBytesPerUnit, AllocationsPerUnit, EscapedObjects, InterruptedDistribution, LeftBytes, LeftObjects,
        LeftRss, PeakLiveBytes, PeakLiveObjects, PeakRss, ReallocationsPerUnit, RegionPeakChunks, StallDistribution,
        StallMax, StallP50, StallP95, StallP99, StallP999, StallPerUnit, StallShare,
    };
    if line.decision != Decision::Fail {
        return Vec::new();
    }
    match line.metric {
        AllocationsPerUnit | ReallocationsPerUnit | AllocatedBytesPerUnit | PeakLiveObjects | PeakLiveBytes => {
            sites(now, baseline)
        }
        LeftObjects | LeftBytes => {
            let mut hints = vec![
                "leak paths: what is pushed into a static, a cache without a bound, a thread-local, an Rc cycle, or given \
                 to mem::forget, Box::leak or into_raw?"
                    .to_owned(),
            ];
            hints.extend(sites(now, baseline));
            hints
        }
        EscapedObjects | RegionPeakChunks => {
            vec![
                "what outlives its region scope: results that are kept, caches and lazies filled inside it?".to_owned(),
            ]
        }
        PeakRss | LeftRss => {
            let phase = if line.metric == PeakRss { PhaseKind::Measure } else { PhaseKind::Drain };
            let of_phase = memory.iter().find(|m| m.phase == phase);
            match of_phase.and_then(|m| m.explained_by().first().copied()) {
                Some(part) => vec![of_part(part)],
                None if of_phase.is_some() => vec![
                    "the peak alone moved: something large lived for a short time; see peak_live_bytes, and the curve in \
                     the report"
                        .to_owned(),
                ],
                None => Vec::new(),
            }
        }
        StallP50 | StallP95 | StallP99 | StallP999 | StallMax | StallDistribution | StallShare | StallPerUnit => vec![
            format!(
                "decay tuning: is it purging? `heapgate ab {} --a jemalloc --b jemalloc:dirty_decay_ms=-1` tells",
                workload(line)
            ),
            "or fresh mappings (see minor_faults), or a lock: threads that free what others allocated".to_owned(),
        ],
        InterruptedDistribution => {
            vec!["the scheduler's time: is the machine busier, or are there more threads?".to_owned()]
        }
        _ => Vec::new(),
    }
}

fn workload(line: &Line) -> String {
    format!("{}/{}", line.cell.workload, line.cell.variant)
}

/// What to look at where this part of resident memory grew.
fn of_part(part: &super::verdict::MemoryPartLine) -> String {
    let grew = human::value(crate::metric::Unit::Bytes, part.change_bytes());
    let what = match part.part {
        MemoryPart::Live => "what is held longer or is larger? `heapgate run --sites` names what allocates",
        MemoryPart::Rounding => "sizes just above a size class? with_capacity or shrink_to_fit where they are made",
        MemoryPart::Fragmentation => {
            "long-lived objects among short-lived ones pin pages: make them first, or apart (an arena, a region)"
        }
        MemoryPart::Retained => {
            "pages the allocator keeps: a shorter decay gives them back (jemalloc:dirty_decay_ms=1000), at the price of faults"
        }
        MemoryPart::Mappings => "outside the allocator: mapped files, stacks of more threads, a larger program",
    };
    format!("{} grew by {grew}: {what}", part.part.name())
}

/// The call sites whose allocations changed most; how to get them where one side has none.
fn sites(now: &CellTrials<'_>, baseline: Option<&BaselineCell>) -> Vec<String> {
    let (Some(after), Some(before)) = (now.sites(), baseline.and_then(|b| b.sites.as_ref())) else {
        return vec![RUN_WITH_SITES.to_owned()];
    };
    let changed = changed_sites(before, &after);
    changed
        .into_iter()
        .take(MOST_SITES)
        .map(|(site, before, after)| {
            let call = if site.call.is_empty() { String::new() } else { format!(" calls {}", site.call) };
            let place = if site.file.is_empty() { String::new() } else { format!(" ({}:{})", site.file, site.line) };
            format!(
                "{}{call}{place}: {} → {} of all allocations",
                site.function,
                human::percent((before * 1e3).round() / 1e3),
                human::percent((after * 1e3).round() / 1e3)
            )
        })
        .collect()
}

/// Sites with their share of the first side's allocations before and now, those that gained most first. Gains within the
/// sampling error are left out.
pub fn changed_sites<'a>(before: &'a Sites, after: &'a Sites) -> Vec<(&'a Site, f64, f64)> {
    // Both in allocations of the first side, so that a new site doesn't lower the shares of all others.
    let scale = after.allocation_calls as f64 / before.allocation_calls.max(1) as f64;
    let same = |a: &Site, b: &Site| (&a.call, &a.function, &a.file) == (&b.call, &b.function, &b.file);
    let mut changed: Vec<(&Site, f64, f64)> = after
        .sites
        .iter()
        .filter_map(|site| {
            let known = before.sites.iter().find(|b| same(b, site) && b.line == site.line);
            // Lines move: else the one of that function which is not among the new ones.
            let known = known.or_else(|| {
                before
                    .sites
                    .iter()
                    .find(|b| same(b, site) && !after.sites.iter().any(|a| same(a, b) && a.line == b.line))
            });
            let (old, old_error) = known.map_or((0.0, 0.0), |b| (before.share(b), before.share_error(b)));
            let (new, new_error) = (after.share(site) * scale, after.share_error(site) * scale);
            (new - old > old_error.hypot(new_error)).then_some((site, old, new))
        })
        .collect();
    changed.sort_by(|a, b| (b.2 - b.1).total_cmp(&(a.2 - a.1)));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(calls: &[(&str, u32, u64)]) -> Sites {
        let samples: u64 = calls.iter().map(|c| c.2).sum();
        let site = |&(function, line, samples): &(&str, u32, u64)| Site {
            function: function.into(),
            file: "a.rs".into(),
            line,
            samples,
            ..Site::default()
        };
        Sites {
            period: 64,
            samples,
            allocation_calls: samples * 64,
            sites: calls.iter().map(site).collect(),
            ..Sites::default()
        }
    }

    #[test]
    fn the_site_that_newly_allocates_is_named_first_and_noise_is_not() {
        let before = sites(&[("parse", 10, 1000), ("push", 20, 500)]);
        let after = sites(&[("parse", 10, 1010), ("push", 20, 500), ("log", 7, 300)]);
        let names: Vec<&str> = changed_sites(&before, &after).iter().map(|c| c.0.function.as_str()).collect();
        assert_eq!(names, ["log"]);
    }

    #[test]
    fn a_site_whose_line_moved_is_the_same() {
        let (before, after) = (sites(&[("parse", 10, 1000)]), sites(&[("parse", 12, 1000)]));
        assert_eq!(changed_sites(&before, &after), []);
    }
}
