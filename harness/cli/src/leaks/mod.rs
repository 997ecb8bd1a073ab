//! What is never released: of published processes (`live`), of a workload that is run for it (`workload`), and what a report
//! says of it (`report`). Each gives [`Subject`]s, which are printed here.

pub mod live;
pub mod report;
pub mod workload;

use heapgate_core::leaks::Findings;
use heapgate_core::render::leaks as render;
use heapgate_core::render::{Options, hanging};
use serde::Serialize;

use crate::args::print;
use crate::fail::Failure;

/// One process, or one run.
#[derive(Debug, Serialize)]
pub struct Subject {
    #[serde(flatten)]
    pub of: Of,
    #[serde(flatten)]
    pub findings: Findings,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Of what.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Of {
    Process { service: String, pid: u32, running: bool },
    Run { workload: String, variant: String, allocator: String, steps: u64, windows: usize },
    Trial { workload: String, variant: String, allocator: String, rep: u32 },
}

impl Of {
    fn title(&self) -> String {
        match self {
            Self::Process { service, pid, running: true } => format!("{service} ({pid})"),
            Self::Process { service, pid, running: false } => format!("{service} ({pid}, ended)"),
            Self::Run { workload, variant, allocator, steps, .. } => {
                format!("{workload}/{variant} under {allocator}, {steps} steps")
            }
            Self::Trial { workload, variant, allocator, rep } => {
                format!("{workload}/{variant} under {allocator}, repetition {}", rep + 1)
            }
        }
    }
}

impl Subject {
    /// Prints all of them: a table each, or one JSON array.
    pub fn print(found: &[Self], json: bool, options: Options) -> Result<(), Failure> {
        if json {
            return print(&serde_json::to_string_pretty(found)?);
        }
        let table = |subject: &Self| {
            let mut text = render::table(&subject.of.title(), &subject.findings, options);
            subject.notes.iter().for_each(|note| text.push_str(&hanging("note: ", note, options.width)));
            text
        };
        print(&found.iter().map(table).collect::<Vec<_>>().join("\n"))
    }
}
