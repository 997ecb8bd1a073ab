//! The profile's types. Their serialized form is `profile.json`; its schema is `schemas/profile-v1.json`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Cell, Fingerprint};

/// The version of the profile's schema. Raised by every change that an older reader would misread.
pub const PROFILE_SCHEMA_VERSION: u32 = 1;

/// What is profiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Where CPU time goes.
    Cpu,
    /// What is in use at the peak and at the end, and what was allocated in all.
    Heap,
    /// Where allocations are made.
    Alloc,
    /// Where slow calls of the allocator are made.
    Stall,
}

impl Kind {
    /// All of them, in the order they are shown in.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Heap, Self::Alloc, Self::Stall];

    /// Its name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Heap => "heap",
            Self::Alloc => "alloc",
            Self::Stall => "stall",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("there are: {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What one of a sample's values is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// Its name, for instance `bytes` or `peak_bytes`; also that of its flame graph's file.
    pub name: String,
    /// What it is counted in.
    pub unit: ValueUnit,
    /// How the values of several stacks make one.
    pub aggregate: Aggregate,
}

/// What values are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueUnit {
    /// Calls, objects, samples.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
}

impl ValueUnit {
    /// Its name, as pprof has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Nanoseconds => "nanoseconds",
        }
    }
}

/// How the values of several stacks make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// They are added: shares and flame graphs make sense.
    Sum,
    /// The largest is taken.
    Max,
}

/// A profile of one kind of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The version of this schema.
    pub schema_version: u32,
    /// What is profiled.
    pub kind: Kind,
    /// What ran.
    pub cell: Cell,
    /// What it was built from, and on which machine it ran.
    pub fingerprint: Fingerprint,
    /// When, seconds since 1970 (UTC).
    pub created_unix_s: u64,
    /// Whether the run ended by itself. What an interrupted one has gathered is right as far as it goes.
    pub complete: bool,
    /// How long the measured phase took while it was profiled; null if it did not end.
    pub measured: Option<Measured>,
    /// How samples were taken.
    pub sampling: Sampling,
    /// What the values of each sample are, in their order.
    pub values: Vec<Value>,
    /// The same for all stacks together where that is known exactly, by counting or from the kernel, in the order of
    /// `values`; null where only the samples know.
    pub exact_totals: Vec<Option<f64>>,
    /// Names of threads.
    pub threads: Vec<String>,
    /// Names of phases; a sample outside of any has none.
    pub phases: Vec<String>,
    /// The files that code came from.
    pub modules: Vec<Module>,
    /// Places in them, with their functions.
    pub locations: Vec<Location>,
    /// Call stacks as numbers of locations, the innermost first.
    pub stacks: Vec<Vec<u32>>,
    /// What was gathered, by stack, thread, phase and labels.
    pub samples: Vec<Sample>,
    /// Whatever a reader should know.
    pub notes: Vec<String>,
}

/// What the measured phase took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Wall time, s.
    pub wall_s: f64,
    /// CPU time of the process, ns; of a CPU profile without the profiler's own start.
    pub cpu_ns: f64,
    /// Units of work done.
    pub units: u64,
}

/// How samples were taken.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// In words.
    pub description: String,
    /// Samples that have a stack.
    pub samples: u64,
    /// Samples that were due and have none.
    pub lost: u64,
    /// CPU: samples per second of CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_hz: Option<u32>,
    /// Allocations: one call in how many is sampled, on average; 1 for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_period: Option<u64>,
    /// Memory: once in how many bytes a sample is taken, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub byte_period: Option<u64>,
    /// Stalls: the shortest that is taken, ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_ns: Option<u64>,
}

/// A file that code came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// The name of the file, without its folder.
    pub name: String,
    /// Its build id, hexadecimal; empty where it has none.
    pub build_id: String,
    /// Whether it names its functions.
    pub has_symbols: bool,
    /// Whether it says which line an address is of.
    pub has_lines: bool,
}

/// A place in the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Number of its module; null where no file was mapped.
    pub module: Option<u32>,
    /// The return address, as the module's file has it.
    pub address: u64,
    /// Functions there, the innermost first: those before the last were inlined into it.
    pub frames: Vec<Frame>,
}

/// A function at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Its path, without generic parameters; a closure is `{closure}` of the function it is in.
    pub function: String,
    /// Its full name as the compiler has it, demangled.
    pub full_name: String,
    /// Its source file, from its repository's root on, or, where it is of none, from its crate's folder; empty where unknown.
    pub file: String,
    /// The line; 0 where unknown.
    pub line: u32,
    /// Whose it is.
    pub origin: Origin,
}

/// Whose a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The allocator's, or of the way to it: jemalloc, malloc, heapgate's counting.
    Allocator,
    /// The standard library's.
    Standard,
    /// Of what runs the workload: heapgate's phases and steps, the process's start.
    Harness,
    /// Anybody else's: the code that is looked for.
    Code,
}

/// What was gathered of one stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Number of its stack.
    pub stack: u32,
    /// Number of its thread; null where unknown.
    pub thread: Option<u32>,
    /// Number of its phase; null outside of any.
    pub phase: Option<u32>,
    /// Stalls: the allocator's method, as in `realloc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Stalls: what took the time, as in `fresh mapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The values, in the order of the profile's `values`. Estimates, where not all was sampled.
    pub values: Vec<f64>,
    /// The variance of each estimate: that of a sum is the sum of theirs. 0 where it is exact.
    pub variances: Vec<f64>,
}

impl Profile {
    /// The place of the value of that name among a sample's.
    #[must_use]
    pub fn value_index(&self, name: &str) -> Option<usize> {
        self.values.iter().position(|value| value.name == name)
    }

    /// All samples' value at `index` together: added, or the largest.
    #[must_use]
    pub fn total(&self, index: usize) -> f64 {
        let values = self.samples.iter().filter_map(|sample| sample.values.get(index).copied());
        match self.values.get(index).map(|value| value.aggregate) {
            Some(Aggregate::Max) => values.fold(0.0, f64::max),
            _ => values.sum(),
        }
    }

    /// The value that sites are sorted by and that the first flame graph is of.
    #[must_use]
    pub fn main_value(&self) -> usize {
        let name = match self.kind {
            Kind::Cpu => "cpu",
            Kind::Heap => "peak_bytes",
            Kind::Alloc => "calls",
            Kind::Stall => "stall",
        };
        self.value_index(name).unwrap_or(0)
    }

    /// The places of the values that make a picture: those that can be added, but for what only means are made of.
    pub fn drawn_values(&self) -> impl Iterator<Item = usize> {
        let drawn =
            |value: &Value| value.aggregate == Aggregate::Sum && !["freed", "lifetime"].contains(&value.name.as_str());
        self.values.iter().enumerate().filter(move |(_, value)| drawn(value)).map(|(index, _)| index)
    }

    /// The functions of a stack, inlined ones too, the innermost first; each with the number of its location.
    pub fn frames<'a>(&'a self, stack: &'a [u32]) -> impl DoubleEndedIterator<Item = (u32, &'a Frame)> {
        stack.iter().flat_map(|&number| {
            let location = self.locations.get(number as usize);
            location.into_iter().flat_map(|location| &location.frames).map(move |frame| (number, frame))
        })
    }

    /// The stack of a sample.
    #[must_use]
    pub fn stack_of(&self, sample: &Sample) -> &[u32] {
        self.stacks.get(sample.stack as usize).map_or(&[], Vec::as_slice)
    }

    /// Modules whose functions have no names or no lines, of those that samples' innermost own code is in.
    pub fn modules_without_lines(&self) -> impl Iterator<Item = &Module> {
        self.modules.iter().filter(|module| !module.has_lines)
    }
}
