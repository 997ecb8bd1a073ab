//! `heapgate trace`: the trace lines of services.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use heapgate_core::exit;

use crate::fail::Failure;
use crate::trace_line::{self, Found};

/// Turn trace lines into JSON
///
/// Any program that is built with heapgate-alloc writes a line of its figures every second if it is started with
/// HEAPGATE_TRACE=1: to standard error, or to the file that HEAPGATE_TRACE_FILE names. `--parse` reads a log that has such
/// lines, and prints one JSON object for each. All other lines are passed over, and counted on standard error; what
/// precedes a trace line on its line (a time, a container's name) is no matter.
///
/// docs/trace.md says what each field means.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Trace {
    /// Parse the lines
    #[arg(long, required = true)]
    parse: bool,
    /// The log [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  HEAPGATE_TRACE=1 tokenizer 2>&1 | heapgate trace --parse
  journalctl -u tokenizer -o cat | heapgate trace --parse >trace.jsonl
  heapgate trace --parse tokenizer.log | jq -s 'max_by(.stall_max_ns)'";

impl Trace {
    pub fn execute(self) -> Result<u8, Failure> {
        debug_assert!(self.parse, "clap requires it");
        let log = self.file.filter(|file| file != Path::new("-"));
        let name = log.as_ref().map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
        let unreadable = |error| Failure::usage(format!("{name} can't be read: {error}"));
        let mut lines: Box<dyn BufRead> = match &log {
            Some(file) => Box::new(BufReader::new(File::open(file).map_err(unreadable)?)),
            None => Box::new(stdin().lock()),
        };
        let (mut bytes, mut number, mut others) = (Vec::new(), 0_u64, 0_u64);
        loop {
            bytes.clear();
            if lines.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
                break;
            }
            number += 1;
            let line = String::from_utf8_lossy(&bytes);
            match trace_line::parse(line.trim_end_matches(['\n', '\r'])) {
                Ok(Found::Json(json)) => match writeln!(stdout(), "{json}") {
                    // Whoever read it has had enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(exit::PASS),
                    result => result?,
                },
                Ok(Found::OtherLine) => others += 1,
                Err(error) => return Err(Failure::usage(format!("{name}, line {number}: {error}"))),
            }
        }
        eprintln!("heapgate: {} trace lines, {others} other lines", number - others);
        Ok(exit::PASS)
    }
}
