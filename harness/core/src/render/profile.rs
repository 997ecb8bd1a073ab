//! A profile in a terminal: the sites with most, each with its figures.

use std::fmt::Write;

use super::sites::broken;
use super::table::{clean, hanging};
use super::{Options, human};
use crate::metric::Unit;
use crate::profile::view::{Site, sites};
use crate::profile::{Kind, Profile};

/// The `top` sites of `profile`, under a line that says how they were found; and what a reader should know.
#[must_use]
pub fn table(profile: &Profile, top: usize, options: Options) -> String {
    let sites = sites(profile);
    let columns = columns(profile);
    let mut out = options.style.bold(&format!("{} · {}", profile.cell, profile.kind)) + "\n";
    out.push_str(&hanging("  ", &how(profile), options.width));
    if !sites.is_empty() {
        let headings: Vec<String> =
            columns.iter().map(|column| format!("{:>w$}", column.name, w = column.width)).collect();
        let _ = writeln!(out, "{}", options.style.dim(&format!("{}  site", headings.join(" "))));
    }
    for site in sites.iter().take(top) {
        let cells: Vec<String> =
            columns.iter().map(|column| format!("{:>w$}", (column.text)(profile, site), w = column.width)).collect();
        out.push_str(&broken(&(cells.join(" ") + "  "), &clean(&text(profile, site)), options.width));
    }
    let main = profile.main_value();
    if let Some(rest) = sites.get(top..).filter(|rest| !rest.is_empty()) {
        let share = share(profile, main, rest.iter().map(|site| site.values[main]).sum());
        let _ = writeln!(out, "{:>7} in {}", percent(share), human::counted(rest.len() as u64, "more site"));
    }
    for note in &profile.notes {
        out.push_str(&hanging("  note: ", &clean(note), options.width));
    }
    out
}

/// The same as JSON: the sites with their values by name.
#[must_use]
pub fn json(profile: &Profile, top: usize) -> serde_json::Value {
    let named = |values: &[f64]| -> serde_json::Map<String, serde_json::Value> {
        profile.values.iter().zip(values).map(|(value, &number)| (value.name.clone(), number.into())).collect()
    };
    let totals: Vec<f64> = (0..profile.values.len()).map(|index| profile.total(index)).collect();
    let exact = profile.values.iter().zip(&profile.exact_totals);
    let exact: serde_json::Map<String, serde_json::Value> =
        exact.filter_map(|(value, total)| Some((value.name.clone(), (*total)?.into()))).collect();
    let sites: Vec<serde_json::Value> = sites(profile)
        .iter()
        .take(top)
        .map(|site| {
            let main = profile.main_value();
            serde_json::json!({
                "function": site.place.function,
                "file": site.place.file,
                "line": site.place.line,
                "call": site.place.call,
                "share": share(profile, main, site.values[main]),
                "values": named(&site.values),
                "standard_errors": named(&site.variances.iter().map(|v| v.sqrt()).collect::<Vec<_>>()),
                "with_callees": named(&site.with_callees),
                "causes": site.causes.iter().map(|(cause, ns)| serde_json::json!({ "cause": cause, "ns": ns })).collect::<Vec<_>>(),
            })
        })
        .collect();
    serde_json::json!({
        "kind": profile.kind,
        "cell": profile.cell,
        "complete": profile.complete,
        "measured": profile.measured,
        "sampling": profile.sampling,
        "totals": named(&totals),
        "exact_totals": exact,
        "sites": sites,
        "notes": profile.notes,
    })
}

/// A column of figures.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) width: usize,
    pub(super) text: fn(&Profile, &Site) -> String,
}

/// The columns of a kind of profile, those whose values it has.
pub(super) fn columns(profile: &Profile) -> Vec<Column> {
    let column = |name, width, text| Column { name, width, text };
    let has = |name: &str| profile.value_index(name).is_some();
    match profile.kind {
        Kind::Cpu => vec![
            column("self", 6, |p, s| percent(share(p, 0, s.values[0]))),
            column("total", 6, |p, s| s.with_callees.first().map_or("-".to_owned(), |&v| percent(share(p, 0, v)))),
            column("samples", 7, |p, s| value(p, s, "samples")),
        ],
        Kind::Heap => vec![
            column("peak", 6, |p, s| percent(share(p, p.main_value(), s.values[p.main_value()]))),
            column("bytes", 8, |p, s| value(p, s, "peak_bytes")),
            column("objects", 7, |p, s| value(p, s, "peak_objects")),
            column("mean", 8, |p, s| mean(p, s, "peak_bytes", "peak_objects")),
            column("at end", 8, |p, s| value(p, s, "end_bytes")),
        ],
        Kind::Alloc => {
            let mut columns = vec![
                column("calls", 6, |p, s| percent(share(p, 0, s.values[0]))),
                column("±", 4, error),
                column("bytes", 6, |p, s| {
                    p.value_index("bytes").map_or("-".to_owned(), |index| percent(share(p, index, s.values[index])))
                }),
                column("mean", 7, |p, s| mean(p, s, "bytes", "calls")),
                column("count", 6, |p, s| value(p, s, "calls")),
            ];
            if has("lifetime") {
                columns.push(column("lifetime", 8, |p, s| mean(p, s, "lifetime", "freed")));
                columns.push(column("temp.", 5, |p, s| {
                    let of = |name: &str| p.value_index(name).map_or(0.0, |index| s.values[index]);
                    if of("calls") > 0.0 { percent0(of("temporaries") / of("calls")) } else { "-".to_owned() }
                }));
            }
            columns
        }
        Kind::Stall => vec![
            column("time", 6, |p, s| percent(share(p, p.main_value(), s.values[p.main_value()]))),
            column("stalled", 8, |p, s| value(p, s, "stall")),
            column("calls", 6, |p, s| value(p, s, "calls")),
            column("longest", 8, |p, s| value(p, s, "longest")),
        ],
    }
}

/// How samples were taken, how many, and what is known exactly.
pub(super) fn how(profile: &Profile) -> String {
    let sampling = &profile.sampling;
    let mut text = format!("{}: {}", sampling.description, human::counted(sampling.samples, "sample"));
    if sampling.lost > 0 {
        let _ = write!(text, ", {} lost", human::count(sampling.lost));
    }
    let exact = profile.values.iter().zip(&profile.exact_totals);
    let exact: Vec<String> = exact
        .filter_map(|(value, total)| {
            Some(format!("{} {}", value.name.replace('_', " "), number(profile, &value.name, (*total)?)))
        })
        .collect();
    if !exact.is_empty() {
        let _ = write!(text, "; exactly in all: {}", exact.join(", "));
    }
    if !profile.complete {
        text.push_str("; the run was interrupted");
    }
    text
}

/// `Vec::push in words::split (words/src/lib.rs:12)`, and what stalls were of.
pub(super) fn text(profile: &Profile, site: &Site) -> String {
    let place = &site.place;
    let file = if place.file.is_empty() { String::new() } else { format!(" ({}:{})", place.file, place.line) };
    let call = match (place.call.as_str(), profile.kind) {
        ("", _) => String::new(),
        (call, _) => format!("{call} in "),
    };
    let all: f64 = site.causes.iter().map(|(_, ns)| ns).sum();
    let causes: Vec<String> = site
        .causes
        .iter()
        .map(|(cause, ns)| format!("{cause} {}", percent0(ns / all.max(f64::MIN_POSITIVE))))
        .collect();
    let causes = if causes.is_empty() { String::new() } else { format!(" [{}]", causes.join(", ")) };
    format!("{call}{}{file}{causes}", short(&place.function))
}

/// The end of a path, which with the file says enough: `Heap::pieces::{closure}`.
fn short(function: &str) -> String {
    let parts: Vec<&str> = function.split("::").collect();
    let kept = 2 + usize::from(parts.last() == Some(&"{closure}"));
    parts[parts.len().saturating_sub(kept)..].join("::")
}

pub(super) fn share(profile: &Profile, index: usize, part: f64) -> f64 {
    let whole = profile.total(index);
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn percent0(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// By how much a share of calls may be wrong, in points, with 95% confidence.
fn error(profile: &Profile, site: &Site) -> String {
    let error = 1.96 * share(profile, 0, site.variances[0].sqrt()) * (1.0 - share(profile, 0, site.values[0])).sqrt();
    if error <= 0.0 { "0".to_owned() } else { format!("{:.1}", error * 100.0) }
}

fn value(profile: &Profile, site: &Site, name: &str) -> String {
    profile.value_index(name).map_or("-".to_owned(), |index| number(profile, name, site.values[index]))
}

fn mean(profile: &Profile, site: &Site, sum: &str, count: &str) -> String {
    let of = |name: &str| profile.value_index(name).and_then(|index| site.values.get(index).copied());
    match (of(sum), of(count)) {
        (Some(all), Some(n)) if n > 0.0 => number(profile, sum, all / n),
        _ => "-".to_owned(),
    }
}

fn number(profile: &Profile, name: &str, number: f64) -> String {
    use crate::profile::ValueUnit;
    let unit = profile.value_index(name).map(|index| profile.values[index].unit);
    match unit {
        Some(ValueUnit::Bytes) => human::value(Unit::Bytes, number),
        Some(ValueUnit::Nanoseconds) => human::value(Unit::Nanos, number),
        _ => human::value(Unit::Count, number.round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testing;

    #[test]
    fn a_table_of_an_allocation_profile() {
        insta::assert_snapshot!(table(&testing::profile(), 2, Options::default()));
    }

    #[test]
    fn json_has_every_value_by_name() {
        let json = json(&testing::profile(), 1);
        assert_eq!(json["sites"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["sites"][0]["values"]["calls"], 800.0);
        assert_eq!(json["sites"][0]["function"], "words::split");
        assert_eq!(
            (json["totals"]["bytes"].as_f64(), json["exact_totals"]["calls"].as_f64()),
            (Some(64_400.0), Some(1000.0))
        );
    }
}
