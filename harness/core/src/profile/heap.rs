//! Dumps of jemalloc's heap profiler: what is in use, and what was allocated since the start, by stack.
//!
//! jemalloc takes a sample once in `rate` bytes on average, with probability 1 − exp(−size/rate) for an allocation of
//! `size` bytes, and dumps the sampled counts. Dividing by that probability makes them unbiased, as jemalloc's `jeprof`
//! does with dumps of this format (`heap_v2`); with `prof_unbias` (the default) jemalloc prepares the sums such that this
//! is right for stacks with several sizes too.

use std::collections::BTreeMap;

use super::model::{Aggregate, Kind, Sampling, Value, ValueUnit};
use super::resolve::{Gathered, RawSample};
use crate::metric::Unit;
use crate::render::human;

/// Once in how many bytes jemalloc takes a sample, where nobody asks for another rate: 128 KiB, so that 100 MB of small
/// allocations leave 760 samples. Twice as often costs a tokenizer 4 % more (docs/overhead.md).
pub const DEFAULT_RATE_BYTES: u64 = 1 << 17;

/// The files that a child leaves, without their folder: at the begin and the end of the measured phase, and when most was
/// in use meanwhile.
pub const DUMPS: [&str; 3] = ["begin.heap", "end.heap", "peak.heap"];

/// Beside them, how many bytes the telemetry counted as live as the peak was dumped.
pub const PEAK_BYTES: &str = "peak.bytes";

/// The dumps of a process; those that it did not come to are absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dumps {
    /// As the measured phase began.
    pub begin: Option<Dump>,
    /// As it ended.
    pub end: Option<Dump>,
    /// As most was in use meanwhile, where that is more than at its begin.
    pub peak: Option<Dump>,
    /// Live bytes then, as counted.
    pub peak_live_bytes: Option<f64>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// What a dump says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dump {
    /// Once in how many bytes a sample was taken, on average.
    pub rate_bytes: u64,
    /// By stack, the innermost frame first.
    pub stacks: BTreeMap<Vec<u64>, Counts>,
}

/// Sampled objects and bytes, as dumped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In use.
    pub objects: u64,
    /// In use.
    pub bytes: u64,
    /// Allocated since the start.
    pub allocated_objects: u64,
    /// Allocated since the start.
    pub allocated_bytes: u64,
}

/// Why a text is no dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// It does not begin as one.
    #[error("line 1: not a heap dump of jemalloc (it should begin with heap_v2/)")]
    Header,
    /// A line is not as it should be.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        let mut lines = text.lines().zip(1..);
        let rate = lines.next().and_then(|(first, _)| first.strip_prefix("heap_v2/")?.trim().parse().ok());
        let mut dump = Self { rate_bytes: rate.ok_or(DumpError::Header)?, stacks: BTreeMap::new() };
        let mut stack: Option<Vec<u64>> = None;
        for (text, line) in lines {
            let text = text.trim();
            if text.starts_with("MAPPED_LIBRARIES") {
                break;
            }
            if let Some(addresses) = text.strip_prefix('@') {
                let address = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
                let frames = addresses.split_whitespace().map(address).collect::<Result<_, _>>();
                stack = Some(frames.map_err(|_| DumpError::Line { line, what: "not an address" })?);
            } else if let Some(counts) = text.strip_prefix("t*:")
                && let Some(stack) = stack.take()
            {
                let counts =
                    counts_of(counts).ok_or(DumpError::Line { line, what: "not counts of objects and bytes" })?;
                dump.stacks.insert(stack, counts);
            }
        }
        Ok(dump)
    }

    /// All bytes in use, unbiased.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.stacks.values().map(|counts| self.unbiased(counts.objects, counts.bytes).bytes).sum()
    }

    fn unbiased(&self, objects: u64, bytes: u64) -> Estimate {
        if objects == 0 {
            return Estimate::default();
        }
        let (n, mean) = (objects as f64, bytes as f64 / objects as f64);
        let p = if self.rate_bytes <= 1 { 1.0 } else { -(-mean / self.rate_bytes as f64).exp_m1() };
        if p <= 0.0 {
            return Estimate::default();
        }
        // Each sample stands for 1/p: the variance of Horvitz and Thompson's estimate.
        let variance = n * (1.0 - p) / (p * p);
        Estimate {
            objects: n / p,
            bytes: bytes as f64 / p,
            objects_variance: variance,
            bytes_variance: variance * mean * mean,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Estimate {
    objects: f64,
    bytes: f64,
    objects_variance: f64,
    bytes_variance: f64,
}

/// `12: 345 [67: 890]`.
fn counts_of(text: &str) -> Option<Counts> {
    let numbers: Vec<u64> = text
        .split([':', '[', ']', ' '])
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    let &[objects, bytes, allocated_objects, allocated_bytes] = numbers.as_slice() else { return None };
    Some(Counts { objects, bytes, allocated_objects, allocated_bytes })
}

/// The values of a heap profile.
#[must_use]
pub fn values() -> Vec<Value> {
    let pair = |name: &str| {
        [("bytes", ValueUnit::Bytes), ("objects", ValueUnit::Count)].map(|(what, unit)| Value {
            name: format!("{name}_{what}"),
            unit,
            aggregate: Aggregate::Sum,
        })
    };
    ["peak", "end", "allocated"].into_iter().flat_map(pair).collect()
}

/// What jemalloc's dumps say. `exact` is what is known exactly, as [`values`] has it.
#[must_use]
pub fn gather(dumps: &Dumps, exact: Vec<Option<f64>>) -> Gathered {
    let (begin, end, peak) = (dumps.begin.as_ref(), dumps.end.as_ref(), dumps.peak.as_ref());
    let mut samples: BTreeMap<Vec<u64>, RawSample> = BTreeMap::new();
    let in_use = |dump: &Dump, counts: &Counts| dump.unbiased(counts.objects, counts.bytes);
    let allocated = |dump: &Dump, counts: &Counts| dump.unbiased(counts.allocated_objects, counts.allocated_bytes);
    // Without an end, the last that is known is the peak.
    let last = end.or(peak).or(begin);
    // The peak's is only taken when more is in use than at the begin, and it may be the end's.
    let highest = [peak, begin, end].into_iter().flatten().next();
    let highest = match (highest, end) {
        (Some(highest), Some(end)) if end.bytes() > highest.bytes() => Some(end),
        (highest, _) => highest,
    };
    if let Some(dump) = highest {
        dump.stacks.iter().for_each(|(stack, counts)| add(&mut samples, stack, 0, in_use(dump, counts)));
    }
    if let Some(dump) = last {
        dump.stacks.iter().for_each(|(stack, counts)| add(&mut samples, stack, 2, in_use(dump, counts)));
        for (stack, counts) in &dump.stacks {
            let before = begin.and_then(|begin| Some(allocated(begin, begin.stacks.get(stack)?))).unwrap_or_default();
            add(&mut samples, stack, 4, allocated(dump, counts).since(before));
        }
    }
    samples.retain(|_, sample| sample.values.iter().any(|&value| value > 0.0));
    let taken = last.map_or(0, |dump| dump.stacks.values().map(|counts| counts.allocated_objects).sum());
    let rate = last.map_or(0, |dump| dump.rate_bytes);
    let mut notes = dumps.problems.clone();
    if last.is_some() {
        notes.push(
            "bytes are those of jemalloc's size classes, to which it rounds up; the exact figures are as asked for"
                .to_owned(),
        );
    }
    if let (Some(live), Some(Some(exact))) = (dumps.peak_live_bytes, exact.first())
        && *exact > 0.0
    {
        notes.push(format!(
            "peak: the highest of the dumps, one whenever {PEAK_STEP_PERCENT}% more was in use than at the one before, looked for every ms; {:.0}% of the exact peak was in use then",
            (100.0 * live / exact).min(100.0)
        ));
    }
    if last.is_some() && end.is_none() {
        notes.push("the measured phase did not end: `end` and `allocated` are as at the last dump".to_owned());
    }
    let sampling = Sampling {
        description: match rate {
            0 | 1 => "jemalloc's profiler, every allocation".to_owned(),
            _ => format!("jemalloc's profiler, once in {} on average", human::value(Unit::Bytes, rate as f64)),
        },
        samples: taken,
        byte_period: Some(rate),
        ..Sampling::default()
    };
    let samples = samples.into_iter().map(|(frames, sample)| RawSample { frames, ..sample }).collect();
    Gathered { kind: Kind::Heap, sampling, values: values(), exact_totals: exact, samples, notes }
}

/// Bytes in use by stack, unbiased, at the begin and at the end.
#[must_use]
pub fn in_use(begin: &Dump, end: &Dump) -> Vec<RawSample> {
    let mut stacks: BTreeMap<&Vec<u64>, [f64; 2]> = BTreeMap::new();
    for (at, dump) in [begin, end].into_iter().enumerate() {
        for (stack, counts) in &dump.stacks {
            stacks.entry(stack).or_default()[at] += dump.unbiased(counts.objects, counts.bytes).bytes;
        }
    }
    let sample = |(stack, values): (&Vec<u64>, [f64; 2])| RawSample {
        frames: stack.clone(),
        values: values.to_vec(),
        variances: vec![0.0; 2],
        ..RawSample::default()
    };
    stacks.into_iter().map(sample).collect()
}

/// By how much memory in use must exceed that at the highest dump for the child to take another.
pub const PEAK_STEP_PERCENT: u64 = 2;

fn add(samples: &mut BTreeMap<Vec<u64>, RawSample>, stack: &[u64], at: usize, estimate: Estimate) {
    let sample = samples.entry(stack.to_owned()).or_insert_with(|| RawSample {
        values: vec![0.0; 6],
        variances: vec![0.0; 6],
        ..RawSample::default()
    });
    sample.values[at] += estimate.bytes;
    sample.values[at + 1] += estimate.objects;
    sample.variances[at] += estimate.bytes_variance;
    sample.variances[at + 1] += estimate.objects_variance;
}

impl Estimate {
    /// What came after `before`. Samples of different times are independent, so variances are subtracted too.
    fn since(self, before: Self) -> Self {
        Self {
            objects: (self.objects - before.objects).max(0.0),
            bytes: (self.bytes - before.bytes).max(0.0),
            objects_variance: (self.objects_variance - before.objects_variance).max(0.0),
            bytes_variance: (self.bytes_variance - before.bytes_variance).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "heap_v2/1000\n  t*: 1: 500 [1: 500]\n  t0: 1: 500 [1: 500]\n@ 0x10 0x20\n  t*: 1: 500 [1: 500]\n  t0: 1: 500 [1: 500]\n\nMAPPED_LIBRARIES:\n@ 1 2\n";
    const END: &str = "heap_v2/1000\n  t*: 3: 8500 [9: 9500]\n@ 0x10 0x20\n  t*: 1: 500 [3: 1500]\n  t0: 1: 500 [3: 1500]\n@ 0x30\n  t*: 2: 8000 [2: 8000]\n";

    #[test]
    fn samples_are_weighted_by_what_they_stand_for() {
        let dumps = Dumps {
            begin: Some(Dump::parse(BEGIN).unwrap()),
            end: Some(Dump::parse(END).unwrap()),
            ..Dumps::default()
        };
        let gathered = gather(&dumps, vec![None; 6]);
        let of = |frame: u64| gathered.samples.iter().find(|s| s.frames[0] == frame).unwrap();
        // 500 bytes are sampled with probability 1 - exp(-1/2), 4000 with 1 - exp(-4).
        let (small, large) = (1.0 - (-0.5_f64).exp(), 1.0 - (-4.0_f64).exp());
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * b, "{a} {b}");
        close(of(0x10).values[0], 500.0 / small);
        close(of(0x10).values[3], 1.0 / small);
        close(of(0x10).values[5], 2.0 / small);
        close(of(0x30).values[4], 8000.0 / large);
        close(of(0x30).variances[5], 2.0 * (1.0 - large) / (large * large));
    }

    #[test]
    fn what_is_no_dump_is_refused_with_its_line() {
        assert_eq!(Dump::parse("").unwrap_err(), DumpError::Header);
        assert_eq!(Dump::parse("heap_v1/5\n").unwrap_err(), DumpError::Header);
        let not_counts = Dump::parse("heap_v2/5\n@ 0x1\n t*: 1: 2\n").unwrap_err();
        assert_eq!(not_counts, DumpError::Line { line: 3, what: "not counts of objects and bytes" });
        assert!(Dump::parse("heap_v2/5\n@ 0xg\n").is_err());
        assert!(Dump::parse("heap_v2/5\n").unwrap().stacks.is_empty());
    }
}
