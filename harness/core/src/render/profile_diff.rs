//! What changed between two profiles, in a terminal: the sites with news, the largest change first.

use std::fmt::Write;

use super::profile::how;
use super::sites::broken;
use super::table::{clean, hanging};
use super::{Options, human};
use crate::metric::Unit;
use crate::profile::diff::{Difference, SiteChange};
use crate::profile::{Profile, Value, ValueUnit};

/// The `top` sites that changed most, and what a reader should know.
#[must_use]
pub fn table(base: &Profile, now: &Profile, difference: &Difference, top: usize, options: Options) -> String {
    let mut out = options.style.bold(&format!("{} · {}: what changed", now.cell, now.kind)) + "\n";
    out.push_str(&hanging("  before: ", &how(base), options.width));
    out.push_str(&hanging("  now: ", &how(now), options.width));
    if !difference.sites.is_empty() {
        let heading = format!("{:>8} {:>6} {:>9} {:>9} {:<9}  site", "change", "±", "before", "now", "of");
        let _ = writeln!(out, "{}", options.style.dim(&heading));
    }
    for site in difference.sites.iter().take(top) {
        let value = &difference.values[site.strongest];
        let figures = format!(
            "{:>8} {:>6} {:>9} {:>9} {:<9}  ",
            signed(difference.share(site)),
            error(difference, site),
            number(value, site.base[site.strongest]),
            number(value, site.now[site.strongest]),
            short_name(value),
        );
        out.push_str(&broken(&figures, &clean(&place(site)), options.width));
    }
    out.push_str(&hanging("  ", &rest(difference, top), options.width));
    for note in &difference.notes {
        out.push_str(&hanging("  note: ", &clean(note), options.width));
    }
    out
}

/// The same as JSON.
#[must_use]
pub fn json(base: &Profile, now: &Profile, difference: &Difference, top: usize) -> serde_json::Value {
    let named = |numbers: &[f64]| -> serde_json::Map<String, serde_json::Value> {
        difference.values.iter().zip(numbers).map(|(value, &number)| (value.name.clone(), number.into())).collect()
    };
    let sites = difference.sites.iter().take(top).map(|site| {
        serde_json::json!({
            "function": site.place.function,
            "file": site.place.file,
            "line": site.place.line,
            "call": site.place.call,
            "moved_from": site.moved_from,
            "value": difference.values[site.strongest].name,
            "change_share": difference.share(site),
            "change_share_standard_error": difference.share_error(site),
            "p_value": site.p_value,
            "before": named(&site.base),
            "now": named(&site.now),
            "standard_errors": named(&site.standard_errors),
        })
    });
    serde_json::json!({
        "kind": difference.kind,
        "before": { "cell": base.cell, "sampling": base.sampling, "totals": named(&difference.base_totals) },
        "now": { "cell": now.cell, "sampling": now.sampling, "totals": named(&difference.now_totals) },
        "scaled_by": named(&difference.factors),
        "level": difference.level,
        "changed_sites": difference.sites.len(),
        "unchanged_sites": difference.unchanged,
        "sites": sites.collect::<Vec<_>>(),
        "notes": difference.notes,
    })
}

/// How many are not shown, and why.
fn rest(difference: &Difference, top: usize) -> String {
    let sure = human::percent(1.0 - difference.level);
    let within = format!("{} within noise", human::counted(difference.unchanged as u64, "site"));
    match difference.sites.len() {
        0 => format!("No site changed by more than chance ({sure} sure of all together); {within}."),
        all if all > top => {
            format!("{} and {within}.", human::counted((all - top) as u64, "more site") + " changed;")
        }
        _ => format!("All of these changed by more than chance ({sure} sure of all together); {within}."),
    }
}

/// `Vec::push in words::split (words/src/lib.rs:12, was 10)`.
pub(super) fn place(site: &SiteChange) -> String {
    let place = &site.place;
    let call = if place.call.is_empty() { String::new() } else { format!("{} in ", place.call) };
    let was = site.moved_from.map_or(String::new(), |line| format!(", was {line}"));
    let file = if place.file.is_empty() { String::new() } else { format!(" ({}:{}{was})", place.file, place.line) };
    format!("{call}{}{file}", place.function)
}

fn signed(share: f64) -> String {
    // As a factor from a thousand percent on: no number of a table is wider.
    if share.abs() >= 10.0 { format!("{:+.0}×", share) } else { format!("{:+.1}%", share * 100.0) }
}

/// The half of a 95% interval, in points.
fn error(difference: &Difference, site: &SiteChange) -> String {
    match 1.96 * difference.share_error(site) * 100.0 {
        error if error <= 0.0 => "0".to_owned(),
        error => format!("{error:.1}"),
    }
}

fn short_name(value: &Value) -> String {
    value.name.replace("allocated_", "all_").replace("objects", "obj.").replace('_', " ")
}

pub(super) fn number(value: &Value, number: f64) -> String {
    match value.unit {
        ValueUnit::Bytes => human::value(Unit::Bytes, number),
        ValueUnit::Nanoseconds => human::value(Unit::Nanos, number),
        ValueUnit::Count => human::value(Unit::Count, number.round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{diff, testing};

    fn two() -> (Profile, Profile) {
        let (mut base, mut now) = (testing::profile(), testing::profile());
        base.locations[1].frames[1].line = 10;
        now.samples[0].values[0] = 1_900.0;
        (base, now)
    }

    #[test]
    fn a_table_of_what_changed() {
        let (base, now) = two();
        let difference = diff::difference(&base, &now).unwrap();
        let table = table(&base, &now, &difference, 5, Options::default());
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn no_news_is_said() {
        let (base, _) = two();
        let difference = diff::difference(&base, &base).unwrap();
        assert!(table(&base, &base, &difference, 5, Options::default()).contains("No site changed"));
    }

    #[test]
    fn json_names_the_value_that_changed() {
        let (base, now) = two();
        let difference = diff::difference(&base, &now).unwrap();
        let json = json(&base, &now, &difference, 1);
        let site = &json["sites"][0];
        assert_eq!(
            (&site["value"], &site["before"]["calls"], &site["now"]["calls"]),
            (&"calls".into(), &800.0.into(), &2_100.0.into())
        );
        assert_eq!((site["moved_from"].as_u64(), json["changed_sites"].as_u64()), (Some(10), Some(1)));
    }
}
