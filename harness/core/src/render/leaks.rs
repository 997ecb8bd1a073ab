//! What is never released, as a table.

use std::fmt::Write;

use super::table::{clean, hanging};
use super::{Options, human};
use crate::leaks::growth::SiteGrowth;
use crate::leaks::witness::{Source, Witness};
use crate::leaks::{Findings, Kind, Leak, LiveTrend, Reason};
use crate::metric::Unit;

/// Arenas shown of one line of the source; `--json` has all.
const ITEMS: usize = 5;

/// Lines of the source shown.
const LINES: usize = 20;

/// What was found in `of`, a process.
#[must_use]
pub fn table(of: &str, findings: &Findings, options: Options) -> String {
    let mut out = hanging("", &summary(of, findings), options.width);
    if !findings.leaks.is_empty() {
        let _ =
            writeln!(out, "{}", options.style.dim(&format!("{:>9} {:>7} {:>9}  made at", "bytes", "open", "oldest")));
    }
    for leak in findings.leaks.iter().take(LINES) {
        out.push_str(&row(leak, options));
    }
    if let Some(more) = findings.leaks.len().checked_sub(LINES).filter(|&more| more > 0) {
        let _ = writeln!(out, "and {}", human::counted(more as u64, "more line"));
    }
    push_growing(&mut out, findings, options);
    // Where it bears something out, it was said there.
    let witnesses = findings
        .leaks
        .iter()
        .flat_map(|leak| &leak.witnesses)
        .chain(findings.growing.iter().flat_map(|s| &s.witnesses));
    let told = witnesses.into_iter().any(|witness| witness.source == Source::LiveBytes);
    if let Some(trend) = findings.live_bytes.filter(|_| !told) {
        out.push_str(&hanging(
            "",
            &live(trend, !findings.leaks.is_empty() || !findings.growing.is_empty()),
            options.width,
        ));
    }
    if findings.unexplained {
        let text = "live bytes grew, and as much was left in the end, of no line that is known.";
        out.push_str(&hanging("", text, options.width));
    }
    for escapes in findings.escapes.iter().take(ITEMS) {
        let text = format!(
            "{} of {} outlived {} of {}; no leak by itself, but while they live they pin chunks",
            human::counted(escapes.objects, "object"),
            bytes(escapes.bytes),
            human::counted(escapes.scopes, "scope"),
            clean(&escapes.place),
        );
        out.push_str(&hanging("escaped: ", &text, options.width));
    }
    out
}

fn summary(of: &str, findings: &Findings) -> String {
    let Findings { created, finalized, open, untracked, open_scopes, leaks, .. } = findings;
    let named: usize = leaks.iter().map(|leak| leak.items.len()).sum();
    let verdict = match (named, leaks.iter().map(|leak| leak.bytes).fold(0, u64::saturating_add)) {
        (0, _) if findings.any() => "not everything is released".to_owned(),
        (0, _) => "no leaks".to_owned(),
        (named, held) => format!("{} never released, of {}", human::count(named as u64), bytes(held)),
    };
    // A program without arenas wants to hear nothing of them.
    if *created == 0 && *open_scopes == 0 {
        return format!("{}: {verdict}.", clean(of));
    }
    let mut text = format!(
        "{}: {verdict}. {} made, {} released, {} open; {} open.",
        clean(of),
        human::counted(*created, "arena"),
        human::count(*finalized),
        human::count(*open),
        human::counted(*open_scopes as u64, "scope"),
    );
    if *untracked > 0 {
        let _ = write!(
            text,
            " {} found no room in the registry and can't be named.",
            human::counted(*untracked, "open arena")
        );
    }
    text
}

fn row(leak: &Leak, options: Options) -> String {
    let oldest = leak.items.iter().map(|item| item.age_s).fold(0.0, f64::max);
    let figures = format!("{:>9} {:>7} {:>9}  ", bytes(leak.bytes), human::count(leak.items.len() as u64), age(oldest));
    let mut out = hanging(&figures, &clean(&leak.place), options.width.max(60));
    let indent = " ".repeat(figures.chars().count());
    out.push_str(&hanging(&indent, &why(leak), options.width));
    push_witnesses(&mut out, &indent, &leak.witnesses, options);
    for item in leak.items.iter().take(ITEMS) {
        let name = if item.thread_name.is_empty() { "thread" } else { &item.thread_name };
        let (id, thread) = (item.id, item.thread);
        let text = format!("#{id} by {} ({thread}), {} old, {}", clean(name), age(item.age_s), bytes(item.bytes));
        let _ = writeln!(out, "{indent}{}", options.style.dim(&text));
    }
    if leak.items.len() > ITEMS {
        let _ = writeln!(out, "{indent}{}", options.style.dim(&format!("and {} more", leak.items.len() - ITEMS)));
    }
    out
}

/// Sites that grow: those that are not released, then those that were only held.
fn push_growing(out: &mut String, findings: &Findings, options: Options) {
    for (released, title) in [(false, "grows at"), (true, "held, and released in the end")] {
        let sites: Vec<&SiteGrowth> =
            findings.growing.iter().filter(|site| (site.released == Some(true)) == released).collect();
        if sites.is_empty() {
            continue;
        }
        let per = if sites[0].bytes_per_step.is_some() { "step" } else { "s" };
        let [bytes, objects] = ["bytes", "objects"].map(|what| format!("{what}/{per}"));
        let head = format!("{bytes:>10} {objects:>12} {:>9}  {title}", "alive");
        let _ = writeln!(out, "{}", options.style.dim(&head));
        sites.iter().take(LINES).for_each(|site| out.push_str(&growing_row(site, options)));
        if let Some(more) = sites.len().checked_sub(LINES).filter(|&more| more > 0) {
            let _ = writeln!(out, "and {}", human::counted(more as u64, "more site"));
        }
    }
}

fn growing_row(site: &SiteGrowth, options: Options) -> String {
    let per_step = site.bytes_per_step.zip(site.objects_per_step);
    let (bytes_rate, objects_rate) = per_step.unwrap_or((site.bytes_per_s, site.objects_per_s));
    let objects = if objects_rate == 0.0 { "-".to_owned() } else { human::value(Unit::Count, objects_rate) };
    let figures = format!(
        "{:>10} {objects:>12} {:>9}  ",
        human::value(Unit::Bytes, bytes_rate),
        human::value(Unit::Bytes, site.live_bytes)
    );
    let indent = " ".repeat(figures.chars().count());
    let place = if site.place.is_empty() { &site.function } else { &site.place };
    let mut out = hanging(&figures, &clean(place), options.width.max(60));
    let call = if site.call.is_empty() { String::new() } else { format!(", by {}", clean(&site.call)) };
    let arena = if site.through_arena { ", blocks of an arena" } else { "" };
    let rest = format!("{}{call}{arena}", clean(&site.function));
    out.push_str(&hanging(&indent, &rest, options.width));
    push_witnesses(&mut out, &indent, &site.witnesses, options);
    out
}

fn push_witnesses(out: &mut String, indent: &str, witnesses: &[Witness], options: Options) {
    for witness in witnesses {
        let source = match witness.source {
            Source::HeapSites => "the heap's sites",
            Source::JemallocProfile => "jemalloc's profile",
            Source::LiveBytes => "the trace of live bytes",
        };
        let agrees = if witness.agrees { "corroborated by" } else { "not corroborated by" };
        let text = format!("{agrees} {source}: {}", clean(&witness.said));
        out.push_str(&hanging(indent, &text, options.width));
    }
}

fn why(leak: &Leak) -> String {
    let arenas = human::counted(leak.created, "arena");
    match (leak.kind, leak.reason) {
        (Kind::Scope, _) => "scopes that have not ended".to_owned(),
        (Kind::Arena, Reason::Outlived) => format!(
            "{arenas} made here, {} released after at most {}",
            human::count(leak.finalized),
            age(leak.longest_released_s)
        ),
        (Kind::Arena, Reason::Undropped) => format!(
            "{arenas} made here, {} released, the rest open after everything was dropped",
            human::count(leak.finalized)
        ),
        (Kind::Arena, Reason::NeverReleased) => format!("{arenas} made here, more and more, and none released"),
        (Kind::Arena, Reason::Old) => format!("{arenas} made here, {} released", human::count(leak.finalized)),
    }
}

fn live(trend: LiveTrend, leaks: bool) -> String {
    let (first, last) = (bytes(trend.first_bytes.max(0.0) as u64), bytes(trend.last_bytes.max(0.0) as u64));
    let windows = trend.windows;
    match (trend.grows, leaks) {
        (true, true) => format!("Live bytes grew over {windows} looks, from {first} to {last}: that agrees."),
        (true, false) => format!(
            "Live bytes grew over {windows} looks, from {first} to {last}, though no arena or scope is to blame: look at the plain heap."
        ),
        (false, true) => format!(
            "Live bytes did not grow over {windows} looks ({first} to {last}): the leak is slower than that, or holds little."
        ),
        (false, false) => format!("Live bytes did not grow over {windows} looks ({first} to {last})."),
    }
}

fn bytes(count: u64) -> String {
    human::value(Unit::Bytes, count as f64)
}

fn age(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaks::Item;

    #[test]
    fn the_table_names_line_thread_age_and_bytes() {
        let item = |id, bytes| Item { id, thread: 4242, thread_name: "worker-3".into(), age_s: 61.0, bytes };
        let leak = Leak {
            kind: Kind::Arena,
            place: "src/tokenize.rs:42:17".into(),
            reason: Reason::Outlived,
            bytes: 1 << 20,
            created: 10_000,
            finalized: 9_990,
            longest_released_s: 0.0213,
            items: (0..7).map(|id| item(id, 150_000)).collect(),
            witnesses: vec![Witness {
                source: Source::HeapSites,
                agrees: true,
                said: "1.1 MB of arenas' blocks alive, most of src/tokenize.rs:44".to_owned(),
            }],
        };
        let grows = SiteGrowth {
            place: "src/cache.rs:7".into(),
            function: "app::cache::insert".into(),
            call: "Vec::push".into(),
            through_arena: false,
            live_objects: 600.0,
            live_bytes: 9_600.0,
            objects_per_s: 60.0,
            bytes_per_s: 960.0,
            objects_per_step: Some(12.0),
            bytes_per_step: Some(192.0),
            p_value: 1e-6,
            left_bytes: Some(9_600.0),
            released: Some(false),
            witnesses: vec![Witness {
                source: Source::LiveBytes,
                agrees: false,
                said: "live bytes did not grow over 12 windows, 1 MB to 1 MB".to_owned(),
            }],
        };
        let held =
            SiteGrowth { released: Some(true), place: "src/index.rs:9".into(), witnesses: vec![], ..grows.clone() };
        let trend =
            LiveTrend { windows: 12, grows: true, bytes_per_window: 5.0, first_bytes: 1000.0, last_bytes: 90_000.0 };
        let findings = Findings {
            created: 10_000,
            finalized: 9_990,
            open: 10,
            untracked: 2,
            open_scopes: 1,
            leaks: vec![leak],
            escapes: vec![],
            live_bytes: Some(trend),
            growing: vec![grows, held],
            unexplained: false,
        };
        insta::assert_snapshot!(table("tokenizer (4240)", &findings, Options::default()));
    }
}
