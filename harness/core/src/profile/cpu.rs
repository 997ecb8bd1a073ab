//! Samples of CPU time, as the child writes them: lines of text, in snapshots that each hold a whole phase so far.
//!
//! ```text
//! begin measure 199
//! 12 tokenizer 5581a0 5582b0 …
//! end 60000000
//! ```
//!
//! The end has the CPU time that was spent, ns. A line is how often a stack was seen, its thread (white space as `_`), and its return addresses, the innermost first.
//! Of each phase the last snapshot that is whole counts: a child that is killed leaves those before.

use std::collections::BTreeMap;

use super::model::{Aggregate, Kind, Sampling, Value, ValueUnit};
use super::resolve::{Gathered, RawSample};

/// Samples per second of CPU time, where nobody asks for another rate: not a divisor or multiple of what programs do
/// regularly.
pub const DEFAULT_FREQUENCY_HZ: u32 = 199;

/// More would be spent on sampling than on what is sampled.
pub const MAX_FREQUENCY_HZ: u32 = 1_000;

/// Fewer samples than this share of those that were due are told.
const MOST_OF_DUE: f64 = 0.8;
/// Of fewer samples nothing can be said: by chance there are twice as many, or half.
const FEW: f64 = 50.0;

/// The values of a CPU profile.
#[must_use]
pub fn values() -> Vec<Value> {
    let value = |name: &str, unit| Value { name: name.to_owned(), unit, aggregate: Aggregate::Sum };
    vec![value("cpu", ValueUnit::Nanoseconds), value("samples", ValueUnit::Count)]
}

/// What the child left.
#[must_use]
pub fn gather(text: &str, frequency_hz: u32) -> Gathered {
    let mut phases: BTreeMap<String, (Vec<RawSample>, u64)> = BTreeMap::new();
    let mut open: Option<(String, Vec<RawSample>)> = None;
    let period_ns = 1e9 / f64::from(frequency_hz.max(1));
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), &mut open) {
            (Some("begin"), _) => open = words.next().map(|phase| (phase.to_owned(), Vec::new())),
            (Some("end"), _) => {
                let spent_ns = words.next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
                phases.extend(open.take().map(|(phase, samples)| (phase, (samples, spent_ns))));
            }
            (Some(count), Some((phase, samples))) => samples.extend(sample(count, words, phase, period_ns)),
            _ => {}
        }
    }
    let cpu_ns = phases.values().map(|(_, spent_ns)| spent_ns).fold(0, |sum: u64, ns| sum.saturating_add(*ns));
    let samples: Vec<RawSample> = phases.into_values().flat_map(|(samples, _)| samples).collect();
    let taken: f64 = samples.iter().map(|sample| sample.values[1]).sum();
    let due = cpu_ns as f64 / period_ns;
    let mut notes = Vec::new();
    if taken < MOST_OF_DUE * due && due > FEW {
        notes.push(format!(
            "{taken:.0} samples were taken of the {due:.0} that were due: the rest fell where no stack can be taken, or the kernel's timer is coarser"
        ));
    }
    let sampling = Sampling {
        description: format!("{frequency_hz} samples per second of CPU time"),
        samples: taken as u64,
        lost: (due - taken).max(0.0) as u64,
        frequency_hz: Some(frequency_hz),
        ..Sampling::default()
    };
    let exact_totals = vec![(cpu_ns > 0).then_some(cpu_ns as f64), None];
    Gathered { kind: Kind::Cpu, sampling, values: values(), exact_totals, samples, notes }
}

/// A line that makes sense.
fn sample<'a>(count: &str, mut words: impl Iterator<Item = &'a str>, phase: &str, period_ns: f64) -> Option<RawSample> {
    let count = f64::from(count.parse::<u32>().ok()?);
    let thread = words.next()?.to_owned();
    let frames = words.map(|word| u64::from_str_radix(word, 16)).collect::<Result<Vec<u64>, _>>().ok()?;
    Some(RawSample {
        frames,
        thread,
        phase: phase.to_owned(),
        values: vec![count * period_ns, count],
        // Poisson: a count's variance is itself.
        variances: vec![count * period_ns * period_ns, count],
        ..RawSample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_snapshot_of_each_phase_counts_and_nonsense_does_not() {
        let text = "begin setup 200\n3 main 10 20\nend 15000000\nbegin measure 200\n1 main 10\nend 1\n\
                    begin measure 200\n5 main 10\nx y z\n7 main 10 nonsense\n2 worker 1f 20\nend 35000000\n\
                    begin measure 200\n9 main 10\n";
        let gathered = gather(text, 200);
        assert_eq!((gathered.sampling.samples, gathered.exact_totals[0]), (10, Some(50e6)));
        let found: Vec<_> = gathered
            .samples
            .iter()
            .map(|s| (s.phase.as_str(), s.thread.as_str(), &s.frames[..], s.values[0]))
            .collect();
        let expected: [(&str, &str, &[u64], f64); 3] = [
            ("measure", "main", &[0x10], 25e6),
            ("measure", "worker", &[0x1f, 0x20], 10e6),
            ("setup", "main", &[0x10, 0x20], 15e6),
        ];
        assert_eq!(found, expected);
        assert!(gathered.notes.is_empty());
    }

    #[test]
    fn samples_that_are_missing_are_told() {
        let gathered = gather("begin measure 100\n10 main 1\nend 2000000000\n", 100);
        assert!(
            gathered.notes[0].starts_with("10 samples were taken of the 200 that were due"),
            "{:?}",
            gathered.notes
        );
        assert!(gather("", 100).samples.is_empty());
    }
}
