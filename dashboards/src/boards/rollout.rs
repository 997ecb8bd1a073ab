//! **roll-out**: old and new version of a service side by side, and the verdict on the new one (E24).

use heapgate_prometheus::catalogue::MetricId::{
    self, AllocatedBytes, Allocations, JemallocPurged, LiveObjects, ProcessCpu, ProcessFaults, ProcessResident, Stalls,
    Up,
};

use super::{WINDOW, job_variable, of_job};
use crate::board::{Board, Mark, Variable};
use crate::panel::{Kind, Panel, Unit};
use crate::rollout::{BASELINE, CHANGE, CHANGE_HIGH, CHANGE_LOW, IMPROVED, PROCESSES, SIGNAL, SIGNALS, WORSE};
use crate::selector::{Selector, buckets, live, named, sum};

const VERSION: &str = "{{version}}";
const BY_VERSION: &str = "by (version)";
const ANSWERS: &[(u32, &str, &str)] = &[(0, "undecided", "blue"), (1, "yes", "red"), (2, "no", "green")];
const GOOD_ANSWERS: &[(u32, &str, &str)] = &[(0, "undecided", "blue"), (1, "yes", "green"), (2, "no", "text")];

pub(super) fn board() -> Board {
    let services = of_job(live(Up)).to_string();
    let versions = of(Up).to_string();
    Board {
        uid: "heapgate-rollout",
        title: "heapgate: roll-out",
        description: "Old and new version of a service side by side while both run, and whether the new one is worse, or better, by 15% or more.",
        from: "now-3h",
        refresh: "1m",
        variables: vec![
            job_variable(),
            Variable { name: "service", label: "Service", of: "service", series: services, many: false },
            Variable { name: "version", label: "Versions", of: "version", series: versions.clone(), many: true },
            Variable {
                name: "old",
                label: "Old",
                of: "version",
                series: of_pair(named(BASELINE)).to_string(),
                many: false,
            },
            Variable {
                name: "new",
                label: "New",
                of: "version",
                series: of_pair(named(CHANGE)).to_string(),
                many: false,
            },
        ],
        marks: vec![Mark {
            name: "New version",
            color: "blue",
            expr: format!(
                "count {BY_VERSION} ({} == 1)\nunless\ncount {BY_VERSION} ({} offset 2m == 1)",
                of(Up),
                of(Up)
            ),
            text: VERSION,
            value_is_time: false,
        }],
        rows: vec![("Verdict", verdict()), ("Side by side", side_by_side()), ("Old and new", old_and_new())],
    }
}

fn of_pair(series: Selector) -> Selector {
    of_job(series).with("service", "$service")
}

fn of(id: MetricId) -> Selector {
    of_pair(live(id))
}

fn shown(series: Selector) -> Selector {
    of_pair(series).matching("version", "$version")
}

fn of_version(id: MetricId) -> Selector {
    shown(live(id))
}

/// 1 for yes, 2 for no, 0 while it is neither.
fn answer(name: &str, signals: &str) -> String {
    let answer = |answer: &str| shown(named(name)).matching("signal", signals).with("answer", answer);
    format!("max by (signal, version) ({}\nor 2 * {})", answer("yes"), answer("no"))
}

fn verdict() -> Vec<Panel> {
    let each = SIGNALS.join("|");
    let mut panels = vec![
        Panel::new(
            Kind::Stat,
            Unit::Word,
            "Worse by 15% or more?",
            "Over stalls, live objects and resident memory, by the last hour in which both versions ran. yes: one of them is worse; stop the roll-out, and see \
             HeapgateRolloutWorse in the runbook. undecided: there are fewer than 6 windows of 5 minutes, or they differ too much; wait, or send more load.",
        )
        .width(12)
        .query(VERSION, answer(WORSE, "all"))
        .words(ANSWERS),
        Panel::new(
            Kind::Stat,
            Unit::Word,
            "Improved by 15% or more?",
            "yes: one of stalls, live objects and resident memory has improved by 15% or more, and none is worse by as much. no is no alarm: most releases change \
             neither. undecided: as for worse.",
        )
        .width(12)
        .query(VERSION, answer(IMPROVED, "all"))
        .words(GOOD_ANSWERS),
        Panel::new(
            Kind::States,
            Unit::Word,
            "Worse, by signal",
            "Which signal says so, and since when. stalls: see Time in the allocator and P99. live_objects: the new version keeps more. resident_bytes without \
             live_objects: fragmentation or retained pages; open the service dashboard for it.",
        )
        .width(12)
        .query("{{signal}} {{version}}", answer(WORSE, &each))
        .words(ANSWERS),
        Panel::new(
            Kind::States,
            Unit::Word,
            "Improved, by signal",
            "Which signal has improved, and since when. A signal that has improved while another is worse is a trade: decide whether it was meant.",
        )
        .width(12)
        .query("{{signal}} {{version}}", answer(IMPROVED, &each))
        .words(GOOD_ANSWERS),
    ];
    let titles = ["Time in the allocator, new over old", "Live objects, new over old", "Resident memory, new over old"];
    for (signal, title) in SIGNALS.into_iter().zip(titles) {
        let of_signal = |name| shown(named(name)).with("signal", signal).to_string();
        panels.push(
            Panel::new(
                Kind::Lines,
                Unit::Share,
                title,
                "100% is no change. The interval is where the mean of the last hour lies; the verdict is yes or no once all of it is on one side of \
                 the limit (115% for worse, 85% for improved). A wide interval: the windows differ much, so wait, or send both the same load.",
            )
            .width(8)
            .query("now {{version}}", of_signal(CHANGE))
            .query("from {{version}}", of_signal(CHANGE_LOW))
            .query("to {{version}}", of_signal(CHANGE_HIGH))
            .bad_from(1.15),
        );
    }
    panels
}

fn side_by_side() -> Vec<Panel> {
    let clean = shown(buckets(Stalls)).with("interrupted", "false");
    let quantile = |q: f64| format!("histogram_quantile({q}, sum by (le, version) ({}))", clean.rate(WINDOW));
    let each = |id: MetricId| format!("avg {BY_VERSION} ({})", of_version(id));
    let rate_of_each = |id: MetricId| {
        format!("sum {BY_VERSION} ({})\n/ count {BY_VERSION} ({} == 1)", of_version(id).rate(WINDOW), of_version(Up))
    };
    let signal = |signal: &str| shown(named(SIGNAL)).with("signal", signal).to_string();
    vec![
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Processes",
            "That run, of each version. A comparison of one process with a hundred is a comparison of machines too: read the verdict with that in mind.",
        )
        .width(8)
        .query(VERSION, shown(named(PROCESSES)).to_string()),
        Panel::new(
            Kind::LogLines,
            Unit::Seconds,
            "Stalls: P99 and P99.9",
            "Uninterrupted calls. The new version's P99.9 above the old one's, with P99 alike: rarer and longer calls; look at the heat maps below.",
        )
        .width(8)
        .query("P99 {{version}}", quantile(0.99))
        .query("P99.9 {{version}}", quantile(0.999)),
        Panel::new(
            Kind::Lines,
            Unit::Share,
            "Time in the allocator",
            "As a share of CPU time; calls that were interrupted left out. It rises: more calls (Allocations) or slower ones (P99).",
        )
        .width(8)
        .query(VERSION, signal(SIGNALS[0])),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Live objects of a process",
            "The mean of its processes. Give a new process the time to fill its caches before you judge.",
        )
        .width(8)
        .query(VERSION, each(LiveObjects)),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Resident memory of a process",
            "The mean of its processes. Above the old version with live objects alike: what the allocator keeps; see Giving memory back.",
        )
        .width(8)
        .query(VERSION, each(ProcessResident)),
        Panel::new(
            Kind::Lines,
            Unit::BytesPerSecond,
            "Giving memory back",
            "Bytes a second that jemalloc gives back to the kernel, of a process. Another target of reclaim (decay) shows here first: more of it costs page faults, less \
             of it resident memory.",
        )
        .width(8)
        .query(VERSION, rate_of_each(JemallocPurged)),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Allocations of a process",
            "They follow the load: versions that get different loads differ here. Alike in load and apart here: the code allocates more.",
        )
        .width(8)
        .query(VERSION, rate_of_each(Allocations)),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Allocated bytes for a second of CPU time",
            "What it asks for, for the work that it does: apart means another way to allocate, not another load.",
        )
        .width(8)
        .query(
            VERSION,
            format!(
                "sum {BY_VERSION} ({})\n/ sum {BY_VERSION} ({})",
                of_version(AllocatedBytes).rate(WINDOW),
                of_version(ProcessCpu).rate(WINDOW)
            ),
        ),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Page faults of a process",
            "More of them in the new version: memory is given back and taken again, or touched for the first time more often.",
        )
        .width(8)
        .query(VERSION, rate_of_each(ProcessFaults)),
    ]
}

fn old_and_new() -> Vec<Panel> {
    let map = |variable: &str, title: &str| {
        let series = of_pair(buckets(Stalls)).with("version", &format!("${variable}"));
        Panel::new(
            Kind::Heatmap,
            Unit::Seconds,
            title,
            "Calls by how long they took. Compare the two: a band that only the new version has is a new cause of stalls. About 1 µs to 10 µs are page faults, above \
             100 µs system calls and locks.",
        )
        .query("{{le}}", format!("sum by (le) ({})", series.increase(WINDOW)))
    };
    let share = |variable: &str| {
        let series = of_pair(sum(Stalls)).with("version", &format!("${variable}"));
        format!("sum by (op) ({})", series.rate(WINDOW))
    };
    let by_operation = |variable: &str, title: &str| {
        Panel::new(
            Kind::Stack,
            Unit::Seconds,
            title,
            "Seconds a second in calls of the allocator, all threads, interrupted calls too. The operation that grew says where to look: realloc for containers, dealloc \
             for memory that is given back within calls.",
        )
        .query("{{op}}", share(variable))
    };
    vec![
        map("old", "Stalls of the old version ($old)"),
        map("new", "Stalls of the new version ($new)"),
        by_operation("old", "Time by operation, old ($old)"),
        by_operation("new", "Time by operation, new ($new)"),
    ]
}
