//! Our counts against those of heaptrack, which sees the C library's allocator from outside: the same run, counted by
//! both.
//!
//! heaptrack also sees what is not ours: blocks of the C++ library that it brings along itself, and what is allocated
//! before the first phase. Calls of those are the same in a long run and in a short one, so they cancel out in the
//! difference. Their bytes are found with a run that does nothing.

use std::process::{Command, Stdio};

use crate::common::segment::Segment;
use crate::common::{HEAPGATE, Place, Ran, skip};
use heapgate_segment::layout::Level;

/// One run, as both saw it.
#[derive(Debug)]
struct Seen {
    /// Calls of alloc, alloc_zeroed and realloc in all phases.
    our_calls: u64,
    /// "calls to allocation functions", as `heaptrack_print` says.
    its_calls: u64,
    /// Most bytes live at one time.
    our_peak_bytes: i64,
    /// The same from heaptrack's recording, replayed: to the byte.
    its_peak_bytes: i64,
    /// The same as `heaptrack_print` says: rounded, for instance `8.93M`.
    its_peak_printed: String,
    /// Bytes live at the end.
    our_left_bytes: i64,
    its_left_bytes: i64,
}

fn heaptrack_is_missing() -> bool {
    let there = |name: &str| Command::new(name).arg("--help").output().is_ok();
    let missing = !["heaptrack", "heaptrack_print", "zstd"].into_iter().all(there);
    if missing {
        skip("counts against heaptrack: heaptrack, heaptrack_print or zstd is not installed");
    }
    missing
}

/// Runs heapgate with `arguments` under heaptrack.
fn run(arguments: &str) -> Seen {
    let place = Place::new();
    let segment = Segment::new(Level::Exact);
    let mut command = Command::new("heaptrack");
    command.arg("-o").arg(place.path("recording")).arg(HEAPGATE).args(arguments.split(' '));
    command.env("HEAPGATE_ALLOCATOR", "system").envs([("RAYON_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false")]);
    segment.give_to(command.stdin(Stdio::null()));
    Ran::of(&mut command).ends_with(0);

    let printed = Ran::of(Command::new("heaptrack_print").arg(place.path("recording.zst"))).ends_with(0).stdout;
    let line = |label: &str| {
        let found = printed.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("no '{label}'"));
        found.split_whitespace().next().expect("a figure").to_owned()
    };
    let replayed =
        replay(&Ran::of(Command::new("zstd").arg("-dc").arg(place.path("recording.zst"))).ends_with(0).stdout);
    let reader = segment.reader();
    let phases = reader.phases();
    // Without a phase, the peak of the whole process.
    let peaks = phases.iter().map(|phase| phase.peaks).max_by_key(|peaks| peaks.bytes).unwrap_or(reader.peaks());
    assert_eq!(peaks.bytes_error, 0, "one thread is counted exactly");
    Seen {
        our_calls: phases.iter().map(|phase| phase.end.since(&phase.begin).allocation_calls()).sum(),
        its_calls: line("calls to allocation functions: ").parse().expect("a number"),
        our_peak_bytes: peaks.bytes,
        its_peak_bytes: replayed.0,
        its_peak_printed: line("peak heap memory consumption: "),
        our_left_bytes: reader.totals().live_bytes(),
        its_left_bytes: replayed.1,
    }
}

/// Goes through a recording and returns the most bytes that were live at one time, and those that were in the end.
///
/// Its lines, all numbers hexadecimal: `a SIZE TRACE` describes the next kind of allocation, `+ KIND` and `- KIND` are
/// calls.
fn replay(recording: &str) -> (i64, i64) {
    let number = |text: &str| i64::from_str_radix(text, 16).expect("hexadecimal");
    let (mut sizes, mut live, mut peak) = (Vec::new(), 0, 0);
    for line in recording.lines() {
        let mut words = line.split(' ');
        let Some((what, first)) = words.next().zip(words.next()) else { continue };
        match what {
            "a" => sizes.push(number(first)),
            "+" => live += sizes[number(first) as usize],
            "-" => live -= sizes[number(first) as usize],
            _ => {}
        }
        peak = peak.max(live);
    }
    (peak, live)
}

/// What `printed` stands for, and half of its last digit, bytes.
fn rounded(printed: &str) -> (f64, f64) {
    let (number, unit) = printed.split_at(printed.len() - 1);
    let unit = match unit {
        "B" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        other => panic!("unknown unit {other}"),
    };
    let digits = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    (number.parse::<f64>().expect("a number") * unit, unit / 10f64.powi(digits as i32) / 2.0)
}

/// Holds a run of `variant`, and one of twice as many steps, against heaptrack.
fn agree(variant: &str, steps: u64) {
    if heaptrack_is_missing() {
        return;
    }
    let trial = |steps| run(&format!("trial {variant} --param document=repeated --steps {steps}"));
    let (nothing, short, long) = (run("probe"), trial(steps), trial(2 * steps));
    println!("{nothing:#?}\n{short:#?}\n{long:#?}");

    let more = long.our_calls - short.our_calls;
    assert!(more > 100_000, "a difference that tells something: {more}");
    assert_eq!(more, long.its_calls - short.its_calls, "allocation calls");

    let not_ours = nothing.its_peak_bytes - nothing.our_peak_bytes;
    for seen in [short, long] {
        assert_eq!(seen.our_peak_bytes + not_ours, seen.its_peak_bytes, "peak of live bytes");
        let (printed, half_a_digit) = rounded(&seen.its_peak_printed);
        let off = (printed - seen.its_peak_bytes as f64).abs();
        assert!(off <= half_a_digit, "{} is printed for {}", seen.its_peak_printed, seen.its_peak_bytes);
        assert_eq!(seen.our_left_bytes, seen.its_left_bytes, "bytes live at the process's end");
    }
}

#[test]
fn wordpiece_is_counted_as_heaptrack_counts_it() {
    agree("tokenize/wordpiece-heap", 8);
}

#[test]
fn the_tokenizers_crate_is_counted_as_heaptrack_counts_it() {
    agree("tokenize/hf-wordpiece", 4);
}
