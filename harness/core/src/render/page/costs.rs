//! What a unit of work costs by operation, what the workload measured itself, and where it allocates.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::shell::{data, escaped};
use crate::metric::Unit;
use crate::render::human;
use crate::report::{CellTrials, Phase, PhaseKind, Sites};
use crate::stats::{histogram, sample};

/// All of it.
pub(super) fn costs(trials: &CellTrials<'_>) -> String {
    let mut out = String::new();
    push_operations(&mut out, trials);
    push_own(&mut out, trials);
    push_sites(&mut out, trials);
    out
}

/// One operation of the allocator, over all completed repetitions.
#[derive(Default)]
struct Operation {
    calls: u64,
    bytes: u64,
    timed: u64,
    stall_ns: f64,
}

fn push_operations(out: &mut String, trials: &CellTrials<'_>) {
    const NAMES: [&str; 4] = ["alloc", "alloc_zeroed", "realloc", "dealloc"];
    let mut operations: [Operation; 4] = Default::default();
    let mut units = 0;
    for trial in trials.completed().filter(|t| t.level != "off") {
        let Some(phase) = trial.phases.iter().find(|p| p.kind == PhaseKind::Measure && p.ended) else { continue };
        units += phase.units;
        add(&mut operations, phase, trial.ticks_per_second);
    }
    if units == 0 {
        return;
    }
    let _ = write!(
        out,
        "<h3>Costs per {}</h3>\n<div class=\"wide\" role=\"region\" aria-label=\"costs per unit\" tabindex=\"0\"><table class=\"small costs\"><thead><tr><th scope=\"col\">operation</th><th scope=\"col\" class=\"n\">calls</th><th scope=\"col\" class=\"n\">bytes</th><th scope=\"col\" class=\"n\">bytes a call</th><th scope=\"col\" class=\"n\">time a call</th><th scope=\"col\" class=\"n\">time</th></tr></thead><tbody>\n",
        escaped(trials.unit())
    );
    let mut sum = Operation::default();
    for (name, operation) in NAMES.into_iter().zip(operations).filter(|(_, o)| o.calls > 0) {
        push_operation(out, name, &operation, units);
        // What is freed was asked for by the others.
        sum.bytes += if name == "dealloc" { 0 } else { operation.bytes };
        sum.calls += operation.calls;
        sum.timed += operation.timed;
        sum.stall_ns += operation.stall_ns;
    }
    let bytes = human::value(Unit::Bytes, sum.bytes as f64 / units as f64);
    let _ = write!(
        out,
        "<tr class=\"sum\"><th scope=\"row\">together</th><td class=\"n\">{}</td><td class=\"n\">{bytes} asked for</td><td></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n</tbody></table></div>\n",
        human::value(Unit::Count, sum.calls as f64 / units as f64),
        time(sum.stall_ns, sum.timed as f64),
        time(sum.stall_ns * timed_share(&sum), units as f64),
    );
}

fn add(operations: &mut [Operation; 4], phase: &Phase, ticks_per_second: f64) {
    let counts = &phase.counts;
    let figures = [
        (counts.alloc_calls, counts.alloc_bytes),
        (counts.alloc_zeroed_calls, counts.alloc_zeroed_bytes),
        (counts.realloc_calls, counts.realloc_new_bytes),
        (counts.dealloc_calls, counts.dealloc_bytes),
    ];
    let clean = phase.stalls.clean.all();
    for (operation, ((calls, bytes), clean)) in operations.iter_mut().zip(figures.into_iter().zip(clean)) {
        operation.calls += calls;
        operation.bytes += bytes;
        if ticks_per_second > 0.0 {
            operation.timed += histogram::count(clean);
            operation.stall_ns += histogram::sum_ticks(clean) / ticks_per_second * 1e9;
        }
    }
}

fn push_operation(out: &mut String, name: &str, operation: &Operation, units: u64) {
    let (calls, units) = (operation.calls as f64, units as f64);
    let per = |value: f64, unit: Unit| data(value / units, &human::value(unit, value / units));
    let _ = writeln!(
        out,
        "<tr><th scope=\"row\"><code>{name}</code></th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        per(calls, Unit::Count),
        per(operation.bytes as f64, Unit::Bytes),
        human::value(Unit::Bytes, operation.bytes as f64 / calls),
        time(operation.stall_ns, operation.timed as f64),
        time(operation.stall_ns * timed_share(operation), units),
    );
}

/// By how much the timed calls stand for all: at the level `sampled` not each is timed.
fn timed_share(operation: &Operation) -> f64 {
    if operation.timed == 0 { 0.0 } else { (operation.calls as f64 / operation.timed as f64).max(1.0) }
}

fn time(ns: f64, of: f64) -> String {
    if ns > 0.0 && of > 0.0 { human::value(Unit::Nanos, ns / of) } else { "-".to_owned() }
}

/// Medians of what the workload measured itself.
fn push_own(out: &mut String, trials: &CellTrials<'_>) {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in trials.completed().flat_map(|trial| &trial.figures) {
        values.entry(name).or_default().push(*value);
    }
    if values.is_empty() {
        return;
    }
    out.push_str("<h3>The workload's own figures</h3>\n<table class=\"small own\"><tbody>\n");
    for (name, values) in values {
        let Some(median) = sample::median(&values) else { continue };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td></tr>",
            escaped(name),
            data(median, &human::value(Unit::of_figure(name), median))
        );
    }
    out.push_str("</tbody></table>\n");
}

fn push_sites(out: &mut String, trials: &CellTrials<'_>) {
    /// What is below matters to nobody.
    const ROWS: usize = 20;
    // Of those that did not complete too: what a program allocated before it died is worth knowing.
    let Some(sites) = Sites::merged(trials.trials.iter().filter_map(|t| t.sites.as_ref())) else { return };
    let _ = write!(
        out,
        "<h3>Allocation sites</h3>\n<p class=\"dim small\">{} of call stacks, 1 in {}</p>\n<div class=\"wide\" role=\"region\" aria-label=\"allocation sites\" tabindex=\"0\"><table class=\"small sites\"><thead><tr><th scope=\"col\" class=\"n\">allocations</th><th scope=\"col\" class=\"n\">bytes</th><th scope=\"col\" class=\"n\">mean</th><th scope=\"col\">site</th></tr></thead><tbody>\n",
        human::counted(sites.samples, "sample"),
        human::count(sites.period)
    );
    for site in sites.sites.iter().take(ROWS) {
        let call = if site.call.is_empty() { "an allocation" } else { &site.call };
        let place = if site.file.is_empty() { String::new() } else { format!(" ({}:{})", site.file, site.line) };
        let error = sites.share_error(site);
        let error = if error > 0.0 { format!(" ±{:.1}%", error * 100.0) } else { String::new() };
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{:.1}%{error}</td><td class=\"n\">{:.1}%</td><td class=\"n\">{}</td><td>{} in <code>{}</code>{}</td></tr>",
            sites.share(site) * 100.0,
            sites.bytes_share(site) * 100.0,
            human::value(Unit::Bytes, site.mean_bytes()),
            escaped(call),
            escaped(&site.function),
            escaped(&place)
        );
    }
    out.push_str("</tbody></table></div>\n");
}
