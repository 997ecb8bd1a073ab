//! E24: old and new version side by side, with a verdict.

use heapgate_core::experiment::{Body, Experiment, Scene, Stage};
use heapgate_core::live::rollout_rule::{MARGIN, WINDOWS, interval};
use heapgate_core::metric::MetricId;
use heapgate_core::report::Report;

use super::run;

/// The roll-out comparison.
pub static E24: Experiment = Experiment {
    number: 24,
    title: "Roll-out comparison with a verdict",
    about: "An old version and a new one of one workload, run as often as the dashboard has windows in half an hour, and judged by \
            the rule of the dashboards' recording rules (docs/dashboards.md; those are tested on made series by promtool): the \
            interval of the change of time in the allocator, live objects and resident memory has to be at or beyond 15 % less for \
            `improved`, 15 % more for `worse`. A leak of 3 % of all bytes is in the old version, in the new one, or in none.",
    body: Body::Scenario { run: play },
};

const SIGNALS: [(&str, MetricId); 3] = [
    ("time in the allocator", MetricId::StallShare),
    ("live objects", MetricId::PeakLiveObjects),
    ("resident memory", MetricId::PeakRss),
];

fn play(stage: &Stage) -> Result<Scene, String> {
    let steps = if stage.short { 20 } else { 40 };
    let version = |name: &str, inject: &str| {
        let arguments = format!("run prompt/format -a jemalloc -n {WINDOWS} --steps {steps} -o {name}.json {inject}");
        run(stage, &arguments, &[0])?;
        Report::load(&stage.folder.join(format!("{name}.json"))).map_err(|error| error.to_string())
    };
    let (old, same) = (version("old", "")?, version("same", "")?);
    let leaks = version("leaks", "--inject leak=3%")?;
    let mut scene = Scene::default();
    for (what, base, new, expected) in [
        ("the leak comes with the new version", &old, &leaks, [true, false]),
        ("the leak goes with the new version", &leaks, &old, [false, true]),
        ("the same version twice", &old, &same, [false, false]),
    ] {
        let changes: Vec<(&str, Option<[f64; 2]>)> =
            SIGNALS.iter().map(|&(name, metric)| (name, change(base, new, metric))).collect();
        let beyond = |is: &dyn Fn([f64; 2]) -> bool| changes.iter().any(|(_, change)| change.is_some_and(is));
        let worse = beyond(&|[low, _]| low >= 1.0 + MARGIN);
        // Nothing may be worse for the whole to be better.
        let not_worse = changes.iter().all(|(_, change)| change.is_some_and(|[_, high]| high < 1.0 + MARGIN));
        let improved = not_worse && beyond(&|[_, high]| high <= 1.0 - MARGIN);
        for (answer, expected, measured) in [("worse", expected[0], worse), ("improved", expected[1], improved)] {
            scene.number(&format!("{what}: {answer} by 15 %"), "1 is yes", u64::from(expected), u64::from(measured));
        }
        let told = changes.iter().map(|(name, change)| match change {
            Some([low, high]) => format!("{name} ×{low:.2} to ×{high:.2}\n"),
            None => format!("{name}: not known\n"),
        });
        scene.text(what, &told.collect::<String>());
    }
    Ok(scene)
}

/// The ends of the interval of a metric's change, window by window.
fn change(base: &Report, new: &Report, metric: MetricId) -> Option<[f64; 2]> {
    let values = |report: &Report| -> Vec<f64> {
        report.trials.iter().filter_map(|trial| (metric.metric().read)(trial)).collect()
    };
    let (base, new) = (values(base), values(new));
    interval(&base.iter().zip(&new).map(|(base, new)| new / base).collect::<Vec<_>>())
}
