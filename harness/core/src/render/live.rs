//! A running comparison, for the terminal and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::style::Style;
use super::table::{Side, hanging, lines};
use super::{Options, human};
use crate::live::{Answer, Comparison, Figures, Finding, Rollout, Standing};
use crate::metric::Unit;

/// What is printed beside the comparison.
#[derive(Debug, Clone, Copy)]
pub struct LiveView<'a> {
    /// The service.
    pub service: &'a str,
    /// The comparison so far.
    pub comparison: &'a Comparison,
    /// The last window of each side.
    pub last: &'a BTreeMap<String, Figures>,
    /// Length of a window, s.
    pub window_s: f64,
    /// Whether sides are versions, which get a verdict each.
    pub versions: bool,
}

/// Sides next to each other in the last window, what is known of each, and the winner.
#[must_use]
pub fn table(view: LiveView<'_>, options: Options) -> String {
    let style = options.style;
    let comparison = view.comparison;
    let names: Vec<&str> = std::iter::once(comparison.control()).chain(comparison.sides()).collect();
    let title = format!(
        "{}: {} windows of {} s, control {}",
        view.service,
        human::count(comparison.windows()),
        view.window_s,
        comparison.control()
    );
    let mut out = format!("{}\n\n", style.bold(&title));
    let mut rows = vec![std::iter::once("last window").chain(names.iter().copied()).map(str::to_owned).collect()];
    type Cell = fn(&Figures) -> String;
    let cells: [(&str, Cell); 11] = [
        ("calls", |f| human::count(f.calls)),
        ("stall time per call", |f| nanos(f.stall_ns_per_call)),
        ("stall P99", |f| nanos(f.stall_p99_ns)),
        ("stall share of CPU", |f| f.stall_share.map_or_else(absent, human::percent)),
        ("resident, a worker", |f| bytes(f.resident_bytes)),
        ("live bytes", |f| bytes(f.live_bytes)),
        ("live objects", |f| f.live_objects.map_or_else(absent, |n| format!("{n:.0}"))),
        ("requests", |f| f.requests.map_or_else(absent, human::count)),
        ("request time", |f| nanos(f.request_ns)),
        ("request P99", |f| nanos(f.request_p99_ns)),
        ("processes", |f| f.processes.to_string()),
    ];
    for (name, cell) in cells {
        let values: Vec<String> = names.iter().map(|side| view.last.get(*side).map_or_else(absent, cell)).collect();
        // Few programs say anything of requests.
        if !name.starts_with("request") || values.iter().any(|value| *value != absent()) {
            rows.push(std::iter::once(name.to_owned()).chain(values).collect());
        }
    }
    push_table(&mut out, &rows);

    out.push('\n');
    let head = ["against the control", "metric", "change", "possible", "pairs", "found"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let standings = comparison.standings();
    for standing in &standings {
        let found = match standing.finding {
            Finding::Open => "no evidence yet",
            Finding::Better => "better",
            Finding::Worse => "worse",
            Finding::Same => "the same",
        };
        let pairs = match standing.block {
            0 | 1 => standing.pairs.to_string(),
            block => format!("{} (in {block}s)", standing.pairs),
        };
        rows.push(vec![
            standing.side.clone(),
            standing.metric.name().to_owned(),
            standing.change.map_or_else(absent, human::change),
            possible(standing).unwrap_or_else(absent),
            pairs,
            found.to_owned(),
        ]);
    }
    push_table(&mut out, &rows);
    out.push('\n');
    for side in comparison.sides() {
        out.push_str(&hanging("", &sentence(side, &standings), options.width));
        if view.versions {
            let Rollout { improved, worse } = comparison.rollout(side);
            let text = format!(
                "Stability of {side}: improved by 15% or more: {}; worse by 15% or more: {}.",
                answer(style, improved, true),
                answer(style, worse, false)
            );
            out.push_str(&text);
            out.push('\n');
        }
    }
    out.push_str(&match comparison.winner() {
        Some(winner) => style.good(&format!("Winner: {winner}.")),
        None if comparison.is_decided() => {
            "Decided, and no side wins: see above what is better and what is worse.".to_owned()
        }
        None => style.unsure("No winner yet."),
    });
    out.push('\n');
    out
}

fn push_table(out: &mut String, rows: &[Vec<String>]) {
    let mut sides = vec![Side::Right; rows[0].len()];
    sides[0] = Side::Left;
    if rows[0].get(1).is_some_and(|cell| cell == "metric") {
        (sides[1], sides[5]) = (Side::Left, Side::Left);
    }
    for line in lines(&sides, rows) {
        out.push_str(&line);
        out.push('\n');
    }
}

fn absent() -> String {
    "-".to_owned()
}

fn nanos(ns: Option<f64>) -> String {
    ns.map_or_else(absent, |ns| human::value(Unit::Nanos, ns))
}

fn bytes(bytes: Option<f64>) -> String {
    bytes.map_or_else(absent, |bytes| human::value(Unit::Bytes, bytes))
}

fn possible(standing: &Standing) -> Option<String> {
    Some(format!("{} to {}", human::change(standing.change_low?), human::change(standing.change_high?)))
}

fn answer(style: Style, answer: Answer, yes_is_good: bool) -> String {
    match answer {
        Answer::Yes if yes_is_good => style.good("yes"),
        Answer::Yes => style.bad("yes"),
        Answer::No => "no".to_owned(),
        Answer::Undecided => style.unsure("undecided"),
    }
}

/// `strict is better in resident by 12.0 to 18.0%, worse in stall time per call by …`
fn sentence(side: &str, standings: &[Standing]) -> String {
    let own = || standings.iter().filter(|standing| standing.side == side);
    let parts = own().filter_map(|standing| {
        let word = match standing.finding {
            Finding::Better => "better",
            Finding::Worse => "worse",
            Finding::Open | Finding::Same => return None,
        };
        let found = format!("{word} in {}", standing.metric.name());
        // It was found in shorter blocks, and longer ones leave by how much open for now.
        let (Some(low), Some(high)) = (standing.change_low, standing.change_high) else { return Some(found) };
        let (low, high) = (low.abs().min(high.abs()) * 100.0, low.abs().max(high.abs()) * 100.0);
        Some(format!("{found} by {low:.1} to {high:.1}%"))
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        let same = own().all(|standing| standing.finding == Finding::Same);
        return if same {
            format!("{side} is the same in all.")
        } else {
            format!("{side}: no evidence of a difference.")
        };
    }
    format!("{side} is {}.", parts.join(", "))
}

#[derive(Serialize)]
struct Json<'a> {
    service: &'a str,
    control: &'a str,
    windows: u64,
    window_s: f64,
    decided: bool,
    winner: Option<&'a str>,
    comparisons: Vec<Standing>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rollout: BTreeMap<&'a str, Rollout>,
    last_window: &'a BTreeMap<String, Figures>,
}

/// The comparison as JSON.
///
/// # Errors
/// None is known: all parts have a JSON form.
pub fn json(view: LiveView<'_>) -> Result<String, serde_json::Error> {
    let comparison = view.comparison;
    let sides = comparison.sides().into_iter().filter(|_| view.versions);
    serde_json::to_string_pretty(&Json {
        service: view.service,
        control: comparison.control(),
        windows: comparison.windows(),
        window_s: view.window_s,
        decided: comparison.is_decided(),
        winner: comparison.winner(),
        comparisons: comparison.standings(),
        rollout: sides.map(|side| (side, comparison.rollout(side))).collect(),
        last_window: view.last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::LiveMetric;

    fn compared(windows: u64, requests: Option<u64>) -> (Comparison, BTreeMap<String, Figures>) {
        let names = ["control", "strict"].map(str::to_owned);
        let mut metrics = LiveMetric::OF_GROUPS.to_vec();
        metrics.extend(requests.map(|_| LiveMetric::RequestTime));
        let mut comparison = Comparison::new("control", &names, &metrics);
        let mut last = BTreeMap::new();
        for window in 0..windows {
            // 80% of the calls, twice the memory; noise of no rhythm.
            let noise = |of: u64| 1.0 + ((window * 7 + of) * 2_654_435_761 % 1_000) as f64 / 20_000.0;
            let figures = |of: u64, stall: f64, resident: f64| Figures {
                calls: 5_000 - of * 3_000,
                processes: 1,
                stall_ns_per_call: Some(stall * noise(of)),
                stall_p99_ns: Some(800.0 * noise(of + 2)),
                resident_bytes: Some(resident * noise(of + 4)),
                live_objects: Some(1_000.0),
                live_bytes: Some(2e6),
                requests,
                request_ns: requests.map(|_| 1.5e6 * noise(of + 6)),
                ..Figures::default()
            };
            last = BTreeMap::from([
                (names[0].clone(), figures(0, 80.0, 64e6)),
                (names[1].clone(), figures(1, 100.0, 48e6)),
            ]);
            comparison.push(&last);
        }
        (comparison, last)
    }

    fn view<'a>(of: &'a (Comparison, BTreeMap<String, Figures>), versions: bool) -> LiveView<'a> {
        LiveView { service: "tokenizer", comparison: &of.0, last: &of.1, window_s: 1.0, versions }
    }

    #[test]
    fn sides_are_next_to_each_other_and_the_evidence_below() {
        let options = Options { style: Style { color: false }, width: 80, verbose: false };
        let (early, late) = (compared(3, None), compared(400, Some(200)));
        insta::assert_snapshot!(table(view(&early, false), options));
        insta::assert_snapshot!(table(view(&late, true), options));
        let json: serde_json::Value = serde_json::from_str(&json(view(&late, true)).unwrap()).unwrap();
        assert_eq!((&json["decided"], &json["control"]), (&true.into(), &"control".into()));
        assert_eq!(json["rollout"]["strict"]["worse"], "yes");
    }
}
