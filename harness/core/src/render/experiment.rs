//! What an experiment found, for a terminal: each claim beside what was measured, and whether it held.

use std::fmt::Write;

use super::table::{Side, hanging, lines};
use super::{Options, human};
use crate::experiment::{Claimed, Compared, Cost, Curve, Evaluation, FactorInterval, Holds, Measured};
use crate::metric::Unit;

/// The evaluation as text.
#[must_use]
pub fn render(found: &Evaluation, options: Options) -> String {
    let style = options.style;
    let mut out = format!("{}\n", style.bold(&format!("E{}  {}", found.number, found.title)));
    for line in hanging("", &found.about, options.width).lines() {
        let _ = writeln!(out, "{}", style.dim(line));
    }
    out.push('\n');
    push_rows(&mut out, found, options);
    push_costs(&mut out, &found.costs);
    for sites in &found.sites {
        let _ = writeln!(out, "{}\n{}", style.bold(&sites.arm), sites.text);
    }
    push_curves(&mut out, &found.curves, options);
    for problem in &found.problems {
        out.push_str(&hanging("  ! ", problem, options.width));
    }
    if !found.rows.is_empty() {
        out.push_str(&hanging("", &summary(found), options.width));
    }
    out
}

/// One line that says how many of the claims held.
#[must_use]
pub fn summary(found: &Evaluation) -> String {
    let number = |holds| found.rows.iter().filter(|row| row.holds == holds).count();
    let claims = found.rows.iter().filter(|row| row.claimed.is_some()).count();
    let mut text = format!(
        "E{}: of {} {} held, {} did not, {} undecided",
        found.number,
        human::counted(claims as u64, "claim"),
        number(Holds::Yes),
        number(Holds::No),
        number(Holds::Undecided)
    );
    if number(Holds::NotMeasured) > 0 {
        let _ = write!(text, ", {} could not be measured here", number(Holds::NotMeasured));
    }
    let _ = write!(text, "; {}", human::counted(found.reps.into(), "repetition"));
    text
}

fn push_rows(out: &mut String, found: &Evaluation, options: Options) {
    if found.rows.is_empty() {
        return;
    }
    let header = ["", "claimed", "measured", "factor", "holds"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(found.rows.iter().map(|row| {
            let Words { claimed, measured, factor, holds } = words(row);
            vec!["  ".to_owned(), claimed, measured, factor, holds.to_owned()]
        }))
        .collect();
    let mut table = lines(&[Side::Left, Side::Left, Side::Left, Side::Left, Side::Left], &rows).into_iter();
    let _ = writeln!(out, "{}", options.style.dim(&table.next().unwrap_or_default()));
    for (row, line) in found.rows.iter().zip(table) {
        let _ = writeln!(out, "{}  {}", row.what, options.style.dim(&format!("{} → {}", row.base, row.other)));
        let painted = match row.holds {
            Holds::Yes => line.strip_suffix("yes").map(|line| format!("{line}{}", options.style.good("yes"))),
            Holds::No => line.strip_suffix("no").map(|line| format!("{line}{}", options.style.bad("no"))),
            Holds::Undecided => {
                line.strip_suffix("undecided").map(|line| format!("{line}{}", options.style.unsure("undecided")))
            }
            Holds::NoClaim | Holds::NotMeasured => None,
        };
        let _ = writeln!(out, "{}", painted.unwrap_or(line));
    }
    out.push('\n');
}

/// A row in words; `-` where there is nothing.
pub(super) struct Words {
    pub claimed: String,
    pub measured: String,
    pub factor: String,
    pub holds: &'static str,
}

pub(super) fn words(row: &Compared) -> Words {
    let dash = || "-".to_owned();
    Words {
        claimed: row.claimed.map_or_else(dash, |claimed| self::claimed(row.unit, claimed)),
        measured: row.measured.map_or_else(dash, |measured| {
            let (base, other) = human::pair(row.unit, measured.base, measured.other);
            format!("{base} → {other}")
        }),
        factor: row.measured.map_or_else(dash, factor),
        holds: match row.holds {
            Holds::Yes => "yes",
            Holds::No => "no",
            Holds::Undecided => "undecided",
            Holds::NoClaim => "-",
            Holds::NotMeasured => "unavailable",
        },
    }
}

fn claimed(unit: Unit, claimed: Claimed) -> String {
    match claimed {
        Claimed { base: Some(base), other: Some(other), .. } => {
            format!("{} → {}", human::limit(unit, base), human::limit(unit, other))
        }
        Claimed { factor: Some(factor), .. } => times(factor),
        Claimed { .. } => "-".to_owned(),
    }
}

/// `×0.16 [0.14, 0.19]`
fn factor(measured: Measured) -> String {
    let estimate = measured.factor.map_or("from 0".to_owned(), times);
    match measured.interval {
        // All repetitions agree.
        Some(FactorInterval { confidence: 1.0, .. }) => estimate,
        Some(FactorInterval { low, high, .. }) => {
            let end = |end: Option<f64>| end.map_or("∞".to_owned(), number);
            format!("{estimate} [{}, {}]", end(low), end(high))
        }
        None => format!("{estimate} [?]"),
    }
}

fn times(factor: f64) -> String {
    format!("×{}", number(factor))
}

/// Three significant digits.
fn number(factor: f64) -> String {
    let digits = if factor == 0.0 { 0 } else { (2 - factor.abs().log10().floor() as i32).clamp(0, 4) as usize };
    let text = format!("{factor:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A table of unit costs; the last columns are per million units.
fn push_costs(out: &mut String, costs: &[Cost]) {
    /// Units that the second half of the table is for.
    const MANY: f64 = 1e6;
    if costs.is_empty() {
        return;
    }
    let header = [
        ["", "", "allocs", "bytes", "CPU", "stall", "bytes", "CPU", "stall"],
        ["", "per", "", "", "", "", "/million", "/million", "/million"],
    ];
    let nanos = |ns: Option<f64>| ns.map_or("-".to_owned(), |ns| human::value(Unit::Nanos, ns));
    let rows: Vec<Vec<String>> = header
        .iter()
        .map(|line| line.map(str::to_owned).to_vec())
        .chain(costs.iter().map(|cost| {
            vec![
                String::new(),
                cost.unit.clone(),
                human::value(Unit::Count, cost.allocations),
                human::value(Unit::Bytes, cost.bytes),
                nanos(cost.cpu_ns),
                nanos(cost.stall_ns),
                human::value(Unit::Bytes, cost.bytes * MANY),
                nanos(cost.cpu_ns.map(|ns| ns * MANY)),
                nanos(cost.stall_ns.map(|ns| ns * MANY)),
            ]
        }))
        .collect();
    let sides = [
        Side::Left,
        Side::Left,
        Side::Right,
        Side::Right,
        Side::Right,
        Side::Right,
        Side::Right,
        Side::Right,
        Side::Right,
    ];
    for (index, line) in lines(&sides, &rows).iter().enumerate() {
        if let Some(cost) = index.checked_sub(header.len()).and_then(|index| costs.get(index)) {
            let _ = writeln!(out, "{}", cost.arm);
        }
        let _ = writeln!(out, "{line}");
    }
    out.push('\n');
}

/// Resident memory and live objects over time, a line each.
fn push_curves(out: &mut String, curves: &[Curve], options: Options) {
    for curve in curves {
        let _ = writeln!(out, "{}  {}", curve.arm, options.style.dim(&format!("over {:.1} s", curve.wall_s)));
        let rss: Vec<f64> = curve.rss_bytes.iter().map(|&bytes| bytes as f64).collect();
        let live: Vec<f64> = curve.live_objects.iter().map(|&objects| objects as f64).collect();
        for (name, unit, values) in [("RSS ", Unit::Bytes, rss), ("live", Unit::Count, live)] {
            if let Some(highest) = values.iter().copied().reduce(f64::max) {
                let _ = writeln!(out, "  {name} {} {}", sparkline(&values), human::value(unit, highest));
            }
        }
    }
    if !curves.is_empty() {
        out.push('\n');
    }
}

/// Values as bars from 0 to the highest.
fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    values
        .iter()
        .map(|value| BARS[((value / highest * BARS.len() as f64).ceil() as usize).clamp(1, BARS.len()) - 1])
        .collect()
}
