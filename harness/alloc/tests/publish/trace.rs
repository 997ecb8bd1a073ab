//! The trace line, as a real process writes it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use heapgate_alloc::segment::published;
use heapgate_alloc::segment::trace_line::{FIELDS, PREFIX};

use crate::child::{Child, Place};
use crate::{OBJECT, OBJECTS};

/// The fields of a line, which must have them all in their order.
fn fields(line: &str) -> HashMap<String, String> {
    let mut parts = line.trim_end().split(' ').map(|part| part.split_once('=').unwrap_or((part, "")));
    assert_eq!(parts.next(), Some(("heapgate-trace", "")), "{line}");
    assert_eq!(parts.next(), Some(("v", "2")), "{line}");
    let fields: Vec<_> = parts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, FIELDS.map(|(name, _)| name));
    fields.into_iter().collect()
}

fn number(fields: &HashMap<String, String>, name: &str) -> i64 {
    fields[name].parse().unwrap_or_else(|_| panic!("{name} is {}", fields[name]))
}

/// Those of a minute, in which anything that is to be in one of them is.
const MOST_LINES: usize = 3_000;

/// Traces a line every 20 ms.
const TRACED: [(&str, &str); 3] =
    [("HEAPGATE_TRACE", "1"), ("HEAPGATE_TRACE_INTERVAL", "20ms"), ("HEAPGATE_SAMPLE_PERIOD", "4")];

pub fn lines_come_and_say_what_was_counted() {
    let place = Place::new();
    let mut child = Child::start(&place, "nothing", &[&TRACED[..], &[("HEAPGATE_PUBLISH", "svc")]].concat());
    let mut stderr = BufReader::new(child.stderr());
    let mut next = || {
        let mut line = String::new();
        stderr.read_line(&mut line).expect("text");
        fields(&line)
    };
    // The first may be from before all was allocated.
    let (_, second, third) = (next(), next(), next());
    assert_eq!((third["service"].as_str(), third["level"].as_str(), third["last"].as_str()), ("svc", "sampled", "0"));
    assert_eq!(number(&third, "pid"), i64::from(child.id()));
    assert!(third["t"].len() == 24 && third["t"].ends_with('Z'), "{}", third["t"]);
    // The first may be from before the last object, or from before the last that the program allocates before it waits: what it
    // has for its standard input. While it waits nothing is counted: lines cost it no allocation.
    const COUNTED: [&str; 5] = ["allocs", "frees", "reallocs", "alloc_bytes", "live_objects"];
    let mut last = next();
    let after = (0..MOST_LINES).find_map(|_| {
        let before = std::mem::replace(&mut last, next());
        let is_idle = COUNTED.iter().all(|&name| last[name] == before[name]);
        (is_idle && number(&before, "live_objects") >= OBJECTS.cast_signed()).then_some(before)
    });
    let after = after.expect("all objects are counted soon, and nothing more");
    assert!(number(&after, "live_bytes") >= OBJECTS.cast_signed() * OBJECT as i64);
    assert_eq!(number(&after, "allocs") - number(&after, "frees"), number(&after, "live_objects"));
    assert!(number(&after, "rss_bytes") > 100_000);
    assert!(number(&third, "threads") >= 1);
    let quiet = next();
    assert_eq!(
        (quiet["timed"].as_str(), quiet["stall_max_ns"].as_str(), quiet["stall_p99_ns"].as_str()),
        ("0", "-", "-")
    );
    assert!(second["interval_s"] != "-");
    let ended = child.end();
    assert_eq!(ended.code, Some(0));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    let last = fields(rest.lines().next_back().expect("a last line"));
    assert_eq!(last["last"], "1");
    assert_eq!(rest.matches("last=1").count(), 1);
    assert!(number(&last, "frees") >= OBJECTS.cast_signed(), "what main freed at its end is in it");
}

pub fn a_process_that_publishes_itself_later_is_published() {
    let place = Place::new();
    let mut child = Child::start(&place, "late", &TRACED);
    let mut stderr = BufReader::new(child.stderr());
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    assert_eq!(fields(&line)["service"], "-");
    assert_eq!(published::list(&place.runtime()).expect("made"), []);
    assert_eq!(child.ask("publish"), "published\n");
    let reading = place.read("tokenizer");
    let totals = reading.reader().expect("a segment").totals();
    assert!(totals.live_objects() > 0, "from before main");
    let named = stderr
        .by_ref()
        .lines()
        .map(|line| fields(&line.expect("text")))
        .take(MOST_LINES)
        .any(|f| f["service"] == "tokenizer");
    assert!(named);
    drop(stderr);
    assert_eq!(child.end().code, Some(0), "a reader that goes away is no error of the program");
}

pub fn lines_go_to_a_file() {
    let place = Place::new();
    let log = place.path("trace.log");
    let file = [("HEAPGATE_TRACE_FILE", log.to_str().expect("UTF-8"))];
    for _ in 0..2 {
        let ended = Child::start(&place, "nothing", &[&TRACED[..], &file].concat()).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
    let log = std::fs::read_to_string(log).expect("written");
    assert!(log.lines().all(|line| line.starts_with(PREFIX)), "{log}");
    // Each process adds to what is there.
    let lasts: Vec<_> = log.lines().map(fields).filter(|fields| fields["last"] == "1").collect();
    assert_eq!(lasts.len(), 2);
    assert_ne!(lasts[0]["pid"], lasts[1]["pid"]);
    assert_eq!(std::fs::read_dir(place.runtime()).map_or(0, Iterator::count), 0, "not published");
}

pub fn a_file_that_takes_no_lines_is_said_once() {
    let place = Place::new();
    let full = [("HEAPGATE_TRACE_FILE", "/dev/full")];
    let mut child = Child::start(&place, "nothing", &[&TRACED[..], &full].concat());
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr());
    stderr.read_line(&mut line).expect("text");
    assert_eq!(line, "heapgate: trace lines can't be written; no more are: the system's error 28\n");
    assert_eq!(child.end().code, Some(0));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "");

    let nowhere = [("HEAPGATE_TRACE_FILE", "/not/there")];
    let ended = Child::start(&place, "nothing", &[&TRACED[..], &nowhere].concat()).end();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), "heapgate: HEAPGATE_TRACE_FILE can't be opened, so there are no trace lines: the system's error 2\n")
    );
}

pub fn a_forked_child_writes_no_line() {
    let place = Place::new();
    let mut child = Child::start(&place, "fork", &TRACED);
    assert!(child.ask("fork").starts_with("forked: "));
    let id = child.id();
    let stderr = child.end().stderr;
    let pids: Vec<_> = stderr.lines().map(fields).map(|fields| number(&fields, "pid")).collect();
    assert!(!pids.is_empty() && pids.iter().all(|&pid| pid == i64::from(id)), "{stderr}");
    assert_eq!(stderr.matches("last=1").count(), 1);
}

pub fn an_interval_that_is_none_is_refused() {
    let place = Place::new();
    for (name, value) in
        [("HEAPGATE_TRACE_INTERVAL", "1h"), ("HEAPGATE_TRACE_INTERVAL", "1ms"), ("HEAPGATE_TRACE", "yes")]
    {
        let ended = Child::start(&place, "nothing", &[("HEAPGATE_TRACE", "1"), (name, value)]).end();
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(0), 1), "{}", ended.stderr);
        assert!(ended.stderr.contains(name) && ended.stderr.contains("no trace lines"), "{}", ended.stderr);
    }
}
