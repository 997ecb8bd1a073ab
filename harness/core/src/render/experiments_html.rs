//! What experiments found as one page that needs nothing but itself: tables, the factors on a common axis, and memory
//! over time.

use std::fmt::Write;

use super::experiment::{COST_COLUMNS, Words, arms, cost_row, summary, words};
use super::human;
use super::page::shell::{self, escaped};
use crate::experiment::{Compared, Cost, Curve, Evaluation, Findings};
use crate::metric::Unit;

/// The page.
#[must_use]
pub fn render(findings: &Findings) -> String {
    let mut out = shell::start("heapgate: experiments", false) + "<h1>Experiments</h1>\n";
    if let Some(first) = findings.experiments.first() {
        let _ = writeln!(
            out,
            "<p class=\"dim\">{}, {} CPUs, {} GiB, Linux {}; {}; commit {}</p>",
            escaped(&first.machine.cpu),
            first.machine.cpus,
            first.machine.memory_gib,
            escaped(&first.machine.kernel),
            human::date(first.created_unix_s),
            escaped(&first.commit)
        );
    }
    out.push_str("<nav class=\"jump\">");
    for found in &findings.experiments {
        let _ = write!(out, "<a href=\"#e{0}\">E{0}</a>", found.number);
    }
    out.push_str("</nav>\n");
    for found in &findings.experiments {
        push_experiment(&mut out, found);
    }
    out + &shell::end(false)
}

fn push_experiment(out: &mut String, found: &Evaluation) {
    let _ = writeln!(
        out,
        "<h2 id=\"e{0}\">E{0}. {1}</h2>\n<p class=\"prose dim\">{2}</p>",
        found.number,
        escaped(&found.title),
        escaped(&found.about)
    );
    if !found.rows.is_empty() {
        out.push_str("<table><tr><th></th><th>arms</th><th>claimed</th><th>measured</th><th>factor</th><th title=\"logarithmic, from a hundredth to a hundredfold\">● ours, ○ claimed</th><th>holds</th></tr>\n");
        for row in &found.rows {
            let Words { claimed, measured, factor, holds } = words(row);
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td class=\"dim\">{}</td><td class=\"w\">{}</td><td class=\"w\">{}</td><td class=\"w\">{}</td><td>{}</td><td class=\"{holds}\">{holds}</td></tr>",
                escaped(&row.what),
                escaped(&arms(row)),
                escaped(&claimed),
                escaped(&measured),
                escaped(&factor),
                interval_plot(row),
            );
        }
        let _ = writeln!(out, "</table>\n<p>{}</p>", escaped(&summary(found)));
    }
    push_costs(out, &found.costs);
    for sites in &found.sites {
        let _ = writeln!(out, "<h3>{}</h3><pre>{}</pre>", escaped(&sites.arm), escaped(&sites.text));
    }
    for curve in &found.curves {
        push_curve(out, curve);
    }
    for problem in &found.problems {
        let _ = writeln!(out, "<p class=\"no\">{}</p>", escaped(problem));
    }
}

/// The factor's interval on a logarithmic axis from a hundredth to a hundredfold, with the claim as a ring.
fn interval_plot(row: &Compared) -> String {
    const WIDTH: f64 = 152.0;
    /// Room for half a mark at either end.
    const MARGIN: f64 = 6.0;
    const DECADES: f64 = 2.0;
    let Some(measured) = row.measured.filter(|_| row.base != row.other) else { return String::new() };
    let x = |factor: Option<f64>| {
        let decades = factor.map_or(DECADES, |f| f.max(1e-9).log10()).clamp(-DECADES, DECADES);
        MARGIN + (decades / DECADES + 1.0) * (WIDTH / 2.0 - MARGIN)
    };
    let (low, high) = measured.interval.map_or((x(measured.factor), x(measured.factor)), |i| (x(i.low), x(i.high)));
    let mut svg = format!(
        "<svg width=\"{WIDTH}\" height=\"18\" role=\"img\" aria-label=\"factor on a logarithmic axis\"><line x1=\"{0}\" x2=\"{0}\" y1=\"0\" y2=\"18\" stroke=\"var(--line)\"/><line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"9\" y2=\"9\" stroke=\"var(--a)\" stroke-width=\"3\"/><circle cx=\"{1:.1}\" cy=\"9\" r=\"3.5\" fill=\"var(--a)\"/>",
        WIDTH / 2.0,
        x(measured.factor),
    );
    if let Some(claimed) = row.claimed {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"9\" r=\"5\" fill=\"none\" stroke=\"var(--b)\" stroke-width=\"1.5\"/>",
            x(claimed.factor)
        );
    }
    svg.push_str("</svg>");
    svg
}

fn push_costs(out: &mut String, costs: &[Cost]) {
    if costs.is_empty() {
        return;
    }
    let _ = writeln!(out, "<table><tr>{}</tr>", COST_COLUMNS.map(|column| format!("<th>{column}</th>")).concat());
    for cost in costs {
        let [arm, unit, figures @ ..] = cost_row(cost).map(|cell| escaped(&cell));
        let figures: String = figures.iter().map(|figure| format!("<td class=\"n\">{figure}</td>")).collect();
        let _ = writeln!(out, "<tr><td>{arm}</td><td>{unit}</td>{figures}</tr>");
    }
    out.push_str("</table>\n");
}

/// Two lines over time, each on its own scale from 0.
fn push_curve(out: &mut String, curve: &Curve) {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 110.0;
    let rss: Vec<f64> = curve.rss_bytes.iter().map(|&bytes| bytes as f64).collect();
    let live: Vec<f64> = curve.live_objects.iter().map(|&objects| objects as f64).collect();
    let _ = writeln!(
        out,
        "<figure><figcaption>{} <span class=\"dim\">over {:.1} s</span></figcaption><svg width=\"100%\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"memory over time\">",
        escaped(&curve.arm),
        curve.wall_s
    );
    for (index, (name, unit, values, color)) in
        [("RSS", Unit::Bytes, rss, "--a"), ("live objects", Unit::Count, live, "--b")].into_iter().enumerate()
    {
        let Some(highest) = values.iter().copied().reduce(f64::max).filter(|&highest| highest > 0.0) else { continue };
        let last = (values.len() - 1).max(1) as f64;
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(i, value)| {
                format!("{:.1},{:.1}", i as f64 / last * WIDTH, HEIGHT - 4.0 - value / highest * (HEIGHT - 24.0))
            })
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"var({color})\" stroke-width=\"1.5\"/><text x=\"{}\" y=\"12\" style=\"fill:var({color})\">{name}, most {}</text>",
            points.join(" "),
            4 + index * 160,
            human::value(unit, highest)
        );
    }
    out.push_str("</svg></figure>\n");
}
