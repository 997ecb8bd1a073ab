//! `--export FORMAT=FILE`: the verdict for other programs, in files beside what is printed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use heapgate_core::files;
use heapgate_core::gate::Verdict;
use heapgate_core::render::export::Format;
use heapgate_core::render::page::{self, Against, Subject};
use heapgate_core::report::Report;

use crate::fail::Failure;
use crate::profile_links;

/// Flags of verbs that come to a verdict.
#[derive(Debug, Default, Args)]
pub struct Exports {
    /// Also write the verdict in this format, for instance junit=heapgate.xml; may be given more than once (`heapgate
    /// list formats` shows all)
    #[arg(long, value_name = "FORMAT=FILE")]
    export: Vec<Export>,
    /// Also write the verdict as Markdown, for a comment on a pull request: short for --export markdown=FILE
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also write one page that needs nothing else: verdict, changes, curves and histograms to point at (--export
    /// html=FILE)
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// One file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Export {
    format: Format,
    file: PathBuf,
}

impl FromStr for Export {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, file) =
            text.split_once('=').ok_or("expected FORMAT=FILE, for instance junit=heapgate.xml".to_owned())?;
        let format: Format = format.parse().map_err(|error| format!("{error}"))?;
        match file {
            "" => Err(format!("no file is named; for instance {format}=heapgate.{}", format.extension())),
            "-" => Err("standard output is the table's; name a file".to_owned()),
            file => Ok(Self { format, file: file.into() }),
        }
    }
}

impl Exports {
    /// Finds out before a run of minutes whether its files could be written, each in a place of its own.
    pub fn check(&self) -> Result<(), Failure> {
        let exports = self.all();
        for (index, export) in exports.iter().enumerate() {
            if let Some(other) = exports[..index].iter().find(|other| other.file == export.file) {
                let (file, one, two) = (export.file.display(), other.format, export.format);
                return Err(Failure::usage(format!("--export {one}={file} and {two}={file}: name two files")));
            }
            files::check_writable(&export.file)?;
        }
        Ok(())
    }

    /// Whether one is asked for.
    pub fn any(&self) -> bool {
        !self.all().is_empty()
    }

    fn all(&self) -> Vec<Export> {
        let markdown = self.markdown.iter().map(|file| Export { format: Format::Markdown, file: file.clone() });
        let page = self.html.iter().map(|file| Export { format: Format::Html, file: file.clone() });
        self.export.iter().cloned().chain(markdown).chain(page).collect()
    }

    /// Writes all files. One that can't be written doesn't keep the others from being written; the error names every
    /// one that was not.
    pub fn write(&self, report: &Report, verdict: &Verdict, against: &Against<'_>) -> Result<(), Failure> {
        let mut failed: Vec<String> = Vec::new();
        for Export { format, file } in self.all() {
            let text = match format {
                Format::Html => {
                    let profiles = profile_links::of(&file, report, Some(verdict));
                    page::render(Subject { report, verdict: Some(verdict), against, profiles: &profiles })
                }
                format => format.render(report, verdict, against)?,
            };
            let written = files::atomic_write(&file, text.as_bytes());
            failed.extend(written.err().map(|error| error.to_string()));
        }
        if failed.is_empty() { Ok(()) } else { Err(Failure::internal(anyhow::Error::msg(failed.join("; ")))) }
    }
}

#[cfg(test)]
mod tests {
    use heapgate_core::config::Config;
    use heapgate_core::gate::{Look, compare};
    use heapgate_core::report::testing;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_does_not_keep_the_others_from_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let (nowhere, good) = (folder.path().join("nowhere/out.xml"), folder.path().join("out.sarif"));
        let exports = Exports {
            export: vec![
                Export { format: Format::Junit, file: nowhere.clone() },
                Export { format: Format::Sarif, file: good.clone() },
                Export { format: Format::Json, file: folder.path().to_owned() },
            ],
            markdown: None,
            html: None,
        };
        let report = testing::report(1, 2);
        let verdict = compare(&report, &report, &Config::default(), Look::ONLY);
        let error = exports.write(&report, &verdict, &Against::report(&report)).unwrap_err().to_string();
        assert!(error.contains(&*nowhere.to_string_lossy()) && error.contains("; "), "both are named: {error}");
        assert!(std::fs::read_to_string(good).unwrap().contains("2.1.0"));
    }

    #[test]
    fn an_export_names_a_format_and_a_file() {
        let parsed: Export = "junit=a=b.xml".parse().unwrap();
        assert_eq!(parsed, Export { format: Format::Junit, file: "a=b.xml".into() });
        for (text, word) in
            [("junit", "FORMAT=FILE"), ("xml=a", "junit"), ("sarif=", "heapgate.sarif"), ("json=-", "table's")]
        {
            let error = text.parse::<Export>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn two_formats_do_not_go_into_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out");
        let exports = Exports {
            export: vec![
                Export { format: Format::Junit, file: file.clone() },
                Export { format: Format::Sarif, file: file.clone() },
            ],
            markdown: None,
            html: None,
        };
        assert!(exports.check().unwrap_err().to_string().contains("two files"));
        let page = Exports {
            export: vec![Export { format: Format::Junit, file: file.clone() }],
            markdown: None,
            html: Some(file),
        };
        assert!(page.check().unwrap_err().to_string().contains("two files"));
    }
}
