//! `heapgate top`

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use heapgate_core::exit;
use heapgate_segment::published;

use super::{Global, print};
use crate::fail::Failure;
use crate::top::{self, Source, State};

/// Show the published processes of this machine in the terminal
///
/// Published is what was started with HEAPGATE_PUBLISH=NAME, or calls heapgate_alloc::publish. Times are of allocator calls
/// that the scheduler did not interrupt, in the last interval; a level below `sampled` has none. A process that has ended
/// stays for some seconds, greyed.
#[derive(Debug, Args)]
pub struct Top {
    /// How often to look, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print the list once, after one interval, and end
    #[arg(long)]
    once: bool,
    /// Print it as JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// Folder of the published processes [default: this user's]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    /// A look at some hundred processes takes some milliseconds.
    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(3600);
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if (SHORTEST..=LONGEST).contains(&interval) => Ok(interval),
        _ => Err("an interval is from 0.1 to 3600 s".to_owned()),
    }
}

impl Top {
    pub fn execute(self, global: &Global) -> Result<u8, Failure> {
        let folder = match self.folder {
            Some(folder) => folder,
            None => published::runtime_folder()?,
        };
        let state = State::new(folder.display().to_string(), self.interval);
        let source = Source::new(folder);
        let options = global.options(false);
        if self.once {
            let state = once(state, source)?;
            for problem in &state.problems {
                eprintln!("heapgate: warning: {problem}");
            }
            print(&if self.json { top::json(&state)? } else { top::table(&state, options.width) })?;
            return Ok(exit::PASS);
        }
        if !stdout().is_terminal() {
            return Err(Failure::usage(
                "top draws on a terminal, and standard output is none; print the list with --once",
            ));
        }
        let signalled = top::run(state, source, options.style.color)?;
        Ok(if signalled { exit::INTERRUPTED } else { exit::PASS })
    }
}

/// Two looks, an interval apart: rates are of what happens now.
fn once(mut state: State, mut source: Source) -> Result<State, Failure> {
    let start = Instant::now();
    let folder = source.folder().to_owned();
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", folder.display()));
    state.observe(Duration::ZERO, source.look().map_err(unreadable)?);
    std::thread::sleep(state.interval);
    state.observe(start.elapsed(), source.look().map_err(unreadable)?);
    Ok(state)
}
