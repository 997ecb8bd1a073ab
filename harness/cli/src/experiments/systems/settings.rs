//! E22: settings of a running process.

use std::time::Duration;

use heapgate_core::experiment::{Body, Experiment, Holds, Scene, Stage};
use heapgate_core::metric::Unit;
use serde_json::Value;

use super::{Running, command, json, run, text, wait_for};

/// Settings changed while a process runs.
pub static E22: Experiment = Experiment {
    number: 22,
    title: "Settings of the allocator changed while it runs",
    about: "residency/stream under jemalloc is steered by `heapgate tune`: the preset lax, then strict (pages go back at once), then \
            a purge. Each change is acknowledged with the value that jemalloc reads back. The source says that settings can be \
            changed without a restart, and gives no figures.",
    body: Body::Scenario { run: play },
};

/// What `tune` prints as acknowledged is this quick, or a person would not call it at once.
const AT_ONCE_MS: f64 = 1_000.0;

fn play(stage: &Stage) -> Result<Scene, String> {
    let mut service = command(stage, "trial residency/stream --param duration=60");
    service.envs([("HEAPGATE_ALLOCATOR", "jemalloc"), ("HEAPGATE_PUBLISH", "e22"), ("HEAPGATE_CONTROL", "1")]);
    let service = Running::start(service)?;
    let pid = service.0.id();
    wait_for("a process that can be steered", || run(stage, &format!("tune --pid {pid} --json"), &[0]).ok())?;
    let settle = || std::thread::sleep(Duration::from_millis(if stage.short { 300 } else { 3_000 }));
    let tune = |what: &str| json(&run(stage, &format!("tune --pid {pid} {what} --json"), &[0])?);
    let lax = tune("--preset lax")?;
    settle();
    let lax_rss = service.rss_bytes()?;
    let strict = tune("--preset strict")?;
    let purged = tune("purge")?;
    settle();
    let strict_rss = service.rss_bytes()?;

    let done: Vec<&Value> = [&lax, &strict, &purged]
        .into_iter()
        .flat_map(|answer| answer["processes"][0]["settings"].as_array().into_iter().flatten())
        .collect();
    let acknowledged: Vec<f64> = done.iter().filter_map(|done| done["acknowledged_ms"].as_f64()).collect();
    let mut scene = Scene::default();
    scene.number("changes acknowledged, without a restart", "running", done.len() as u64, acknowledged.len() as u64);
    let slowest = acknowledged.iter().copied().fold(0.0, f64::max);
    scene.figure(
        "slowest acknowledgement",
        "running",
        Unit::Nanos,
        (AT_ONCE_MS * 1e6, slowest * 1e6),
        slowest < AT_ONCE_MS,
    );
    let holds = if strict_rss < lax_rss { Holds::Yes } else { Holds::Undecided };
    scene.pair("RSS", Unit::Bytes, ["lax", "strict"], [lax_rss as f64, strict_rss as f64], holds);
    scene.text("settings in the end", &text(&run(stage, &format!("tune --pid {pid}"), &[0])?));
    Ok(scene)
}
