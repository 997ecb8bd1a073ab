//! The two sides of an interleaved comparison: from names to a session that runs both, and from its reports to two that can
//! be compared.

use std::path::{Path, PathBuf};

use heapgate_bench::{Injection, Under};
use heapgate_core::config::Config;
use heapgate_core::plan::{Planned, Program};
use heapgate_core::report::{Cell, Report};

use crate::args::selection::Selection;
use crate::fail::Failure;
use crate::own_bench;
use crate::run::Session;
use crate::source::Source;

/// One side, as on the command line.
#[derive(Debug)]
pub enum Side {
    /// An allocator with settings.
    Allocator(Under),
    /// A program that can run trials.
    Program(Box<Source>),
}

impl Side {
    /// What `text` means: a file that there is, or else an allocator.
    ///
    /// # Errors
    /// If it is neither, or the file is no program of heapgate's kind.
    pub fn of(text: &str) -> Result<Self, Failure> {
        if Path::new(text).is_file() {
            return Ok(Self::Program(Box::new(own_bench::describe(Path::new(text))?)));
        }
        match text.parse() {
            Ok(under) => Ok(Self::Allocator(under)),
            Err(_) if text.contains('/') => Err(Failure::usage(format!("{text}: there is no such file"))),
            Err(error) => Err(Failure::usage(error)),
        }
    }
}

/// What the sides are called.
#[derive(Debug)]
pub struct Names {
    pub a: String,
    pub b: String,
    /// The allocators, where they are what differs.
    allocators: Option<(String, String)>,
}

impl Names {
    /// `report` with the cells of both sides called the same, so that they are compared.
    pub fn on_one_name(&self, report: &Report) -> Report {
        let mut report = report.clone();
        if let Some((a, b)) = &self.allocators {
            report.trials.iter_mut().for_each(|trial| trial.cell.allocator = format!("{a} → {b}"));
        }
        report
    }

    /// The cells of both sides that `cell` stands for.
    pub fn cells(&self, cell: &Cell) -> Vec<Cell> {
        match &self.allocators {
            Some((a, b)) => [a, b].map(|name| Cell { allocator: name.clone(), ..cell.clone() }).to_vec(),
            None => vec![cell.clone()],
        }
    }
}

/// A session of two allocators under the same program.
///
/// # Errors
/// For a selection that has allocators of its own, or names what there isn't.
pub fn settings(selection: &Selection, config: &Config, a: Under, b: Under) -> Result<(Session, Names), Failure> {
    selection.refuse_allocators()?;
    let (a_name, b_name) = (a.to_string(), b.to_string());
    let mut session = selection.session_under(config, selection.source()?, Some(&[a, b]))?;
    // Each variant comes under one, then under the other.
    session.plan.cells.iter_mut().enumerate().for_each(|(index, planned)| planned.side = index % 2);
    let build = session.build.clone();
    let allocators = Some((a_name.clone(), b_name.clone()));
    Ok((two_sided(session, build), Names { a: a_name, b: b_name, allocators }))
}

/// A session of two programs that run the same workloads.
///
/// # Errors
/// If they have none in common.
pub fn programs(selection: &Selection, config: &Config, a: Source, b: Source) -> Result<(Session, Names), Failure> {
    let names = Names { a: a.to_string(), b: b.to_string(), allocators: None };
    let sides = [&a, &b].map(|source| Program { path: source.program.clone(), directory: source.directory.clone() });
    let session_a = selection.session_under(config, a, None)?;
    let mut session = selection.session_under(config, b, None)?;
    let b_build = std::mem::replace(&mut session.build, session_a.build);
    let ours = std::mem::take(&mut session.plan.cells);
    let mut alone: Vec<String> = Vec::new();
    for planned in &session_a.plan.cells {
        match ours.iter().find(|other| other.cell == planned.cell) {
            Some(other) => session.plan.cells.extend([of_side(planned, 0, &sides), of_side(other, 1, &sides)]),
            None => alone.push(format!("{} (A)", planned.cell)),
        }
    }
    let in_a = |planned: &&Planned| session_a.plan.cells.iter().any(|other| other.cell == planned.cell);
    alone.extend(ours.iter().filter(|planned| !in_a(planned)).map(|planned| format!("{} (B)", planned.cell)));
    if session.plan.cells.is_empty() {
        return Err(Failure::usage(format!("the two programs have no workload in common: {}", alone.join(", "))));
    }
    if !alone.is_empty() {
        eprintln!("heapgate: not compared, since one side alone has it: {}", alone.join(", "));
    }
    Ok((two_sided(session, b_build), names))
}

/// `session` as a comparison of its cells with themselves (sides 0 and 1), and with each of `controls` planted (from 2 on).
pub fn planted(mut session: Session, controls: &[Injection]) -> Session {
    let sides = 2 + controls.len();
    let cells = std::mem::take(&mut session.plan.cells);
    for planned in cells {
        for side in 0..sides {
            let mut planned = Planned { side, ..planned.clone() };
            if let Some(control) = side.checked_sub(2).and_then(|index| controls.get(index)) {
                planned.arguments.extend(control.arguments());
            }
            session.plan.cells.push(planned);
        }
    }
    session.plan.group = sides;
    let output = session.output.clone();
    let side = |side: usize| output.with_extension(format!("side-{side}.json"));
    session.output = side(0);
    session.others = (1..sides).map(|index| (session.build.clone(), side(index))).collect();
    session
}

fn of_side(planned: &Planned, side: usize, programs: &[Program; 2]) -> Planned {
    Planned { side, program: Some(programs[side].clone()), ..planned.clone() }
}

/// `session` with the sides of each cell next to each other, and a report for each side: that of A lies beside B's.
fn two_sided(mut session: Session, b_build: heapgate_core::report::Build) -> Session {
    session.plan.group = 2;
    let b = session.output;
    session.output = beside(&b);
    session.others = vec![(b_build, b)];
    session
}

/// `report.json` is B's, and `report.a.json` is A's.
fn beside(output: &Path) -> PathBuf {
    let extension = output.extension().map_or("a".into(), |extension| {
        let mut all = std::ffi::OsString::from("a.");
        all.push(extension);
        all
    });
    output.with_extension(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_report_lies_beside() {
        assert_eq!(beside(Path::new("x/report.json")), Path::new("x/report.a.json"));
        assert_eq!(beside(Path::new("x/report")), Path::new("x/report.a"));
    }

    #[test]
    fn what_is_no_file_is_an_allocator() {
        assert!(matches!(Side::of("jemalloc:dirty_decay_ms=0"), Ok(Side::Allocator(_))));
        for wrong in ["nomalloc", "/no/such/program"] {
            assert!(Side::of(wrong).is_err(), "{wrong}");
        }
    }
}
