//! What a report says of leaks: whether live bytes grew while measuring, and whether they were left. Which lines made them it
//! does not know.

use std::path::Path;

use heapgate_core::leaks::growth::LEFT_SHARE;
use heapgate_core::leaks::{self, Findings, LiveTrend};
use heapgate_core::report::{PhaseKind, Report, Trial};

use super::{Of, Subject};
use crate::fail::Failure;

/// What it says of each of its trials, and whether it could say it of all.
///
/// # Errors
/// If it is no report, or has nothing that tells growth.
pub fn look(path: &Path) -> Result<(Vec<Subject>, bool), Failure> {
    let report = Report::load(path)?;
    let told: Vec<(&Trial, LiveTrend)> =
        report.trials.iter().filter_map(|trial| Some((trial, trend(trial)?))).collect();
    let Some((first, _)) = told.first() else {
        let name = report.trials.first().map(|trial| format!("{}/{}", trial.cell.workload, trial.cell.variant));
        return Err(Failure::usage(format!(
            "{}: no trial has live bytes over as many moments as it takes to tell growth ({} ms of the measured phase at the \
             least, at a level above `off`); run `heapgate leaks {}`, which looks at each line",
            path.display(),
            10 * heapgate_core::stats::trend::FEWEST_WINDOWS,
            name.as_deref().unwrap_or("WORKLOAD")
        )));
    };
    let advice = format!(
        "which line it is a report doesn't know: `heapgate leaks {}/{} -a {}` does",
        first.cell.workload, first.cell.variant, first.cell.allocator
    );
    let mut complete = true;
    let subjects = told.iter().map(|&(trial, trend)| {
        let (mut unexplained, mut notes) = (false, Vec::new());
        match left(trial).filter(|_| trend.grows) {
            None if trend.grows => {
                complete = false;
                notes.push("the trial did not come to its end, so what it would have released is not known".to_owned());
            }
            None => {}
            Some(left) => {
                let grown = trend.last_bytes - trend.first_bytes;
                // As much left as it grew by: it is the growth that is left. What is more was there before.
                unexplained = left >= LEFT_SHARE * grown && grown >= LEFT_SHARE * left;
                let ends = if unexplained {
                    "as much was left in the end"
                } else if left < LEFT_SHARE * grown {
                    "it was released in the end"
                } else {
                    complete = false;
                    "more was left in the end, and whether the growth is in it can't be told"
                };
                notes.push(format!("{ends}; {advice}"));
            }
        }
        let cell = &trial.cell;
        let (workload, variant, allocator) = (cell.workload.clone(), cell.variant.clone(), cell.allocator.clone());
        let findings = Findings { live_bytes: Some(trend), unexplained, ..leaks::find(&[], UNSEEN) };
        Subject { of: Of::Trial { workload, variant, allocator, rep: trial.rep }, findings, notes }
    });
    let subjects = subjects.collect();
    Ok((subjects, complete))
}

/// Of arenas a report says nothing.
const UNSEEN: leaks::Settings = leaks::Settings { running: false, drained: true, older_than: None };

/// How live bytes went in the measured phase.
fn trend(trial: &Trial) -> Option<LiveTrend> {
    let phase = trial.phases.iter().find(|phase| phase.kind == PhaseKind::Measure && phase.ended)?;
    let (begin, end) = (phase.start_s * 1e3, (phase.start_s + phase.wall_s) * 1e3);
    let moments = trial.rss_series.iter().zip(&trial.live_series);
    let measured = moments.filter(|((at_ms, _), _)| (begin..end).contains(at_ms));
    let live: Vec<f64> = measured.map(|(_, &(_, bytes))| bytes as f64).collect();
    leaks::live_trend(&leaks::windows(&live))
}

/// Live bytes after everything was dropped.
fn left(trial: &Trial) -> Option<f64> {
    let drain = trial.phases.iter().find(|phase| phase.kind == PhaseKind::Drain && phase.ended)?;
    Some(drain.live.bytes as f64)
}
