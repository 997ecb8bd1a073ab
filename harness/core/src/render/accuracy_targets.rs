//! What the gate was to reach, and by how much a machine fell short of it.

use super::accuracy_doc::{Place, rate, share};
use super::human;
use crate::calibration::{Control, Counted, Sensitivity};
use crate::gate::POWER;
use crate::metric::MetricId;
use crate::stats::binomial::rate_interval;
use crate::stats::sample::median;
use crate::stats::simulate::CONFIDENCE;

/// Most false alarms, as a share, and over how many verdicts at least.
const FALSE_ALARMS: f64 = 0.001;
const FEWEST_VERDICTS: u64 = 1_000;

/// How many busy neighbours the machine was to have: none, and as many as would be noticed.
const NEIGHBOURS: [u32; 2] = [0, 2];

/// What was to be caught, as `--inject` takes it, in words, and how often.
const PLANTED: [(&str, &str); 3] = [
    ("extra-allocs=0.01", "+1 allocation per 100 units"),
    ("leak=0.01", "a leak of 1% of the bytes"),
    ("stall=50us@1e-4", "50 µs stalls in 1 of 10,000 calls"),
];
const CAUGHT: f64 = 0.99;

/// The changes that were to be seen.
const SEEN: [(MetricId, &str, f64); 4] = [
    (MetricId::PeakRss, "peak RSS", 0.01),
    (MetricId::MinorFaults, "page faults", 0.002),
    (MetricId::Throughput, "throughput", 0.03),
    (MetricId::StallP999, "P99.9 stall", 0.25),
];

/// One target in one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub wanted: String,
    /// With by how much it fell short, if it did.
    pub reached: String,
    pub place: String,
    /// Why it fell short, where the figures say.
    pub why: Option<String>,
    /// Absent where nothing was counted.
    pub met: Option<bool>,
}

/// All targets in `places`, and once more, as not tried, for the neighbours that no place had.
pub(super) fn answers(places: &[Place<'_>]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = places.iter().flat_map(|place| in_place(place, &place.name(places))).collect();
    let missing = NEIGHBOURS.into_iter().filter(|&busy| places.iter().all(|place| place.busy_neighbours != busy));
    let missing: Vec<String> = missing.map(condition).collect();
    if !missing.is_empty() {
        answers.extend(in_place(&Place::default(), &missing.join("; ")));
    }
    answers
}

fn in_place(place: &Place<'_>, name: &str) -> Vec<Answer> {
    let counted = place.null();
    let mut answers = vec![
        alarms("metrics", counted.tested_metrics, counted.failed_metrics, name),
        alarms("whole runs", counted.runs, counted.failed_runs, name),
    ];
    answers.extend(PLANTED.map(|(planted, words)| caught(words, place.control(planted).as_ref(), name)));
    answers.extend(SEEN.map(|(metric, words, size)| seen(words, size, &place.sensitivities(metric), name)));
    answers
}

/// How busy a machine was, in words.
pub(super) fn condition(busy_neighbours: u32) -> String {
    match busy_neighbours {
        0 => "idle".to_owned(),
        busy => human::counted(busy.into(), "busy neighbour"),
    }
}

/// Adds up verdicts.
pub(super) fn sum(counted: impl Iterator<Item = Counted>) -> Counted {
    counted.fold(Counted::default(), |a, b| Counted {
        runs: a.runs + b.runs,
        failed_runs: a.failed_runs + b.failed_runs,
        inconclusive_runs: a.inconclusive_runs + b.inconclusive_runs,
        metrics: a.metrics + b.metrics,
        tested_metrics: a.tested_metrics + b.tested_metrics,
        failed_metrics: a.failed_metrics + b.failed_metrics,
        inconclusive_metrics: a.inconclusive_metrics + b.inconclusive_metrics,
    })
}

/// Whether two texts for `--inject` plant the same: shares may be written `1%`, `0.01` or `1e-2`.
pub(super) fn same_planted(a: &str, b: &str) -> bool {
    fn parts(text: &str) -> (&str, &str, Option<f64>) {
        let (what, how) = text.split_once('=').unwrap_or((text, ""));
        let (time, number) = how.split_once('@').unwrap_or(("", how));
        let share = number.strip_suffix('%').map(|percent| percent.parse::<f64>().map(|p| p / 100.0));
        (what, time, share.unwrap_or_else(|| number.parse()).ok())
    }
    let ((what, time, share), (other, other_time, other_share)) = (parts(a), parts(b));
    let near = match (share, other_share) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs(),
        _ => a == b,
    };
    what == other && time == other_time && near
}

fn alarms(of: &str, compared: u64, failed: u64, place: &str) -> Answer {
    let wanted = format!("at most {} false alarms in {} {of}", share(FALSE_ALARMS), human::count(FEWEST_VERDICTS));
    if compared == 0 {
        return not_tried(wanted, place);
    }
    let missing = FEWEST_VERDICTS.saturating_sub(compared);
    let failed_share = failed as f64 / compared as f64;
    let mut short = Vec::new();
    if failed_share > FALSE_ALARMS {
        short.push(format!("{} too many", points(failed_share - FALSE_ALARMS)));
    }
    if missing > 0 {
        short.push(format!("{} {of} too few to say", human::count(missing)));
    }
    Answer {
        wanted,
        reached: told(short.is_empty(), &rate(failed, compared), &short.join(", ")),
        place: place.to_owned(),
        why: None,
        met: Some(short.is_empty()),
    }
}

fn caught(words: &str, control: Option<&Control>, place: &str) -> Answer {
    let wanted = format!("{} caught: {words}", share(CAUGHT));
    let Some(control) = control.filter(|control| control.planted > 0) else {
        return not_tried(wanted, place);
    };
    let caught = control.caught as f64 / control.planted as f64;
    let met = caught >= CAUGHT;
    let short = format!("{} short", points(CAUGHT - caught));
    Answer {
        wanted,
        reached: told(met, &rate(control.caught, control.planted), &short),
        place: place.to_owned(),
        why: None,
        met: Some(met),
    }
}

fn seen(words: &str, size: f64, cells: &[&Sensitivity], place: &str) -> Answer {
    let wanted = format!("a change of {} in {words} seen in {} of runs", share(size), share(POWER));
    if cells.is_empty() {
        return not_tried(wanted, place);
    }
    let middle = middle_found(cells).map_or_else(|| "not known".to_owned(), share);
    let small = cells.iter().filter(|cell| cell.detectable.is_some_and(|found| found <= size)).count();
    let met = small == cells.len();
    let worst = cells.iter().filter(|cell| cell.detectable.is_some_and(|found| found > size));
    let worst = worst.max_by(|a, b| a.detectable.unwrap_or(0.0).total_cmp(&b.detectable.unwrap_or(0.0)));
    let reached = if met {
        format!("yes: median cell {middle}")
    } else {
        let cells_in_all = human::counted(cells.len() as u64, "cell");
        let unknown = cells.iter().filter(|cell| cell.detectable.is_none()).count();
        let mut short = format!("**short**: in {small} of {cells_in_all}; median {middle}");
        if let Some(found) = worst.and_then(|worst| worst.detectable) {
            short += &format!(", worst {}: {} too much", share(found), points(found - size));
        }
        if unknown > 0 {
            short += &format!(", of {unknown} not known");
        }
        short
    };
    let why = worst.and_then(|worst| why(words, size, worst));
    Answer { wanted, reached, place: place.to_owned(), why, met: Some(met) }
}

/// The smallest change that is found in the cell in the middle; none where it is not known of so many.
pub(super) fn middle_found(cells: &[&Sensitivity]) -> Option<f64> {
    let found: Vec<f64> = cells.iter().map(|cell| cell.detectable.unwrap_or(f64::INFINITY)).collect();
    median(&found).filter(|middle| middle.is_finite())
}

/// The distance of two shares.
fn points(distance: f64) -> String {
    format!("{} points", share(distance).trim_end_matches('%'))
}

fn not_tried(wanted: String, place: &str) -> Answer {
    Answer { wanted, reached: "not tried".to_owned(), place: place.to_owned(), why: None, met: None }
}

/// What the metric's variation in the worst cell has to do with it.
fn why(words: &str, size: f64, worst: &Sensitivity) -> Option<String> {
    let found = worst.detectable?;
    let deviations = found / worst.deviation;
    (worst.deviation > 0.0).then(|| {
        format!(
            "{words} of `{}` has a standard deviation of {} from run to run, and a change shows from {deviations:.1} of these; \
             to see {} it would have to be {}",
            worst.cell,
            share(worst.deviation),
            share(size),
            share(size / deviations)
        )
    })
}

fn told(met: bool, reached: &str, short: &str) -> String {
    if met { format!("yes: {reached}") } else { format!("**short**: {short}: {reached}") }
}

/// The highest rate that so many of so many leave possible.
pub(super) fn at_most(count: u64, of: u64) -> f64 {
    rate_interval(count, of, CONFIDENCE).map_or(1.0, |interval| interval.high)
}
