//! What an experiment found, for a terminal: each claim beside what was measured, and whether it held.

use std::fmt::Write;

use super::table::{Side, hanging, lines};
use super::{Options, human};
use crate::experiment::{Claimed, Compared, Cost, Curve, Evaluation, FactorInterval, Holds, Measured, STEP};
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
    let claims = found.rows.len() - number(Holds::NoClaim);
    if claims == 0 {
        let reps = human::counted(found.reps.into(), "repetition");
        return format!("E{}: no change was claimed whose direction could hold; {reps}", found.number);
    }
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
        let _ = writeln!(out, "{}  {}", row.what, options.style.dim(&arms(row)));
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
            if row.base == row.other { other } else { format!("{base} → {other}") }
        }),
        factor: row.measured.filter(|_| row.base != row.other).map_or_else(dash, factor),
        holds: match row.holds {
            Holds::Yes => "yes",
            Holds::No => "no",
            Holds::Undecided => "undecided",
            Holds::NoClaim => "-",
            Holds::NotMeasured => "unavailable",
        },
    }
}

/// `heap → arena`
pub(super) fn arms(row: &Compared) -> String {
    if row.base == row.other { row.other.clone() } else { format!("{} → {}", row.base, row.other) }
}

fn claimed(unit: Unit, claimed: Claimed) -> String {
    match claimed {
        Claimed { base: Some(base), other: Some(other), .. } => {
            format!("{} → {}", human::limit(unit, base), human::limit(unit, other))
        }
        Claimed { factor: Some(factor), .. } => times(factor),
        Claimed { other: Some(other), .. } => human::limit(unit, other),
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
    let digits = if factor == 0.0 { 0 } else { (2 - factor.abs().log10().floor() as i32).clamp(0, 8) as usize };
    let text = format!("{factor:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A table of unit costs: of a unit, of a million of them, and of a step.
fn push_costs(out: &mut String, costs: &[Cost]) {
    if costs.is_empty() {
        return;
    }
    let nanos = |ns: Option<f64>| ns.map_or("-".to_owned(), |ns| human::value(Unit::Nanos, ns));
    let row = |cost: &Cost, what: String, times: f64| {
        vec![
            "  ".to_owned(),
            what,
            human::value(Unit::Count, cost.allocations * times),
            human::value(Unit::Bytes, cost.bytes * times),
            nanos(cost.cpu_ns.map(|ns| ns * times)),
            nanos(cost.stall_ns.map(|ns| ns * times)),
        ]
    };
    let mut arms: Vec<&str> = vec![""];
    let mut rows = vec![["", "", "allocs", "bytes", "CPU", "stall"].map(str::to_owned).to_vec()];
    for cost in costs {
        arms.push(&cost.arm);
        rows.push(row(cost, cost.unit.clone(), 1.0));
        if cost.unit != STEP {
            arms.push(&cost.arm);
            rows.push(row(cost, format!("million {}s", cost.unit), 1e6));
        }
    }
    let sides = [Side::Left, Side::Left, Side::Right, Side::Right, Side::Right, Side::Right];
    let mut last = "";
    for (arm, line) in arms.into_iter().zip(lines(&sides, &rows)) {
        if arm != last {
            let _ = writeln!(out, "{arm}");
            last = arm;
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

/// What the columns of [`cost_row`] are.
pub(super) const COST_COLUMNS: [&str; 8] =
    ["workload", "unit", "allocations", "bytes", "CPU", "stall", "CPU per million", "stall per million"];

/// What a unit of an arm's work costs.
pub(super) fn cost_row(cost: &Cost) -> [String; 8] {
    let nanos = |ns: Option<f64>| ns.map_or("-".to_owned(), |ns| human::value(Unit::Nanos, ns));
    [
        cost.arm.clone(),
        cost.unit.clone(),
        human::value(Unit::Count, cost.allocations),
        human::value(Unit::Bytes, cost.bytes),
        nanos(cost.cpu_ns),
        nanos(cost.stall_ns),
        nanos(cost.cpu_ns.map(|ns| ns * 1e6)),
        nanos(cost.stall_ns.map(|ns| ns * 1e6)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{experiments_doc, experiments_html};
    use super::*;
    use crate::experiment::{FINDINGS_SCHEMA_VERSION, Findings, SiteTable};
    use crate::report::Machine;

    fn row(what: &str, unit: Unit, claimed: Option<Claimed>, measured: Option<Measured>, holds: Holds) -> Compared {
        let (base, other) = ("concat".to_owned(), "in place".to_owned());
        Compared { what: what.to_owned(), unit, base, other, claimed, measured, holds }
    }

    fn measured(base: f64, other: f64, interval: Option<(f64, f64, f64)>) -> Option<Measured> {
        let interval = interval.map(|(low, high, confidence)| FactorInterval {
            low: Some(low),
            high: Some(high).filter(|high| high.is_finite()),
            confidence,
        });
        Some(Measured { base, other, factor: (base > 0.0).then_some(other / base), interval })
    }

    fn claim(base: f64, other: f64) -> Option<Claimed> {
        Some(Claimed { base: Some(base), other: Some(other), factor: (base > 0.0).then_some(other / base) })
    }

    fn found() -> Evaluation {
        let memory = Some(Claimed { base: None, other: None, factor: Some(0.32) });
        Evaluation {
            number: 3,
            title: "Streaming decode <KV cache>".to_owned(),
            about:
                "One stream of 20 ms chunks through a small transformer, whose keys and values are kept in four ways."
                    .to_owned(),
            created_unix_s: 1_760_000_000,
            machine: Machine { cpu: "Xeon".to_owned(), cpus: 2, memory_gib: 24, ..Machine::default() },
            commit: "0123456789ab".to_owned(),
            reps: 5,
            rows: vec![
                row(
                    "stall per step, mean",
                    Unit::Nanos,
                    claim(8.7e6, 1.4e6),
                    measured(1_204.0, 0.0, Some((0.0, 0.0, 1.0))),
                    Holds::Yes,
                ),
                row(
                    "P95",
                    Unit::Nanos,
                    claim(14.2e6, 2.1e6),
                    measured(900.0, 950.0, Some((1.01, 1.2, 0.968))),
                    Holds::No,
                ),
                row("memory", Unit::Bytes, memory, measured(5e6, 4e6, Some((0.7, 1.1, 0.968))), Holds::Undecided),
                row(
                    "reuse",
                    Unit::Share,
                    claim(0.0, 0.92),
                    measured(0.0, 0.9, Some((9.0, f64::INFINITY, 0.97))),
                    Holds::Yes,
                ),
                row("TLB misses", Unit::PerSecond, claim(124e3, 412e3), None, Holds::NotMeasured),
                row("steps", Unit::PerSecond, None, measured(1_000.0, 2_000.0, None), Holds::NoClaim),
            ],
            costs: vec![Cost {
                arm: "tokenize/hf-wordpiece".to_owned(),
                unit: "token".to_owned(),
                allocations: 10.29,
                bytes: 3_184.0,
                cpu_ns: Some(2_050.0),
                stall_ns: None,
            }],
            sites: vec![SiteTable { arm: "heap".to_owned(), text: "Vec::push  29.1%  16 B".to_owned() }],
            curves: vec![Curve {
                arm: "concat".to_owned(),
                wall_s: 4.0,
                rss_bytes: vec![0, 1 << 20, 8 << 20, 4 << 20],
                live_objects: vec![0, 10, 80, 40],
            }],
            problems: vec!["sliding: 1 of 5 repetitions: timed out after 600 s".to_owned()],
        }
    }

    #[test]
    fn terminal() {
        let text = render(&found(), Options::default());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn pages() {
        let findings = Findings { schema_version: FINDINGS_SCHEMA_VERSION, experiments: vec![found()] };
        insta::assert_snapshot!("markdown", experiments_doc::render(&findings));
        let html = experiments_html::render(&findings);
        assert!(!html.contains("<KV") && html.contains("&lt;KV cache&gt;"), "text is not markup");
        insta::assert_snapshot!("html", html);
    }

    #[test]
    fn factors_have_three_digits() {
        for (value, text) in
            [(0.161, "0.161"), (1.0, "1"), (22.04, "22"), (412.3, "412"), (0.000_412_3, "0.000412"), (0.0, "0")]
        {
            assert_eq!(number(value), text);
        }
    }
}
