//! The formats that a verdict can be written in, for other programs to read: the one list of them.

use std::fmt;
use std::str::FromStr;

use super::page::{Against, Subject};
use super::{bencher, benchfmt, github_benchmark, json, junit, markdown, otava, page, perfherder, sarif};
use crate::gate::Verdict;
use crate::report::Report;

macro_rules! formats {
    ($($id:ident { $name:literal, $extension:literal, $help:literal, $render:expr })*) => {
        /// A format that a verdict can be written in.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Format { $(#[doc = $help] $id),* }

        impl Format {
            /// All, in the order in which they are listed.
            pub const ALL: &[Self] = &[$(Self::$id),*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name),* }
            }

            /// What its files' names end in, without the dot.
            #[must_use]
            pub fn extension(self) -> &'static str {
                match self { $(Self::$id => $extension),* }
            }

            /// One line of help: what it is, and who reads it.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$id => $help),* }
            }

            /// The verdict over `report` in this format. `against` is what it was compared with, as far as a format shows
            /// more of that than the verdict has.
            ///
            /// # Errors
            /// None is known: all parts have a form in each.
            pub fn render(self, report: &Report, verdict: &Verdict, against: &Against<'_>) -> Result<String, serde_json::Error> {
                let render: fn(&Report, &Verdict, &Against<'_>) -> Result<String, serde_json::Error> = match self {
                    $(Self::$id => $render),*
                };
                render(report, verdict, against)
            }
        }
    };
}

formats! {
    Markdown { "markdown", "md", "A comment on a pull request, within GitHub's largest size",
        |r, v, _| Ok(markdown::render(r, v)) }
    Junit { "junit", "xml", "JUnit XML, for the test reports of Jenkins, GitLab, GitHub and others",
        |r, v, _| Ok(junit::render(r, v)) }
    Sarif { "sarif", "sarif", "SARIF 2.1.0, for code scanning, with call sites where sampled",
        |r, v, _| sarif::render(r, v) }
    Bencher { "bencher", "json", "Bencher Metric Format, for `bencher run --adapter json`",
        |r, _, _| bencher::render(r) }
    GithubBenchmark { "github-benchmark", "json", "customSmallerIsBetter of github-action-benchmark, without throughput",
        |r, v, _| github_benchmark::render(r, v) }
    Benchfmt { "benchfmt", "txt", "Go's benchmark format, for benchstat: every repetition",
        |r, v, _| Ok(benchfmt::render(r, v)) }
    Otava { "otava", "csv", "A row of CSV for Apache Otava, which finds change points in many",
        |r, _, _| Ok(otava::render(r)) }
    Perfherder { "perfherder", "json", "PERFHERDER_DATA, for Mozilla's Treeherder",
        |r, v, _| perfherder::render(r, v) }
    Html { "html", "html", "One page that needs nothing else, with every repetition and the stalls",
        |report, v, against| Ok(page::render(Subject { report, verdict: Some(v), against, profiles: &[] })) }
    Json { "json", "json", "The whole verdict, by schemas/verdict-v2.json",
        |_, v, _| json::render(v) }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no format has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format '{name}'; there are {}", names())]
pub struct UnknownFormat {
    /// The name.
    pub name: String,
}

fn names() -> String {
    Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let known = Self::ALL.iter().copied().find(|f| f.name() == name);
        known.ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_name() {
        for &format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert!(format.help().chars().count() <= 72, "{format}: one line of 80 columns with its indent");
        }
        let unknown = "xml".parse::<Format>().unwrap_err().to_string();
        assert!(unknown.contains("'xml'") && unknown.contains("junit"), "{unknown}");
    }
}
