//! Pictures of reports and verdicts: each file a pure function from them to text, nothing measured, decided or printed.
//!
//! `human` formats all numbers, `style` all colours, `label` all names of cells. Callers decide where the text goes,
//! how wide that is, and whether it takes colours.

pub mod accuracy_doc;
mod accuracy_simulated;
mod accuracy_targets;
pub mod baseline;
pub mod bencher;
pub mod benchfmt;
pub mod calibration;
mod evidence;
pub mod experiment;
pub mod experiments_doc;
pub mod experiments_html;
pub mod export;
pub mod github_benchmark;
pub mod history;
pub mod history_html;
pub mod human;
pub mod json;
pub mod junit;
mod label;
pub mod leaks;
pub mod list;
pub mod live;
pub mod markdown;
pub mod metrics_doc;
pub mod otava;
pub mod page;
pub mod perfherder;
pub mod profile;
pub mod profile_diff;
pub mod profile_html;
pub mod run;
pub mod sarif;
mod series;
pub mod sites;
mod style;
mod summary;
mod table;
pub mod terminal;
#[cfg(test)]
mod tests;

pub use style::Style;
pub use table::hanging;

/// How text for a terminal is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Colours or none.
    pub style: Style,
    /// Columns.
    pub width: usize,
    /// Also show what passed.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { style: Style::default(), width: 80, verbose: false }
    }
}
