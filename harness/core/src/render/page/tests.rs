//! What the page promises, whatever is on it.

use super::*;
use crate::config::Config;
use crate::gate::{Decision, Line, Look, MemoryLine, compare};
use crate::metric::MetricId;
use crate::render::tests::with_evidence;
use crate::report::{Outcome, testing};

fn page(report: &Report, verdict: Option<&Verdict>, against: &Against<'_>) -> String {
    render(Subject { report, verdict, against, profiles: &[] })
}

/// The page without its style and its two scripts: what is on it.
fn body(page: &str) -> &str {
    let from = page.find("<body>").unwrap();
    &page[from..page.find("<!-- uPlot").unwrap()]
}

/// A report as a long run leaves it: curves of a thousand samples, and histograms with a hundred buckets.
fn long(cells: usize, reps: u32) -> Report {
    let mut report = testing::report(cells, reps);
    for (index, trial) in report.trials.iter_mut().enumerate() {
        let index = index as u64;
        let bytes = |i: u64| (20 << 20) + (i * 7919 + index * 104_729) % 9973 * 4096;
        trial.rss_series = (0..400).map(|i| (i as f64 * 4.0, bytes(i))).collect();
        trial.live_series = (0..400).map(|i| ((i * 31 % 1000) as i64, bytes(i) as i64)).collect();
        let measure = trial.phases.iter_mut().find(|p| p.kind == crate::report::PhaseKind::Measure).unwrap();
        measure.stalls.clean.alloc = (100..heapgate_segment::histogram::BUCKETS as u32)
            .step_by(5)
            .map(|bucket| (bucket, 1 + u64::from(bucket) * index))
            .collect();
    }
    report.trials.iter_mut().for_each(testing::recompute);
    report
}

#[test]
fn a_report_of_thousands_of_trials_is_a_page_below_two_megabytes_with_every_cell() {
    for (cells, reps) in [(500, 10), (3000, 1), (1, 3000)] {
        let report = long(cells, reps);
        // Made, not judged: that takes its time, and is not what is tested.
        let verdict = compare(&testing::report(1, 4), &testing::report(1, 4), &Config::default(), Look::ONLY);
        let lines = (0..cells)
            .flat_map(|cell| verdict.lines.iter().map(move |l| Line { cell: testing::cell(cell), ..l.clone() }));
        let verdict = Verdict { lines: lines.collect(), answers: Vec::new(), ..verdict.clone() };
        for (verdict, against) in [(None, Against::default()), (Some(&verdict), Against::report(&report))] {
            let page = page(&report, verdict, &against);
            assert!(page.len() < MOST_BYTES, "{cells} × {reps}: {} bytes", page.len());
            // What is left out is said, and links lead somewhere.
            assert_eq!(page.contains("id=\"left-out\""), cells > 1, "{cells} × {reps}");
            for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(page.contains(&format!("id=\"{link}\"")), "#{link}");
            }
            assert!(cells > 1000 || (1..=cells).all(|n| page.contains(&format!("<a href=\"#c{n}\">"))));
        }
    }
}

#[test]
fn twenty_failing_cells_have_all_their_plots() {
    let before = testing::report(20, 10);
    let mut now = before.clone();
    testing::set_all(&mut now, MetricId::PeakRss, 9e8);
    let mut verdict = compare(&before, &now, &Config::default(), Look::ONLY);
    let memory = &with_evidence().1.memory[0];
    verdict.memory = (0..20).map(|i| MemoryLine { cell: testing::cell(i), ..memory.clone() }).collect();
    let page = page(&now, Some(&verdict), &Against::report(&before));
    assert_eq!(page.matches("<figure class=\"memory\">").count(), 40, "at the ends of measuring and draining");
    assert_eq!(page.matches("<figure class=\"chart\">").count(), 60, "memory, live objects and stalls of each");
    assert!(!page.contains("id=\"left-out\"") && page.len() < 1_300_000, "{} bytes", page.len());
}

#[test]
fn nothing_from_outside_becomes_markup_and_nothing_is_loaded() {
    let (mut report, mut verdict) = with_evidence();
    const BAD: &str = "</script><script>alert(1)</script><img src=x onerror=\"alert(2)\">";
    report.fingerprint.machine.cpu = BAD.into();
    report.fingerprint.build.commit = BAD.into();
    verdict.notes.push(BAD.into());
    verdict.compared_with[0].recorded_by = BAD.into();
    let hostile = |cell: &mut Cell| {
        cell.workload = BAD.into();
        cell.params.insert(BAD.into(), BAD.into());
    };
    for trial in &mut report.trials {
        hostile(&mut trial.cell);
        trial.unit = BAD.into();
        trial.notes.push(BAD.into());
        trial.figures.insert(BAD.into(), 1.0);
        trial.level = BAD.into();
        trial.interrupted_split = BAD.into();
    }
    report.trials[0].outcome = Outcome::Failed { code: 1, stderr: BAD.into() };
    verdict.lines.iter_mut().for_each(|line| {
        hostile(&mut line.cell);
        line.reason = BAD.into();
        line.advice.push(BAD.into());
    });
    for page in [page(&report, Some(&verdict), &Against::default()), page(&report, None, &Against::report(&report))] {
        let body = body(&page);
        let scripts = body.matches("<script").count();
        assert_eq!(scripts, body.matches("<script type=\"application/json\">").count(), "data only");
        assert_eq!(scripts, body.matches("</script").count());
        for bad in ["<img", "onerror=\"", "src=\"", "http:", "https:", "url("] {
            assert!(!body.contains(bad), "{bad}");
        }
        assert!(body.contains("&lt;script&gt;"));
        assert!(page.contains("default-src 'none'"));
    }
}

#[test]
fn a_report_that_was_compared_with_nothing_says_so_and_shows_its_figures() {
    let mut report = testing::report(2, 3);
    report.trials[0].outcome = Outcome::Killed { signal: 11, name: "SIGSEGV".into(), stderr: "boom".into() };
    report.complete = false;
    let page = page(&report, None, &Against::default());
    let body = body(&page);
    for text in
        ["REPORT", "compared with nothing", "1 of them did not complete", "cut off", "killed by SIGSEGV", "boom"]
    {
        assert!(body.contains(text), "{text}");
    }
    assert!(!body.contains(">limit<") && !body.contains(">baseline<"), "of what there is not, there is no column");
    assert!(body.contains("<code>peak_rss_bytes</code>"));
}

#[test]
fn the_baseline_is_in_the_histogram_and_in_the_memory() {
    let report = testing::report(1, 3);
    let verdict = compare(&report, &report, &Config::default(), Look::ONLY);
    let with = page(&report, Some(&verdict), &Against::report(&report));
    let without = page(&report, Some(&verdict), &Against::default());
    for text in ["baseline, undisturbed", "baseline, interrupted", "RSS, baseline"] {
        assert!(with.contains(text) && !without.contains(text), "{text}");
    }
}

#[test]
fn what_needs_attention_is_open_and_stands_first() {
    let before = testing::report(6, 10);
    let mut now = before.clone();
    testing::set_cell(&mut now, 4, MetricId::PeakLiveBytes, 9e9);
    now.trials
        .iter_mut()
        .filter(|t| t.cell == testing::cell(5))
        .for_each(|t| t.outcome = Outcome::TimedOut { after_s: 1 });
    let verdict = compare(&before, &now, &Config::default(), Look::ONLY);
    let against = Against::report(&before);
    let subject = Subject { report: &now, verdict: Some(&verdict), against: &against, profiles: &[] };
    let cells = cells(subject);
    assert_eq!(cells[0].worst(), Some(&Decision::Fail));
    assert_eq!((cells[0].cell, cells[1].cell), (&testing::cell(4), &testing::cell(5)));
    let page = render(subject);
    assert!(page.contains("id=\"c1\" open") && page.contains("id=\"c2\" open") && !page.contains("id=\"c3\" open"));
}

/// The rows of the table of class `class`: the text of each cell, and the exact value where one is kept.
fn rows(page: &str, class: &str) -> Vec<Vec<String>> {
    let begin = page.find(&format!("class=\"small {class}\"")).expect("the table");
    let table = &page[begin..begin + page[begin..].find("</table>").expect("its end")];
    let text = |cell: &str| {
        let inner = cell.split_once('>').map_or("", |(_, inner)| inner);
        let text: String = inner.split('<').map(|part| part.rsplit('>').next().unwrap_or("")).collect();
        text.trim().to_owned()
    };
    let body = table.split_once("<tbody>").expect("a body").1;
    let cells = |row: &str| row.split("<t").skip(1).filter(|c| c.starts_with(['h', 'd'])).map(text).collect();
    body.split("<tr").skip(1).map(cells).collect()
}

#[test]
fn costs_are_those_of_a_unit_of_the_measured_phases_of_completed_trials() {
    let mut report = testing::report(1, 3);
    for (trial, own) in report.trials.iter_mut().zip([5e6, 7e6, 9e6]) {
        let measure = trial.phases.iter_mut().find(|p| p.kind == crate::report::PhaseKind::Measure).unwrap();
        measure.units = 100;
        measure.counts = crate::report::Counts {
            alloc_calls: 300,
            alloc_bytes: 300 * 64,
            dealloc_calls: 200,
            dealloc_bytes: 200 * 32,
            ..crate::report::Counts::default()
        };
        trial.figures.insert("first_token_ns".into(), own);
    }
    // What did not complete counts for nothing.
    report.trials[2].outcome = Outcome::TimedOut { after_s: 1 };
    report.trials[2].phases.iter_mut().for_each(|phase| phase.counts.alloc_calls = 1 << 40);
    let page = page(&report, None, &Against::default());
    assert!(page.contains("<h3>Costs per token</h3>"));
    let costs = rows(&page, "costs");
    let called: Vec<Vec<&str>> = costs.iter().map(|row| row[..3].iter().map(String::as_str).collect()).collect();
    let called: Vec<&[&str]> = called.iter().map(Vec::as_slice).collect();
    assert_eq!(
        called,
        [&["alloc", "3", "192 B"][..], &["dealloc", "2", "64 B"], &["together", "5", "192 B asked for"]],
        "{costs:?}"
    );
    assert_eq!(costs[0][3], "64 B", "of a call");
    // The median of two is between them.
    assert_eq!(rows(&page, "own"), [["first_token_ns", "6.00 ms"]]);
}

#[test]
fn the_environment_says_what_differed_and_what_did_not() {
    let mut before = testing::report(2, 3);
    before.fingerprint.build.rustc = "rustc 1.94.0".into();
    before.fingerprint.machine.kernel = String::new();
    let now = testing::report(2, 3);
    let verdict = compare(&before, &now, &Config::default(), Look::ONLY);
    let compared = page(&now, Some(&verdict), &Against::report(&before));
    let fields = rows(&compared, "environment");
    let row = |name: &str| fields.iter().find(|row| row[0] == name).map(|row| row[1..].to_vec());
    assert_eq!(row("rustc").unwrap(), ["rustc 1.95.0", "rustc 1.94.0"]);
    assert_eq!(row("kernel").unwrap(), ["6.1", "unknown"]);
    assert_eq!(row("cpus").unwrap(), ["2", "the same"]);
    assert_eq!(compared.matches("<tr class=\"differs\">").count(), 2);
    assert!(fields.len() == 14 && fields.iter().all(|row| row.len() == 3), "{fields:?}");
    // Nothing that is not there is said to have been compared.
    let alone = page(&now, None, &Against::default());
    assert!(rows(&alone, "environment").iter().all(|row| row.len() == 2));
    assert!(alone.contains(&format!("Machine class {}", now.fingerprint.machine.class())));
}

#[test]
fn a_cell_links_to_its_profiles() {
    let report = testing::report(2, 1);
    let link = ProfileLink { cell: testing::cell(1), title: "CPU <b>".into(), href: "a/%22b.html".into() };
    let subject =
        Subject { report: &report, verdict: None, against: &Against::default(), profiles: std::slice::from_ref(&link) };
    let page = render(subject);
    assert_eq!(page.matches("<a href=\"a/%22b.html\">CPU &lt;b&gt;</a>").count(), 1);
}

#[test]
fn an_empty_report_is_a_page_too() {
    let report = testing::report(0, 0);
    assert!(page(&report, None, &Against::default()).contains("No trials."));
}
