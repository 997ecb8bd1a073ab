//! Every picture of every kind of verdict, as people will see it.

use super::*;
use crate::baseline::{Baseline, Found, Recording};
use crate::config::Config;
use crate::gate::{ChangeInterval, Decision, Line, Look, Lookup, MemoryLine, MemoryPartLine, Verdict, compare, judge};
use crate::metric::MetricId;
use crate::report::{MemoryPart, Outcome, PhaseKind, Report, Site, Sites, testing};

fn config(text: &str) -> Config {
    Config::parse(text, "heapgate.toml".as_ref()).unwrap()
}

fn baselines(report: &Report, workloads: &[&str]) -> Vec<Lookup> {
    workloads
        .iter()
        .map(|workload| {
            let recording = Recording { by: "ada".into(), unix_s: 1_759_000_000, ..Recording::default() };
            let baseline = Baseline::from_report(report, workload, recording).unwrap();
            Lookup { workload: (*workload).to_owned(), found: Ok(Found::Same(Box::new(baseline))) }
        })
        .collect()
}

fn passing() -> (Report, Verdict) {
    let report = testing::report(4, 10);
    let verdict =
        judge(&report, &[], &baselines(&report, &["tokenize", "decode", "embed"]), &Config::default(), Look::ONLY);
    (report, verdict)
}

fn failing() -> (Report, Verdict) {
    let mut before = testing::report(4, 10);
    testing::set_cell(&mut before, 0, MetricId::LeftObjects, 0.0);
    let mut now = testing::report(4, 10);
    now.fingerprint.build.rustc = "rustc 1.96.0".into();
    testing::set_cell(&mut now, 0, MetricId::AllocationsPerUnit, 20.001);
    testing::set_cell(&mut now, 0, MetricId::PeakLiveBytes, 3_400_100.0);
    testing::set_cell(&mut now, 0, MetricId::PeakRss, 52.0 * 1_048_576.0);
    testing::set_cell(&mut now, 1, MetricId::StallMax, 9_100_000.0);
    testing::set_cell(&mut now, 2, MetricId::ReallocationsPerUnit, 1.2);
    let measure = |trial: &mut crate::report::Trial| {
        trial.phases.iter_mut().find(|p| p.kind == PhaseKind::Measure).unwrap().checksum = "b5bb9d8014a0f9b1".into();
    };
    now.trials.iter_mut().filter(|t| t.cell == testing::cell(1)).for_each(measure);
    let verdict =
        judge(&now, &[], &baselines(&before, &["tokenize", "decode", "embed"]), &Config::default(), Look::ONLY);
    (now, verdict)
}

fn inconclusive() -> (Report, Verdict) {
    let before = testing::report(4, 10);
    let mut now = testing::report(6, 10);
    now.trials.retain(|t| t.cell != testing::cell(2));
    for trial in now.trials.iter_mut().filter(|t| t.cell == testing::cell(1)) {
        trial.level = "sampled".into();
    }
    now.trials[0].outcome =
        Outcome::Killed { signal: 11, name: "SIGSEGV".into(), stderr: "thread 'main' panicked\n| <b>*x*</b>".into() };
    let planned: Vec<_> = (0..6).map(testing::cell).collect();
    let mut lookups = baselines(&before, &["tokenize", "decode"]);
    lookups.push(Lookup { workload: "embed".into(), found: Ok(Found::None) });
    let verdict = judge(&now, &planned, &lookups, &Config::default(), Look::ONLY);
    (now, verdict)
}

fn other_machine() -> (Report, Verdict) {
    let before = testing::report(3, 10);
    let mut now = before.clone();
    now.fingerprint.machine.cpu = "AMD EPYC 7763 64-Core Processor".into();
    now.fingerprint.machine.kernel = "6.8".into();
    testing::set_all(&mut now, MetricId::PeakRss, 9e9);
    (now.clone(), compare(&before, &now, &config("on_mismatch = \"exact-only\""), Look::ONLY))
}

fn empty() -> (Report, Verdict) {
    let report = testing::report(0, 0);
    (report.clone(), judge(&report, &[], &[], &Config::default(), Look::ONLY))
}

/// [`failing`], as the statistics fill it in, with call sites and the account of memory.
pub(super) fn with_evidence() -> (Report, Verdict) {
    let (mut report, mut verdict) = failing();
    for line in verdict.lines.iter_mut().filter(|l| l.decision == Decision::Fail) {
        line.advice = vec!["`heapgate run --sites` shows which lines allocate".into()];
    }
    let of_first = |line: &&mut Line| line.cell == testing::cell(0) && line.metric == MetricId::PeakRss;
    if let Some(line) = verdict.lines.iter_mut().find(of_first) {
        line.interval = Some(ChangeInterval { low: 0.241, high: 0.279, confidence: 0.95 });
        (line.resolution, line.p_value) = (Some(0.012_345), Some(0.000_01));
        line.advice = vec!["most of the growth is live data: look for what is kept | <b>longer</b>".into()];
    }
    let bytes = [(20e6, 28e6), (2e6, 3e6), (3e6, 3.5e6), (9e6, 11e6), (8e6, 8e6)];
    let parts = MemoryPart::ALL.into_iter().zip(bytes);
    verdict.memory = vec![MemoryLine {
        cell: testing::cell(0),
        phase: PhaseKind::Measure,
        parts: parts
            .map(|(part, (baseline_bytes, now_bytes))| MemoryPartLine { part, baseline_bytes, now_bytes })
            .collect(),
    }];
    let site = |function: &str, line, samples, sampled_bytes| Site {
        call: "Vec::push".into(),
        function: function.into(),
        file: "workloads/src/tokenize/wordpiece.rs".into(),
        line,
        samples,
        sampled_bytes,
    };
    for trial in report.trials.iter_mut().filter(|t| t.cell == testing::cell(0)) {
        trial.sites = Some(Sites {
            period: 64,
            samples: 300,
            sampled_bytes: 30_000,
            distinct_sites: 2,
            sites: vec![site("encode", 120, 200, 10_000), site("load<&str>", 31, 100, 20_000)],
            ..Sites::default()
        });
    }
    (report, verdict)
}

fn terminal(of: (Report, Verdict)) -> String {
    checked(terminal::render(&of.0, &of.1, Options::default()), 80)
}

/// `text`, if it fits the width and has no spaces at the ends of its lines.
fn checked(text: String, width: usize) -> String {
    for line in text.lines() {
        assert!(table::width(line) <= width, "{} columns: {line}", table::width(line));
        assert_eq!(line, line.trim_end());
    }
    text
}

#[test]
fn terminal_passing() {
    insta::assert_snapshot!(terminal(passing()));
}

#[test]
fn terminal_failing() {
    insta::assert_snapshot!(terminal(failing()));
}

#[test]
fn terminal_inconclusive() {
    insta::assert_snapshot!(terminal(inconclusive()));
}

#[test]
fn terminal_other_machine() {
    insta::assert_snapshot!(terminal(other_machine()));
}

#[test]
fn terminal_empty() {
    insta::assert_snapshot!(terminal(empty()));
}

#[test]
fn terminal_narrow() {
    let (report, verdict) = failing();
    insta::assert_snapshot!(checked(
        terminal::render(&report, &verdict, Options { width: 60, ..Options::default() }),
        60
    ));
}

#[test]
fn terminal_verbose() {
    let (report, verdict) = failing();
    insta::assert_snapshot!(checked(
        terminal::render(&report, &verdict, Options { verbose: true, ..Options::default() }),
        80
    ));
}

#[test]
fn terminal_coloured() {
    let (report, verdict) = failing();
    let text = terminal::render(&report, &verdict, Options { style: Style { color: true }, ..Options::default() });
    insta::assert_snapshot!(text.replace('\x1b', "␛"));
}

#[test]
fn colours_change_nothing_but_colours() {
    for (report, verdict) in [passing(), failing(), inconclusive(), other_machine(), empty()] {
        for verbose in [false, true] {
            let render = |color| {
                terminal::render(&report, &verdict, Options { style: Style { color }, verbose, ..Options::default() })
            };
            assert_eq!(without_colours(&render(true)), render(false));
        }
    }
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut out, part| {
        out.push_str(part.split_once('m').map_or("", |p| p.1));
        out
    })
}

#[test]
fn markdown_passing() {
    let (report, verdict) = passing();
    insta::assert_snapshot!(markdown::render(&report, &verdict));
}

#[test]
fn markdown_failing() {
    let (report, verdict) = failing();
    insta::assert_snapshot!(markdown::render(&report, &verdict));
}

#[test]
fn markdown_with_evidence() {
    let (report, verdict) = with_evidence();
    insta::assert_snapshot!(markdown::render(&report, &verdict));
}

#[test]
fn markdown_inconclusive() {
    let (report, verdict) = inconclusive();
    insta::assert_snapshot!(markdown::render(&report, &verdict));
}

#[test]
fn markdown_empty() {
    let (report, verdict) = empty();
    insta::assert_snapshot!(markdown::render(&report, &verdict));
}

#[test]
fn json_failing() {
    let mut verdict = failing().1;
    verdict.lines.truncate(3);
    insta::assert_snapshot!(json::render(&verdict).unwrap());
}

#[test]
fn json_empty() {
    insta::assert_snapshot!(json::render(&empty().1).unwrap());
}

#[test]
fn run_table() {
    insta::assert_snapshot!(checked(run::render(&testing::report(4, 10), Options::default()), 80));
}

#[test]
fn run_table_coloured() {
    let text = run::render(&testing::report(1, 2), Options { style: Style { color: true }, ..Options::default() });
    insta::assert_snapshot!(text.replace('\x1b', "␛"));
}

#[test]
fn run_table_with_failures() {
    let mut report = inconclusive().0;
    report.complete = false;
    for trial in report.trials.iter_mut().filter(|t| t.cell == testing::cell(4)) {
        trial.outcome = Outcome::OutOfMemory { limit: "rlimit".into(), stderr: String::new() };
    }
    insta::assert_snapshot!(checked(run::render(&report, Options::default()), 80));
}

#[test]
fn run_table_with_figures_of_the_workload() {
    let mut report = testing::report(1, 2);
    for (trial, p95) in report.trials.iter_mut().zip([1.2e6, 1.4e6]) {
        trial.figures =
            [("latency_p95_ns", p95), ("cache_hit_share", 0.25), ("batch_mean", 17.5), ("requests_per_s", 312.0)]
                .map(|(name, value)| (name.to_owned(), value))
                .into();
    }
    insta::assert_snapshot!(checked(run::render(&report, Options::default()), 80));
}

#[test]
fn run_table_empty() {
    insta::assert_snapshot!(run::render(&testing::report(0, 0), Options::default()));
}

#[test]
fn list_of_metrics() {
    insta::assert_snapshot!(checked(list::render(&Config::default(), Options::default()), 80));
}

#[test]
fn list_shows_the_configured_limits() {
    let config = config("[limits]\npeak_rss_bytes = { soft = \"3%\", hard = \"500 MiB\" }");
    let text = list::render(&config, Options::default());
    assert!(text.lines().any(|l| l.starts_with("peak_rss_bytes") && l.ends_with("3%, 500 MiB")), "{text}");
}

/// One cell is enough to show a format that repeats itself.
fn exported(format: export::Format) -> String {
    let (mut report, mut verdict) = with_evidence();
    let cells = [testing::cell(0), testing::cell(1)];
    report.trials.retain(|t| cells.contains(&t.cell));
    verdict.lines.retain(|l| cells.contains(&l.cell));
    let text = format.render(&report, &verdict, &page::Against::default()).unwrap();
    if format == export::Format::Html { page_without_assets(&text) } else { text }
}

/// A page without style and scripts, which are files of their own.
fn page_without_assets(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (body, scripts) = rest.split_once("</style>").unwrap().1.split_once("<!-- uPlot").unwrap();
    let (_, end) = scripts.rsplit_once("</script>\n").unwrap();
    // The hashes change with the scripts.
    let head = head.split_once("; script-src").unwrap().0.to_owned() + "\">";
    head + "</head>" + body.split_once("</head>").unwrap().1 + end
}

/// One snapshot each, named after the format.
macro_rules! exports {
    ($($name:ident: $format:ident)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(exported(export::Format::$format));
        }
    )*};
}

exports! {
    export_junit: Junit
    export_sarif: Sarif
    export_bencher: Bencher
    export_github_benchmark: GithubBenchmark
    export_benchfmt: Benchfmt
    export_otava: Otava
    export_perfherder: Perfherder
    export_html: Html
}

#[test]
fn junit_inconclusive() {
    let (report, verdict) = inconclusive();
    insta::assert_snapshot!(junit::render(&report, &verdict));
}

#[test]
fn every_format_takes_every_verdict() {
    for (report, verdict) in [passing(), failing(), with_evidence(), inconclusive(), other_machine(), empty()] {
        for format in export::Format::ALL {
            let text = format.render(&report, &verdict, &page::Against::default()).unwrap();
            assert!(text.ends_with('\n') || *format == export::Format::Json, "{format}");
            if format.extension() == "json" || *format == export::Format::Sarif {
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
    }
}
