//! The call sites that allocate most.

use std::fmt::Write;

use super::table::{clean, hanging};
use super::{Options, human};
use crate::metric::Unit;
use crate::report::{Site, Sites};

/// Rows of the table: what is below matters to nobody.
const ROWS: usize = 20;

/// The sites with most allocations, with their shares and mean sizes, and how they were found. Without a heading that
/// says of what they are.
#[must_use]
pub fn table(sites: &Sites, options: Options) -> String {
    let mut out = hanging("", &how(sites), options.width);
    if sites.samples == 0 {
        return out;
    }
    let heading = format!("{:>7} {:>5} {:>7} {:>9}  site", "allocs", "±", "bytes", "mean");
    let _ = writeln!(out, "{}", options.style.dim(&heading));
    let shown: Vec<&Site> = sites.sites.iter().filter(|site| is_visible(sites, site)).take(ROWS).collect();
    for site in &shown {
        let figures = format!(
            "{:>7} {:>5} {:>7} {:>9}  ",
            percent(sites.share(site)),
            error(sites, site),
            percent(sites.bytes_share(site)),
            human::value(Unit::Bytes, site.mean_bytes()),
        );
        out.push_str(&broken(&figures, &clean(&text(site)), options.width));
    }
    let share = shown.iter().map(|site| sites.share(site)).sum::<f64>();
    let rest = sites.distinct_sites.saturating_sub(shown.len() as u64);
    if rest > 0 {
        let _ = writeln!(out, "{:>7} in {}", percent((1.0 - share).max(0.0)), human::counted(rest, "more site"));
    }
    out
}

/// What would be `0.0%` of everything is not worth a row.
fn is_visible(sites: &Sites, site: &Site) -> bool {
    const LEAST: f64 = 0.0005;
    sites.share(site) >= LEAST || sites.bytes_share(site) >= LEAST
}

fn how(sites: &Sites) -> String {
    let all = human::counted(sites.allocation_calls, "allocation");
    let bytes = human::value(Unit::Bytes, sites.allocated_bytes as f64);
    let taken = match (sites.samples, sites.period) {
        (0, _) => "no call stack was sampled".to_owned(),
        (_, 1) => "every one by its call stack".to_owned(),
        (n, period) => format!("{} of call stacks, 1 in {period}", human::counted(n, "sample")),
    };
    let lost = match sites.lost_samples {
        0 => String::new(),
        lost => format!("; {} lost", human::counted(lost, "more sample")),
    };
    format!("{all} of {bytes} in all; {taken}{lost}")
}

fn text(site: &Site) -> String {
    let call = if site.call.is_empty() { "an allocation" } else { &site.call };
    let place = if site.file.is_empty() { String::new() } else { format!(" ({}:{})", site.file, site.line) };
    format!("{call} in {}{place}", site.function)
}

/// One decimal, so that columns stand below each other.
fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn error(sites: &Sites, site: &Site) -> String {
    if sites.period <= 1 { "0".to_owned() } else { format!("{:.1}", sites.share_error(site) * 100.0) }
}

/// `first`, then `text`, in lines of `width`, the later ones indented: names have few spaces, so they are broken after
/// `::` and `/` too, and within what is longer than a line.
pub(super) fn broken(first: &str, text: &str, width: usize) -> String {
    /// Stands for `::` while text is cut up; control characters were taken out before.
    const PATH: &str = "\u{1}";
    let indent = first.chars().count();
    let room = width.saturating_sub(indent + 2).max(20);
    let mut lines = vec![String::new()];
    for piece in text.replace("::", PATH).split_inclusive(['/', ' ', '\u{1}']) {
        let piece = piece.replace(PATH, "::");
        let word: Vec<char> = piece.trim_end().chars().collect();
        for part in word.chunks(room) {
            let line = lines.last().map_or(0, |line| line.chars().count());
            if line > 0 && line + part.len() > room {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.extend(part);
            }
        }
        // The space that may end it needs no room.
        if let Some(line) = lines.last_mut() {
            line.push_str(&piece[piece.trim_end().len()..]);
        }
    }
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let before = if index == 0 { first.to_owned() } else { " ".repeat(indent + 2) };
        let _ = writeln!(out, "{before}{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(call: &str, function: &str, samples: u64, bytes: u64) -> Site {
        Site {
            call: call.to_owned(),
            function: function.to_owned(),
            file: "workloads/src/tokenize/heap.rs".to_owned(),
            line: 45,
            samples,
            sampled_bytes: samples * bytes,
        }
    }

    fn sites(period: u64) -> Sites {
        let sites = vec![
            site("Vec::push", "heapgate_workloads::tokenize::heap::Heap::pieces", 600, 24),
            site(
                "String::from",
                "a_crate_with_a_long_name::module::another_module::yet_another_module::Type::method_of_it",
                300,
                4096,
            ),
            site("", "main\u{1b}[2J", 100, 1),
        ];
        Sites {
            period,
            samples: 1000,
            sampled_bytes: sites.iter().map(|s| s.sampled_bytes).sum(),
            allocation_calls: 1000 * period,
            allocated_bytes: 81_920_000,
            distinct_sites: 3,
            sites,
            ..Sites::default()
        }
    }

    #[test]
    fn a_table_of_sites() {
        insta::assert_snapshot!(table(&sites(64), Options::default()));
    }

    #[test]
    fn a_table_of_exact_sites_and_one_without_samples() {
        let none = Sites { period: 64, lost_samples: 2, ..Sites::default() };
        let text = format!("{}\n{}", table(&sites(1), Options::default()), table(&none, Options::default()));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn more_sites_than_rows_are_summed_up_and_nothing_is_wider_than_the_paper() {
        let mut sites = sites(64);
        sites.sites = (0..30).map(|i| site("Vec::push", &format!("f{i}"), 33, 8)).collect();
        sites.distinct_sites = 40;
        let text = table(&sites, Options::default());
        assert!(text.contains("34.0% in 20 more sites"), "{text}");
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest(&text) <= 80 && widest(&table(&self::sites(64), Options::default())) <= 80, "{text}");
    }

    #[test]
    fn what_is_longer_than_a_line_is_broken_anywhere() {
        let text = broken(&" ".repeat(43), "f (unicode-normalization-alignments-0.1.12/src/decompose.rs:75) end", 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.replace([' ', '\n'], ""), "f(unicode-normalization-alignments-0.1.12/src/decompose.rs:75)end");
        assert!(text.lines().all(|line| !line.trim().is_empty()), "{text}");
    }

    #[test]
    fn repetitions_add_up() {
        let both = Sites::merged([&sites(64), &sites(64)]).unwrap();
        assert_eq!((both.samples, both.allocation_calls, both.sites[0].samples), (2000, 128_000, 1200));
        assert_eq!(both.sites.len(), 3);
        assert!(Sites::merged([]).is_none());
    }
}
