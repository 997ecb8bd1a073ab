//! E30: what a unit of work costs, for every workload there is.

use heapgate_bench::Variant;
use heapgate_core::experiment::{Arm, Body, Experiment};
use heapgate_workloads::variants;

/// Seconds that a workload with a duration is given.
const DURATION: &[(&str, &str)] = &[("duration", "3")];

/// E30.
pub const E30: Experiment = Experiment {
    number: 30,
    title: "Unit costs",
    about: "Every workload under jemalloc with its default parameters (those with a duration for 3 s): allocations, bytes, CPU \
            time and time in the allocator per unit of work, and per million units. Telemetry at level exact is part of the CPU \
            time: see docs/overhead.md. The source claims no figures here.",
    body: Body::UnitCosts { arms },
};

fn arms() -> Vec<Arm> {
    variants().iter().map(arm).collect()
}

fn arm(variant: &Variant) -> Arm {
    // A few names a run, which then live as long as the program.
    let name: &'static str = format!("{}/{}", variant.workload, variant.name).leak();
    let has_duration = variant.params.iter().any(|spec| spec.name == DURATION[0].0);
    Arm { name, variant: name, allocator: "jemalloc", params: if has_duration { DURATION } else { &[] } }
}
