//! E26: arenas that are never released.

use heapgate_core::experiment::{Body, Experiment, Scene, Stage};

use super::{json, run, text};

/// One arena in ten thousand.
pub static E26: Experiment = Experiment {
    number: 26,
    title: "Leak detection for arenas",
    about: "tokenize/wordpiece-slices, which allocates nothing itself, makes an arena for each token, of which one in 10,000 is \
            never released; and the same with none leaked. `heapgate leaks` counts what was made and released, names the line that \
            made those that are left, and says whether the heap's sites and the live bytes bear that out. Then a leak of 5 % of the \
            plain heap of another workload.",
    body: Body::Scenario { run: play },
};

fn play(stage: &Stage) -> Result<Scene, String> {
    let steps = if stage.short { 24 } else { 48 };
    let arenas = format!("leaks tokenize/wordpiece-slices -a jemalloc --steps {steps} --param document=repeated");
    let heap = format!("leaks prompt/format -a jemalloc --steps {}", 4 * steps);
    let mut scene = Scene::default();
    let clean = json(&run(stage, &format!("{arenas} --inject arenas=0 --json"), &[0, 3])?)?;
    let count = |value: &serde_json::Value| value.as_array().map_or(0, Vec::len) as u64;
    scene.number("arenas named", "none leaked", 0, count(&clean[0]["leaks"]));
    let found = json(&run(stage, &format!("{arenas} --inject arenas=1e-4 --json"), &[0, 3])?)?;
    let made = found[0]["created"].as_u64().unwrap_or(0);
    let leak = &found[0]["leaks"][0];
    scene.number("arenas named", "one in 10,000 leaked", made / 10_000, count(&leak["items"]));
    let is_named = leak["place"].as_str().is_some_and(|place| place.contains("inject/arenas.rs:"));
    scene.number("line that made them named", "one in 10,000 leaked", 1, u64::from(is_named));
    for (source, name) in [("heap-sites", "heap's sites"), ("live-bytes", "trace of live bytes")] {
        let witnesses = leak["witnesses"].as_array().into_iter().flatten();
        let agrees = witnesses.filter(|witness| witness["source"] == source && witness["agrees"] == true).count();
        scene.number(&format!("corroborated by the {name}"), "one in 10,000 leaked", 1, agrees as u64);
    }
    let steady = json(&run(stage, &format!("{heap} --json"), &[0, 3])?)?;
    scene.number("lines that grow", "plain heap, no leak", 0, count(&steady[0]["growing"]));
    let grows = run(stage, &format!("{heap} --inject leak=5%"), &[0, 3])?;
    let is_named = text(&grows).contains("inject/plant.rs:");
    scene.number("line that grows named", "plain heap, 5 % leaked", 1, u64::from(is_named));
    scene.text("plain heap, 5 % leaked", &text(&grows));
    Ok(scene)
}
