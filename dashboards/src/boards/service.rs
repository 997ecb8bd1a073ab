//! **service**: what the processes of a service do with memory, now and over the last hours. One function a row of the board, in its
//! order; the file is as long as the board.

use heapgate_prometheus::catalogue::MetricId::{
    self, AgentDropped, AgentProcesses, AllocatedBytes, Allocations, ArenasOpen, BackgroundThread, DeallocatedBytes,
    Deallocations, Decay, FailedAllocations, GroupAllocations, GroupArenas, GroupDirty, GroupLiveBytes, GroupPurged,
    GroupRequests, GroupResident, GroupStalls, JemallocActive, JemallocAllocated, JemallocMadvises, JemallocMapped,
    JemallocMetadata, JemallocPurged, JemallocPurges, JemallocResident, JemallocRetained, Level, LiveBytes,
    LiveObjects, PeakLiveObjects, PhaseStart, ProcessCpu, ProcessFaults, ProcessLimit, ProcessPageTables,
    ProcessPeakResident, ProcessResident, ProcessResidentKind, ProcessSwap, RegionBytes, RegionChunks, RegionEscapes,
    RegionFallbacks, RegionOpenScopes, RegionPeakChunks, RegionReuses, RegionScopes, Resident, SettingChanges,
    SettingRefusals, SoftLimit, SoftLimitAsks, SoftLimitPurges, SoftLimitStep, SoftLimitSteps, StallMax, Stalls,
    Threads, ThreadsSeen, Up,
};

use super::{WINDOW, job_variable, of_job};
use crate::alerts::{NEAR_LIMIT, STALL_SHARE};
use crate::board::{Board, Mark, Variable};
use crate::panel::{Kind, Panel, Unit};
use crate::recording::{LIMIT_SHARE, LIVE_TROUGH, LONG_S, LONG_STALLS, LONGEST_STALLS, STORM};
use crate::selector::{Selector, buckets, count, live, named, sum};

const PROCESS: &str = "{{service}} {{version}} {{pid}}";
const SERVICE: &str = "{{service}} {{version}}";
const BY_SERVICE: &str = "by (service, version)";

pub(super) fn board() -> Board {
    let services = of_job(live(Up)).to_string();
    let versions = of_job(live(Up)).matching("service", "$service").to_string();
    Board {
        uid: "heapgate-service",
        title: "heapgate: service",
        description: "What the processes of a service do with memory: stalls of the allocator, live objects, resident memory and what it holds.",
        from: "now-1h",
        refresh: "30s",
        variables: vec![
            job_variable(),
            Variable { name: "service", label: "Service", of: "service", series: services, many: true },
            Variable { name: "version", label: "Version", of: "version", series: versions, many: true },
        ],
        marks: marks(),
        rows: vec![
            ("Now", now()),
            ("Stalls", stalls()),
            ("Live", live_memory()),
            ("Resident memory", resident()),
            ("The allocator's own account", allocator()),
            ("Settings and the soft limit", steering()),
            ("Groups side by side", groups()),
            ("Regions", regions()),
            ("Processes and measurement", processes()),
        ],
    }
}

/// Series of the chosen processes.
fn chosen(series: Selector) -> Selector {
    of_job(series).matching("service", "$service").matching("version", "$version")
}

fn of(id: MetricId) -> Selector {
    chosen(live(id))
}

fn total_rate(id: MetricId) -> String {
    format!("sum {BY_SERVICE} ({})", of(id).rate(WINDOW))
}

fn quantile(q: f64, by: &str, series: &Selector) -> String {
    format!("histogram_quantile({q}, sum by (le, {by}) ({}))", series.rate(WINDOW))
}

fn clean() -> Selector {
    chosen(buckets(Stalls)).with("interrupted", "false")
}

/// Before and after: what may be the cause of a change.
fn marks() -> Vec<Mark> {
    let running = |offset: &str| format!("count {BY_SERVICE} ({}{offset} == 1)", of(Up));
    vec![
        Mark {
            name: "New version",
            color: "blue",
            expr: format!("{}\nunless\n{}", running(""), running(" offset 2m")),
            text: "{{service}} {{version}}",
            value_is_time: false,
        },
        Mark {
            name: "Phase",
            color: "purple",
            expr: format!("{} * 1000", of(PhaseStart)),
            text: "{{service}} {{pid}}: {{phase}}",
            value_is_time: true,
        },
        Mark {
            name: "Setting changed",
            color: "yellow",
            expr: format!("changes({}[2m]) > 0", of(SettingChanges)),
            text: "{{service}} {{pid}}: {{setting}}",
            value_is_time: false,
        },
        Mark {
            name: "Soft limit acts",
            color: "red",
            expr: format!("changes({}[2m]) > 0", of(SoftLimitStep)),
            text: "{{service}} {{pid}}",
            value_is_time: false,
        },
        Mark {
            name: "Level changed",
            color: "orange",
            expr: format!("changes({}[2m]) > 0", of(Level)),
            text: "{{service}} {{pid}}",
            value_is_time: false,
        },
    ]
}

fn now() -> Vec<Panel> {
    vec![
        Panel::new(
            Kind::Stat,
            Unit::Count,
            "Processes",
            "Processes that live and are measured. Fewer than you expect: they have ended, or run unmeasured; the last row says which.",
        )
        .query("processes", format!("count({} == 1)", of(Up))),
        Panel::new(
            Kind::Stat,
            Unit::Seconds,
            "P99 of calls",
            "99 of 100 calls of the allocator are faster, uninterrupted ones. Ordinary is below a few µs. Beyond: look at Stalls by \
             operation, and in a profile (heapgate profile stall) for who calls.",
        )
        .query("P99", format!("histogram_quantile(0.99, sum by (le) ({}))", clean().rate(WINDOW)))
        .bad_from(1e-3),
        Panel::new(
            Kind::Stat,
            Unit::Seconds,
            "Longest call",
            "The longest timed call since the process began, of all processes, interrupted ones too. From 200 ms on it is an alert: see \
             HeapgateStall in the runbook.",
        )
        .query("longest", format!("max({})", of(StallMax)))
        .bad_from(0.2),
        Panel::new(
            Kind::Stat,
            Unit::Share,
            "Time in long calls",
            "Share of the last 5 minutes spent in calls of more than 100 µs, of the process that is worst off. From 15% on it is an alert: see \
             HeapgateStallShare in the runbook.",
        )
        .query("share", format!("max({})", chosen(named(LONG_STALLS))))
        .bad_from(STALL_SHARE),
        Panel::new(
            Kind::Stat,
            Unit::Count,
            "Live objects",
            "Objects allocated and not freed, in all processes. Compare with an hour ago at the same load: what rises and does not come \
             back is a leak (HeapgateLeak in the runbook).",
        )
        .query("objects", format!("sum({})", of(LiveObjects))),
        Panel::new(
            Kind::Stat,
            Unit::Share,
            "Memory limit used",
            "Resident memory of the process that is nearest to its limit, as a share of it. Near 100% the kernel ends it: see \
             HeapgateResidentNearLimit in the runbook.",
        )
        .query("used", format!("max({})", chosen(named(LIMIT_SHARE))))
        .bad_from(NEAR_LIMIT),
    ]
}

fn stalls() -> Vec<Panel> {
    let all = chosen(buckets(Stalls));
    let quantiles = [("P50", 0.5), ("P95", 0.95), ("P99", 0.99), ("P99.9", 0.999)];
    let by_quantile = Panel::new(
        Kind::LogLines,
        Unit::Seconds,
        "Stall quantiles",
        "How long calls of the allocator take, calls that the scheduler interrupted left out. P50 and P95 rise together: the allocator is slower \
         for all (another version or setting?). Only P99.9 rises: page faults, purging or locks; look at the heat map and at Giving memory back.",
    );
    let by_quantile = quantiles.into_iter().fold(by_quantile, |panel, (name, q)| {
        panel.query(format!("{name} {SERVICE}"), quantile(q, "service, version", &clean()))
    });
    vec![
        by_quantile,
        Panel::new(
            Kind::Heatmap,
            Unit::Seconds,
            "Stall heat map",
            "Calls by how long they took, over time; interrupted ones too. A second band above the usual one is another cause of stalls: \
             about 1 µs to 10 µs are page faults, above 100 µs system calls and locks. A band that comes and goes with the load of \
             neighbours is the machine's.",
        )
        .query("{{le}}", format!("sum by (le) ({})", all.increase(WINDOW))),
        Panel::new(
            Kind::LogLines,
            Unit::Seconds,
            "P99 by operation",
            "realloc stands out: containers that grow; reserve their room. dealloc stands out: memory is given back within calls; longer decay, or \
             jemalloc's background thread.",
        )
        .query("{{op}} {{service}}", quantile(0.99, "op, service", &clean())),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Calls of more than 1 ms",
            "How often. Interrupted ones are the scheduler's or a wait inside the allocator (locks, the disk): many of them say that \
             CPUs are short (throttling, neighbours). The others are the allocator's own: see the heat map.",
        )
        .query(
            "interrupted={{interrupted}} {{service}}",
            format!(
                "sum by (service, interrupted) ({})\n- sum by (service, interrupted) ({})",
                chosen(count(Stalls)).rate(WINDOW),
                all.up_to(1e-3).rate(WINDOW)
            ),
        ),
        Panel::new(
            Kind::Lines,
            Unit::Share,
            "Time in long calls",
            "Time in calls of more than 100 µs, as a share of the time of one thread, or of as many as keep CPUs busy; each process, 5 minutes. Above \
             the line: HeapgateStallShare in the runbook.",
        )
        .query(PROCESS, chosen(named(LONG_STALLS)).to_string())
        .bad_from(STALL_SHARE),
        Panel::new(
            Kind::Lines,
            Unit::Share,
            "Time in the allocator",
            "All calls that were not interrupted, as a share of CPU time. Programs that tokenize spend 10% to 25%. When it rises with no new version, \
             calls have become slower (heat map); with one, the program allocates more (Allocations).",
        )
        .query(
            SERVICE,
            format!(
                "sum {BY_SERVICE} ({})\n/ sum {BY_SERVICE} ({})",
                chosen(sum(Stalls)).with("interrupted", "false").rate(WINDOW),
                of(ProcessCpu).rate(WINDOW)
            ),
        ),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Calls of more than 200 ms",
            "In the last 5 minutes, by process. A single one is an alert: see HeapgateStall in the runbook. At level sampled such a call is seen with \
             the chance of one in the sample period.",
        )
        .query(
            format!("{PROCESS} {{{{op}}}} interrupted={{{{interrupted}}}}"),
            chosen(named(LONGEST_STALLS)).to_string(),
        )
        .bad_from(1.0),
        Panel::new(
            Kind::LogLines,
            Unit::Seconds,
            "Longest call",
            "Since each process began. A step up is one call: its time says which log lines to read.",
        )
        .query(format!("{PROCESS} interrupted={{{{interrupted}}}}"), of(StallMax).to_string()),
    ]
}

fn live_memory() -> Vec<Panel> {
    vec![
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Live objects",
            "Objects allocated and not freed; exact. They should follow the load and come back. A floor that rises from peak to peak is a leak: see \
             HeapgateLeak in the runbook.",
        )
        .query(PROCESS, of(LiveObjects).to_string())
        .query(format!("floor of 10 min {PROCESS}"), chosen(named(LIVE_TROUGH)).to_string())
        .query(format!("peak {PROCESS}"), of(PeakLiveObjects).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Live bytes",
            "Bytes allocated and not freed, as asked for. They rise while objects don't: something grows, a buffer or a cache.",
        )
        .query(PROCESS, of(LiveBytes).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Allocations",
            "Calls that hand out memory, by operation. More of them at the same load is a change in the code: heapgate ab \
             --base says which call sites.",
        )
        .query("{{op}} {{service}}", format!("sum by (service, op) ({})", of(Allocations).rate(WINDOW)))
        .query("dealloc {{service}}", format!("sum by (service) ({})", of(Deallocations).rate(WINDOW))),
        Panel::new(
            Kind::Lines,
            Unit::BytesPerSecond,
            "Allocated bytes",
            "Asked for and given back, a second. Apart for long: live bytes grow, and the panel above says how far.",
        )
        .query(format!("allocated {SERVICE}"), total_rate(AllocatedBytes))
        .query(format!("freed {SERVICE}"), total_rate(DeallocatedBytes)),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Mean size of an allocation",
            "It falls: more small ones (strings, boxes; a case for a region or a pool). It rises: buffers grow.",
        )
        .query(SERVICE, format!("{}\n/ {}", total_rate(AllocatedBytes), total_rate(Allocations))),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Failed allocations",
            "Calls that the allocator refused. Any at all: memory or address space has run out, or the program asks for impossible sizes; see Memory \
             limit.",
        )
        .query(SERVICE, total_rate(FailedAllocations))
        .bad_from(0.01),
    ]
}

fn resident() -> Vec<Panel> {
    let part = |part: &str| of(Resident).with("part", part);
    vec![
        Panel::new(
            Kind::Stack,
            Unit::Bytes,
            "Resident memory by what it holds",
            "Adds up to resident memory. live grows: the program holds more (Live bytes). fragmentation: holes between live objects; restart helps, and \
             so does keeping long-lived objects apart from short-lived ones. retained: the allocator keeps it; shorter decay gives it back. mappings: not the \
             allocator's: files, stacks, models.",
        )
        .query("{{part}}", format!("sum by (part) ({})", of(Resident))),
        Panel::new(
            Kind::Lines,
            Unit::Share,
            "Fragmentation",
            "Rounding and holes as a share of what the program holds. Below 25% is ordinary. Above, for long, after peaks: long-lived objects pin pages; give \
             them a region of their own.",
        )
        .query(
            PROCESS,
            format!(
                "({} + ignoring (part) {})\n/ ignoring (part) {}",
                part("rounding"),
                part("fragmentation"),
                part("live")
            ),
        )
        .bad_from(0.5),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Resident memory and its limit",
            "The limit is the least of the control groups' and the machine's memory. Lines that meet: HeapgateResidentNearLimit in the runbook.",
        )
        .query(PROCESS, of(ProcessResident).to_string())
        .query(format!("peak {PROCESS}"), of(ProcessPeakResident).to_string())
        .query(format!("limit {PROCESS}"), of(ProcessLimit).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Resident memory by what backs it",
            "anonymous is the heap and stacks; file can be dropped by the kernel; shmem is shared (the telemetry's own segment is some of it). \
             Swap that is not 0 makes calls slow: give the machine more memory or the process less.",
        )
        .query("{{kind}} {{service}}", format!("sum by (service, kind) ({})", of(ProcessResidentKind)))
        .query("page tables {{service}}", format!("sum by (service) ({})", of(ProcessPageTables)))
        .query("swap {{service}}", format!("sum by (service) ({})", of(ProcessSwap))),
    ]
}

fn allocator() -> Vec<Panel> {
    let figures = [
        ("allocated", JemallocAllocated),
        ("active", JemallocActive),
        ("resident", JemallocResident),
        ("mapped", JemallocMapped),
        ("retained", JemallocRetained),
        ("metadata", JemallocMetadata),
    ];
    let account = Panel::new(
        Kind::Lines,
        Unit::Bytes,
        "jemalloc's figures",
        "active far above allocated: fragmentation. resident far above active: free pages that it keeps; shorten dirty_decay_ms. retained is addresses, not \
         memory. Nothing here: the process does not publish jemalloc's figures, or has another allocator.",
    );
    let account = figures.into_iter().fold(account, |panel, (name, id)| {
        panel.query(format!("{name} {{{{service}}}}"), format!("sum by (service) ({})", of(id)))
    });
    vec![
        account,
        Panel::new(
            Kind::Lines,
            Unit::BytesPerSecond,
            "Giving memory back: bytes",
            "Pages that jemalloc gives back to the kernel. Sawteeth as large as resident memory are reclaim storms: see HeapgateReclaimStorms in the runbook.",
        )
        .query(PROCESS, of(JemallocPurged).rate(WINDOW)),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Giving memory back: calls",
            "Passes over free pages, and the system calls that they took. Thousands of calls a second cost CPU time and page faults: longer decay, fewer arenas.",
        )
        .query(format!("purges {PROCESS}"), of(JemallocPurges).rate(WINDOW))
        .query(format!("madvise {PROCESS}"), of(JemallocMadvises).rate(WINDOW)),
        Panel::new(
            Kind::States,
            Unit::Word,
            "Reclaim storms",
            "A minute in which more than half of the resident memory was given back by 100 system calls or more. Three in a row are an alert: see \
             HeapgateReclaimStorms in the runbook.",
        )
        .width(12)
        .query(PROCESS, chosen(named(STORM)).to_string())
        .words(&[(0, "calm", "green"), (1, "storm", "red")]),
    ]
}

/// A comparison in the running service: only where it has groups.
fn groups() -> Vec<Panel> {
    const GROUP: &str = "{{service}} {{group}}";
    const BY_GROUP: &str = "by (service, group)";
    let rate = |id| format!("sum {BY_GROUP} ({})", of(id).rate(WINDOW));
    let rate_of = |series: Selector| format!("sum {BY_GROUP} ({})", chosen(series).rate(WINDOW));
    let a_worker = |id| format!("sum {BY_GROUP} ({})\n/ sum {BY_GROUP} ({})", of(id), of(GroupArenas));
    vec![
        Panel::new(
            Kind::Lines,
            Unit::Seconds,
            "Stall time per call by group",
            "Time in the allocator by timed call. Groups are threads under different settings of jemalloc (docs/live-ab.md). A line that is above the \
             control's now and then says nothing: heapgate ab --live SERVICE says what is more than chance. Nothing here: the service has no groups.",
        )
        .query(GROUP, format!("{}\n/ {}", rate_of(sum(GroupStalls)), rate_of(count(GroupStalls)))),
        Panel::new(
            Kind::Lines,
            Unit::Seconds,
            "Stall P99 by group",
            "99 of 100 calls are faster. Strict decay shows here first: page faults of pages that were given back.",
        )
        .query(GROUP, quantile(0.99, "service, group", &chosen(buckets(GroupStalls)))),
        Panel::new(
            Kind::Lines,
            Unit::Seconds,
            "Request time by group",
            "P50 and P99 of requests, as the program says when it has finished one (groups.finished). Nothing here: it doesn't say.",
        )
        .query(format!("P50 {GROUP}"), quantile(0.5, "service, group", &chosen(buckets(GroupRequests))))
        .query(format!("P99 {GROUP}"), quantile(0.99, "service, group", &chosen(buckets(GroupRequests)))),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Resident memory a worker by group",
            "Resident bytes of the group's arenas by their number: comparable where each worker has as much to do. dirty is free pages that it keeps.",
        )
        .query(GROUP, a_worker(GroupResident))
        .query(format!("dirty {GROUP}"), a_worker(GroupDirty)),
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Live bytes by group",
            "Allocated less freed by the group's threads. It drifts, even below 0, where one group frees what another allocated: handle a request in one group.",
        )
        .query(GROUP, format!("sum {BY_GROUP} ({})", of(GroupLiveBytes))),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Allocations by group",
            "They should be in the proportion of the shares. If not, one group has the heavier requests, and the comparison compares those.",
        )
        .query(GROUP, rate(GroupAllocations)),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Requests by group",
            "Finished a second, as the program says: in the proportion of the shares, if the keys are many.",
        )
        .query(GROUP, rate_of(count(GroupRequests))),
        Panel::new(
            Kind::Lines,
            Unit::BytesPerSecond,
            "Given back by group",
            "Bytes of pages that the group's arenas give back to the kernel: what shorter decay costs in system calls and page faults.",
        )
        .query(GROUP, rate(GroupPurged)),
    ]
}

fn steering() -> Vec<Panel> {
    vec![
        Panel::new(
            Kind::Lines,
            Unit::Bytes,
            "Resident memory and its soft limit",
            "The process gives memory back faster the nearer it comes to its soft limit. At the limit for long: it holds what it can't \
             give back, a leak or a limit that is too low. Nothing here: the program can't be steered (docs/steering.md).",
        )
        .query(format!("resident {PROCESS}"), of(ProcessResident).to_string())
        .query(format!("soft limit {PROCESS}"), format!("{} > 0", of(SoftLimit))),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Step of the soft limit",
            "0 nothing, 1 shorter decay, 2 purging, 3 and background threads, 4 the program was asked to give memory back. Ordinary is 0, \
             with short rises. It stays at 4: look at Live, and in a heap profile for who holds the memory.",
        )
        .query(PROCESS, of(SoftLimitStep).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "What the soft limit did",
            "Purges are at most four a second, and fewer where they give nothing back. Each costs the calls of its time a wait: see Stalls.",
        )
        .query(format!("purges {SERVICE}"), total_rate(SoftLimitPurges))
        .query(format!("asks {SERVICE}"), total_rate(SoftLimitAsks))
        .query(format!("steps {SERVICE}"), total_rate(SoftLimitSteps)),
        Panel::new(
            Kind::Lines,
            Unit::Seconds,
            "Decay",
            "How long jemalloc keeps freed pages. Shorter is less memory and more calls of the kernel; for good (+Inf) is not drawn. It \
             changes by heapgate tune, by the program, and by the soft limit.",
        )
        .query(format!("{{{{pages}}}} {PROCESS}"), of(Decay).to_string())
        .query(format!("background threads {PROCESS}"), of(BackgroundThread).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Changes of settings",
            "Who changes them is in the logs of heapgate tune's users; marks show when. Refusals: a setting that the process does not take.",
        )
        .query("{{setting}}", format!("sum by (setting) ({})", of(SettingChanges).rate(WINDOW)))
        .query("refused", format!("sum ({})", of(SettingRefusals).rate(WINDOW))),
    ]
}

fn regions() -> Vec<Panel> {
    vec![
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Scopes, escapes, fallbacks",
            "Scopes should follow requests. An escaped object outlives its scope and pins its chunk: many of them, and regions save nothing; the site report \
             of heapgate run names them. Fallbacks were too large for a chunk. Nothing here: the program has no regions.",
        )
        .query(format!("scopes {SERVICE}"), total_rate(RegionScopes))
        .query(format!("escaped {SERVICE}"), total_rate(RegionEscapes))
        .query(format!("fallbacks {SERVICE}"), total_rate(RegionFallbacks)),
        Panel::new(
            Kind::Lines,
            Unit::Share,
            "Chunks used again",
            "Of the chunks handed to threads, how many had been used before. Near 100% after the first minutes. If it falls, chunks are pinned by \
             escaped objects.",
        )
        .query(SERVICE, format!("{}\n/ {}", total_rate(RegionReuses), total_rate(RegionChunks))),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Most chunks in use",
            "It should level off at about one for each thread in a scope. Steps up without end: chunks are pinned.",
        )
        .query(PROCESS, of(RegionPeakChunks).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::BytesPerSecond,
            "Allocated in scopes",
            "What regions take off the allocator. Much less than Allocated bytes: most of the work is outside of scopes.",
        )
        .query(SERVICE, total_rate(RegionBytes)),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Open arenas and scopes",
            "Made and not released yet: as many as there are requests at work. A line that rises for hours is a leak; heapgate leaks names the lines of \
             the source that made them.",
        )
        .query(format!("arenas {PROCESS}"), of(ArenasOpen).to_string())
        .query(format!("scopes {PROCESS}"), of(RegionOpenScopes).to_string()),
    ]
}

fn processes() -> Vec<Panel> {
    vec![
        Panel::new(
            Kind::Table,
            Unit::Count,
            "Processes",
            "Each with its state, how much is recorded (level: 0 nothing, 1 counts, 2 times of some calls, 3 of every alloc and realloc, 4 of every call) \
             and its size. Up is 0: it has ended, or runs unmeasured (HeapgateUnmeasured in the runbook).",
        )
        .query("Up", of(Up).to_string())
        .query("Level", of(Level).to_string())
        .query("Live objects", of(LiveObjects).to_string())
        .query("Threads", of(Threads).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "CPUs in use",
            "CPU time a second. As high as CPUs are allowed: calls are interrupted more, and the scheduler is in every P99.9.",
        )
        .query(PROCESS, of(ProcessCpu).rate(WINDOW)),
        Panel::new(
            Kind::Lines,
            Unit::PerSecond,
            "Page faults",
            "Minor ones follow memory that is used for the first time or again after it was given back; thousands a second beside Giving memory back are \
             reclaim storms. Major ones read from the disk: swap or a cold start.",
        )
        .query("{{kind}} {{service}}", format!("sum by (service, kind) ({})", of(ProcessFaults).rate(WINDOW))),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Threads",
            "Threads now. A count that climbs without load is a leak of threads, each with its stack and its slot of counters.",
        )
        .query(PROCESS, of(Threads).to_string()),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Threads that have allocated",
            "Those with shared counters came when there was no room for more: their calls are counted, and timed at level 4 only. Many of these: stalls \
             on this page are too few.",
        )
        .query("{{slot}} {{service}}", format!("sum by (service, slot) ({})", of(ThreadsSeen))),
        Panel::new(
            Kind::Lines,
            Unit::Count,
            "Processes of the agents",
            "Exported, and dropped since an agent exports no more than --max-processes. Dropped is not 0: raise it. Of all agents, whatever job \
             was chosen above; nothing without agents.",
        )
        .query("exported {{instance}}", live(AgentProcesses).to_string())
        .query("dropped {{instance}}", live(AgentDropped).to_string()),
    ]
}

const _: () = assert!(LONG_S == 1e-4, "panels say 100 µs");
