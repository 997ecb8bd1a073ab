//! All profiles of a workload as one page that needs nothing but itself: flame graphs to click into, and tables.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::human;
use super::page::shell::{self, data, escaped};
use super::profile::{columns, how, share, text};
use crate::profile::view::{View, sites};
use crate::profile::{Kind, Profile, flame};

/// The page of `profiles`, of one workload, with `top` sites each.
#[must_use]
pub fn render(profiles: &[Profile], view: View, top: usize) -> String {
    let title = profiles.first().map_or(String::new(), |profile| format!("{}: profiles", profile.cell));
    let mut out = format!("<header><h1>{}</h1>\n", escaped(&title));
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
    out.push_str("</nav></header>\n<main id=\"main\">\n");
    let mut hashes = BTreeSet::new();
    for profile in profiles {
        push(&mut out, profile, view, top, &mut hashes);
    }
    framed(&shell::start(&title, false), &hashes) + &out + "</main>\n" + &shell::end(false)
}

/// The head with leave for flame graphs: each in a frame of its own, whose script can reach nothing outside of it, and
/// which, like the page, may load nothing. A frame of this kind has the page's policy, so that names the scripts of the
/// graphs by their `hashes`: no other runs, whatever got onto the page.
fn framed(head: &str, hashes: &BTreeSet<String>) -> String {
    const STYLE: &str = include_str!("page/assets/profiles.css");
    let mut scripts = String::from("script-src 'unsafe-hashes'");
    for hash in hashes {
        let _ = write!(scripts, " '{hash}'");
    }
    head.replacen("default-src 'none';", &format!("default-src 'none'; {scripts}; frame-src data:;"), 1).replacen(
        "</style>",
        &format!("{}</style>", STYLE.trim_end()),
        1,
    )
}

/// What inferno's script does, and what it does in a frame instead. It notes in the address what is zoomed, which a frame of this
/// kind may not change. It takes its width once it is loaded, which is 0 where the frame is out of sight or not laid out yet, and
/// may miss the change after that: then the graph would stay empty.
const IN_A_FRAME: [[&str; 2]; 3] = [
    ["history.replaceState(", "void ("],
    [
        "frames.attributes.width.value = svg",
        "if (!svg.width.baseVal.value) return; frames.attributes.width.value = svg",
    ],
    [
        "window.addEventListener('resize', function() {\n            update_for_width_change();\n        });",
        "new ResizeObserver(function() { update_for_width_change(); }).observe(svg);",
    ],
];

fn in_a_frame(svg: &str) -> String {
    IN_A_FRAME.iter().fold(svg.to_owned(), |svg, [alone, framed]| svg.replace(alone, framed))
}

/// What a policy calls a graph's script, and its handler of `onload` (Content Security Policy Level 3, `unsafe-hashes`).
fn script_hashes(svg: &str) -> impl Iterator<Item = String> {
    let between = |start: &str, end: &str| Some(svg.split_once(start)?.1.split_once(end)?.0);
    let script = between("<script type=\"text/ecmascript\">", "</script>")
        .map(|script| script.replace("<![CDATA[", "").replace("]]>", ""));
    let handler = between(" onload=\"", "\"").map(str::to_owned);
    let hash = |text: String| format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)));
    script.into_iter().chain(handler).map(hash)
}

fn push(out: &mut String, profile: &Profile, view: View, top: usize, hashes: &mut BTreeSet<String>) {
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
        let svg = in_a_frame(&svg);
        hashes.extend(script_hashes(&svg));
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
    out.push_str("<div class=\"wide\"><table class=\"sites\"><thead><tr>");
    columns.iter().for_each(|column| {
        let _ = write!(out, "<th>{}</th>", escaped(column.name));
    });
    out.push_str("<th>site</th></tr></thead><tbody>\n");
    for site in sites(profile).iter().take(top) {
        out.push_str("<tr>");
        for (index, column) in columns.iter().enumerate() {
            let text = escaped(&(column.text)(profile, site));
            // The first is the share of what sites are sorted by, in every kind.
            let text = if index == 0 { data(share(profile, main, site.values[main]), &text) } else { text };
            let _ = write!(out, "<td class=\"n\">{text}</td>");
        }
        let _ = writeln!(out, "<td>{}</td></tr>", escaped(&text(profile, site)));
    }
    out.push_str("</tbody></table></div>\n");
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
        for outside in
            ["src=\"http", "href=\"http", "url(http", "@import", "unsafe-inline'; frame", "script-src 'unsafe-inline"]
        {
            assert!(!page.contains(outside), "{outside}");
        }
        // The graphs' script, the same in all of them, and their one handler.
        let policy = page.split_once("script-src").unwrap().1.split_once(';').unwrap().0;
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
    }

    #[test]
    fn a_graph_in_a_frame_is_laid_out_when_it_is_drawn_and_leaves_the_address_alone() {
        let profile = testing::profile();
        let svg = flame::graph(&profile, profile.main_value(), View::default()).unwrap().unwrap();
        let framed = in_a_frame(&svg);
        // Inferno's script is known by these words: it may have others one day.
        for [alone, instead] in IN_A_FRAME {
            assert!(svg.contains(alone) && framed.contains(instead), "{alone}");
        }
    }
}
