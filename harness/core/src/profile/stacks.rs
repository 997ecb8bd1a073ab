//! What the telemetry sampled inside the allocator: allocations with their lifetimes, and slow calls.

use heapgate_segment::stacks::StackSamples;

use super::model::{Aggregate, Kind, Sampling, Value, ValueUnit};
use super::resolve::{Gathered, RawSample};
use crate::report::Counts;

fn value(name: &str, unit: ValueUnit) -> Value {
    Value { name: name.to_owned(), unit, aggregate: Aggregate::Sum }
}

/// The values of an allocation profile.
#[must_use]
pub fn alloc_values() -> Vec<Value> {
    vec![value("calls", ValueUnit::Count), value("bytes", ValueUnit::Bytes)]
}

/// An allocation profile of what was sampled. `counts` are those of the phase that was sampled, exact.
#[must_use]
pub fn gather_alloc(samples: &StackSamples, counts: Option<Counts>) -> Gathered {
    let period = samples.period.max(1);
    let (weight, unsampled) = (period as f64, 1.0 - 1.0 / period as f64);
    let raw = samples.stacks.iter().map(|stack| {
        let (n, bytes) = (stack.samples as f64, stack.bytes as f64);
        let mean = if n > 0.0 { bytes / n } else { 0.0 };
        RawSample {
            frames: stack.frames.clone(),
            phase: "measure".to_owned(),
            values: vec![n * weight, bytes * weight],
            variances: vec![n * weight * weight * unsampled, n * mean * mean * weight * weight * unsampled],
            ..RawSample::default()
        }
    });
    Gathered {
        kind: Kind::Alloc,
        sampling: Sampling {
            description: if period == 1 { "every allocation".to_owned() } else { format!("one allocation in {period}") },
            samples: samples.samples - samples.full.min(samples.samples),
            lost: samples.full.saturating_add(samples.nested),
            call_period: Some(period),
            ..Sampling::default()
        },
        values: alloc_values(),
        exact_totals: vec![
            counts.map(|counts| counts.allocation_calls() as f64),
            counts.map(|counts| counts.allocated_bytes() as f64),
        ],
        samples: raw.collect(),
        notes: Vec::new(),
    }
}
