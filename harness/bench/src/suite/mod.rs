//! What an executable made by [`main!`](crate::main) does: as a bench for people, as a child for itself and for heapgate.
//!
//! `arguments` reads the command line, `describe` tells the tool what there is, `child` runs one trial in a fresh process,
//! `figures` reads what that left, `table` and `human` print it. Nothing here runs in a measured process but
//! [`crate::run_trial`].

mod arguments;
mod cells;
mod describe;
mod figures;
mod fresh;
mod human;
mod table;

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use crate::child::run_trial;
use crate::json::Json;
use crate::workload::Variant;
use arguments::{Arguments, Mode};
use cells::{Cell, Outcome};

pub use describe::{DESCRIBE, PROBE, PROTOCOL, TRIAL};

/// Everything went well.
const OK: u8 = 0;
/// The command line is wrong.
const USAGE: u8 = 2;
/// A workload failed.
const FAILED: u8 = 5;

/// Makes a bench out of variants: the global allocator and `main`. Goes into a bench target with `harness = false`.
///
/// ```no_run
/// use heapgate_bench::bench;
///
/// heapgate_bench::main! {
///     bench!("split", "word", || {
///         let text = "In the beginning God created the heaven and the earth.".repeat(100);
///         move || text.split_whitespace().collect::<Vec<_>>().len()
///     }),
/// }
/// ```
///
/// The allocator is heapgate's switch, so that one executable is measured under several. With an allocator of your own
/// first, it is that one, and is called `own`: `main! { allocator: MiMalloc = MiMalloc; bench!(…), … }`.
#[macro_export]
macro_rules! main {
    (@main $($variant:expr),+) => {
        fn main() -> ::std::process::ExitCode {
            static VARIANTS: &[$crate::Variant] = &[$($variant),+];
            $crate::Suite::new(::core::env!("CARGO_CRATE_NAME"), VARIANTS).main()
        }
    };
    (allocator: $allocator:ty = $new:expr; $($variant:expr),+ $(,)?) => {
        $crate::test_allocator!($allocator = $new);
        $crate::main!(@main $($variant),+);
    };
    ($($variant:expr),+ $(,)?) => {
        $crate::test_allocator!();
        $crate::main!(@main $($variant),+);
    };
}

/// A bench: its name and what it can run.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    name: &'static str,
    variants: &'static [Variant],
}

impl Suite {
    /// A bench that runs `variants`.
    #[must_use]
    pub const fn new(name: &'static str, variants: &'static [Variant]) -> Self {
        Self { name, variants }
    }

    /// Does what the command line asks for.
    #[must_use]
    pub fn main(&self) -> ExitCode {
        let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
        ExitCode::from(match arguments.first().map(String::as_str) {
            Some(DESCRIBE) => self.describe(),
            Some(TRIAL) => self.trial(&arguments[1..]),
            Some(PROBE) => OK,
            _ => self.bench(&arguments),
        })
    }

    fn describe(&self) -> u8 {
        show(&format!("{}\n", self.description()));
        OK
    }

    /// What it can run, on one line: what the tool asks a bench for.
    #[must_use]
    pub fn description(&self) -> String {
        describe::describe(self).to_string()
    }

    fn trial(&self, arguments: &[String]) -> u8 {
        match run_trial(self.variants, arguments) {
            Ok(done) => {
                show(&format!("{done}\n"));
                OK
            }
            Err(error) => {
                complain(&error.to_string());
                error.exit_code()
            }
        }
    }

    fn bench(&self, arguments: &[String]) -> u8 {
        let planned = self.check().and_then(|()| Arguments::parse(arguments)).and_then(|arguments| {
            let cells = cells::plan(self, &arguments)?;
            Ok((arguments, cells))
        });
        let (arguments, cells) = match planned {
            Ok(planned) => planned,
            Err(message) => {
                complain(&message);
                return USAGE;
            }
        };
        match arguments.mode {
            Mode::Help => show(&arguments::help(self)),
            Mode::List => show(&list(&cells)),
            Mode::Test => return test(&cells),
            Mode::Bench => return measure(cells, &arguments),
        }
        OK
    }

    /// Names are what cells and baselines are found by.
    fn check(&self) -> Result<(), String> {
        for (index, variant) in self.variants.iter().enumerate() {
            let name = format!("{}/{}", variant.workload, variant.name);
            let plain =
                |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !plain(variant.workload) || !plain(variant.name) {
                return Err(format!(
                    "'{name}': names of workloads and variants are made of letters, digits, -, _ and ."
                ));
            }
            if self.variants[..index].iter().any(|v| (v.workload, v.name) == (variant.workload, variant.name)) {
                return Err(format!("two variants are called '{name}'"));
            }
        }
        Ok(())
    }
}

/// Prints results. A reader that goes away (`| head`) is no error.
fn show(text: &str) {
    let _ = stdout().lock().write_all(text.as_bytes());
}

fn complain(message: &str) {
    eprintln!("heapgate-bench: {message}");
}

/// As libtest lists benchmarks, for tools that ask.
fn list(cells: &[Cell]) -> String {
    let mut names: Vec<String> = cells.iter().map(|cell| format!("{}: benchmark\n", cell.name())).collect();
    names.dedup();
    names.concat()
}

/// Each variant once, under its first allocator, with one step: does it still run?
fn test(cells: &[Cell]) -> u8 {
    let mut code = OK;
    let mut last = String::new();
    for cell in cells {
        let name = cell.name();
        if name == last {
            continue;
        }
        let outcome = fresh::run(&Cell { steps: Some(1), ..cell.clone() });
        show(&format!("test {name} ({}) ... {}\n", cell.allocator, if outcome.is_ok() { "ok" } else { "FAILED" }));
        match outcome {
            Ok(ran) => warn(cell, &ran.said),
            Err(failure) => {
                complain(&format!("{name}: {failure}"));
                code = code.max(failure.code);
            }
        }
        last = name;
    }
    code
}

fn measure(cells: Vec<Cell>, arguments: &Arguments) -> u8 {
    let mut outcomes: Vec<Outcome> = cells.into_iter().map(Outcome::new).collect();
    let (all, mut done) = (outcomes.len() as u64 * u64::from(arguments.reps), 0);
    let terminal = stderr().is_terminal();
    // Every repetition runs all cells, so that a machine that grows slower touches all alike.
    for _ in 0..arguments.reps {
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.failure.is_none()) {
            done += 1;
            if terminal {
                eprint!("\r\x1b[K{done}/{all} {}", outcome.cell);
            }
            outcome.add(fresh::run(&outcome.cell));
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
    if arguments.json {
        show(&format!("{}\n", Json::list(outcomes.iter().map(Outcome::json))));
    } else {
        show(&table::render(&outcomes));
    }
    let mut code = OK;
    for outcome in &outcomes {
        warn(&outcome.cell, &outcome.said);
        if let Some(failure) = &outcome.failure {
            complain(&format!("{}: {failure}", outcome.cell));
            code = code.max(failure.code);
        }
    }
    code
}

/// What a child said though it succeeded: that jemalloc has no statistics, or whatever the workload warns of.
fn warn(cell: &Cell, said: &str) {
    if !said.is_empty() {
        complain(&format!("{cell}: {said}"));
    }
}
