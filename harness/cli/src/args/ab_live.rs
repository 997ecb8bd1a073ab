//! `heapgate ab --live`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use heapgate_core::exit;
use heapgate_core::live::{Answer, Comparison, LiveMetric, Windows};
use heapgate_core::render::live::{LiveView, json, table};
use heapgate_segment::published;

use super::{Global, print};
use crate::fail::Failure;
use crate::live::{Look, Sides, Source, Which};
use crate::signals;

/// The heading of these flags.
const HEADING: &str = "A running service";

/// How a service that runs is compared with itself.
#[derive(Debug, Args)]
pub struct Live {
    /// Compare the groups of this published service while it runs (docs/live-ab.md)
    #[arg(long, value_name = "SERVICE", help_heading = HEADING, conflicts_with_all = ["a", "b", "base", "pid"])]
    live: Option<String>,
    /// Compare the groups of this published process
    #[arg(long, value_name = "PID", help_heading = HEADING, conflicts_with_all = ["a", "b", "base"])]
    pid: Option<u32>,
    /// What makes a side: groups, or versions of the service (the roll-out verdict: improved by 15%?)
    #[arg(long, value_enum, default_value_t = By::Group, value_name = "WHAT", help_heading = HEADING)]
    by: By,
    /// The side that the others are compared with [default: the group `control`, or the version that started first]
    #[arg(long, value_name = "SIDE", help_heading = HEADING)]
    control: Option<String>,
    /// Length of a window, as in 1s; each is a pair for the test
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = window, help_heading = HEADING)]
    window: Duration,
    /// End as soon as everything is decided, before the --duration (in seconds) is over
    #[arg(long, help_heading = HEADING)]
    until_decided: bool,
    /// Folder of the published processes [default: this user's]
    #[arg(long, value_name = "FOLDER", help_heading = HEADING)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Groups of threads, or processes with HEAPGATE_GROUP
    Group,
    /// Versions, as processes give them
    Version,
}

/// How long to wait for a service with two sides.
const PATIENCE: Duration = Duration::from_secs(5);

fn window(text: &str) -> Result<Duration, String> {
    /// Below, a window of a service that is not busy has too few calls.
    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(3600);
    match heapgate_core::config::parse_time(text) {
        Ok(window) if (SHORTEST..=LONGEST).contains(&window) => Ok(window),
        Ok(_) => Err("a window is from 0.1s to 1h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Live {
    /// Whether a running service is meant.
    pub fn is_meant(&self) -> bool {
        self.live.is_some() || self.pid.is_some()
    }

    /// Compares until `duration` is over, everything is decided (if that is asked for), or Ctrl-C.
    pub fn execute(self, duration: Option<Duration>, as_json: bool, global: &Global) -> Result<u8, Failure> {
        let which = match (&self.live, self.pid) {
            (Some(service), _) => Which::Service(service.clone()),
            (None, Some(pid)) => Which::Process(pid),
            (None, None) => return Err(Failure::usage("--live SERVICE or --pid PID")),
        };
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => published::runtime_folder()?,
        };
        let sides = if self.by == By::Version { Sides::Versions } else { Sides::Groups };
        let stop = signals::stop_flag()?;
        let mut source = Source::new(folder, which, sides);
        let first = self.first_look(&mut source, &stop)?;
        self.run(source, first, duration, as_json, global, &stop)
    }

    /// The first look at which there are two sides.
    fn first_look(&self, source: &mut Source, stop: &AtomicBool) -> Result<Look, Failure> {
        let begin = Instant::now();
        loop {
            let look = source.look()?;
            let names = names(&look);
            if names.len() >= 2 {
                return Ok(look);
            }
            if begin.elapsed() >= PATIENCE || stop.load(Relaxed) {
                return Err(self.too_few(source, &look, &names));
            }
            std::thread::sleep(self.window.min(Duration::from_secs(1)));
        }
    }

    fn too_few(&self, source: &Source, look: &Look, names: &[String]) -> Failure {
        let folder = source.folder.display();
        if let Some(problem) = look.unreadable.first() {
            return Failure::usage(problem.clone());
        }
        if look.processes == 0 {
            let what = match &source.which {
                Which::Service(name) => format!("service {name}"),
                Which::Process(pid) => format!("process {pid}"),
            };
            return Failure::usage(format!(
                "no published process of {what} in {folder}; `heapgate top` lists what there is"
            ));
        }
        let advice = match self.by {
            By::Group => "start it with groups (heapgate_alloc::groups), or processes of it with HEAPGATE_GROUP=NAME",
            By::Version => "run a process of each version (heapgate_alloc::publish_as, or HEAPGATE_VERSION)",
        };
        let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::inconclusive(format!("{} has fewer than two sides ({found}): {advice}", look.service))
    }

    fn run(
        &self,
        mut source: Source,
        first: Look,
        duration: Option<Duration>,
        as_json: bool,
        global: &Global,
        stop: &AtomicBool,
    ) -> Result<u8, Failure> {
        let names = names(&first);
        let control = self.control_of(&first, &names)?;
        let of_threads = first.of_threads;
        let mut comparison = Comparison::new(&control, &names, &LiveMetric::compared(of_threads, &BTreeMap::new()));
        let service = first.service.clone();
        let options = global.options(false);
        let redraws = stdout().is_terminal() && !as_json;
        let (mut windows, mut last, mut drawn) = (Windows::default(), BTreeMap::new(), 0);
        let mut told = std::collections::BTreeSet::new();
        windows.look(first.observed);
        let begin = Instant::now();
        // Counted from the beginning: a look that takes long delays no other.
        for number in 1_u32.. {
            let due = self.window.saturating_mul(number);
            while begin.elapsed() < due && !stop.load(Relaxed) {
                std::thread::sleep((due - begin.elapsed().min(due)).min(Duration::from_millis(100)));
            }
            if stop.load(Relaxed) {
                break;
            }
            let look = source.look()?;
            let mut notes = notes(&look, &names);
            last = windows.look(look.observed);
            let metrics = LiveMetric::compared(of_threads, &last);
            if comparison.windows() == 0 {
                // Only now it is known whether there are requests.
                comparison = Comparison::new(&control, &names, &metrics);
            } else if metrics.contains(&LiveMetric::RequestTime) && !comparison.compares(LiveMetric::RequestTime) {
                notes.push(left_out("the counting of requests"));
            }
            for note in notes {
                if told.insert(note.clone()) {
                    eprintln!("heapgate: {note}");
                }
            }
            comparison.push(&last);
            let view = self.view(&service, &comparison, &last);
            if redraws {
                drawn = redraw(&table(view, options), drawn)?;
            }
            let over = duration.is_some_and(|duration| begin.elapsed() >= duration);
            if over || (self.until_decided && comparison.is_decided()) {
                break;
            }
        }
        let view = self.view(&service, &comparison, &last);
        if as_json {
            print(&json(view)?)?;
        } else if !redraws {
            print(&table(view, options))?;
        }
        Ok(self.code(&comparison))
    }

    fn view<'a>(
        &self,
        service: &'a str,
        comparison: &'a Comparison,
        last: &'a BTreeMap<String, heapgate_core::live::Figures>,
    ) -> LiveView<'a> {
        let versions = self.by == By::Version;
        LiveView { service, comparison, last, window_s: self.window.as_secs_f64(), versions }
    }

    fn control_of(&self, look: &Look, names: &[String]) -> Result<String, Failure> {
        let there = |name: &String| names.contains(name);
        if let Some(control) = &self.control {
            let missing = || Failure::usage(format!("--control {control}: there are {}", names.join(", ")));
            return Some(control.clone()).filter(there).ok_or_else(missing);
        }
        let oldest = look.oldest.as_ref().map(|(_, version)| version.clone());
        let usual = Some("control".to_owned()).filter(there);
        Ok(oldest.or(usual).unwrap_or_else(|| look.observed[0].side.clone()))
    }

    fn code(&self, comparison: &Comparison) -> u8 {
        let worse = comparison.sides().into_iter().any(|side| comparison.rollout(side).worse == Answer::Yes);
        if self.by == By::Version && worse {
            exit::REGRESSION
        } else if comparison.is_decided() || comparison.nothing_is_worse() {
            exit::PASS
        } else {
            exit::INCONCLUSIVE
        }
    }
}

/// The sides that were found, in the order in which they were.
fn names(look: &Look) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for observed in &look.observed {
        if !names.contains(&observed.side) {
            names.push(observed.side.clone());
        }
    }
    names
}

fn notes(look: &Look, known: &[String]) -> Vec<String> {
    let new = names(look).into_iter().filter(|name| !known.contains(name)).map(|name| left_out(&name));
    new.chain(look.unreadable.iter().cloned()).collect()
}

fn left_out(what: &str) -> String {
    format!("{what} began after the comparison, and is left out: start it anew to have it in")
}

/// Writes `text` over the `lines` lines that were written before; returns how many there are now.
fn redraw(text: &str, lines: usize) -> Result<usize, Failure> {
    let up = if lines > 0 { format!("\x1b[{lines}A\x1b[J") } else { String::new() };
    let mut out = stdout().lock();
    out.write_all(format!("{up}{text}").as_bytes())?;
    out.flush()?;
    Ok(text.lines().count())
}
