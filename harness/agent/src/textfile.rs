//! Metrics that other programs leave in a folder, as node_exporter's textfile collector takes them: every `*.prom` there is read
//! at each scrape and added to the exposition.
//!
//! A file is taken whole or not at all: one that is not in the text format, is too large, has time stamps, or names a metric or a
//! series that is there already is counted (`heapgate_agent_errors_total{reason="textfile"}`) and skipped, and harms no other.
//! Files are taken in the order of their names.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use heapgate_prometheus::catalogue;

/// Files that are read; further ones count as errors.
pub const MAX_FILES: usize = 64;
/// Bytes of one: some thousand series.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Bytes of all.
pub const MAX_BYTES: u64 = 4 << 20;
/// How the names of those that are read end.
const SUFFIX: &str = ".prom";

/// What the files of a folder say.
#[derive(Debug, Default)]
pub struct Textfiles {
    families: BTreeMap<String, Family>,
    /// Names of the files, and when each was written, seconds since 1970.
    pub(crate) files: Vec<(String, f64)>,
    /// Files that were skipped.
    pub(crate) skipped: u64,
}

#[derive(Debug, Default, Clone)]
struct Family {
    kind: Option<String>,
    help: Option<String>,
    /// Samples as they were written, in their order.
    lines: Vec<String>,
}

impl Textfiles {
    /// Reads the files of `folder`. One that can't be read, the folder itself too, is counted.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut all = Self::default();
        let Ok(entries) = fs::read_dir(folder) else {
            all.skipped = 1;
            return all;
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(SUFFIX) && !name.starts_with('.'))
            .collect();
        names.sort();
        all.skipped += names.len().saturating_sub(MAX_FILES) as u64;
        let (mut series, mut left) = (HashSet::new(), MAX_BYTES);
        for name in names.into_iter().take(MAX_FILES) {
            let taken = read_file(&folder.join(&name), left).ok().and_then(|(text, mtime_s)| {
                all.add(&text, &mut series)?;
                left -= text.len() as u64;
                Some((name, mtime_s))
            });
            match taken {
                Some(file) => all.files.push(file),
                None => all.skipped += 1,
            }
        }
        all
    }

    /// Adds one file's text, if it is sound and nothing in it is there already.
    fn add(&mut self, text: &str, series: &mut HashSet<String>) -> Option<()> {
        let found = parse(text)?;
        let mut new = HashSet::new();
        for (name, family) in &found {
            let there = self.families.get(name);
            let other_kind = there.is_some_and(|there| there.kind != family.kind);
            if is_ours(name) || other_kind {
                return None;
            }
            for line in &family.lines {
                let key = sample(line)?.series();
                if series.contains(&key) || !new.insert(key) {
                    return None;
                }
            }
        }
        // A family's own name must not be one of another's series, such as `x_count` beside the histogram `x`.
        let all: HashSet<&String> = self.families.keys().chain(found.keys()).collect();
        if all.iter().any(|name| parent(name).is_some_and(|(parent, _)| all.contains(&parent.to_owned()))) {
            return None;
        }
        series.extend(new);
        for (name, mut family) in found {
            let there = self.families.entry(name).or_default();
            there.kind = there.kind.take().or(family.kind);
            there.help = there.help.take().or(family.help);
            there.lines.append(&mut family.lines);
        }
        Some(())
    }

    /// Writes them, family by family.
    pub(crate) fn expose(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        for (name, family) in &self.families {
            if let Some(help) = &family.help {
                text += &format!("# HELP {name} {help}\n");
            }
            text += &format!("# TYPE {name} {}\n", family.kind.as_deref().unwrap_or("untyped"));
            for line in &family.lines {
                text += line;
                text.push('\n');
            }
        }
        out.write_all(text.as_bytes())
    }
}

/// The text of a file, and when it was written. Not of what is no regular file, nor of more than `left` bytes.
fn read_file(path: &Path, left: u64) -> io::Result<(String, f64)> {
    // Without waiting where it is a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    let most = left.min(MAX_FILE_BYTES);
    let mut text = String::new();
    if !metadata.is_file() || file.take(most + 1).read_to_string(&mut text)? as u64 > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((text, metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9))
}

/// Whether the agent exports a metric, or a series of one, under this name itself.
fn is_ours(name: &str) -> bool {
    let is = |name: &str| catalogue::ALL.iter().any(|id| id.metric().name == name);
    is(name) || parent(name).is_some_and(|(parent, _)| is(parent))
}

/// The family that a name with one of the endings of histograms and summaries would belong to.
fn parent(name: &str) -> Option<(&str, &str)> {
    ["_bucket", "_sum", "_count"].into_iter().find_map(|end| Some((name.strip_suffix(end)?, end)))
}

/// The families of a text; nothing if any line is none of the format.
fn parse(text: &str) -> Option<BTreeMap<String, Family>> {
    let mut families = BTreeMap::<String, Family>::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            describe(comment.trim_start(), &mut families)?;
            continue;
        }
        let name = sample(line)?.name;
        let of_parent = parent(name).filter(|(parent, end)| {
            let kind = families.get(*parent).and_then(|family| family.kind.as_deref());
            kind == Some("histogram") || (kind == Some("summary") && *end != "_bucket")
        });
        let family = of_parent.map_or(name, |(parent, _)| parent);
        families.entry(family.to_owned()).or_default().lines.push(line.to_owned());
    }
    Some(families)
}

/// Takes a comment: `HELP` and `TYPE` once each, before the samples of their family; others are passed over.
fn describe(comment: &str, families: &mut BTreeMap<String, Family>) -> Option<()> {
    let (word, rest) = comment.split_once(' ').unwrap_or((comment, ""));
    if word != "HELP" && word != "TYPE" {
        return Some(());
    }
    let (name, what) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
    if !is_name(name) {
        return None;
    }
    let family = families.entry(name.to_owned()).or_default();
    let what = what.trim();
    let field = if word == "HELP" { &mut family.help } else { &mut family.kind };
    let known = word == "HELP" || ["counter", "gauge", "histogram", "summary", "untyped"].contains(&what);
    if field.is_some() || !known || !family.lines.is_empty() {
        return None;
    }
    *field = Some(what.to_owned());
    Some(())
}

/// A sample as it was written.
struct Sample<'a> {
    name: &'a str,
    /// Names and values of its labels, escaped as they were.
    labels: Vec<(&'a str, &'a str)>,
}

impl Sample<'_> {
    /// What must not be there twice.
    fn series(&self) -> String {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        format!("{}{labels:?}", self.name)
    }
}

/// Takes `name{label="value",…} number` apart; nothing for what is none, and for one with a time stamp.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(list) = rest.strip_prefix('{') {
        rest = list.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once('=')?;
            let text = after.trim_start().strip_prefix('"')?;
            let end = closing_quote(text)?;
            let label = label.trim();
            if !is_name(label) || label.contains(':') || labels.iter().any(|(there, _)| *there == label) {
                return None;
            }
            labels.push((label, &text[..end]));
            rest = text[end + 1..].trim_start();
            rest = match rest.strip_prefix(',') {
                Some(rest) => rest.trim_start(),
                None if rest.starts_with('}') => rest,
                None => return None,
            };
        }
        rest = &rest[1..];
    }
    // One word: a second one would be a time stamp.
    rest.trim().parse::<f64>().ok()?;
    is_name(name).then_some(Sample { name, labels })
}

/// Where the quote is that ends a label's value.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => {
                if !b"\\\"n".contains(&byte) {
                    return None;
                }
                escaped = false;
            }
            b'\\' => escaped = true,
            b'"' => return Some(index),
            _ => {}
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Textfiles) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let read = Textfiles::read(folder.path());
        (folder, read)
    }

    fn exposed(read: &Textfiles) -> String {
        let mut out = Vec::new();
        read.expose(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const HISTOGRAM: &str =
        "# HELP x Times.\n# TYPE x histogram\nx_bucket{le=\"0.1\"} 1\nx_bucket{le=\"+Inf\"} 2\nx_sum 0.5\nx_count 2\n";

    #[test]
    fn families_of_several_files_are_merged_and_each_file_has_its_time() {
        let (_folder, read) = folder(&[
            ("a.prom", HISTOGRAM),
            ("b.prom", "# TYPE jobs gauge\njobs{of=\"b\"} 3\n"),
            ("c.prom", "# about nothing\n# TYPE jobs gauge\njobs{of=\"c\",} NaN\nplain 1e3\n"),
            ("d.txt", "not read"),
            (".e.prom", "hidden, half written"),
        ]);
        assert_eq!((read.skipped, read.files.len()), (0, 3));
        assert!(read.files.iter().all(|(_, mtime_s)| *mtime_s > 1.6e9));
        let jobs = "# TYPE jobs gauge\njobs{of=\"b\"} 3\njobs{of=\"c\",} NaN\n";
        assert_eq!(exposed(&read), format!("{jobs}# TYPE plain untyped\nplain 1e3\n{HISTOGRAM}"));
    }

    #[test]
    fn a_bad_file_is_skipped_whole_and_counted() {
        let good = ("a.prom", "good 1\n");
        for bad in [
            "good 2\n",
            "also_good 1\nno number\n",
            "stamped 1 1700000000000\n",
            "a{b=\"c\" 1\n",
            "a{b=\"\\x\"} 1\n",
            "a{b=\"1\",b=\"2\"} 1\n",
            "a{b=\"1\"} 1\na{b=\"1\"} 2\n",
            "1a 1\n",
            "# TYPE a number\na 1\n",
            "a 1\n# TYPE a gauge\n",
            "# TYPE good counter\ngood{x=\"1\"} 1\n",
            "# TYPE y histogram\ny_count 1\n# TYPE y_count gauge\n",
            "heapgate_live_bytes 1\n",
            "heapgate_stall_seconds_bucket{le=\"1\"} 1\n",
            "heapgate_agent_errors_total{reason=\"x\"} 1\n",
        ] {
            let (_folder, read) = folder(&[good, ("b.prom", bad)]);
            assert_eq!((read.skipped, exposed(&read).as_str()), (1, "# TYPE good untyped\ngood 1\n"), "{bad}");
        }
    }

    #[test]
    fn size_and_number_are_bounded_and_what_is_no_file_is_not_waited_for() {
        let large = "# long\n".repeat(MAX_FILE_BYTES as usize / 7 + 1);
        let (place, read) = folder(&[("a.prom", &large), ("b.prom", "b 1\n")]);
        assert_eq!((read.skipped, read.files.len()), (1, 1));
        fs::create_dir(place.path().join("c.prom")).unwrap();
        assert_eq!(Textfiles::read(place.path()).skipped, 2);
        assert_eq!(Textfiles::read(&place.path().join("none")).skipped, 1);
        let names: Vec<String> = (0..MAX_FILES + 3).map(|n| format!("{n:03}.prom")).collect();
        let texts: Vec<String> = (0..names.len()).map(|n| format!("m{n} 1\n")).collect();
        let files: Vec<(&str, &str)> = names.iter().zip(&texts).map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let (_place, read) = folder(&files);
        assert_eq!((read.skipped, read.files.len()), (3, MAX_FILES));
    }
}
