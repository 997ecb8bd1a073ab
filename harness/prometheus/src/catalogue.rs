//! The catalogue of live metrics: the one place that names what a running process exports. The collector, the agent,
//! dashboards, rules and `docs/live-metrics.md` derive from it. (What a run pushes from CI is heapgate-core's catalogue.)
//!
//! To add a metric, add one entry to the table below. It is as long as there are metrics: a table in two files is none.

use heapgate_segment::setting::Setting;

use crate::observation::Observation;

/// The type of a metric, in Prometheus's sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets, and a sum.
    Histogram,
}

impl Kind {
    /// Its name in a `# TYPE` line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric's values are in. Prometheus's base units, so the name of a metric ends in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// 1 for yes, 0 for no.
    Flag,
}

impl Unit {
    /// How a name in this unit ends, before a counter's `_total`.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Count | Self::Flag => "",
            Self::Bytes => "_bytes",
            Self::Seconds => "_seconds",
        }
    }
}

/// Where a metric's values come from, and so when there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Counted in the segment: always there.
    Segment,
    /// The kernel's, from `/proc`: there while the process lives.
    Kernel,
    /// jemalloc's own, which only the process can ask for: there if it does.
    Jemalloc,
    /// Of the groups of its threads: there if it has any.
    Group,
    /// Of the process's settings and its soft limit: there if it can be steered (feature `control` of heapgate-alloc).
    Control,
    /// Of the process's regions: there if it has any and says so.
    Region,
    /// Of `heapgate serve` itself.
    Agent,
}

/// A label that tells a metric's series apart, beside those that name the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All values that it takes; none of a label whose values are not known here.
    pub values: &'static [&'static str],
}

/// One entry of the catalogue.
#[derive(Debug)]
pub struct Metric {
    /// The name of its family.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// Where they come from.
    pub source: Source,
    /// The labels that tell its series apart. A series has a value of each; the last label changes fastest.
    pub labels: &'static [Label],
    /// One line of help.
    pub help: &'static str,
    /// Puts the values into the series, in their order; those that it leaves alone aren't there.
    pub(crate) read: fn(&Observation<'_>, &mut [f64]),
}

impl Metric {
    /// How many series one process has of this metric; 0 if that depends on the process, as groups do.
    #[must_use]
    pub fn series(&self) -> usize {
        self.labels.iter().map(|label| label.values.len()).product()
    }

    /// The labels of series number `series`: names and values.
    pub fn labels_of(&self, series: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mut below = self.series();
        self.labels.iter().map(move |label| {
            below /= label.values.len();
            (label.name, label.values[series / below % label.values.len()])
        })
    }
}

/// Labels that every series of a process has, where they are known.
pub const PROCESS_LABELS: [(&str, &str); 4] = [
    ("service", "the name that the program published itself under"),
    ("pid", "its process id"),
    ("allocator", "the allocator below the telemetry, as the program calls it"),
    ("version", "the version that the program gave"),
];

const ALLOCATING: Label = Label { name: "op", values: &["alloc", "alloc_zeroed", "realloc"] };
const FREEING: Label = Label { name: "op", values: &["dealloc", "realloc"] };
/// In the order of the segment's operations.
const OPERATION: Label = Label { name: "op", values: &["alloc", "alloc_zeroed", "realloc", "dealloc"] };
const INTERRUPTED: Label = Label { name: "interrupted", values: &["false", "true"] };
const SLOT: Label = Label { name: "slot", values: &["own", "shared"] };
/// In the order of the segment's numbers for phases.
const PHASE: Label = Label { name: "phase", values: &["setup", "warmup", "measure", "drain", "prefill"] };
const PART: Label = Label { name: "part", values: &["live", "rounding", "fragmentation", "retained", "mappings"] };
const MEMORY: Label = Label { name: "kind", values: &["anonymous", "file", "shmem"] };
const FAULT: Label = Label { name: "kind", values: &["minor", "major"] };
/// The label that has a group's name.
pub const GROUP_LABEL: &str = "group";
const GROUP: Label = Label { name: GROUP_LABEL, values: &[] };
/// In the order of the segment's numbers for settings.
const SETTING: Label = Label {
    name: "setting",
    values: &[
        "dirty_decay_ms",
        "muzzy_decay_ms",
        "background_thread",
        "purge",
        "level",
        "trace_interval_ms",
        "heap_profile",
        "heap_profile_dump",
        "soft_limit",
    ],
};
const PAGES: Label = Label { name: "pages", values: &["dirty", "muzzy"] };
const REASON: Label = Label { name: "reason", values: &["no-segment", "not-installed"] };
/// In the order of the agent's reasons.
const AGENT_REASON: Label = Label {
    name: "reason",
    values: &[
        "folder",
        "permission",
        "truncated",
        "damaged",
        "version",
        "foreign",
        "duplicate",
        "read",
        "remove",
        "textfile",
    ],
};

/// Values of the label `reason` of [`MetricId::Unmeasured`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmeasured {
    /// The process has no segment: none was in its environment, it did not publish itself, or it is a forked child.
    NoSegment,
    /// It has one, but `Telemetry` is not its global allocator: nothing is counted.
    NotInstalled,
}

macro_rules! catalogue {
    ($($id:ident { $name:literal, $kind:ident, $unit:ident, $source:ident, [$($label:ident),*], $help:literal, $read:expr })*) => {
        /// Names one live metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum MetricId { $(#[doc = $help] $id),* }

        /// Every live metric, in the order in which they are exported.
        pub const ALL: &[MetricId] = &[$(MetricId::$id),*];

        impl MetricId {
            /// The metric's entry.
            #[must_use]
            pub fn metric(self) -> &'static Metric {
                match self {
                    $(Self::$id => &Metric {
                        name: $name, kind: Kind::$kind, unit: Unit::$unit, source: Source::$source,
                        labels: &[$($label),*], help: $help, read: $read,
                    }),*
                }
            }
        }
    };
}

catalogue! {
    Up { "heapgate_up", Gauge, Flag, Segment, [],
        "1 if the process lives and is measured, 0 if it has ended or is not measured (heapgate_unmeasured_info says why).",
        |o, to| to[0] = flag(o.up) }
    Unmeasured { "heapgate_unmeasured_info", Gauge, Flag, Segment, [REASON],
        "1 with the reason for which the process is not measured; absent where it is.",
        |o, to| if let Some(reason) = o.unmeasured { to[reason as usize] = 1.0 } }

    Allocations { "heapgate_allocations_total", Counter, Count, Segment, [ALLOCATING],
        "Calls of the allocator that handed out memory, by operation.",
        |o, to| o.counted(to, |t| [t.alloc_calls(), t.alloc_zeroed_calls(), t.realloc_calls()]) }
    AllocatedBytes { "heapgate_allocated_bytes_total", Counter, Bytes, Segment, [ALLOCATING],
        "Bytes asked for, by operation; by realloc, the whole new size.",
        |o, to| o.counted(to, |t| [t.alloc_bytes(), t.alloc_zeroed_bytes(), t.realloc_new_bytes()]) }
    Deallocations { "heapgate_deallocations_total", Counter, Count, Segment, [],
        "Objects given back.",
        |o, to| o.counted(to, |t| [t.dealloc_calls()]) }
    DeallocatedBytes { "heapgate_deallocated_bytes_total", Counter, Bytes, Segment, [FREEING],
        "Bytes given back, by operation; by realloc, the whole old size.",
        |o, to| o.counted(to, |t| [t.dealloc_bytes(), t.realloc_old_bytes()]) }
    FailedAllocations { "heapgate_failed_allocations_total", Counter, Count, Segment, [],
        "Calls that the allocator refused.",
        |o, to| o.counted(to, |t| [t.failed_calls()]) }
    LiveObjects { "heapgate_live_objects", Gauge, Count, Segment, [],
        "Objects allocated and not freed.",
        |o, to| o.live(to, |t| t.live_objects()) }
    LiveBytes { "heapgate_live_bytes", Gauge, Bytes, Segment, [],
        "Bytes allocated and not freed, as asked for.",
        |o, to| o.live(to, |t| t.live_bytes()) }
    PeakLiveObjects { "heapgate_peak_live_objects", Gauge, Count, Segment, [],
        "Most objects live at one time, since the process or its present phase began.",
        |o, to| o.peak(to, |p| p.objects) }
    PeakLiveBytes { "heapgate_peak_live_bytes", Gauge, Bytes, Segment, [],
        "Most bytes live at one time, since the process or its present phase began.",
        |o, to| o.peak(to, |p| p.bytes) }

    Stalls { "heapgate_stall_seconds", Histogram, Seconds, Segment, [OPERATION, INTERRUPTED],
        "Time of calls of the allocator, by operation; calls that the scheduler interrupted apart. At level sampled a timed call stands for all between it and the next.",
        |_, _| {} }
    StallMax { "heapgate_stall_max_seconds", Gauge, Seconds, Segment, [INTERRUPTED],
        "Longest timed call of the allocator since the process began.",
        |o, to| if let Some(longest) = o.longest_s { to.copy_from_slice(&longest) } }

    Resident { "heapgate_resident_bytes", Gauge, Bytes, Kernel, [PART],
        "Resident memory by what it holds; the parts add up to all of it. live: bytes that the program holds. rounding: what size classes add. fragmentation: holes in pages that hold live bytes. retained: free pages that the allocator keeps, and its own data. mappings: all else. Without jemalloc's figures, what is not live is mappings.",
        |o, to| o.account(to) }
    ProcessResident { "heapgate_process_resident_bytes", Gauge, Bytes, Kernel, [],
        "Resident memory.",
        |o, to| o.of_process(to, |p| [p.resident_bytes as f64]) }
    ProcessResidentKind { "heapgate_process_resident_kind_bytes", Gauge, Bytes, Kernel, [MEMORY],
        "Resident memory by what backs it: nothing, files, or shared memory (the telemetry's own segment is some of that).",
        |o, to| o.of_process(to, |p| [p.anonymous_bytes, p.file_bytes, p.shmem_bytes].map(|bytes| bytes as f64)) }
    ProcessPeakResident { "heapgate_process_peak_resident_bytes", Gauge, Bytes, Kernel, [],
        "Most resident memory since the process began.",
        |o, to| o.of_process(to, |p| [p.peak_resident_bytes as f64]) }
    ProcessPageTables { "heapgate_process_page_table_bytes", Gauge, Bytes, Kernel, [],
        "Page tables.",
        |o, to| o.of_process(to, |p| [p.page_table_bytes as f64]) }
    ProcessSwap { "heapgate_process_swap_bytes", Gauge, Bytes, Kernel, [],
        "Anonymous memory that is swapped out.",
        |o, to| o.of_process(to, |p| [p.swap_bytes as f64]) }
    ProcessLimit { "heapgate_process_memory_limit_bytes", Gauge, Bytes, Kernel, [],
        "The most memory that the process may have: the least of its control groups' limits and the machine's memory.",
        |o, to| if let Some(limit) = o.process.and_then(|p| p.limit_bytes) { to[0] = limit as f64 } }
    ProcessFaults { "heapgate_process_page_faults_total", Counter, Count, Kernel, [FAULT],
        "Page faults: minor ones without I/O, major ones with.",
        |o, to| o.of_process(to, |p| [p.minor_faults, p.major_faults].map(|faults| faults as f64)) }
    ProcessCpu { "heapgate_process_cpu_seconds_total", Counter, Seconds, Kernel, [],
        "CPU time of all threads, in user mode and in the kernel.",
        |o, to| o.of_process(to, |p| [p.cpu_s]) }
    Threads { "heapgate_threads", Gauge, Count, Kernel, [],
        "Threads of the process.",
        |o, to| o.of_process(to, |p| [p.threads as f64]) }

    JemallocAllocated { "heapgate_jemalloc_allocated_bytes", Gauge, Bytes, Jemalloc, [],
        "Usable bytes in the program's hands (stats.allocated).",
        |o, to| o.of_jemalloc(to, |j| j.allocated) }
    JemallocActive { "heapgate_jemalloc_active_bytes", Gauge, Bytes, Jemalloc, [],
        "Bytes of pages that hold any of them (stats.active).",
        |o, to| o.of_jemalloc(to, |j| j.active) }
    JemallocResident { "heapgate_jemalloc_resident_bytes", Gauge, Bytes, Jemalloc, [],
        "Resident bytes that jemalloc has mapped: active, dirty and its own (stats.resident).",
        |o, to| o.of_jemalloc(to, |j| j.resident) }
    JemallocMapped { "heapgate_jemalloc_mapped_bytes", Gauge, Bytes, Jemalloc, [],
        "Bytes of extents that are in use (stats.mapped).",
        |o, to| o.of_jemalloc(to, |j| j.mapped) }
    JemallocRetained { "heapgate_jemalloc_retained_bytes", Gauge, Bytes, Jemalloc, [],
        "Addresses kept for use again rather than unmapped; none of it is resident (stats.retained).",
        |o, to| o.of_jemalloc(to, |j| j.retained) }
    JemallocMetadata { "heapgate_jemalloc_metadata_bytes", Gauge, Bytes, Jemalloc, [],
        "jemalloc's own data (stats.metadata).",
        |o, to| o.of_jemalloc(to, |j| j.metadata) }
    JemallocPurges { "heapgate_jemalloc_purges_total", Counter, Count, Jemalloc, [],
        "Times that jemalloc went through its free pages to give some back, dirty and muzzy (stats.arenas.npurge).",
        |o, to| o.of_purging(to, |p| p.purges) }
    JemallocMadvises { "heapgate_jemalloc_madvises_total", Counter, Count, Jemalloc, [],
        "System calls by which it gave them back (stats.arenas.nmadvise).",
        |o, to| o.of_purging(to, |p| p.madvises) }
    JemallocPurged { "heapgate_jemalloc_purged_bytes_total", Counter, Bytes, Jemalloc, [],
        "Bytes of pages that it gave back (stats.arenas.purged).",
        |o, to| o.of_purging(to, |p| p.purged_bytes) }

    SettingChanges { "heapgate_setting_changes_total", Counter, Count, Control, [SETTING],
        "Changes of settings that were asked for while the process ran, and made.",
        |o, to| if let Some(s) = &o.steering {
            for (to, setting) in to.iter_mut().zip(Setting::ALL) { *to = s.changes(setting) as f64 }
        } }
    SettingRefusals { "heapgate_setting_refusals_total", Counter, Count, Control, [],
        "Changes that were asked for and refused.",
        |o, to| o.steered(to, |s| [Some(s.refusals as f64)]) }
    Decay { "heapgate_decay_seconds", Gauge, Seconds, Control, [PAGES],
        "How long jemalloc keeps freed pages before it gives them back; +Inf: for good (dirty_decay_ms, muzzy_decay_ms).",
        |o, to| o.steered(to, |s| [Setting::DirtyDecayMs, Setting::MuzzyDecayMs].map(|of| s.value(of).map(decay_s))) }
    BackgroundThread { "heapgate_background_thread", Gauge, Flag, Control, [],
        "1 if jemalloc's own threads give pages back (background_thread).",
        |o, to| o.steered(to, |s| [s.value(Setting::BackgroundThread).map(|on| flag(on != 0))]) }
    SoftLimit { "heapgate_soft_limit_bytes", Gauge, Bytes, Control, [],
        "The soft limit that the process keeps its resident memory to; 0: none.",
        |o, to| o.steered(to, |s| [s.value(Setting::SoftLimitBytes).map(|bytes| bytes as f64)]) }
    SoftLimitStep { "heapgate_soft_limit_step", Gauge, Count, Control, [],
        "What the soft limit makes the process do: 0 nothing, 1 shorter decay, 2 purging, 3 and background threads, 4 and asking the program to give memory back.",
        |o, to| o.steered(to, |s| [Some(s.soft_limit_step as f64)]) }
    SoftLimitSteps { "heapgate_soft_limit_steps_total", Counter, Count, Control, [],
        "Times that this step changed.",
        |o, to| o.steered(to, |s| [Some(s.soft_limit_steps as f64)]) }
    SoftLimitPurges { "heapgate_soft_limit_purges_total", Counter, Count, Control, [],
        "Purges of all arenas that the soft limit made.",
        |o, to| o.steered(to, |s| [Some(s.soft_limit_purges as f64)]) }
    SoftLimitAsks { "heapgate_soft_limit_asks_total", Counter, Count, Control, [],
        "Times that the soft limit asked the program to give memory back.",
        |o, to| o.steered(to, |s| [Some(s.soft_limit_asks as f64)]) }

    RegionActive { "heapgate_region_active", Gauge, Flag, Region, [],
        "1 if the process has a region to allocate from, 0 if it has not entered a scope yet or could not get the addresses.",
        |o, to| o.of_regions(to, |r| u64::from(r.active)) }
    RegionScopes { "heapgate_region_scopes_total", Counter, Count, Region, [],
        "Scopes that have begun and ended.",
        |o, to| o.of_regions(to, |r| r.scopes) }
    RegionBytes { "heapgate_region_allocated_bytes_total", Counter, Bytes, Region, [],
        "Bytes allocated in scopes.",
        |o, to| o.of_regions(to, |r| r.bytes) }
    RegionHighWater { "heapgate_region_peak_bytes", Gauge, Bytes, Region, [],
        "Most bytes of chunks in use at one time.",
        |o, to| o.of_regions(to, |r| r.high_water_bytes) }
    RegionTailWaste { "heapgate_region_tail_waste_bytes_total", Counter, Bytes, Region, [],
        "Bytes left unused at the ends of chunks that were sealed.",
        |o, to| o.of_regions(to, |r| r.tail_waste_bytes) }
    RegionChunks { "heapgate_region_chunks_acquired_total", Counter, Count, Region, [],
        "Chunks handed to threads, new or again.",
        |o, to| o.of_regions(to, |r| r.chunks_acquired) }
    RegionReuses { "heapgate_region_chunks_reused_total", Counter, Count, Region, [],
        "Chunks handed to threads that had been used before.",
        |o, to| o.of_regions(to, |r| r.chunks_reused) }
    RegionPeakChunks { "heapgate_region_peak_chunks", Gauge, Count, Region, [],
        "Most chunks in use at one time.",
        |o, to| o.of_regions(to, |r| r.chunks_peak) }
    RegionFallbacks { "heapgate_region_large_fallbacks_total", Counter, Count, Region, [],
        "Allocations in a scope that were too large for a chunk.",
        |o, to| o.of_regions(to, |r| r.large_fallbacks) }
    RegionEscapes { "heapgate_region_escaped_objects_total", Counter, Count, Region, [],
        "Objects that outlived their scope, and pin its chunk while they live.",
        |o, to| o.of_regions(to, |r| r.escaped_objects) }

    RegionOpenScopes { "heapgate_region_open_scopes", Gauge, Count, Region, [],
        "Scopes that are open now, of up to 64 threads.",
        |o, to| if let Some(open) = o.open_scopes { to[0] = open as f64 } }

    ArenasCreated { "heapgate_arenas_created_total", Counter, Count, Segment, [],
        "Arenas that were made (heapgate_region::Arena).",
        |o, to| if o.unmeasured.is_none() { to[0] = o.arenas.0 as f64 } }
    ArenasFinalized { "heapgate_arenas_finalized_total", Counter, Count, Segment, [],
        "Arenas that were released.",
        |o, to| if o.unmeasured.is_none() { to[0] = o.arenas.1 as f64 } }
    ArenasOpen { "heapgate_arenas_open", Gauge, Count, Segment, [],
        "Arenas that were made and not released. One that rises for hours is a leak; heapgate leaks names the lines that made them.",
        |o, to| if o.unmeasured.is_none() { to[0] = o.arenas.0.saturating_sub(o.arenas.1) as f64 } }

    Level { "heapgate_level", Gauge, Count, Segment, [],
        "How much is recorded: 0 nothing, 1 counts, 2 and the time of one call in N, 3 and of every alloc and realloc, 4 and of every call.",
        |o, to| if o.unmeasured.is_none() { to[0] = o.level as u64 as f64 } }
    SamplePeriod { "heapgate_sample_period", Gauge, Count, Segment, [],
        "At levels 2 and 3, one call in how many is timed.",
        |o, to| if o.unmeasured.is_none() { to[0] = o.sample_period as f64 } }
    WasOff { "heapgate_was_off", Gauge, Flag, Segment, [],
        "1 if the level was 0 for a time, so that live figures can't be trusted any more.",
        |o, to| if o.unmeasured.is_none() { to[0] = flag(o.was_off) } }
    SplitAvailable { "heapgate_interrupted_available", Gauge, Flag, Segment, [],
        "1 if calls that the scheduler interrupted are told apart; 0 if they are among the others.",
        |o, to| if o.unmeasured.is_none() { to[0] = flag(o.split_available) } }
    ThreadsSeen { "heapgate_threads_seen_total", Counter, Count, Segment, [SLOT],
        "Threads that have allocated: with counters of their own, or with shared ones for want of room, whose calls are counted and not timed at levels 2 and 3.",
        |o, to| if o.unmeasured.is_none() { to.copy_from_slice(&[o.threads.0 as f64, o.threads.1 as f64]) } }
    PhaseStart { "heapgate_phase_start_time_seconds", Gauge, Seconds, Segment, [PHASE],
        "When the program marked the beginning of a phase, the last one of each kind, in seconds since 1970.",
        |o, to| to.copy_from_slice(&o.phase_starts_s) }

    GroupAllocations { "heapgate_group_allocations_total", Counter, Count, Group, [GROUP],
        "Calls that handed out memory, by threads of the group.",
        |_, _| {} }
    GroupDeallocations { "heapgate_group_deallocations_total", Counter, Count, Group, [GROUP],
        "Objects given back by threads of the group, whoever allocated them.",
        |_, _| {} }
    GroupLiveObjects { "heapgate_group_live_objects", Gauge, Count, Group, [GROUP],
        "Objects allocated less objects freed by threads of the group: below the truth, even below 0, where it frees what others allocated.",
        |_, _| {} }
    GroupLiveBytes { "heapgate_group_live_bytes", Gauge, Bytes, Group, [GROUP],
        "The same in bytes, as asked for.",
        |_, _| {} }
    GroupStalls { "heapgate_group_stall_seconds", Histogram, Seconds, Group, [GROUP],
        "Time of calls of the allocator by threads of the group, all operations, calls that the scheduler interrupted left out.",
        |_, _| {} }
    GroupRequests { "heapgate_group_request_seconds", Histogram, Seconds, Group, [GROUP],
        "Time of requests of the group, as the program says when it has finished one; no series where it doesn't.",
        |_, _| {} }
    GroupAllocated { "heapgate_group_allocated_bytes", Gauge, Bytes, Group, [GROUP],
        "Usable bytes in the program's hands that came from the group's arenas, whoever holds them.",
        |_, _| {} }
    GroupResident { "heapgate_group_resident_bytes", Gauge, Bytes, Group, [GROUP],
        "Resident bytes of the group's arenas; divide by heapgate_group_arenas to compare groups.",
        |_, _| {} }
    GroupActive { "heapgate_group_active_bytes", Gauge, Bytes, Group, [GROUP],
        "Bytes of pages that hold any object of the group's arenas.",
        |_, _| {} }
    GroupDirty { "heapgate_group_dirty_bytes", Gauge, Bytes, Group, [GROUP],
        "Bytes of free pages that the group's arenas keep.",
        |_, _| {} }
    GroupPurged { "heapgate_group_purged_bytes_total", Counter, Bytes, Group, [GROUP],
        "Bytes of pages that the group's arenas gave back.",
        |_, _| {} }
    GroupArenas { "heapgate_group_arenas", Gauge, Count, Group, [GROUP],
        "Arenas that threads of the group have or had.",
        |_, _| {} }
    GroupShare { "heapgate_group_share", Gauge, Count, Group, [GROUP],
        "The group's part of the keys, 0 to 1.",
        |_, _| {} }
    GroupDecay { "heapgate_group_dirty_decay_seconds", Gauge, Seconds, Group, [GROUP],
        "The decay of free pages in the group's arenas; below 0 is never.",
        |_, _| {} }

    AgentProcesses { "heapgate_agent_processes", Gauge, Count, Agent, [],
        "Processes that the agent exports.",
        |_, _| {} }
    AgentDropped { "heapgate_agent_dropped_processes", Gauge, Count, Agent, [],
        "Processes that it found and does not export, since there are more than it may.",
        |_, _| {} }
    AgentErrors { "heapgate_agent_errors_total", Counter, Count, Agent, [AGENT_REASON],
        "Times that a folder or a file of a process could not be used, by reason.",
        |_, _| {} }
    AgentTextfileTime { "heapgate_agent_textfile_mtime_seconds", Gauge, Seconds, Agent, [],
        "When each file of other programs' metrics that is exported was written, in seconds since 1970; the label file names it.",
        |_, _| {} }
}

fn decay_s(ms: i64) -> f64 {
    if ms < 0 { f64::INFINITY } else { ms as f64 / 1000.0 }
}

fn flag(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_prometheus_conventions() {
        let mut seen = HashSet::new();
        for metric in ALL.iter().map(|id| id.metric()) {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("heapgate_") && !name.starts_with("heapgate_run_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            let base = name.strip_suffix("_total");
            assert_eq!(base.is_some(), metric.kind == Kind::Counter, "{name}");
            assert!(base.unwrap_or(name).ends_with(metric.unit.suffix()), "{name}");
            // Suffixes of a histogram's own series.
            assert!(!["_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix)), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}: {}", metric.help);
        }
    }

    #[test]
    fn series_have_every_combination_of_labels_once() {
        let stalls = MetricId::Stalls.metric();
        let all: HashSet<Vec<_>> = (0..stalls.series()).map(|series| stalls.labels_of(series).collect()).collect();
        assert_eq!((stalls.series(), all.len()), (8, 8));
        assert_eq!(stalls.labels_of(5).collect::<Vec<_>>(), [("op", "realloc"), ("interrupted", "true")]);
        assert_eq!((MetricId::LiveBytes.metric().series(), MetricId::LiveBytes.metric().labels_of(0).count()), (1, 0));
    }

    #[test]
    fn labels_are_in_the_order_of_the_segments_numbers() {
        use heapgate_segment::layout::{OPERATIONS, Operation, PhaseKind};
        assert_eq!(OPERATION.values.len(), OPERATIONS);
        assert_eq!(OPERATION.values[Operation::AllocZeroed as usize], "alloc_zeroed");
        assert_eq!(OPERATION.values[Operation::Dealloc as usize], "dealloc");
        assert_eq!(PHASE.values.len(), PhaseKind::ALL.len());
        assert_eq!(SETTING.values, Setting::ALL.map(Setting::name));
        assert_eq!(PHASE.values[PhaseKind::Measure as usize], "measure");
        assert_eq!(PHASE.values[PhaseKind::Prefill as usize], "prefill");
        assert_eq!(REASON.values[Unmeasured::NotInstalled as usize], "not-installed");
    }
}
