//! Planted regressions: each moves what it is named after, by as much as was asked for, in every workload.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::common::{EXACT, Place, REPORT, trials};
use heapgate_segment::histogram::bucket_bounds;
use heapgate_workloads::variants;
use serde_json::Value;

/// Bytes of a leaked object.
const OBJECT_BYTES: f64 = 16.0;

/// One variant or more of each workload, with few steps: seconds for all.
const FAMILIES: &[&str] = &[
    "tokenize/hf-wordpiece -p document=verse --steps 40",
    "decode/kv-concat --steps 40",
    "decode/seeded-llama --steps 4 -p requests=1",
    "embed/seeded-bert --steps 2",
    "embed/index-heap --steps 2",
    "operators/allocating --steps 4",
    "prompt/join --steps 100",
    "cache/slab-heap --steps 4",
    "mixed/side-by-side --steps 2",
];

/// Runs `arguments` and returns its trials.
fn run(arguments: &str) -> Vec<Value> {
    let place = Place::new();
    place.run(&format!("run {arguments}")).ends_with(0);
    let report = place.json(REPORT);
    let trials = trials(&report).to_vec();
    assert!(!trials.is_empty() && trials.iter().all(|trial| trial["outcome"]["kind"] == "completed"), "{arguments}");
    trials
}

/// The same of a selection that has one trial.
fn trial(arguments: &str) -> Value {
    let mut trials = run(&format!("{arguments} -n 1"));
    assert_eq!(trials.len(), 1, "{arguments}");
    trials.remove(0)
}

/// The trial of `selection` in which nothing is planted: run once for all tests that ask for it.
fn plain_trial(selection: &str) -> Value {
    static TRIALS: Mutex<BTreeMap<String, Arc<OnceLock<Value>>>> = Mutex::new(BTreeMap::new());
    let cell = Arc::clone(TRIALS.lock().expect("nothing panics inside").entry(selection.to_owned()).or_default());
    cell.get_or_init(|| trial(selection)).clone()
}

fn phase<'a>(trial: &'a Value, kind: &str) -> &'a Value {
    let phases = trial["phases"].as_array().expect("phases");
    phases.iter().find(|phase| phase["kind"] == kind).expect("each phase was reached")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn metric(trial: &Value, name: &str) -> f64 {
    number(&trial["metrics"][name])
}

/// The sum of some counts of the measured phase.
fn counted(trial: &Value, names: &[&str]) -> f64 {
    names.iter().map(|name| number(&phase(trial, "measure")["counts"][name])).sum()
}

fn allocated_bytes(trial: &Value) -> f64 {
    counted(trial, &["alloc_bytes", "alloc_zeroed_bytes", "realloc_new_bytes"])
}

/// The lower median over trials.
fn median(trials: &[Value], of: impl Fn(&Value) -> f64) -> f64 {
    let mut values: Vec<f64> = trials.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

#[test]
fn extra_allocations_are_as_many_as_were_asked_for_in_every_workload() {
    for family in FAMILIES {
        let selection = format!("{family} -a jemalloc");
        let (plain, planted) = (plain_trial(&selection), trial(&format!("{selection} --inject extra-allocs=1.25")));
        let rise = counted(&planted, &["alloc_calls"]) - counted(&plain, &["alloc_calls"]);
        let units = number(&phase(&planted, "measure")["units"]);
        assert_eq!(rise, (units * 1.25).floor(), "{family}: {units} units");
        assert_eq!(metric(&planted, "left_bytes"), metric(&plain, "left_bytes"), "{family}");
    }
    for (per_unit, inject) in [(1.0, "extra-allocs=1"), (0.25, "extra-allocs=0.25")] {
        let selection = format!("{} -a jemalloc", FAMILIES[0]);
        let (plain, planted) = (plain_trial(&selection), trial(&format!("{selection} --inject {inject}")));
        let rise = counted(&planted, &["alloc_calls"]) - counted(&plain, &["alloc_calls"]);
        assert_eq!(rise, (number(&phase(&planted, "measure")["units"]) * per_unit).floor(), "{inject}");
    }
}

#[test]
fn a_leak_leaves_its_share_of_the_bytes_allocated_in_every_workload() {
    for family in FAMILIES {
        for allocator in ["jemalloc", "system", "region"] {
            leaves_its_share(&format!("{family} -a {allocator}"), 0.01);
        }
    }
    leaves_its_share("tokenize/wordpiece-heap -a jemalloc -p document=repeated --steps 2", 0.5);
}

fn leaves_its_share(selection: &str, share: f64) {
    let (plain, planted) = (plain_trial(selection), trial(&format!("{selection} --inject leak={share}")));
    let rise = metric(&planted, "left_bytes") - metric(&plain, "left_bytes");
    let asked_for = share * allocated_bytes(&planted);
    assert!((rise - asked_for).abs() <= OBJECT_BYTES, "{selection}: {rise} bytes of {asked_for}");
    let objects = metric(&planted, "left_objects") - metric(&plain, "left_objects");
    assert_eq!(objects * OBJECT_BYTES, rise, "{selection}");
}

/// A figure of the process at the end of measuring: a peak within a step is raised only by what is resident between steps.
fn at_the_end(trial: &Value, what: &str) -> f64 {
    number(&phase(trial, "measure")["process"][what])
}

/// By what share of the rest resident memory is higher in `planted`. What is planted is anonymous, and told by that from the
/// files' pages, of which some hundred are mapped or not from run to run.
fn planted_share(plain: &[Value], planted: &[Value]) -> f64 {
    let anonymous = median(plain, |trial| at_the_end(trial, "anonymous_bytes"));
    median(planted, |trial| {
        let added = at_the_end(trial, "anonymous_bytes") - anonymous;
        added / (at_the_end(trial, "rss_bytes") - added)
    })
}

#[test]
fn resident_memory_is_higher_by_its_share_and_no_exact_metric_moves() {
    for family in FAMILIES {
        // Under jemalloc, what it keeps of the Llama's set-up differs from run to run by more than is planted.
        let selection = format!("{family} -a system -n 5");
        let (plain, planted) = (run(&selection), run(&format!("{selection} --inject rss=50%")));
        let share = planted_share(&plain, &planted);
        assert!((share - 0.5).abs() < 0.02, "{family}: {share}");
        // Given back in the drain, where more or fewer files' pages make no difference either.
        let left =
            |trials: &[Value]| median(trials, |trial| number(&phase(trial, "drain")["process"]["anonymous_bytes"]));
        let left = left(&planted) / left(&plain) - 1.0;
        assert!(left.abs() < 0.06, "{family}: it is given back in the drain: {left}");
        assert_same_exact(&plain[0], &planted[0], family);
    }
}

/// jemalloc that gives nothing back: else as much of what set-up leaves counts as is not given back yet, which the clock
/// decides.
const KEEPS_ALL: &str = "-a jemalloc:dirty_decay_ms=-1,muzzy_decay_ms=-1";

#[test]
fn the_peak_of_resident_memory_is_higher_by_its_share() {
    /// The kernel counts peaks by CPU, in batches of 64 pages: of 30 MB and few CPUs that is within this.
    const BATCHES: f64 = 0.03;
    let selection = format!("tokenize/hf-wordpiece -p document=verse --steps 40 {KEEPS_ALL} -n 5");
    let plain = run(&selection);
    for share in [0.05, 0.2] {
        let planted = run(&format!("{selection} --inject rss={share}"));
        let found = planted_share(&plain, &planted);
        assert!((found - share).abs() < 0.01, "{share}: {found}");
        // Nothing is given back: the peak is what is there at the end, all of what is planted in it.
        for trial in plain.iter().chain(&planted) {
            let (peak, end) = (metric(trial, "peak_rss_bytes"), at_the_end(trial, "rss_bytes"));
            assert!((peak / end - 1.0).abs() < BATCHES, "{share}: {peak} and {end} bytes");
        }
    }
}

/// That no metric that must agree differs.
fn assert_same_exact(plain: &Value, planted: &Value, selection: &str) {
    for name in EXACT {
        assert_eq!(metric(plain, name), metric(planted, name), "{selection}: {name}");
    }
}

/// Calls of the measured phase, and how many of them took `ns` or longer.
fn calls_of_at_least(trial: &Value, ns: f64) -> (f64, f64) {
    let measure = phase(trial, "measure");
    let ticks_per_ns = number(&trial["ticks_per_second"]) / 1e9;
    let (mut all, mut long) = (0.0, 0.0);
    for kind in ["clean", "interrupted"] {
        for operation in ["alloc", "alloc_zeroed", "realloc", "dealloc"] {
            for pair in measure["stalls"][kind][operation].as_array().expect("a histogram") {
                let bucket = usize::try_from(pair[0].as_u64().expect("an index")).expect("small");
                all += number(&pair[1]);
                // The time asked for is somewhere in its bucket.
                if bucket_bounds(bucket).1 as f64 > ns * ticks_per_ns {
                    long += number(&pair[1]);
                }
            }
        }
    }
    (all, long)
}

/// That of the calls of `planted` as many took `ns` or longer as drawn with `share`: five standard errors, and the seed is fixed.
/// Beside them, of calls that were held up without being planted, at most one each time that the thread lost its processor, to
/// another thread or for that long to the hypervisor.
fn assert_stalls(planted: &Value, ns: f64, share: f64, selection: &str) {
    let (calls, long) = calls_of_at_least(planted, ns);
    let (expected, sigma) = (share * calls, (share * (1.0 - share) * calls).sqrt());
    let cpus = std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
    let stolen_s = planted["steal_share"].as_f64().unwrap_or(0.0) * number(&planted["wall_s"]) * cpus;
    let held_up = at_the_end(planted, "involuntary_switches") + stolen_s * 1e9 / ns;
    let range = expected - 5.0 * sigma..=expected + 5.0 * sigma + held_up;
    assert!(range.contains(&long), "{selection}: {long} of {calls} calls, not in {range:?}, {held_up} held up");
}

#[test]
fn calls_stall_as_often_and_as_long_as_was_asked_for() {
    // A length that no call reaches by itself, but for some in which the scheduler comes.
    const NS: f64 = 5e6;
    for selection in [
        "tokenize/hf-wordpiece -p document=verse --steps 60 -a jemalloc",
        "tokenize/hf-wordpiece -p document=verse --steps 60 -a system",
        "tokenize/hf-wordpiece -p document=verse --steps 60 -a region",
        "tokenize/hf-wordpiece -p document=verse --steps 60 -a region+system",
        "decode/seeded-llama --steps 8 -a jemalloc",
        "embed/seeded-bert --steps 4 -a jemalloc",
        "prompt/join --steps 1000 -a jemalloc",
        "cache/slab-heap --steps 4 -a jemalloc",
    ] {
        let plain = trial(selection);
        let (calls, _) = calls_of_at_least(&plain, NS);
        // Some dozen stalls, whatever the number of calls.
        let share = (40.0 / calls).min(0.5);
        let planted = trial(&format!("{selection} --inject stall=5ms@{share}"));
        assert_stalls(&planted, NS, share, selection);
        assert_same_exact(&plain, &planted, selection);
        let answers = |trial: &Value| phase(trial, "measure")["checksum"].clone();
        assert_eq!(answers(&plain), answers(&planted), "{selection}");
    }
}

#[test]
fn fragmentation_is_higher_by_its_share_and_no_exact_metric_moves() {
    for selection in [
        "tokenize/hf-wordpiece -p document=verse --steps 40 -a jemalloc",
        "tokenize/hf-wordpiece -p document=verse --steps 40 -a region",
        "embed/seeded-bert --steps 2 -a jemalloc",
        "decode/kv-concat --steps 40 -a jemalloc",
    ] {
        let plain = plain_trial(selection);
        for share in [0.05, 0.1, 0.3] {
            let planted = trial(&format!("{selection} --inject fragmentation={share}"));
            let rise = metric(&planted, "fragmentation_share") - metric(&plain, "fragmentation_share");
            assert!((rise / share - 1.0).abs() < 0.3, "{selection} {share}: {rise}");
            assert_same_exact(&plain, &planted, selection);
        }
    }
}

#[test]
fn fragmentation_that_the_heap_has_no_room_for_fails_the_trial() {
    let place = Place::new();
    let ran =
        place.run("run tokenize/hf-wordpiece -p document=verse --steps 2 -a jemalloc -n 1 --inject fragmentation=0.9");
    ran.ends_with(5);
    let said = place.json(REPORT)["trials"][0]["outcome"]["stderr"].to_string();
    assert!(said.contains("fragmentation can't be planted") && said.contains("plant less"), "{said}");
}

#[test]
fn every_variant_takes_every_injection() {
    // Those that run on a schedule take a second each.
    let names: Vec<String> = variants()
        .iter()
        .filter(|variant| (variant.missing)().is_none() && !variant.params.iter().any(|param| param.name == "model"))
        .map(|variant| format!("{}/{}", variant.workload, variant.name))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let planted = run(&format!(
        "{} -n 1 --steps 1 -p duration=1 --inject extra-allocs=1 --inject leak=10%,rss=1% --inject stall=1us@1e-3 \
         --inject fragmentation=1%",
        names.join(" ")
    ));
    assert!(planted.len() >= names.len());
    let mut at_work = 0;
    for trial in &planted {
        let cell = &trial["cell"];
        let units = number(&phase(trial, "measure")["units"]);
        // A step may be less than a unit: of cache/lru, whose reads wait.
        at_work += usize::from(units > 0.0);
        assert!(counted(trial, &["alloc_calls"]) >= units, "{cell}: one more for each unit");
        let asked_for = 0.1 * allocated_bytes(trial);
        assert!(metric(trial, "left_bytes") >= asked_for - OBJECT_BYTES, "{cell}: {asked_for}");
    }
    assert!(at_work > planted.len() / 2, "{at_work} of {}", planted.len());
}

#[test]
fn several_are_planted_at_once() {
    let selection = format!("tokenize/hf-wordpiece -p document=verse --steps 20 {KEEPS_ALL}");
    let plain = trial(&selection);
    let planted = trial(&format!("{selection} --inject extra-allocs=1 --inject leak=1%,rss=50%"));
    let units = number(&phase(&planted, "measure")["units"]);
    let objects = metric(&planted, "left_objects") - metric(&plain, "left_objects");
    let rise = counted(&planted, &["alloc_calls"]) - counted(&plain, &["alloc_calls"]);
    assert_eq!(rise, units + objects);
    // The leak is resident, too.
    let share = planted_share(&[plain], &[planted]);
    assert!(objects > 0.0 && share > 0.45 && share < 0.6, "{share}");
}

#[test]
fn the_gate_fails_a_leak_of_one_percent_and_names_it() {
    let place = Place::new();
    let selection = "tokenize/hf-wordpiece -p document=verse --steps 4 -a jemalloc";
    place.run(&format!("baseline record {selection}")).ends_with(0);
    let ran = place.run(&format!("gate {selection} --inject leak=1%")).ends_with(3);
    assert!(ran.stdout.lines().any(|line| line.contains("FAIL") && line.contains("left_bytes")), "{}", ran.stdout);
}

#[test]
fn what_cant_be_planted_is_refused_before_anything_runs() {
    let place = Place::new();
    let own = concat!("--bench own_allocator --manifest-path ", env!("CARGO_MANIFEST_DIR"), "/../bench/Cargo.toml");
    for (arguments, said) in [
        ("run --inject leaks=1", "there is: extra-allocs=N, leak=SHARE, arenas=SHARE, rss=SHARE, stall=TIME@SHARE"),
        ("run --inject leak=95%", "'95%' is not a share from 0 to 0.9"),
        ("run --inject stall=50us", "'50us' is not of the form 50us@1e-4"),
        ("run --inject rss=1% --inject leak=1% --inject rss=2%", "rss is planted twice"),
        ("run --level off --inject leak=1%", "nothing is counted"),
        (&format!("run {own} --inject stall=1us@1e-3"), "allocator of its own"),
        (&format!("run {own} --inject fragmentation=1%"), "allocator of its own"),
    ] {
        place.run(arguments).ends_with(2).says(&["--inject", said]);
        assert!(!place.has(REPORT), "{arguments}");
    }
}

#[test]
fn benches_of_peoples_own_take_injections_too() {
    let words = concat!("--bench words --manifest-path ", env!("CARGO_MANIFEST_DIR"), "/../bench/Cargo.toml");
    leaves_its_share(&format!("{words} words/owned -a jemalloc"), 0.1);
    leaves_its_share(&format!("{words} words/owned -a region+system"), 0.1);
    let selection = format!("{words} words/owned -a system");
    let (plain, planted) = (trial(&selection), trial(&format!("{selection} --inject stall=1ms@0.001,rss=50%")));
    assert_stalls(&planted, 1e6, 0.001, &selection);
    assert_same_exact(&plain, &planted, &selection);
    let share = planted_share(&[plain], &[planted]);
    assert!((share - 0.5).abs() < 0.05, "{share}");
}
