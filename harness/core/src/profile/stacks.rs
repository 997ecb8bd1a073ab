//! What the telemetry sampled inside the allocator: allocations with their lifetimes, what of them is in use, and slow
//! calls.

use heapgate_segment::layout::{Operation, PhaseKind};
use heapgate_segment::stacks::{Settings, Stack, StackSamples, StallKind, phase_kind};

pub use heapgate_segment::stacks::{DEFAULT_BYTE_PERIOD, DEFAULT_CALL_PERIOD};

use super::model::{Aggregate, Kind, Sampling, Value, ValueUnit};
use super::resolve::{Gathered, RawSample};
use crate::render::human;

/// The shortest call that is taken as a stall, where nobody asks for another.
pub const DEFAULT_THRESHOLD_NS: u64 = 10_000;

fn value(name: &str, unit: ValueUnit) -> Value {
    Value { name: name.to_owned(), unit, aggregate: Aggregate::Sum }
}

/// The values of an allocation profile. The mean lifetime of what was freed is `lifetime / freed`.
#[must_use]
pub fn alloc_values() -> Vec<Value> {
    vec![
        value("calls", ValueUnit::Count),
        value("bytes", ValueUnit::Bytes),
        value("temporaries", ValueUnit::Count),
        value("freed", ValueUnit::Count),
        value("lifetime", ValueUnit::Nanoseconds),
    ]
}

/// The values of a stall profile.
#[must_use]
pub fn stall_values() -> Vec<Value> {
    vec![
        value("stall", ValueUnit::Nanoseconds),
        value("calls", ValueUnit::Count),
        Value { name: "longest".to_owned(), unit: ValueUnit::Nanoseconds, aggregate: Aggregate::Max },
    ]
}

/// An allocation profile of what was sampled. `exact`: calls and bytes of the phases that were sampled, where known.
#[must_use]
pub fn gather_alloc(samples: &StackSamples, exact: [Option<f64>; 2]) -> Gathered {
    let raw = samples.stacks.iter().map(|stack| {
        let followed = [stack.temporaries, stack.freed, stack.lifetime_ns];
        RawSample {
            values: [&[stack.calls, stack.bytes], &followed[..]].concat(),
            // Those that were followed are some of those that were sampled.
            variances: vec![
                stack.calls_variance,
                stack.bytes_variance,
                part(stack.calls_variance, stack.temporaries, stack.calls),
                part(stack.calls_variance, stack.freed, stack.calls),
                0.0,
            ],
            ..of_stack(samples, stack)
        }
    });
    Gathered {
        kind: Kind::Alloc,
        sampling: sampling(samples),
        values: alloc_values(),
        exact_totals: vec![exact[0], exact[1], None, None, None],
        samples: raw.collect(),
        notes: notes(samples),
    }
}

/// A heap profile of what was sampled and followed to its end, of the whole process. `exact` as
/// [`super::heap::values`].
#[must_use]
pub fn gather_heap(samples: &StackSamples, exact: Vec<Option<f64>>) -> Gathered {
    let raw = samples.stacks.iter().map(|stack| {
        let is_measured = phase_kind(stack.phase) == Some(PhaseKind::Measure);
        // Peak and end are of everything that lives; what was allocated is the measured phase's.
        let allocated = if is_measured { [stack.bytes, stack.calls] } else { [0.0; 2] };
        let variance_of = |bytes: f64, objects: f64| {
            [part(stack.bytes_variance, bytes, stack.bytes), part(stack.calls_variance, objects, stack.calls)]
        };
        RawSample {
            values: [[stack.peak_bytes, stack.peak_objects], [stack.live_bytes, stack.live_objects], allocated]
                .concat(),
            variances: [
                variance_of(stack.peak_bytes, stack.peak_objects),
                variance_of(stack.live_bytes, stack.live_objects),
                variance_of(allocated[0], allocated[1]),
            ]
            .concat(),
            ..of_stack(samples, stack)
        }
    });
    Gathered {
        kind: Kind::Heap,
        sampling: sampling(samples),
        values: super::heap::values(),
        exact_totals: exact,
        samples: raw.filter(|sample| sample.values.iter().any(|&value| value > 0.0)).collect(),
        notes: notes(samples),
    }
}

/// A stall profile. `exact_ns`: the time of all clean calls that took as long, where known.
#[must_use]
pub fn gather_stall(samples: &StackSamples) -> Gathered {
    let threshold_ns = samples.settings.stall_threshold_ns;
    let raw = samples.stalls.iter().map(|stall| RawSample {
        frames: stall.frames.clone(),
        thread: thread(samples, stall.thread),
        phase: phase(stall.phase),
        operation: operation(stall.operation),
        cause: Some(stall.kind.name().to_owned()),
        values: vec![stall.ns as f64, stall.calls as f64, stall.max_ns as f64],
        variances: vec![0.0; 3],
    });
    let mut notes = Vec::new();
    let untold: Vec<&str> = StallKind::ALL
        .into_iter()
        .filter(|&kind| kind != StallKind::Unknown && !samples.capabilities.tells(kind))
        .map(StallKind::name)
        .collect();
    if !untold.is_empty() && !samples.stalls.is_empty() {
        notes.push(format!("causes that could not be told here, and are among the unknown: {}", untold.join(", ")));
    }
    if samples.stalls_full > 0 {
        notes.push(format!("{} found no room: raise the threshold", human::counted(samples.stalls_full, "slow call")));
    }
    let taken = samples.stalls.iter().map(|stall| stall.calls).fold(0, u64::saturating_add);
    Gathered {
        kind: Kind::Stall,
        sampling: Sampling {
            description: format!(
                "every clean call of at least {}",
                human::value(crate::metric::Unit::Nanos, threshold_ns as f64)
            ),
            samples: taken,
            lost: samples.stalls_full.saturating_add(samples.nested),
            threshold_ns: Some(threshold_ns),
            ..Sampling::default()
        },
        values: stall_values(),
        exact_totals: vec![None; 3],
        samples: raw.collect(),
        notes,
    }
}

fn of_stack(samples: &StackSamples, stack: &Stack) -> RawSample {
    RawSample {
        frames: stack.frames.clone(),
        thread: thread(samples, stack.thread),
        phase: phase(stack.phase),
        ..RawSample::default()
    }
}

fn thread(samples: &StackSamples, number: u32) -> String {
    samples.threads.get(number as usize).cloned().unwrap_or_default()
}

fn phase(word: u64) -> String {
    let name = match phase_kind(word) {
        Some(PhaseKind::Setup) => "setup",
        Some(PhaseKind::Warmup) => "warmup",
        Some(PhaseKind::Prefill) => "prefill",
        Some(PhaseKind::Measure) => "measure",
        Some(PhaseKind::Drain) => "drain",
        None => "",
    };
    name.to_owned()
}

fn operation(number: u64) -> Option<String> {
    let name = match number {
        n if n == Operation::Alloc as u64 => "alloc",
        n if n == Operation::AllocZeroed as u64 => "alloc_zeroed",
        n if n == Operation::Realloc as u64 => "realloc",
        n if n == Operation::Dealloc as u64 => "dealloc",
        _ => return None,
    };
    Some(name.to_owned())
}

/// The share of a variance that a part of the sampled has.
fn part(variance: f64, of: f64, all: f64) -> f64 {
    if all > 0.0 { variance * (of / all).clamp(0.0, 1.0) } else { 0.0 }
}

fn sampling(samples: &StackSamples) -> Sampling {
    let Settings { call_period, byte_period, .. } = samples.settings;
    let bytes = || human::value(crate::metric::Unit::Bytes, byte_period as f64);
    let description = match (call_period, byte_period) {
        (1, _) => "every allocation".to_owned(),
        (0, _) => format!("a sample in {} on average", bytes()),
        (calls, 0) => format!("one allocation in {calls} on average"),
        (calls, _) => format!("one allocation in {calls} and once in {} on average", bytes()),
    };
    Sampling {
        description,
        samples: samples.samples.saturating_sub(samples.full),
        lost: samples.full.saturating_add(samples.nested),
        call_period: (call_period > 0).then_some(call_period),
        byte_period: (byte_period > 0).then_some(byte_period),
        ..Sampling::default()
    }
}

fn notes(samples: &StackSamples) -> Vec<String> {
    let mut notes = Vec::new();
    if samples.full > 0 {
        notes.push(format!("{} found no room: sample fewer", human::counted(samples.full, "sample")));
    }
    if samples.untracked > 0 {
        notes.push(format!(
            "{} could not be followed to their end: what is said of their lives is too low",
            human::counted(samples.untracked, "sampled object")
        ));
    }
    notes
}
