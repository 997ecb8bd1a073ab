//! E27: what the kernel sees of a process's probes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use heapgate_core::experiment::{Body, Experiment, Scene, Stage};
use heapgate_core::metric::Unit;
use heapgate_segment::histogram::bucket_bounds;
use heapgate_segment::layout::Operation;
use heapgate_segment::published::{self, Buffer};
use serde_json::Value;

use super::command;

/// bpftrace against the segment.
pub static E27: Experiment = Experiment {
    number: 27,
    title: "Kernel-level events",
    about: "prompt/format at level exact under bpftrace, which counts each pass of the probe stall_done in powers of two of ticks; \
            against the histogram that the process itself wrote into its segment. Nothing of the process is changed. As root, with \
            bpftrace and tracefs.",
    body: Body::Scenario { run: play },
};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Calls by power of two of ticks.
type Histogram = BTreeMap<u32, u64>;

fn play(stage: &Stage) -> Result<Scene, String> {
    let mut scene = Scene::default();
    if let Some(why) = missing() {
        eprintln!("heapgate: E27 can't be measured here: {why}");
        scene.problems.push(format!("can't be measured here: {why}"));
        return Ok(scene);
    }
    let steps = if stage.short { 2 } else { 50 };
    let traced = command(stage, "");
    let mut tracer = Command::new("bpftrace");
    // Its environment is the traced process's.
    for (name, value) in traced.get_envs() {
        match value {
            Some(value) => tracer.env(name, value),
            None => tracer.env_remove(name),
        };
    }
    let program = stage.program.display();
    // Times of the probe, as `dashboards/bpftrace/stalls.bt` has them.
    let script = format!("usdt:{program}:heapgate:stall_done {{ @ticks = hist(arg0); }}");
    let output = tracer
        .envs([("HEAPGATE_PUBLISH", "e27"), ("HEAPGATE_LEVEL", "exact"), ("HEAPGATE_ALLOCATOR", "jemalloc")])
        .args(["-f", "json", "-c", &format!("{program} trial prompt/format --steps {steps}"), "-e", &script])
        .current_dir(&stage.folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("bpftrace: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let seen =
        said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|line| of_tracer(&line));
    let Some(seen) = seen else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("bpftrace counted nothing ({}): {}", output.status, stderr.lines().last().unwrap_or("")));
    };
    let segment = of_segment(&stage.folder.join("run"))?;
    let calls = |histogram: &Histogram| histogram.values().sum::<u64>();
    let apart: u64 = segment
        .keys()
        .chain(seen.keys())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|power| segment.get(power).unwrap_or(&0).abs_diff(*seen.get(power).unwrap_or(&0)))
        .sum();
    scene.number("timed calls", "bpftrace, by the segment", calls(&segment), calls(&seen));
    scene.figure(
        "calls that are in another bucket",
        "share of all",
        Unit::Share,
        (0.0, apart as f64 / calls(&segment).max(1) as f64),
        apart == 0,
    );
    Ok(scene)
}

/// Why it can't be measured here.
fn missing() -> Option<String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        return Some("it takes root".to_owned());
    }
    if Command::new("bpftrace").arg("--version").output().is_err() {
        return Some("bpftrace is not installed".to_owned());
    }
    let is_mounted = Path::new(TRACEFS).join("uprobe_events").exists();
    (!is_mounted).then(|| format!("tracefs is not mounted: mount -t tracefs tracefs {TRACEFS}"))
}

/// `{"type": "hist", "data": {"@ticks": [{"min": …, "count": …}]}}`
fn of_tracer(line: &Value) -> Option<Histogram> {
    let buckets = line["data"]["@ticks"].as_array()?;
    let mut histogram = Histogram::new();
    for bucket in buckets {
        let power = bucket["min"].as_u64().unwrap_or(0).checked_ilog2().map_or(0, |power| power + 1);
        *histogram.entry(power).or_default() += bucket["count"].as_u64()?;
    }
    Some(histogram)
}

fn of_segment(folder: &Path) -> Result<Histogram, String> {
    let entries = published::list(folder).map_err(|error| error.to_string())?;
    let entry = entries.first().ok_or("the traced process did not publish itself")?;
    let mut buffer = Buffer::new();
    entry.read(&mut buffer).map_err(|error| error.to_string())?;
    let totals = buffer.reader().map_err(|error| error.to_string())?.totals();
    let mut histogram = Histogram::new();
    for operation in [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc] {
        for calls in [totals.clean(operation).collect::<Vec<_>>(), totals.interrupted(operation).collect()] {
            for (bucket, count) in calls.into_iter().enumerate().filter(|&(_, count)| count > 0) {
                // Buckets never straddle a power of two.
                let power = bucket_bounds(bucket).0.checked_ilog2().map_or(0, |power| power + 1);
                *histogram.entry(power).or_default() += count;
            }
        }
    }
    Ok(histogram)
}
