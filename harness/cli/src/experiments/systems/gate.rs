//! E25: the check in three dimensions.

use heapgate_core::experiment::{Body, Experiment, Scene, Stage};
use serde_json::Value;

use super::{json, run};

/// RSS, live objects and stalls against a baseline.
pub static E25: Experiment = Experiment {
    number: 25,
    title: "Three-dimensional regression check",
    about: "`heapgate gate` against a baseline of the same build, five repetitions: RSS +15 %, live objects +20 %, stall P95 of 8 ms. \
            Each is planted in its turn, and has to fail with its advice (leak paths; what newly allocates; decay tuning); of two \
            runs of the same, none may. One call in ten takes 12 ms longer where stalls are planted.",
    body: Body::Scenario { run: play },
};

/// What is planted, which metric is to fail, and what its advice has to speak of.
const PLANTED: [(&str, &str, &str); 3] = [
    ("rss=40%", "peak_rss_bytes", "leak"),
    ("leak=30%", "peak_live_objects", "what newly allocates"),
    ("stall=12ms@0.1", "stall_p95_ns", "decay tuning"),
];

fn play(stage: &Stage) -> Result<Scene, String> {
    // Of stalls each is waited for: two steps are enough.
    let cell = "prompt/format -a jemalloc -n 5 --steps 2";
    run(stage, &format!("baseline record {cell}"), &[0])?;
    let mut scene = Scene::default();
    let failed = |verdict: &Value| -> Vec<Value> {
        let lines = verdict["lines"].as_array().into_iter().flatten();
        lines.filter(|line| line["decision"]["kind"] == "fail").cloned().collect()
    };
    let same = json(&run(stage, &format!("gate {cell} --json"), &[0, 3, 4])?)?;
    scene.number("metrics that fail without a change", "the same twice", 0, failed(&same).len() as u64);
    for (planted, metric, about) in PLANTED {
        let verdict = json(&run(stage, &format!("gate {cell} --json --inject {planted}"), &[0, 3, 4])?)?;
        let lines = failed(&verdict);
        let line = lines.iter().find(|line| line["metric"] == metric);
        scene.number(&format!("{metric} fails"), planted, 1, u64::from(line.is_some()));
        let advice: Vec<&str> =
            line.and_then(|line| line["advice"].as_array()).into_iter().flatten().filter_map(Value::as_str).collect();
        let told = advice.iter().any(|advice| advice.contains(about));
        scene.number(&format!("{metric}: advice on '{about}'"), planted, 1, u64::from(told));
        scene.text(planted, &advice.join("\n"));
    }
    Ok(scene)
}
