//! The report's types. Their serialized form is the public schema: see `schemas/report-v1.json`, generated from here.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sites;
use crate::metric::MetricId;

/// The version of the report's schema. Raised by every change that an older reader would misread.
pub const SCHEMA_VERSION: u32 = 1;

/// How the note begins that has what a trial printed to standard error though it completed.
pub const PRINTED: &str = "it printed: ";

/// What the notes of a trial that wrote trace lines say.
pub const TRACED: &str = "traced (HEAPGATE_TRACE=1): each line took CPU time of the trial, so its times and rates are not \
                          comparable with those of trials that were not";

/// What a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The version of this schema.
    pub schema_version: u32,
    /// When the run began, seconds since 1970 (UTC).
    pub created_unix_s: u64,
    /// Seed of the order of trials.
    pub seed: u64,
    /// Whether every planned trial has ended. False in the file that is written while a run goes on, or that a cut-off
    /// run left.
    pub complete: bool,
    /// What part of a matrix this is, where the matrix was split over several machines (`run --shard`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// What was built and where it ran.
    pub fingerprint: Fingerprint,
    /// The trials that ended, in the order they ran.
    pub trials: Vec<Trial>,
}

/// One of the parts that a matrix was split into, and what `merge` must know of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its number, from 1.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// Cells of the whole matrix.
    pub planned_cells: u64,
    /// Repetitions of each cell.
    pub planned_reps: u32,
    /// Hash of the whole matrix: shards of two matrices are no whole.
    pub matrix: String,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}/{}", self.index, self.of)
    }
}

/// What the figures depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Exact metrics depend on this.
    pub build: Build,
    /// Noisy metrics depend on this too.
    pub machine: Machine,
}

/// The program that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// heapgate's version.
    pub heapgate: String,
    /// `rustc --version`, as at build time.
    pub rustc: String,
    /// Hash of the lock file.
    pub lock_hash: String,
    /// Cargo profile, for instance `release`.
    pub profile: String,
    /// Target triple.
    pub target: String,
    /// Commit of the source tree, with `+` where it had changes; empty where there is no git.
    pub commit: String,
}

/// The machine it ran on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// CPU architecture, for instance `x86_64`.
    pub arch: String,
    /// CPU model, as the kernel names it.
    pub cpu: String,
    /// CPUs this process may run on.
    pub cpus: u32,
    /// Memory, rounded to whole GiB (so that firmware differences don't make another class).
    pub memory_gib: u64,
    /// Kernel release, major and minor number.
    pub kernel: String,
    /// C library and its version.
    pub libc: String,
    /// Size of a page, bytes.
    pub page_bytes: u64,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub thp: String,
}

/// One cell of the matrix: what is measured, without the repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// For instance `tokenize`.
    pub workload: String,
    /// For instance `hf-wordpiece`.
    pub variant: String,
    /// Allocator under test with its settings, for instance `jemalloc:dirty_decay_ms=0`.
    pub allocator: String,
    /// Parameters, all of them, also those at their default.
    pub params: BTreeMap<String, String>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.workload, self.variant, self.allocator)
    }
}

/// One run of one cell in a fresh process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What ran.
    pub cell: Cell,
    /// The unit of work, singular.
    pub unit: String,
    /// Repetition, from 0.
    pub rep: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// How much the telemetry recorded: `off`, `count`, `sampled`, `exact-alloc` or `exact`.
    pub level: String,
    /// Length of the trial in wall time, s.
    pub wall_s: f64,
    /// Peak resident memory of the process's whole life, bytes: from the kernel's accounting, also of a child that
    /// died.
    pub lifetime_peak_rss_bytes: u64,
    /// Share of all CPUs' time that a hypervisor took away during the trial, 0 to 1; absent where unknown.
    pub steal_share: Option<f64>,
    /// The phases, in order. A trial that died has those it reached, the last one open.
    pub phases: Vec<Phase>,
    /// Resident memory over time: pairs of ms since the start and bytes.
    pub rss_series: Vec<(f64, u64)>,
    /// Live objects and bytes over time, at the times of `rss_series`; of the whole process, its start-up too. Empty
    /// where nothing was counted.
    pub live_series: Vec<(i64, i64)>,
    /// What resident memory was made of, once a second (a dearer look). Empty for a trial that took less.
    pub memory_series: Vec<MemorySample>,
    /// Ticks per second of the clock behind the stall histograms; 0 where no call was timed.
    pub ticks_per_second: f64,
    /// Whether calls interrupted by the scheduler were told apart: `available`, or `unavailable: why`.
    pub interrupted_split: String,
    /// The catalogue's metrics, as computed from the above. Absent where not measured.
    pub metrics: BTreeMap<MetricId, f64>,
    /// The workload's own figures, of its measured phase; the end of a name is its unit (`_ns`, `_bytes`, `_share`,
    /// `_per_s`; else a plain number).
    pub figures: BTreeMap<String, f64>,
    /// The call sites that allocated most in the measured phase; absent where stacks were not sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Sites>,
    /// Whatever a reader should know: threads that shared the overflow slot, an address range that could not be
    /// reserved, …
    pub notes: Vec<String>,
}

/// What resident memory was made of at one time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemorySample {
    /// ms since the trial's start.
    pub at_ms: f64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Its anonymous part, bytes.
    pub anonymous_bytes: u64,
    /// The part of it in huge pages, bytes.
    pub huge_page_bytes: u64,
    /// Page tables, bytes. Not part of `rss_bytes`.
    pub page_table_bytes: u64,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// All phases were run and the process ended with success.
    Completed,
    /// The process ended by itself with an error.
    Failed {
        /// Its exit code.
        code: i32,
        /// The end of what it printed to standard error.
        stderr: String,
    },
    /// The process was ended by a signal.
    Killed {
        /// The signal's number.
        signal: i32,
        /// The signal's name, for instance `SIGSEGV`.
        name: String,
        /// The end of what it printed to standard error.
        stderr: String,
    },
    /// Memory ran out.
    OutOfMemory {
        /// Which limit: `rlimit` or `kernel` (a cgroup's limit or the machine's).
        limit: String,
        /// The end of what it printed to standard error.
        stderr: String,
    },
    /// It took longer than allowed and was killed.
    TimedOut {
        /// The time allowed, s.
        after_s: u64,
    },
}

impl Outcome {
    /// Whether the trial's figures may be compared.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        matches!(self, Self::Completed)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed { code, .. } => write!(f, "failed with exit code {code}"),
            Self::Killed { name, .. } => write!(f, "killed by {name}"),
            Self::OutOfMemory { limit, .. } => write!(f, "out of memory ({limit})"),
            Self::TimedOut { after_s } => write!(f, "timed out after {after_s} s"),
        }
    }
}

/// Which phase of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseKind {
    /// Loading of data and vocabularies.
    Setup,
    /// Steps that are not measured.
    Warmup,
    /// Steps before the measured ones that are watched for themselves, for instance prompts taken in before tokens are
    /// decoded. Few workloads have it.
    Prefill,
    /// Steps that are measured.
    Measure,
    /// Everything dropped, and purging asked for: what stays is retention.
    Drain,
}

/// What one phase did. Counts are of the phase alone; `live`, `process`, `allocator` and `region` are as at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Which phase.
    pub kind: PhaseKind,
    /// Whether it ended. An open phase is what a dead process left.
    pub ended: bool,
    /// Start, s since the trial's start.
    pub start_s: f64,
    /// Length, s.
    pub wall_s: f64,
    /// Units of work done.
    pub units: u64,
    /// Steps taken, for instance documents; 0 in phases that take none.
    pub steps: u64,
    /// Checksum of the answers, hexadecimal; empty where there are none.
    pub checksum: String,
    /// Calls and bytes, by operation.
    pub counts: Counts,
    /// Live objects and bytes.
    pub live: Live,
    /// Objects by size class that were allocated, freed: `(largest size of the class in bytes, allocated, freed)`.
    pub size_classes: Vec<(u64, u64, u64)>,
    /// Time of each call, by operation.
    pub stalls: Stalls,
    /// The process as the kernel sees it; absent where the process died first.
    pub process: Option<Process>,
    /// jemalloc's own figures; absent under other allocators.
    pub allocator: Option<AllocatorStats>,
    /// The region's figures; absent where no region is used.
    pub region: Option<RegionStats>,
}

/// Calls to the allocator that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Calls of `alloc`.
    pub alloc_calls: u64,
    /// Bytes they asked for.
    pub alloc_bytes: u64,
    /// Calls of `alloc_zeroed`.
    pub alloc_zeroed_calls: u64,
    /// Bytes they asked for.
    pub alloc_zeroed_bytes: u64,
    /// Calls of `realloc`.
    pub realloc_calls: u64,
    /// Bytes of the new sizes.
    pub realloc_new_bytes: u64,
    /// Bytes of the old sizes.
    pub realloc_old_bytes: u64,
    /// Calls of `dealloc`.
    pub dealloc_calls: u64,
    /// Bytes they gave back.
    pub dealloc_bytes: u64,
    /// Calls that the allocator refused (null).
    pub failed_calls: u64,
}

impl Counts {
    /// Calls that hand out memory: alloc, alloc_zeroed and realloc.
    #[must_use]
    pub fn allocation_calls(&self) -> u64 {
        self.alloc_calls + self.alloc_zeroed_calls + self.realloc_calls
    }

    /// Bytes asked for: alloc, alloc_zeroed and the new sizes of realloc.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.alloc_bytes + self.alloc_zeroed_bytes + self.realloc_new_bytes
    }
}

/// Objects and bytes that were allocated and not freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Objects at the phase's end.
    pub objects: i64,
    /// Bytes at the phase's end.
    pub bytes: i64,
    /// Most objects at one time within the phase.
    pub peak_objects: i64,
    /// Most bytes at one time within the phase.
    pub peak_bytes: i64,
    /// By how much the peak of objects may be wrong: 0 with one thread.
    pub peak_objects_error: u64,
    /// By how much the peak of bytes may be wrong: 0 with one thread.
    pub peak_bytes_error: u64,
}

/// Latency histograms of one phase, sparse: pairs of bucket index and count. `heapgate_segment::histogram` gives the
/// bounds of a bucket in ticks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stalls {
    /// Calls that ran undisturbed.
    pub clean: ByOperation,
    /// Calls in which the scheduler took the thread off its CPU, moved it, or a signal came.
    pub interrupted: ByOperation,
}

/// A sparse histogram for each operation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByOperation {
    /// Of `alloc`.
    pub alloc: Vec<(u32, u64)>,
    /// Of `alloc_zeroed`.
    pub alloc_zeroed: Vec<(u32, u64)>,
    /// Of `realloc`.
    pub realloc: Vec<(u32, u64)>,
    /// Of `dealloc`.
    pub dealloc: Vec<(u32, u64)>,
}

impl ByOperation {
    /// The four histograms, in ABI order.
    #[must_use]
    pub fn all(&self) -> [&[(u32, u64)]; 4] {
        [&self.alloc, &self.alloc_zeroed, &self.realloc, &self.dealloc]
    }
}

/// A process as the kernel accounts for it. Faults, switches and CPU time are of the phase alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Resident memory at the phase's end, bytes. It includes the telemetry's own shared memory: up to 32 KiB for each
    /// thread that allocates and 64 KiB for each phase so far, in `file_bytes`.
    pub rss_bytes: u64,
    /// Its anonymous part, bytes.
    pub anonymous_bytes: u64,
    /// Its part mapped from files (shared memory too), bytes.
    pub file_bytes: u64,
    /// The part of it in huge pages, bytes.
    pub huge_page_bytes: u64,
    /// Proportional share (PSS), bytes.
    pub pss_bytes: u64,
    /// Page tables, bytes. Not part of `rss_bytes`.
    pub page_table_bytes: u64,
    /// Most resident memory within the phase, bytes.
    pub peak_rss_bytes: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// Times the process waited.
    pub voluntary_switches: u64,
    /// Times the scheduler took it off its CPU.
    pub involuntary_switches: u64,
    /// CPU time in user and kernel mode, ns.
    pub cpu_ns: u64,
    /// Threads at the phase's end.
    pub threads: u64,
    /// Samples of resident memory taken within the phase.
    pub rss_samples: u64,
}

/// jemalloc's `stats.*`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllocatorStats {
    /// Usable bytes in the program's hands.
    pub allocated_bytes: u64,
    /// Bytes in pages that hold any of them.
    pub active_bytes: u64,
    /// Physically resident bytes mapped by the allocator.
    pub resident_bytes: u64,
    /// Mapped bytes in active extents.
    pub mapped_bytes: u64,
    /// Virtual memory kept for reuse rather than unmapped.
    pub retained_bytes: u64,
    /// The allocator's own data.
    pub metadata_bytes: u64,
}

/// What regions did, since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionStats {
    /// `active`, `unused`, or `unavailable: why`.
    pub status: String,
    /// Scopes entered.
    pub scopes: u64,
    /// Bytes bumped.
    pub bytes: u64,
    /// Most bytes of chunks in use at one time.
    pub high_water_bytes: u64,
    /// Bytes left unused at the ends of sealed chunks.
    pub tail_waste_bytes: u64,
    /// Chunks taken, new or again.
    pub chunks_acquired: u64,
    /// Chunks taken again.
    pub chunks_reused: u64,
    /// Most chunks in use at one time.
    pub chunks_peak: u64,
    /// Allocations too large for a chunk, given to the allocator below.
    pub large_fallbacks: u64,
    /// Objects alive when their scope ended.
    pub escaped_objects: u64,
}
