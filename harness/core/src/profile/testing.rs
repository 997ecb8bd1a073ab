//! A small profile for tests.

use super::model::*;
use crate::report::{Cell, Fingerprint};

/// Two threads of an allocation profile: `a` called by `main`, with a standard function and the allocator inside.
pub(crate) fn profile() -> Profile {
    let frame = |function: &str, file: &str, line, origin| Frame {
        function: function.to_owned(),
        full_name: format!("{function}::<T>"),
        file: file.to_owned(),
        line,
        origin,
    };
    let location = |address, frames| Location { module: Some(0), address, frames };
    let value = |name: &str, unit| Value { name: name.to_owned(), unit, aggregate: Aggregate::Sum };
    let sample = |stack, thread, calls: f64, bytes: f64| Sample {
        stack,
        thread: Some(thread),
        phase: Some(0),
        operation: None,
        cause: None,
        values: vec![calls, bytes],
        variances: vec![calls, bytes],
    };
    Profile {
        schema_version: PROFILE_SCHEMA_VERSION,
        kind: Kind::Alloc,
        cell: Cell {
            workload: "tokenize".to_owned(),
            variant: "words".to_owned(),
            allocator: "jemalloc".to_owned(),
            ..Cell::default()
        },
        fingerprint: Fingerprint::default(),
        created_unix_s: 1_700_000_000,
        complete: true,
        measured: None,
        sampling: Sampling { description: "one call in 64".to_owned(), samples: 30, ..Sampling::default() },
        values: vec![value("calls", ValueUnit::Count), value("bytes", ValueUnit::Bytes)],
        exact_totals: vec![Some(1000.0), None],
        threads: vec!["main".to_owned(), "worker".to_owned()],
        phases: vec!["measure".to_owned()],
        modules: vec![Module {
            name: "words".to_owned(),
            build_id: "abcd".to_owned(),
            has_symbols: true,
            has_lines: true,
        }],
        locations: vec![
            location(
                0x10,
                vec![frame("heapgate_alloc::Telemetry::alloc", "harness/alloc/src/telemetry.rs", 9, Origin::Allocator)],
            ),
            location(
                0x20,
                vec![
                    frame("alloc::Vec::push", "vec/mod.rs", 100, Origin::Standard),
                    frame("words::split", "words/src/lib.rs", 12, Origin::Code),
                ],
            ),
            location(0x30, vec![frame("words::run", "words/src/lib.rs", 40, Origin::Code)]),
            location(
                0x40,
                vec![frame("heapgate_bench::trial::take", "harness/bench/src/trial.rs", 7, Origin::Harness)],
            ),
            location(0x50, vec![frame("main", "", 0, Origin::Harness)]),
        ],
        stacks: vec![vec![0, 1, 2, 3, 4], vec![0, 2, 3, 4]],
        samples: vec![sample(0, 0, 600.0, 48_000.0), sample(0, 1, 200.0, 16_000.0), sample(1, 0, 200.0, 400.0)],
        notes: Vec::new(),
    }
}
