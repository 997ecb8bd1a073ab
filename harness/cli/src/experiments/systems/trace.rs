//! E21: the trace line.

use heapgate_core::experiment::{Body, Experiment, Holds, Scene, Stage};
use heapgate_core::metric::Unit;

use super::{command, run, text};

/// The trace line of a running process.
pub static E21: Experiment = Experiment {
    number: 21,
    title: "Trace line of a running process",
    about: "residency/stream, on a fixed schedule, with HEAPGATE_TRACE=1 and a line each 100 ms, and without. The lines are read \
            by `heapgate trace --parse`. What the source's line has: time, live objects and bytes, RSS, allocations, the longest \
            stall and P99, time in the allocator, reclaim settings. Cost is CPU time with lines by that without; the clock behind it \
            ticks a hundred times a second.",
    body: Body::Scenario { run: play },
};

/// Fields of a line that stand for what the source's have.
const FIELDS: [&str; 10] = [
    "t",
    "live_objects",
    "live_bytes",
    "rss_bytes",
    "allocs",
    "stall_p99_ns",
    "stall_max_ns",
    "timed",
    "dirty_decay_ms",
    "muzzy_decay_ms",
];

fn play(stage: &Stage) -> Result<Scene, String> {
    let seconds = if stage.short { 1 } else { 6 };
    let arguments = format!("trial residency/stream --param duration={seconds}");
    let cpu_s = |traced: bool| {
        let mut command = command(stage, &arguments);
        command.env("HEAPGATE_ALLOCATOR", "jemalloc");
        if traced {
            command.env("HEAPGATE_TRACE", "1").env("HEAPGATE_TRACE_INTERVAL", "100ms");
            command.env("HEAPGATE_TRACE_FILE", stage.folder.join("trace.log"));
        }
        let before = of_children_s()?;
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("residency/stream: {}", output.status));
        }
        Ok(of_children_s()? - before)
    };
    let (without, with) = (cpu_s(false)?, cpu_s(true)?);
    let parsed = text(&run(stage, "trace --parse trace.log", &[0])?);
    let lines: Vec<serde_json::Value> = parsed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = lines.last().ok_or("no line was written")?;
    let mut scene = Scene::default();
    let expected = 10.0 * seconds as f64;
    scene.figure(
        "lines",
        "one in 100 ms",
        Unit::Count,
        (expected, lines.len() as f64),
        // The set-up before the measured time has lines too; a busy machine may keep some back.
        lines.len() as f64 >= 0.8 * expected,
    );
    let there = FIELDS.iter().filter(|&&field| last.get(field).is_some()).count();
    scene.number("what the source's line has", "fields of a line", FIELDS.len() as u64, there as u64);
    scene.pair("CPU time", Unit::Nanos, ["without", "with lines"], [without, with].map(|s| s * 1e9), Holds::NoClaim);
    let log = std::fs::read_to_string(stage.folder.join("trace.log")).map_err(|error| error.to_string())?;
    scene.text("a line", log.lines().last().unwrap_or_default());
    Ok(scene)
}

/// CPU time of children that have ended, s.
fn of_children_s() -> Result<f64, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    // After the name, which may have anything in it: state is the third field, cutime and cstime are the 16th and 17th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(13) + ticks(14)) / 100.0)
}
