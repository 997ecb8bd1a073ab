//! The command line of a bench: our flags, those that cargo passes, and those of libtest that mean nothing here.

use std::collections::BTreeMap;

use super::Suite;
use crate::child::parse_param;
use crate::inject::Injection;

/// Repetitions where none are asked for: enough to see whether exact figures agree, and for a median.
const DEFAULT_REPS: u32 = 3;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Measure: `cargo bench` passes `--bench`.
    Bench,
    /// See whether everything runs: `cargo test` passes nothing.
    Test,
    List,
    Help,
}

/// The command line as parsed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arguments {
    pub mode: Mode,
    /// Parts of names; none for all.
    pub filters: Vec<String>,
    pub exact: bool,
    pub skips: Vec<String>,
    /// Only what is ignored by default: which is nothing.
    pub only_ignored: bool,
    pub allocators: Vec<String>,
    pub params: BTreeMap<String, String>,
    pub reps: u32,
    pub steps: Option<u64>,
    pub inject: Injection,
    pub json: bool,
}

/// Flags of libtest that change nothing here.
const WITHOUT_MEANING: &[&str] = &[
    "--nocapture",
    "--no-capture",
    "--show-output",
    "--quiet",
    "-q",
    "--include-ignored",
    "--force-run-in-process",
    "--exclude-should-panic",
    "--report-time",
    "--ensure-time",
    "--shuffle",
    "--fail-fast",
    "--verbose",
];
/// The same, with a value.
const WITHOUT_MEANING_WITH_VALUE: &[&str] =
    &["--test-threads", "--format", "--logfile", "--color", "--shuffle-seed", "-Z"];

impl Arguments {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut parsed = Self {
            mode: Mode::Test,
            filters: Vec::new(),
            exact: false,
            skips: Vec::new(),
            only_ignored: false,
            allocators: Vec::new(),
            params: BTreeMap::new(),
            reps: DEFAULT_REPS,
            steps: None,
            inject: Injection::default(),
            json: false,
        };
        let mut rest = arguments.iter();
        let mut tested = false;
        while let Some(argument) = rest.next() {
            // `--reps=5` is `--reps 5`.
            let (flag, mut attached) = match argument.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = || {
                attached
                    .take()
                    .or_else(|| rest.next().cloned())
                    .ok_or_else(|| format!("{flag} needs a value; see --help"))
            };
            match flag {
                "--bench" if parsed.mode == Mode::Test => parsed.mode = Mode::Bench,
                "--bench" => {}
                "--test" => tested = true,
                "--list" => parsed.mode = Mode::List,
                "--help" | "-h" => return Ok(Self { mode: Mode::Help, ..parsed }),
                "--exact" => parsed.exact = true,
                "--skip" => parsed.skips.push(value()?),
                "--ignored" => parsed.only_ignored = true,
                "--json" => parsed.json = true,
                "--allocator" | "-a" => parsed.allocators.push(value()?),
                "--param" | "-p" => parsed.params.extend([parse_param(&value()?)?]),
                "--reps" | "-n" => parsed.reps = number(flag, &value()?)?,
                "--steps" => parsed.steps = Some(number(flag, &value()?)?),
                "--inject" => {
                    let more = value()?.parse().and_then(|more| parsed.inject.and(more));
                    parsed.inject = more.map_err(|error| format!("--inject: {error}"))?;
                }
                _ if WITHOUT_MEANING.contains(&flag) => attached = None,
                _ if WITHOUT_MEANING_WITH_VALUE.contains(&flag) => drop(value()?),
                _ if flag.starts_with('-') && flag.len() > 1 => {
                    return Err(format!("unknown flag '{flag}'; see --help"));
                }
                _ => parsed.filters.push(argument.clone()),
            }
            if attached.is_some() && flag.starts_with('-') {
                return Err(format!("{flag} takes no value; see --help"));
            }
        }
        if tested && parsed.mode == Mode::Bench {
            parsed.mode = Mode::Test;
        }
        Ok(parsed)
    }
}

/// A number from 1.
fn number<T: std::str::FromStr + PartialOrd + From<u8>>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().ok().filter(|n| *n >= T::from(1)).ok_or_else(|| format!("{flag} {text}: not a number from 1"))
}

/// What `--help` prints.
pub(super) fn help(suite: &Suite) -> String {
    let name = suite.name;
    let mut text = format!(
        "\
Measures what code does with memory, each variant in fresh processes under each
allocator. Allocations, bytes and live objects are exact; times are medians.

Usage: cargo bench --bench {name} -- [OPTIONS] [FILTER]...

  FILTER                    variants whose name contains it [default: all]
      --exact               variants whose name is FILTER
      --skip FILTER         not these
  -a, --allocator SPEC      system, jemalloc, jemalloc:dirty_decay_ms=0, region,
                            region+system; may be repeated [default: the variant's]
  -p, --param NAME=VALUE    a parameter
  -n, --reps N              fresh processes for each [default: {DEFAULT_REPS}]
      --steps N             measured steps of each [default: the variant's]
      --json                print JSON instead of a table
      --list                print the names
  -h, --help                print this

`cargo test --benches` runs each once, with one step. Exit codes: 0 all ran,
2 the command line is wrong, 5 a workload failed.

With heapgate installed, in this folder:
  heapgate baseline record --bench {name}     keep the figures
  heapgate gate --bench {name}                compare with them: pass or fail

Variants
"
    );
    for variant in suite.variants {
        text.push_str(&format!("  {}/{}  (per {})\n", variant.workload, variant.name, variant.unit));
        if !variant.about.is_empty() {
            text.push_str(&format!("      {}\n", variant.about));
        }
        for param in variant.params {
            let choices = if param.choices.is_empty() {
                String::new()
            } else {
                format!("; one of: {}", param.choices.join(", "))
            };
            text.push_str(&format!("      {}={}  {}{choices}\n", param.name, param.default, param.help));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Arguments, String> {
        Arguments::parse(&arguments.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn cargo_bench_measures_and_cargo_test_tries() {
        assert_eq!(parse("--bench").unwrap().mode, Mode::Bench);
        assert_eq!(parse("").unwrap().mode, Mode::Test);
        assert_eq!(parse("--bench --test").unwrap().mode, Mode::Test);
        assert_eq!(parse("--bench --list").unwrap().mode, Mode::List);
        assert_eq!(parse("--list --bench").unwrap().mode, Mode::List);
        assert_eq!(parse("--bench -h --nonsense").unwrap().mode, Mode::Help);
    }

    #[test]
    fn our_flags_are_read_in_both_forms() {
        let expected = parse("split --reps 5 -p a=b -a system --steps 7 --json --bench").unwrap();
        assert_eq!(expected.filters, ["split"]);
        assert_eq!((expected.reps, expected.steps, expected.json), (5, Some(7), true));
        assert_eq!(expected.params["a"], "b");
        assert_eq!(parse("--bench --json --steps=7 --allocator=system --param=a=b split -n 5").unwrap(), expected);
    }

    #[test]
    fn flags_of_libtest_are_let_through() {
        let arguments =
            parse("--bench --nocapture --test-threads 4 --format=terse -Z unstable-options split -q").unwrap();
        assert_eq!(arguments, parse("--bench split").unwrap());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (arguments, said) in [
            ("--rep 5", "unknown flag '--rep'"),
            ("--reps 0", "--reps 0: not a number from 1"),
            ("--reps", "--reps needs a value"),
            ("--param a", "not of the form NAME=VALUE"),
            ("--json=yes", "--json takes no value"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(said), "{arguments}: {error}");
        }
    }
}
