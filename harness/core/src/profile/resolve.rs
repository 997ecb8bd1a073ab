//! Raw addresses become a profile: locations with functions, each stack once.

use std::collections::BTreeMap;

use super::model::{
    Frame, Kind, Location, Measured, Module, Origin, PROFILE_SCHEMA_VERSION, Profile, Sample, Sampling, Value,
};
use crate::report::{Cell, Fingerprint};
use crate::sites::{self, Modules, Symbols, name};

/// Of what a profile is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subject {
    /// What ran.
    pub cell: Cell,
    /// What it was built from, and where it ran.
    pub fingerprint: Fingerprint,
    /// When, seconds since 1970 (UTC).
    pub created_unix_s: u64,
    /// Whether it ended by itself.
    pub complete: bool,
    /// How long its measured phase took.
    pub measured: Option<Measured>,
}

/// What was gathered, before addresses have names.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// What is profiled.
    pub kind: Kind,
    /// How samples were taken.
    pub sampling: Sampling,
    /// What the values are.
    pub values: Vec<Value>,
    /// All together, where known exactly.
    pub exact_totals: Vec<Option<f64>>,
    /// The samples.
    pub samples: Vec<RawSample>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One stack with its values, as the measured process left it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawSample {
    /// Return addresses, the innermost first.
    pub frames: Vec<u64>,
    /// Name of the thread; empty where unknown.
    pub thread: String,
    /// Name of the phase; empty outside of any.
    pub phase: String,
    /// Stalls: the allocator's method.
    pub operation: Option<String>,
    /// Stalls: what took the time.
    pub cause: Option<String>,
    /// The values.
    pub values: Vec<f64>,
    /// The variance of each.
    pub variances: Vec<f64>,
}

/// The profile of what was gathered from a process whose code was where `modules` says.
#[must_use]
pub fn resolve(subject: Subject, gathered: Gathered, modules: &Modules, symbols: &mut Symbols) -> Profile {
    let Gathered { kind, sampling, values, exact_totals, samples, notes } = gathered;
    let mut tables = Tables::default();
    let mut resolved: Vec<Sample> = samples
        .into_iter()
        .map(|raw| Sample {
            stack: tables.stack(&raw.frames, modules, symbols),
            thread: tables.threads.number_of(raw.thread),
            phase: tables.phases.number_of(raw.phase),
            operation: raw.operation,
            cause: raw.cause,
            values: raw.values,
            variances: raw.variances,
        })
        .collect();
    // The same order every time: profiles are compared, and diffs of files read.
    resolved.sort_by(|a, b| b.values.partial_cmp(&a.values).unwrap_or(std::cmp::Ordering::Equal));
    let mut profile = Profile {
        schema_version: PROFILE_SCHEMA_VERSION,
        kind,
        cell: subject.cell,
        fingerprint: subject.fingerprint,
        created_unix_s: subject.created_unix_s,
        complete: subject.complete,
        measured: subject.measured,
        sampling,
        values,
        exact_totals,
        threads: tables.threads.0,
        phases: tables.phases.0,
        modules: tables.modules,
        locations: tables.locations,
        stacks: tables.stacks,
        samples: resolved,
        notes,
    };
    profile.notes.extend(about_symbols(&profile));
    profile
}

/// What is said where names or lines are missing, and how to have them.
fn about_symbols(profile: &Profile) -> Vec<String> {
    /// The C library and its kin never have lines, and nobody looks for his code there.
    fn is_systems(module: &Module) -> bool {
        module.name.contains(".so") || module.name.starts_with('[')
    }
    let id = |module: &Module| match module.build_id.as_str() {
        "" => "no build id".to_owned(),
        id => format!("build id {id}"),
    };
    // Nothing is known of a file that is gone; who has looked at a live process says so.
    let is_gone = |module: &&Module| module.name.ends_with(" (deleted)");
    let without = profile.modules_without_lines().filter(|module| !is_systems(module) && !is_gone(module));
    without
        .map(|module| {
            let (name, id) = (&module.name, id(module));
            let missing = if module.has_symbols {
                "functions have names, but lines and inlined functions are unknown"
            } else {
                "it was stripped, so there are only addresses"
            };
            format!(
                "{name} ({id}) has no line tables: {missing}; build it with `debug = \"line-tables-only\"` and `strip = false` in [profile.release] (or [profile.bench])"
            )
        })
        .collect()
}

/// Everything that samples refer to by number.
#[derive(Default)]
struct Tables {
    threads: Names,
    phases: Names,
    modules: Vec<Module>,
    module_numbers: BTreeMap<Module, u32>,
    locations: Vec<Location>,
    location_numbers: BTreeMap<u64, u32>,
    stacks: Vec<Vec<u32>>,
    stack_numbers: BTreeMap<Vec<u32>, u32>,
}

#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn number_of(&mut self, name: String) -> Option<u32> {
        if name.is_empty() {
            return None;
        }
        let place = self.0.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.0.push(name);
            self.0.len() - 1
        });
        u32::try_from(place).ok()
    }
}

impl Tables {
    fn stack(&mut self, frames: &[u64], modules: &Modules, symbols: &mut Symbols) -> u32 {
        let stack: Vec<u32> = frames.iter().map(|&address| self.location(address, modules, symbols)).collect();
        let next = self.stacks.len() as u32;
        *self.stack_numbers.entry(stack).or_insert_with_key(|stack| {
            self.stacks.push(stack.clone());
            next
        })
    }

    fn location(&mut self, address: u64, modules: &Modules, symbols: &mut Symbols) -> u32 {
        if let Some(&known) = self.location_numbers.get(&address) {
            return known;
        }
        let (module, in_file) = match symbols.file(modules, address) {
            Some((path, facts, in_file)) => {
                let module = Module {
                    name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    build_id: facts.build_id.clone(),
                    has_symbols: facts.has_symbols,
                    has_lines: facts.has_lines,
                };
                // The file has the byte before the return address: see `Symbols::frames`.
                (Some(module), in_file.saturating_add(1))
            }
            None => (None, address),
        };
        let module = module.map(|module| {
            let next = self.modules.len() as u32;
            *self.module_numbers.entry(module).or_insert_with_key(|module| {
                self.modules.push(module.clone());
                next
            })
        });
        let frames = symbols.frames(modules, address).iter().map(|frame| shown(frame, address)).collect();
        let number = self.locations.len() as u32;
        self.locations.push(Location { module, address: in_file, frames });
        self.location_numbers.insert(address, number);
        number
    }
}

fn shown(frame: &sites::Frame, address: u64) -> Frame {
    let function = if frame.function.is_empty() { format!("{address:#x}") } else { name::shown(frame) };
    Frame {
        function,
        full_name: frame.function.clone(),
        file: frame.source.clone(),
        line: frame.line,
        origin: origin(frame),
    }
}

/// Functions of the C library that allocate or free.
const MALLOC: [&str; 14] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "_int_malloc",
    "_int_free",
    "_int_realloc",
    "_int_memalign",
    "__libc_malloc",
    "__libc_free",
    "__libc_calloc",
    "__libc_realloc",
    "posix_memalign",
];
/// How the names of jemalloc's own functions begin: without debugging information they have no file.
const JEMALLOC: [&str; 16] = [
    "_rjem_", "je_", "prof_", "arena_", "tcache_", "extent_", "ecache_", "ehooks_", "pac_", "pa_", "large_", "base_",
    "imalloc", "ialloc", "irealloc", "malloc_",
];
/// Where a process or thread of it starts.
const STARTS: [&str; 7] =
    ["_start", "main", "__libc_start_main", "__libc_start_call_main", "start_thread", "clone", "clone3"];
/// Parts of the paths, and starts of the names, of what runs workloads.
const HARNESS_FILES: [&str; 3] = ["harness/bench/src/", "harness/cli/src/", "/heapgate-bench-"];
const HARNESS_NAMES: [&str; 3] = ["heapgate_bench::", "heapgate::", "std::rt::"];

fn origin(frame: &sites::Frame) -> Origin {
    let plain = frame.function.trim_start_matches('<');
    let bare = plain.split('@').next().unwrap_or(plain);
    let file = frame.file.as_deref().unwrap_or_default();
    let is_c = !bare.contains("::");
    if plain.starts_with("tikv_jemallocator::") {
        return Origin::Allocator;
    }
    let of_jemalloc = if frame.file.is_some() {
        ["/tikv-jemalloc-sys-", "/tikv-jemallocator-", "/jemalloc/"].iter().any(|part| file.contains(part))
    } else {
        is_c && JEMALLOC.iter().any(|start| bare.starts_with(start))
    };
    if of_jemalloc || is_c && MALLOC.contains(&bare) {
        return Origin::Allocator;
    }
    match name::kind(frame) {
        name::Kind::Allocator => Origin::Allocator,
        // A C library without symbols of its own calls its start by the nearest name that it exports.
        _ if STARTS.contains(&bare)
            || bare.starts_with("__libc_")
            || HARNESS_NAMES.iter().any(|start| plain.starts_with(start))
            || HARNESS_FILES.iter().any(|part| file.contains(part)) =>
        {
            Origin::Harness
        }
        name::Kind::Standard => Origin::Standard,
        name::Kind::Code => Origin::Code,
    }
}
