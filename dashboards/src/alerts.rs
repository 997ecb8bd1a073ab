//! The alerts (E28). Each has a section of its name in `RUNBOOK.md`, and series that fire it and others that just don't in
//! `prometheus/tests/`.

use heapgate_prometheus::catalogue::MetricId::{Allocations, Unmeasured};

use crate::recording::{LIMIT_SHARE, LIVE_TROUGH, LONG_STALLS, LONGEST_STALLS, STORM};
use crate::rollout::{SIGNALS, WORSE};
use crate::rules::{Alert, Group, Rule, Severity};
use crate::selector::{live, named};

/// Long stalls may take this share of a window (E28).
pub(crate) const STALL_SHARE: f64 = 0.15;
/// Storms in a row (E28).
const STORMS: u32 = 3;
/// Windows of 10 minutes in each of which live objects rise.
const LEAK_WINDOWS: u32 = 6;
/// By how much they rise in all, beyond what the load did: less is noise.
const LEAK_GROWTH: f64 = 1.1;
/// Share of the memory limit that is near it.
pub(crate) const NEAR_LIMIT: f64 = 0.9;
/// The job by which Prometheus scrapes agents, in our configuration.
pub(crate) const AGENT_JOB: &str = "heapgate-agent";

pub(crate) fn group() -> Group {
    // An increase is a count stretched to the window: of one call about 1, of none 0.
    let stall = Alert {
        name: "HeapgateStall",
        expr: format!("{LONGEST_STALLS} > 0.5"),
        hold: "0s",
        severity: Severity::Critical,
        summary: "{{ $labels.service }} ({{ $labels.version }}), process {{ $labels.pid }}: a call of {{ $labels.op }} took more \
                  than 200 ms",
        description: "A single call of the allocator held its thread up for more than 200 ms in the last 5 minutes. \
                      With interrupted=\"true\" the thread was put aside meanwhile: waiting for a lock, for the disk or for a CPU."
            .into(),
    };
    let before = |n: u32| format!("{STORM} offset {n}m == 1");
    let storms = Alert {
        name: "HeapgateReclaimStorms",
        expr: (1..STORMS).fold(format!("{STORM} == 1"), |expr, n| format!("{expr}\nand {}", before(n))),
        hold: "0s",
        severity: Severity::Warning,
        summary: "{{ $labels.service }} ({{ $labels.version }}), process {{ $labels.pid }}: three reclaim storms in a row",
        description:
            "In each of the last three minutes jemalloc gave back more than half of the resident memory, by 100 system \
                      calls or more, and the service faulted most of it in again."
                .into(),
    };
    let share = Alert {
        name: "HeapgateStallShare",
        expr: format!("{LONG_STALLS} > {STALL_SHARE}"),
        hold: "0s",
        severity: Severity::Warning,
        summary: "{{ $labels.service }} ({{ $labels.version }}), process {{ $labels.pid }}: {{ $value | humanizePercentage }} of \
                  the last 5 minutes in long calls of the allocator",
        description: format!(
            "Calls of the allocator of more than 100 µs took more than {:.0}% of the time of a thread, or of as many as keep \
             CPUs busy.",
            STALL_SHARE * 100.0
        ),
    };
    let leak = Alert {
        name: "HeapgateLeak",
        expr: leak(),
        hold: "0s",
        severity: Severity::Warning,
        summary: "{{ $labels.service }} ({{ $labels.version }}), process {{ $labels.pid }}: live objects rise; {{ $value | humanize }} \
                  at the lowest point of the last 10 minutes",
        description: format!(
            "The lowest count of live objects rose in each of the last {LEAK_WINDOWS} windows of 10 minutes, by more than \
             {:.0}% in all, and by more than the load did.",
            (LEAK_GROWTH - 1.0) * 100.0
        ),
    };
    let limit = Alert {
        name: "HeapgateResidentNearLimit",
        expr: format!("{LIMIT_SHARE} > {NEAR_LIMIT}"),
        hold: "2m",
        severity: Severity::Critical,
        summary: "{{ $labels.service }} ({{ $labels.version }}), process {{ $labels.pid }}: resident memory is at \
                  {{ $value | humanizePercentage }} of its limit",
        description: "Beyond the limit the kernel ends the process.".into(),
    };
    let agent = Alert {
        name: "HeapgateAgentDown",
        expr: format!(
            "{} == 0\nor\nabsent({})",
            named("up").with("job", AGENT_JOB),
            named("up").with("job", AGENT_JOB)
        ),
        hold: "1m",
        severity: Severity::Critical,
        summary: "the heapgate agent {{ $labels.instance }} does not answer",
        description: "What the services on its machine do is not seen, and no other alert for them can fire.".into(),
    };
    let unmeasured = Alert {
        name: "HeapgateUnmeasured",
        expr: format!("{} == 1", live(Unmeasured)),
        hold: "5m",
        severity: Severity::Warning,
        summary: "{{ $labels.service }}, process {{ $labels.pid }}, runs unmeasured: {{ $labels.reason }}",
        description: "The process exports heapgate's metrics and counts nothing: no other alert for it can fire."
            .into(),
    };
    let worse = named(WORSE).with("answer", "yes").matching("signal", &SIGNALS.join("|"));
    let rollout = Alert {
        name: "HeapgateRolloutWorse",
        expr: format!("{worse} == 1"),
        hold: "5m",
        severity: Severity::Warning,
        summary: "{{ $labels.service }}: {{ $labels.version }} is worse than {{ $labels.baseline }} by 15% or more in {{ $labels.signal }}",
        description:
            "All of the interval in which the change lies, by the last hour in which both ran, is at or beyond 15%."
                .into(),
    };
    Group {
        name: "heapgate-alerts",
        about: "Each has a section in dashboards/RUNBOOK.md.",
        rules: [stall, storms, share, leak, limit, agent, unmeasured, rollout].map(Rule::Alert).into(),
    }
}

/// Each window's trough above that of the window before; and more growth in all than in what is allocated a second.
fn leak() -> String {
    let ago = |series: &str, window: u32| match window {
        0 => series.to_owned(),
        _ => format!("{series} offset {}m", window * 10),
    };
    let rises: Vec<String> =
        (0..LEAK_WINDOWS).map(|n| format!("{} > {}", ago(LIVE_TROUGH, n), ago(LIVE_TROUGH, n + 1))).collect();
    let load = |window: u32| {
        let series = format!("{}[10m]", live(Allocations));
        format!("sum without (op) (rate({}))", ago(&series, window))
    };
    format!(
        "{}\nand {LIVE_TROUGH} / {} > {LEAK_GROWTH}\nand {LIVE_TROUGH} / {} > {LEAK_GROWTH} * {} / {}",
        rises.join("\nand "),
        ago(LIVE_TROUGH, LEAK_WINDOWS),
        ago(LIVE_TROUGH, LEAK_WINDOWS),
        load(0),
        load(LEAK_WINDOWS)
    )
}
