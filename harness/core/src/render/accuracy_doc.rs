//! `docs/accuracy.md`: how far the gate can be trusted, from `docs/accuracy.json`. No figure in it is typed in.

use std::collections::BTreeMap;

use super::accuracy_simulated as simulated;
use super::accuracy_targets::{Answer, answers, at_most, condition, middle_found, same_planted, sum};
use super::human;
use super::markdown::escaped;
use super::table::{width, wrap};
use crate::accuracy::Accuracy;
use crate::calibration::{Calibration, Control, Counted, Sensitivity};
use crate::gate::{FALSE_ALARM, MISS, MOST_LOOKS, POWER, repetitions};
use crate::metric::{ALL, MetricId};
use crate::stats::binomial::rate_interval;
use crate::stats::sample::median;
use crate::stats::simulate::CONFIDENCE;

const HEAD: &str = "\
# How far the gate can be trusted

<!-- Generated from docs/accuracy.json: `HEAPGATE_BLESS=1 cargo test -p heapgate-core --test accuracy_doc`. -->

";

const MADE: &str = "\
```sh
# Real runs, which take hours: on an idle machine, and with two busy neighbours.
heapgate calibrate --runs 1000 --controls --accuracy docs/accuracy.json
heapgate calibrate --runs 1000 --controls --busy 2 --accuracy docs/accuracy.json
# The simulated series, which take minutes.
cargo run --release -p heapgate-core --example simulate -- docs/accuracy.json
# This page.
HEAPGATE_BLESS=1 cargo test -p heapgate-core --test accuracy_doc
```
";

/// Columns of text.
const WIDTH: usize = 80;
/// Metrics that are named of those that caught something.
const MOST_NAMED: usize = 3;

/// All calibrations of one machine class with as many busy neighbours.
#[derive(Default)]
pub(super) struct Place<'a> {
    pub class: String,
    pub busy_neighbours: u32,
    calibrations: Vec<&'a Calibration>,
}

impl<'a> Place<'a> {
    fn all(accuracy: &'a Accuracy) -> Vec<Self> {
        let mut places: BTreeMap<(u32, String), Vec<&Calibration>> = BTreeMap::new();
        for calibration in &accuracy.calibrations {
            places.entry((calibration.busy_neighbours, calibration.machine.class())).or_default().push(calibration);
        }
        places
            .into_iter()
            .map(|((busy_neighbours, class), calibrations)| Self { class, busy_neighbours, calibrations })
            .collect()
    }

    /// Its name among `all`: the machine's class only where there are several.
    pub(super) fn name(&self, all: &[Self]) -> String {
        let condition = condition(self.busy_neighbours);
        if all.iter().all(|other| other.class == self.class) {
            condition
        } else {
            format!("{condition}, {}", self.class)
        }
    }

    pub(super) fn null(&self) -> Counted {
        sum(self.calibrations.iter().map(|c| c.null))
    }

    /// What became of what was planted; `None` where it was not.
    pub(super) fn control(&self, planted: &str) -> Option<Control> {
        let of = |c: &&'a Calibration| c.controls.iter().filter(|(name, _)| same_planted(name, planted));
        let all: Vec<&Control> = self.calibrations.iter().flat_map(of).map(|(_, control)| control).collect();
        let mut total = Control::default();
        for control in &all {
            total.planted += control.planted;
            total.caught += control.caught;
            for (&metric, cells) in &control.by_metric {
                *total.by_metric.entry(metric).or_default() += cells;
            }
        }
        (!all.is_empty()).then_some(total)
    }

    pub(super) fn sensitivities(&self, metric: MetricId) -> Vec<&'a Sensitivity> {
        self.calibrations.iter().filter_map(|c| c.metrics.get(&metric)).flatten().collect()
    }
}

/// The page.
///
/// ```
/// use heapgate_core::{accuracy::Accuracy, render::accuracy_doc};
/// assert!(accuracy_doc::render(&Accuracy::default()).contains("No calibration"));
/// ```
#[must_use]
pub fn render(accuracy: &Accuracy) -> String {
    let places = Place::all(accuracy);
    let answers = answers(&places);
    let mut out = HEAD.to_owned();
    out += &paragraph(&worth(&places, &answers));
    if let Some(simulation) = &accuracy.simulated {
        out += "\n";
        out += &paragraph(&simulated::summary(simulation));
    }
    out += &reached(&answers);
    if !places.is_empty() {
        out += &false_alarms(&places);
        out += &controls(&places);
        out += &sensitivities(&places);
    }
    if let Some(simulation) = &accuracy.simulated {
        out += "\n";
        out += &simulated::section(simulation);
    }
    out += &method();
    out += &format!("\n## How this page is made\n\n{MADE}");
    out += &made_on(accuracy);
    out
}

/// In plain words what the gate is worth.
fn worth(places: &[Place<'_>], answers: &[Answer]) -> String {
    if places.is_empty() {
        return "No calibration on a real machine is in this page yet, so how often the gate alarms and what it finds there \
                is not known; `heapgate calibrate` counts it (see the end)."
            .to_owned();
    }
    let mut out = String::new();
    for place in places {
        let null = place.null();
        let name = place.name(places);
        let name = if place.busy_neighbours == 0 { capitalised(&name) } else { format!("With {name}") };
        out += &format!(
            "{name}, it was asked {} whether something is worse than itself and said so {}, which leaves a false alarm in at \
             most {} of runs possible.",
            times(null.runs),
            times(null.failed_runs),
            share(at_most(null.failed_runs, null.runs))
        );
        let (planted, caught) = place
            .calibrations
            .iter()
            .flat_map(|c| c.controls.values())
            .fold((0, 0), |(planted, caught), control| (planted + control.planted, caught + control.caught));
        if planted > 0 {
            out +=
                &format!(" Of {} it caught {}.", human::counted(planted, "planted regression"), human::count(caught));
        }
        let seen = [(MetricId::PeakRss, "peak RSS"), (MetricId::Throughput, "throughput")].into_iter().filter_map(
            |(metric, words)| Some(format!("{} in {words}", share(middle_found(&place.sensitivities(metric))?))),
        );
        let seen: Vec<String> = seen.collect();
        if !seen.is_empty() {
            out += &format!(" The smallest change it finds in a typical cell is {}.", seen.join(" and "));
        }
        out.push(' ');
    }
    let met = answers.iter().filter(|answer| answer.met == Some(true)).count();
    out + &format!("Of {} set for it, {met} were reached.", human::counted(answers.len() as u64, "target"))
}

fn times(count: u64) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        _ => format!("{} times", human::count(count)),
    }
}

fn reached(answers: &[Answer]) -> String {
    let header = ["to reach", "reached", "where"].map(str::to_owned);
    let rows: Vec<Vec<String>> =
        answers.iter().map(|a| vec![a.wanted.clone(), a.reached.clone(), a.place.clone()]).collect();
    let mut out = format!("\n## To reach, and reached\n\n{}", table(&header, &rows));
    let why: Vec<String> = answers
        .iter()
        .filter_map(|answer| answer.why.as_ref().map(|why| item(&format!("{}: {why}.", answer.place))))
        .collect();
    if !why.is_empty() {
        out += &format!("\nWhy it fell short:\n\n{}", why.concat());
    }
    out
}

fn false_alarms(places: &[Place<'_>]) -> String {
    let header = ["where", "compared with itself", "", "false alarms", "left open"].map(str::to_owned);
    let rows: Vec<Vec<String>> = places
        .iter()
        .flat_map(|place| {
            let null = place.null();
            let line = |of: &str, compared: u64, failed: u64, open: u64| {
                vec![
                    place.name(places),
                    of.to_owned(),
                    human::count(compared),
                    rate(failed, compared),
                    human::count(open),
                ]
            };
            [
                line("whole runs", null.runs, null.failed_runs, null.inconclusive_runs),
                line("metrics tested", null.tested_metrics, null.failed_metrics, null.inconclusive_metrics),
            ]
        })
        .collect();
    let exact: u64 = places.iter().map(|p| p.null()).map(|n| n.metrics.saturating_sub(n.tested_metrics)).sum();
    let text = format!(
        "Beside those that a test decided {} were compared, exact ones and those with a fixed limit. In brackets: where the true rate \
         is, with a confidence of {} (Clopper and Pearson), taking metrics of one run for independent, which they are not.",
        human::counted(exact, "more metric"),
        share(CONFIDENCE)
    );
    format!("\n## False alarms\n\n{}\n{}", table(&header, &rows), paragraph(&text))
}

fn controls(places: &[Place<'_>]) -> String {
    let header = ["planted", "where", "caught", "by, in so many cells"].map(str::to_owned);
    let mut rows = Vec::new();
    for place in places {
        let mut names: Vec<&String> = place.calibrations.iter().flat_map(|c| c.controls.keys()).collect();
        names.sort();
        names.dedup_by(|a, b| same_planted(a, b));
        for name in names {
            let control = place.control(name).unwrap_or_default();
            let mut by: Vec<(&MetricId, &u64)> = control.by_metric.iter().collect();
            by.sort_by_key(|&(metric, cells)| (std::cmp::Reverse(cells), metric));
            let rest = by.len().saturating_sub(MOST_NAMED);
            let mut by: Vec<String> = by
                .into_iter()
                .take(MOST_NAMED)
                .map(|(metric, cells)| format!("`{}` {}", metric.metric().name, human::count(*cells)))
                .collect();
            by.extend((rest > 0).then(|| format!("{rest} more")));
            rows.push(vec![
                format!("`{name}`"),
                place.name(places),
                rate(control.caught, control.planted),
                by.join(", "),
            ]);
        }
    }
    if rows.is_empty() {
        return "\n## Planted regressions\n\nNone were planted.\n".to_owned();
    }
    format!("\n## Planted regressions\n\n{}", table(&header, &rows))
}

fn sensitivities(places: &[Place<'_>]) -> String {
    let mut out = format!(
        "\n## The smallest change it finds\n\n{}",
        paragraph(&format!(
            "Beside how much the metric varies from run to run (standard deviation over mean) while nothing is changed. A \
             change of this size, on top of the metric's limit, is failed in {} of runs.",
            share(POWER)
        ))
    );
    let header = ["metric", "cells", "varies: median", "worst", "finds: median", "worst"].map(str::to_owned);
    for place in places {
        let mut rows = Vec::new();
        for &metric in ALL {
            let cells = place.sensitivities(metric);
            if cells.is_empty() {
                continue;
            }
            let known = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), share);
            let deviations: Vec<f64> = cells.iter().map(|cell| cell.deviation).collect();
            let worst = known(deviations.iter().copied().reduce(f64::max));
            // Unknown of one is unknown of the worst.
            let found: Option<Vec<f64>> = cells.iter().map(|cell| cell.detectable).collect();
            let worst_found = known(found.and_then(|found| found.into_iter().reduce(f64::max)));
            let (middle, found) = (known(median(&deviations)), known(middle_found(&cells)));
            let name = format!("`{}`", metric.metric().name);
            rows.push(vec![name, human::count(cells.len() as u64), middle, worst, found, worst_found]);
        }
        out += &format!("\n**{}**\n\n{}", capitalised(&place.name(places)), table(&header, &rows));
        if rows.iter().any(|row| row.last().is_some_and(|last| last == "?")) {
            out += "\n`?`: in some cells there were too few values, or no change up to elevenfold is found.\n";
        }
    }
    out
}

/// The repetitions of a run of `reps` at its later looks: `12 and 20`.
fn grown(reps: u32) -> String {
    let later: Vec<String> = (1..MOST_LOOKS).map(|look| repetitions(reps, look).to_string()).collect();
    later.join(" and ")
}

fn method() -> String {
    let items = [
        "Exact metrics (allocations, bytes, live objects) need no statistics: where repetitions agree, any difference \
             beyond the limit fails. All below is about what varies.".to_owned(),
        "Two questions are asked of the repetitions, each run in a fresh process: is the change beyond the limit, and is \
             it inside? Each by the exact one-sided Mann–Whitney test against the baseline moved by the limit, which assumes \
             no distribution. Beyond: it fails. Inside: it passes. Neither: more repetitions, and then it is \
             inconclusive, which is no pass.".to_owned(),
        format!(
            "The probability of one false alarm in a whole run is held at {}: Holm's correction for all metrics tested \
             together, and a division by the {MOST_LOOKS} looks at a run that grows each time, from 5 repetitions a side to {} \
             (Bonferroni). That of passing a metric whose change is just at its limit is {} a look.",
            share(FALSE_ALARM),
            grown(5),
            share(MISS)
        ),
        "Values that drift, resemble the one before or fall into two groups are fewer than they seem. A check looks for \
             that (Mann and Kendall, Bartels, Engelman and Hartigan). Where it fires, values measured in turns are compared \
             pair by pair (Wilcoxon), and others can't fail. It sees little in few values, as the tables show: it is no \
             substitute for `heapgate ab`.".to_owned(),
        "*The smallest change it finds* is not counted from planted changes: runs are drawn from the values that were \
             measured, one side is multiplied, and the rule is asked, look after look, as in a run that \
             grows. So it leaves out drift within a run, takes a regression for a factor on every value, \
             and the time of `--budget` for enough. A verdict shows it as `sees` on a machine class that was calibrated; on others that is \
             how far the interval of the one comparison reaches.".to_owned(),
        "False alarms and planted regressions are counted from real runs of the whole gate, of which each planted cell is one \
             trial. Both sides are measured in turns, as `heapgate ab` does; against a stored baseline what the machine does from day \
             to day comes on top. They hold for the cells and the machine they were counted on.".to_owned(),
    ];
    format!("\n## Method, and what it can't say\n\n{}", items.map(|text| item(&text)).concat())
}

fn made_on(accuracy: &Accuracy) -> String {
    let items = accuracy.calibrations.iter().map(|c| {
        let machine = &c.machine;
        item(&format!(
            "{}, {}: {}, {} CPUs, {} GiB, Linux {}, {} (class `{}`); commit `{}`, {} of {} a side, at most {} s for more.",
            human::date(c.created_unix_s),
            condition(c.busy_neighbours),
            escaped(&machine.cpu),
            machine.cpus,
            machine.memory_gib,
            machine.kernel,
            machine.libc,
            machine.class(),
            if c.commit.is_empty() { "unknown" } else { &c.commit },
            human::counted(c.reps.into(), "repetition"),
            human::counted(c.cells.len() as u64, "cell"),
            c.budget_s
        ))
    });
    let items: String = items.collect();
    let items = if items.is_empty() { item("No calibration was made.") } else { items };
    let simulation = accuracy.simulated.as_ref();
    let simulation = simulation.map(|s| item(&format!("Simulated series: {} rows, seed {}.", s.rows.len(), s.seed)));
    format!("\n{items}{}", simulation.unwrap_or_else(|| item("No series were simulated.")))
}

/// How many of how many, with the interval of the rate.
pub(super) fn rate(count: u64, of: u64) -> String {
    let counts = format!("{} of {}", human::count(count), human::count(of));
    match rate_interval(count, of, CONFIDENCE) {
        Some(interval) => format!("{counts} [{}, {}]", share(interval.low), share(interval.high)),
        None => counts,
    }
}

/// A share of 1 as a percentage with three significant digits, and no more than two after the point unless it is small.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = match percent.abs() {
        p if p >= 99.95 || p == 0.0 => 2,
        p if p >= 10.0 => 1,
        p if p >= 0.095 => 2,
        _ => 3,
    };
    let text = format!("{percent:.decimals$}");
    format!("{}%", if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
}

/// Text in lines.
pub(super) fn paragraph(text: &str) -> String {
    wrap(text, WIDTH).join("\n") + "\n"
}

/// An item of a list, in lines.
fn item(text: &str) -> String {
    format!("- {}\n", wrap(text, WIDTH - 2).join("\n  "))
}

/// A table whose columns line up in the source, too: the first to the left, numbers to the right.
pub(super) fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().chain([&header.to_vec()]).map(|row| width(&row[column])).max().unwrap_or(0).max(3))
        .collect();
    let number =
        |text: &str| text.is_empty() || text == "?" || text == "-" || text.trim_end_matches('%').parse::<f64>().is_ok();
    let right: Vec<bool> = (0..header.len())
        .map(|column| column > 0 && rows.iter().all(|row| number(&row[column].replace(',', ""))))
        .collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).zip(&right).map(|((text, &to), &right)| {
            let space = " ".repeat(to - width(text));
            if right { format!(" {space}{text} |") } else { format!(" {text}{space} |") }
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths
        .iter()
        .zip(&right)
        .map(|(&to, &right)| if right { format!("-{}:|", "-".repeat(to)) } else { format!("-{}-|", "-".repeat(to)) });
    let rule = format!("|{}\n", rule.collect::<String>());
    [line(header), rule].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + characters.as_str())
}
