//! Resident memory and live objects over time.

use super::cell::OfCell;
use super::chart::{Curve, over_time};
use super::thin;
use crate::metric::{MetricId, Unit};
use crate::render::human;
use crate::report::{CellTrials, Trial};

/// Points of a curve: about one for every three pixels of a wide screen.
pub(super) const MOST_POINTS: usize = 300;

/// The charts, as far as anything was sampled.
pub(super) fn curves(of: &OfCell<'_>) -> String {
    let Some(trials) = &of.trials else { return String::new() };
    let by_peak = by_peak(trials);
    let Some(&median) = by_peak.get(by_peak.len() / 2) else { return String::new() };
    let before = of.before.as_ref().and_then(|before| {
        let by_peak = self::by_peak(before);
        by_peak.get(by_peak.len() / 2).copied()
    });
    resident(&by_peak, median, before) + &live(median, before)
}

fn resident(by_peak: &[&Trial], median: &Trial, before: Option<&Trial>) -> String {
    let rss = |trial: &Trial| trial.rss_series.iter().map(|&(ms, bytes)| (ms, bytes as f64)).collect::<Vec<_>>();
    let mut curves = vec![curve(format!("RSS, {}", named(median, "median peak", by_peak)), "--a", false, &rss(median))];
    curves.push(curve("live bytes, the same".to_owned(), "--c", false, &live_series(median, |live| live.1)));
    if let [lowest, .., highest] = by_peak {
        if !std::ptr::eq(*lowest, median) {
            curves.push(curve(format!("RSS, {}", named(lowest, "lowest peak", by_peak)), "--p1", false, &rss(lowest)));
        }
        if !std::ptr::eq(*highest, median) {
            curves.push(curve(
                format!("RSS, {}", named(highest, "highest peak", by_peak)),
                "--p3",
                false,
                &rss(highest),
            ));
        }
    }
    if let Some(before) = before {
        curves.push(curve("RSS, baseline, median peak".to_owned(), "--dim", true, &rss(before)));
    }
    curves.retain(|curve| !curve.points.is_empty());
    over_time("Resident memory over time, by phase", Unit::Bytes, 230.0, &curves, &median.phases).unwrap_or_default()
}

fn live(median: &Trial, before: Option<&Trial>) -> String {
    let objects = |trial: &Trial| live_series(trial, |live| live.0);
    let mut curves =
        vec![curve(format!("repetition {}", human::repetition(median.rep)), "--a", false, &objects(median))];
    if let Some(before) = before {
        curves.push(curve("baseline".to_owned(), "--dim", true, &objects(before)));
    }
    curves.retain(|curve| !curve.points.is_empty());
    over_time("Live objects over time, by phase", Unit::Count, 170.0, &curves, &median.phases).unwrap_or_default()
}

/// The completed repetitions by their peak of resident memory, or all where none completed.
fn by_peak<'a>(trials: &CellTrials<'a>) -> Vec<&'a Trial> {
    let mut sorted: Vec<&Trial> = trials.completed().collect();
    if sorted.is_empty() {
        sorted.clone_from(&trials.trials);
    }
    let peak =
        |trial: &Trial| trial.metrics.get(&MetricId::PeakRss).copied().unwrap_or(trial.lifetime_peak_rss_bytes as f64);
    sorted.sort_by(|a, b| peak(a).total_cmp(&peak(b)));
    sorted
}

fn named(trial: &Trial, which: &str, all: &[&Trial]) -> String {
    let name = format!("repetition {}", human::repetition(trial.rep));
    if all.len() > 1 { format!("{name}, {which}") } else { name }
}

fn live_series(trial: &Trial, figure: fn(&(i64, i64)) -> i64) -> Vec<(f64, f64)> {
    trial.rss_series.iter().zip(&trial.live_series).map(|(rss, live)| (rss.0, figure(live) as f64)).collect()
}

fn curve(name: String, color: &'static str, dashed: bool, points: &[(f64, f64)]) -> Curve {
    Curve { name, color, dashed, points: thin::curve(points, MOST_POINTS) }
}
