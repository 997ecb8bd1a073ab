//! What is shown while trials run, on standard error: a bar on a terminal, a line per trial elsewhere.

use std::io::{IsTerminal, stderr};

use heapgate_core::render::human;
use heapgate_core::report::{Cell, Outcome, Trial};
use indicatif::{ProgressBar, ProgressStyle};

/// Shows how far a run has come.
pub struct Progress {
    of: usize,
    index: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(of: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {elapsed} of about {duration}  {wide_msg}")
                .expect("a valid template")
                .progress_chars("━╸─");
            ProgressBar::new(of as u64).with_style(style)
        });
        Self { of, index: 0, bar }
    }

    pub fn started(&mut self, index: usize, cell: &Cell, rep: u32) {
        self.index = index;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{cell} #{}", human::repetition(rep)));
        }
    }

    pub fn ended(&mut self, trial: &Trial) {
        match &self.bar {
            Some(bar) => {
                if !trial.outcome.is_completed() {
                    bar.println(format!("{} #{} {}", trial.cell, human::repetition(trial.rep), failure(trial)));
                }
                bar.inc(1);
            }
            None => {
                let width = self.of.to_string().len();
                let state =
                    if trial.outcome.is_completed() { format!("{:.2} s", trial.wall_s) } else { failure(trial) };
                eprintln!(
                    "[{:>width$}/{}] {} #{}  {state}",
                    self.index + 1,
                    self.of,
                    trial.cell,
                    human::repetition(trial.rep)
                );
            }
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How a trial failed, and what it said of it.
fn failure(trial: &Trial) -> String {
    let said = match &trial.outcome {
        Outcome::Failed { stderr, .. } | Outcome::Killed { stderr, .. } | Outcome::OutOfMemory { stderr, .. } => {
            reason(stderr)
        }
        Outcome::Completed | Outcome::TimedOut { .. } => "",
    };
    let separator = if said.is_empty() { "" } else { ": " };
    format!("{}{separator}{said}", trial.outcome)
}

/// The line of a child's messages that says why it ended: the last before what Rust's runtime says of backtraces.
fn reason(messages: &str) -> &str {
    let of_backtraces =
        |line: &&str| ["note: ", "stack backtrace:", "skipping backtrace"].iter().any(|b| line.starts_with(b));
    messages.lines().take_while(|line| !of_backtraces(line)).last().unwrap_or("")
}
