//! A report on disk, a baseline recorded from it, another report judged against that baseline: the way of `heapgate
//! gate`.

use std::path::Path;

use heapgate_core::baseline::{self, Baseline, Recording};
use heapgate_core::config::Config;
use heapgate_core::exit;
use heapgate_core::gate::{Look, Lookup, judge};
use heapgate_core::metric::MetricId;
use heapgate_core::report::{Report, testing};

const WORKLOADS: [&str; 3] = ["tokenize", "decode", "embed"];

fn record(report: &Report, folder: &Path) {
    for workload in WORKLOADS {
        Baseline::from_report(report, workload, Recording::default()).unwrap().save(folder).unwrap();
    }
}

/// The exit code of a gate over the report in the file `path` and the baselines under `folder`.
fn gate(path: &Path, folder: &Path) -> u8 {
    let report = Report::load(path).unwrap();
    let class = report.fingerprint.machine.class();
    let lookups = WORKLOADS
        .map(|workload| Lookup { workload: workload.to_owned(), found: baseline::find(folder, &class, workload) });
    let planned: Vec<_> = report.cells().iter().map(|c| c.cell.clone()).collect();
    exit::exit_code(&judge(&report, &planned, &lookups, &Config::default(), Look::ONLY), &report)
}

#[test]
fn figures_survive_the_way_through_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let (path, baselines) = (folder.path().join("report.json"), folder.path().join("baselines"));
    let mut report = testing::report(6, 10);
    // Figures without a short decimal form, which text may cost their last binary digit.
    for trial in &mut report.trials {
        for phase in &mut trial.phases {
            phase.units *= 7;
        }
        testing::recompute(trial);
    }
    report.save(&path).unwrap();
    record(&report, &baselines);
    assert_eq!(gate(&path, &baselines), exit::PASS);
    record(&Report::load(&path).unwrap(), &baselines);
    assert_eq!(gate(&path, &baselines), exit::PASS);
}

#[test]
fn a_regression_a_missing_and_a_damaged_baseline_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, baselines) = (folder.path().join("report.json"), folder.path().join("baselines"));
    let mut report = testing::report(3, 10);
    record(&report, &baselines);
    testing::set_cell(&mut report, 1, MetricId::LeftObjects, 4.0);
    report.save(&path).unwrap();
    assert_eq!(gate(&path, &baselines), exit::REGRESSION);

    testing::set_cell(&mut report, 1, MetricId::LeftObjects, 3.0);
    report.save(&path).unwrap();
    assert_eq!(gate(&path, &baselines), exit::PASS);

    let file = baselines.join(report.fingerprint.machine.class()).join("embed.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("20.0", "21.0", 1)).unwrap();
    assert_eq!(gate(&path, &baselines), exit::INCONCLUSIVE, "edited");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(gate(&path, &baselines), exit::INCONCLUSIVE, "missing");
}
