//! Rules on simulated series, as tables: false alarms where nothing changed, power elsewhere.

use super::accuracy_doc::{paragraph, share, table};
use super::human;
use crate::accuracy::Simulation;
use crate::gate::{GROWTH, RULE};
use crate::stats::simulate::{Order, Row};

/// How many sizes of change beyond a limit are shown; at larger ones most rules find all.
const SHIFTS_SHOWN: usize = 2;

/// In a few sentences what the tables say.
pub(super) fn summary(simulation: &Simulation) -> String {
    let worst_at = |order: Order, ours: bool, limit: f64| {
        let rows = simulation.rows.iter().filter(|row| row.order == order.to_string());
        let still = rows.filter(|row| row.shift == 0.0 && row.limit == limit && row.rule.starts_with(RULE) == ours);
        still.max_by(|a, b| a.fail_rate.total_cmp(&b.fail_rate))
    };
    let worst = |order, ours| worst_at(order, ours, 0.0);
    let (Some(ours), Some(theirs)) = (worst(Order::Interleaved, true), worst(Order::Interleaved, false)) else {
        return String::new();
    };
    let mut out = format!(
        "On simulated series, whose truth is known, its rule fails at most {} of the comparisons in which nothing changed, \
         whatever the series, if both sides are measured in turns; the usual rules fail up to {} ({}).",
        share(ours.fail_rate),
        share(theirs.fail_rate),
        theirs.rule
    );
    if let (Some(ours), Some(theirs)) = (worst(Order::Sequential, true), worst(Order::Sequential, false)) {
        out += &format!(
            " Measured one side after the other, as against a stored baseline, on a machine whose speed changes meanwhile, \
             every rule without a limit takes that for a regression: this one in up to {} ({}), {} in up to {}. \
             That is what `heapgate ab` is for.",
            share(ours.fail_rate),
            ours.series,
            theirs.rule,
            share(theirs.fail_rate)
        );
        let limits = distinct(simulation.rows.iter().map(|row| row.limit).filter(|&limit| limit > 0.0));
        for limit in limits {
            if let Some(limited) = worst_at(Order::Sequential, true, limit) {
                out += &format!(
                    " A limit helps: where a change of {} is allowed, this rule fails {} at worst.",
                    share(limit),
                    share(limited.fail_rate)
                );
            }
        }
    }
    out
}

/// The section.
pub(super) fn section(simulation: &Simulation) -> String {
    let Some(first) = simulation.rows.first() else { return String::new() };
    let most = simulation.rows.iter().map(|row| (row.interval.1 - row.interval.0) / 2.0).fold(0.0, f64::max);
    let looks = GROWTH[..GROWTH.len() - 1].iter().map(|growth| share(growth / GROWTH[GROWTH.len() - 1]));
    let looks: Vec<String> = looks.collect();
    let mut out = String::from("## On simulated series\n\n");
    out += &paragraph(&format!(
        "{} trials each, {} values a side, a standard deviation of {}; with so many trials a rate is right to \
         {} points at worst, and where none failed the true one is at most {}. The other rules see all values at once. heapgate's looks at {} of them, \
         then at all, and stops when it can decide, as the gate does with a `--budget`; what it neither fails nor passes is \
         left open. Its error is for a whole run: *one metric* has all of it, *1 of 60* its share, in which case it \
         takes a larger change to fail. To a rule with a limit a change of \
         just that is what no change is to one without. The series: {}; phi is how much each value takes from the one \
         before.",
        human::count(first.trials),
        first.n,
        share(first.sd),
        share(most).trim_end_matches('%'),
        share(super::accuracy_targets::at_most(0, first.trials)),
        looks.join(", then at "),
        distinct(simulation.rows.iter().map(|row| row.series.as_str())).join(", ")
    ));
    let mut folded = String::new();
    for &limit in &distinct(simulation.rows.iter().map(|row| row.limit)) {
        let shifts = distinct(simulation.rows.iter().map(|row| row.shift));
        let beyond = shifts.iter().filter(|&&shift| shift > limit).take(SHIFTS_SHOWN);
        for order in [Order::Interleaved, Order::Sequential] {
            for &shift in std::iter::once(&0.0).chain(beyond.clone()) {
                let rows: Vec<&Row> = simulation
                    .rows
                    .iter()
                    .filter(|row| row.limit == limit && row.shift == shift && row.order == order.to_string())
                    .collect();
                if rows.is_empty() {
                    continue;
                }
                let text = format!("\n{}\n\n{}", title(limit, shift, order), one_table(&rows));
                let first = limit == 0.0 && (shift == 0.0 || order == Order::Interleaved);
                if first { &mut out } else { &mut folded }.push_str(&text);
            }
        }
    }
    if !folded.is_empty() {
        out += &format!(
            "\n<details><summary>With a limit, and one side after the other</summary>\n{folded}\n</details>\n"
        );
    }
    out
}

fn title(limit: f64, shift: f64, order: Order) -> String {
    let order = match order {
        Order::Interleaved => "measured in turns",
        Order::Sequential => "one side after the other",
    };
    let allowed = if limit == 0.0 { String::new() } else { format!(" where {} is allowed", share(limit)) };
    let what = match shift {
        0.0 => format!("False alarms: nothing changed{allowed}"),
        _ => format!("Found: {} slower{allowed}", share(shift)),
    };
    format!("**{what}; {order}**")
}

fn one_table(rows: &[&Row]) -> String {
    let series = distinct(rows.iter().map(|row| row.series.as_str()));
    let header: Vec<String> =
        std::iter::once("rule").chain(series.iter().map(|name| short(name))).map(str::to_owned).collect();
    let mut lines = Vec::new();
    for rule in distinct(rows.iter().map(|row| row.rule.as_str())) {
        let of = |series: &str| rows.iter().find(|row| row.rule == rule && row.series == series);
        let line = |name: &str, rate: fn(&Row) -> f64| {
            let rates = series.iter().map(|series| of(series).map_or_else(String::new, |row| share(rate(row))));
            std::iter::once(name.to_owned()).chain(rates).collect::<Vec<_>>()
        };
        lines.push(line(rule, |row| row.fail_rate));
        if rule.starts_with(RULE) {
            lines.push(line("… left open", |row| row.unsure_rate));
        }
    }
    table(&header, &lines)
}

/// A series' name in the head of a column.
fn short(series: &str) -> &str {
    // What depends on the value before it is told apart by how much.
    series
        .strip_suffix(')')
        .and_then(|name| name.split_once("(1), "))
        .map_or_else(|| series.split(' ').next().unwrap_or(series), |(_, phi)| phi)
}

/// Each value once, in the order in which they come.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}
