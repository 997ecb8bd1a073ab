//! All profiles of a workload as one page that needs nothing but itself: flame graphs to click into, and tables.

use std::fmt::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::human;
use super::page::shell::{self, escaped};
use super::profile::{columns, how, text};
use crate::profile::view::{View, sites};
use crate::profile::{Kind, Profile, flame};

/// The page of `profiles`, of one workload, with `top` sites each.
#[must_use]
pub fn render(profiles: &[Profile], view: View, top: usize) -> String {
    let title = profiles.first().map_or(String::new(), |profile| format!("{}: profiles", profile.cell));
    let mut out = framed(&shell::start(&title, false));
    let _ = writeln!(out, "<h1>{}</h1>", escaped(&title));
    if let Some(first) = profiles.first() {
        let (build, machine) = (&first.fingerprint.build, &first.fingerprint.machine);
        let _ = writeln!(
            out,
            "<p class=\"dim\">{}; commit {}; {}, {} CPUs</p>",
            human::date(first.created_unix_s),
            escaped(if build.commit.is_empty() { "unknown" } else { &build.commit }),
            escaped(&machine.cpu),
            machine.cpus
        );
    }
    out.push_str("<nav class=\"jump\">");
    for profile in profiles {
        let _ = write!(out, "<a href=\"#{0}\">{0}</a>", profile.kind);
    }
    out.push_str("</nav>\n");
    for profile in profiles {
        push(&mut out, profile, view, top);
    }
    out + &shell::end(false)
}

/// The head with leave for flame graphs: each in a frame of its own, whose script can reach nothing outside of it, and
/// which, like the page, may load nothing.
fn framed(head: &str) -> String {
    const STYLE: &str = "iframe.flame{width:100%;border:1px solid var(--line);border-radius:4px;background:#fff}";
    head.replacen("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline'; frame-src data:;", 1)
        .replacen("</style>", &format!("{STYLE}</style>"), 1)
}

fn push(out: &mut String, profile: &Profile, view: View, top: usize) {
    let _ = writeln!(
        out,
        "<h2 id=\"{0}\">{0}: {1}</h2>\n<p class=\"prose dim\">{2}</p>",
        profile.kind,
        about(profile.kind),
        escaped(&how(profile))
    );
    for note in &profile.notes {
        let _ = writeln!(out, "<p class=\"prose\">{}</p>", escaped(note));
    }
    let main = profile.main_value();
    for index in profile.drawn_values() {
        let value = &profile.values[index];
        // One that can't be drawn is missing here as it is in the folder, where that is an error.
        let Ok(Some(svg)) = flame::graph(profile, index, view) else { continue };
        let height = height(&svg);
        let _ = writeln!(
            out,
            "<details{}><summary>{}</summary><iframe class=\"flame\" sandbox=\"allow-scripts\" loading=\"lazy\" title=\"flame graph of {}\" style=\"height:{}px\" src=\"data:image/svg+xml;base64,{}\"></iframe></details>",
            if index == main { " open" } else { "" },
            escaped(&value.name.replace('_', " ")),
            escaped(&value.name),
            height + 16,
            BASE64_STANDARD.encode(&svg)
        );
    }
    let columns = columns(profile);
    out.push_str("<table><tr>");
    columns.iter().for_each(|column| {
        let _ = write!(out, "<th>{}</th>", escaped(column.name));
    });
    out.push_str("<th>site</th></tr>\n");
    for site in sites(profile).iter().take(top) {
        out.push_str("<tr>");
        for column in &columns {
            let _ = write!(out, "<td class=\"n\">{}</td>", escaped(&(column.text)(profile, site)));
        }
        let _ = writeln!(out, "<td>{}</td></tr>", escaped(&text(profile, site)));
    }
    out.push_str("</table>\n");
}

const fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Cpu => "where CPU time goes",
        Kind::Heap => "what is in use at the peak and at the end",
        Kind::Alloc => "where allocations are made",
        Kind::Stall => "where slow calls of the allocator are made",
    }
}

/// The height that the graph asks for.
fn height(svg: &str) -> u32 {
    let after = svg.split_once(" height=\"").map_or("", |(_, after)| after);
    after.split('"').next().and_then(|number| number.parse().ok()).unwrap_or(600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testing;

    #[test]
    fn the_page_has_a_graph_for_each_value_and_loads_nothing() {
        let page = render(&[testing::profile()], View::default(), 10);
        assert_eq!(page.matches("<iframe").count(), 2);
        assert!(page.contains("words/src/lib.rs:12") && page.contains("default-src 'none'"));
        for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
