//! Our counts against those of heaptrack, which sees the C library's allocator from outside: the same run, counted by
//! both.
//!
//! heaptrack also sees what is not ours: blocks of the C++ library that it brings along itself, and what is allocated
//! before the first phase. Calls of those are the same in a long run and in a short one, so they cancel out in the
//! difference. Their bytes are found with a run that does nothing.

use std::collections::HashMap;
use std::path::Path;
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

/// heapgate with `arguments` under heaptrack, which records to `to`.
fn heaptrack(to: &Path, arguments: &str) -> Command {
    let mut command = Command::new("heaptrack");
    command.arg("-o").arg(to).arg(HEAPGATE).args(arguments.split(' ')).stdin(Stdio::null());
    command.env("HEAPGATE_ALLOCATOR", "system").envs([("RAYON_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false")]);
    command
}

/// What heaptrack recorded.
fn recording(place: &Place) -> String {
    Ran::of(Command::new("zstd").arg("-dc").arg(place.path("recording.zst"))).ends_with(0).stdout
}

/// Runs heapgate with `arguments` under heaptrack.
fn run(arguments: &str) -> Seen {
    let place = Place::new();
    let segment = Segment::new(Level::Exact);
    let mut command = heaptrack(&place.path("recording"), arguments);
    segment.give_to(&mut command);
    Ran::of(&mut command).ends_with(0);

    let printed = Ran::of(Command::new("heaptrack_print").arg(place.path("recording.zst"))).ends_with(0).stdout;
    let line = |label: &str| {
        let found = printed.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("no '{label}'"));
        found.split_whitespace().next().expect("a figure").to_owned()
    };
    let replayed = replay(&recording(&place));
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

/// A line of source, and the name of the function there.
type Site = (String, i64, String);

/// Calls in a recording by the innermost place outside the standard library and heapgate.
///
/// Beside the lines that [`replay`] reads: `s LENGTH TEXT` is the next string; `i ADDRESS MODULE`, with FUNCTION FILE LINE of each
/// function that is inlined there, the innermost first, the next address; `t ADDRESS PARENT` the next trace. They count
/// from 1.
fn calls_by_site(recording: &str) -> HashMap<Site, i64> {
    let number = |text: &str| i64::from_str_radix(text, 16).expect("hexadecimal");
    let (mut strings, mut addresses, mut traces) = (vec![""], vec![Vec::new()], vec![(0, 0)]);
    let (mut kinds, mut calls) = (Vec::new(), HashMap::<usize, i64>::new());
    for line in recording.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let index = |word: usize| number(words[word]) as usize;
        match words[0] {
            "s" => strings.push(line.splitn(3, ' ').nth(2).expect("a string")),
            "i" => addresses.push(words[3..].iter().map(|word| number(word)).collect()),
            "t" => traces.push((index(1), index(2))),
            "a" => kinds.push(index(2)),
            "+" => *calls.entry(kinds[index(1)]).or_default() += 1,
            _ => {}
        }
    }
    let is_foreign = |file: &str| {
        let starts = ["/rustc/", "library/", "./", "../"].iter().any(|start| file.starts_with(start));
        file.is_empty() || starts || file.contains("harness/")
    };
    let site_of = |mut trace: usize| {
        while trace != 0 {
            let (address, parent) = traces[trace];
            let places =
                addresses[address].chunks_exact(3).map(|place| (place[0], strings[place[1] as usize], place[2]));
            if let Some((function, file, line)) = places.into_iter().find(|(_, file, _)| !is_foreign(file)) {
                return Some((file.to_owned(), line, strings[function as usize].to_owned()));
            }
            trace = parent;
        }
        None
    };
    let mut sites = HashMap::new();
    for (trace, calls) in calls {
        if let Some(site) = site_of(trace) {
            *sites.entry(site).or_default() += calls;
        }
    }
    sites
}

/// The first sites of a profile of the steps that a long run under heaptrack has more than a short one.
fn profiled(flags: &str) -> Vec<serde_json::Value> {
    let place = Place::new();
    let profile =
        format!("profile alloc tokenize/hf-wordpiece -a system -p document=repeated --steps 8 --json {flags}");
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&profile).ends_with(0).stdout).expect("the profile as JSON");
    json["sites"].as_array().expect("sites").clone()
}

#[test]
fn the_sites_of_an_exact_profile_have_the_counts_that_heaptrack_has() {
    if heaptrack_is_missing() {
        return;
    }
    // Eight documents that take turns: two warm a run up, so eight steps more are each document once.
    let [short, long] = [8, 16].map(|steps| {
        let place = Place::new();
        let trial = format!("trial tokenize/hf-wordpiece --param document=repeated --steps {steps}");
        Ran::of(&mut heaptrack(&place.path("recording"), &trial)).ends_with(0);
        calls_by_site(&recording(&place))
    });
    let exact = profiled("--exact --top 10");
    assert_eq!(exact.len(), 10, "{exact:#?}");
    let (file, name) = (
        |site: &serde_json::Value| site["file"].as_str().unwrap().to_owned(),
        |site: &serde_json::Value| site["function"].as_str().unwrap().rsplit("::").next().unwrap().to_owned(),
    );
    for site in &exact {
        // Its paths begin at the crate, and its names are mangled.
        let is_it = |(its_file, line, function): &Site| {
            let is_function = name(site).starts_with('{') || function.contains(&name(site));
            file(site).ends_with(its_file) && site["line"] == *line && is_function
        };
        let calls = |run: &HashMap<Site, i64>| -> i64 {
            run.iter().filter(|(its, _)| is_it(its)).map(|(_, calls)| calls).sum()
        };
        assert_eq!(site["values"]["calls"].as_f64(), Some((calls(&long) - calls(&short)) as f64), "{site:#}");
    }

    const PERIOD: f64 = 64.0;
    let sampled = profiled("--every 64 --top 1000");
    for site in &exact {
        let same = |other: &&serde_json::Value| {
            ["file", "line", "function", "call"].iter().all(|&key| other[key] == site[key])
        };
        let [calls, estimate] = [Some(site), sampled.iter().find(same)]
            .map(|site| site.map_or(0.0, |site| site["values"]["calls"].as_f64().expect("a number")));
        // Each call is taken by itself with 1/PERIOD, and stands for PERIOD. Five standard errors; the seed is fixed.
        let error = (calls * (PERIOD - 1.0) * PERIOD).sqrt();
        assert!((estimate - calls).abs() <= 5.0 * error, "{estimate} of {calls}, error {error}: {site:#}");
    }
}
