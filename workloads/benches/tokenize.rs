//! Throughput of every tokenize variant, beside that of `hf-wordpiece`: `cargo bench -p heapgate-workloads`.
//!
//! Rounds are interleaved, so that a slow spell of the machine falls on all; medians are shown. An argument
//! `--rounds=N` sets their number.

use std::collections::BTreeMap;
use std::time::Instant;

use heapgate_bench::{Error, Params, Variant, Workload};
use heapgate_workloads::tokenize::documents::{Documents, Kind, PARAM};
use heapgate_workloads::{tokenize, variants};

const DEFAULT_ROUNDS: usize = 5;

/// One variant, set up, and the speed it had in each round.
struct Entry {
    variant: &'static Variant,
    workload: Box<dyn Workload>,
    tokens_per_s: Vec<f64>,
    mb_per_s: Vec<f64>,
}

impl Entry {
    fn new(variant: &'static Variant, params: &Params) -> Result<Self, Error> {
        let workload = (variant.setup)(params)?;
        Ok(Self { variant, workload, tokens_per_s: Vec::new(), mb_per_s: Vec::new() })
    }

    fn round(&mut self, steps: u64, bytes: usize) {
        let start = Instant::now();
        let tokens: u64 = (0..steps).map(|_| self.workload.step().units).sum();
        let seconds = start.elapsed().as_secs_f64();
        self.tokens_per_s.push(tokens as f64 / seconds);
        self.mb_per_s.push(bytes as f64 / 1e6 / seconds);
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(kind: Kind, rounds: usize) -> Result<(), Error> {
    let mut documents = Documents::load(kind)?;
    let steps = documents.steps().measure;
    let params = BTreeMap::from([(PARAM.to_owned(), kind.name().to_owned())]);
    let mut entries = variants()
        .iter()
        .filter(|variant| variant.workload == "tokenize")
        .map(|variant| Entry::new(variant, &Params::resolve(variant.params, &params)?))
        .collect::<Result<Vec<_>, _>>()?;
    for _ in 0..rounds {
        // In a round every variant takes the same documents; the next round goes on with others.
        let bytes = (0..steps).map(|_| documents.take().len()).sum();
        entries.iter_mut().for_each(|entry| entry.round(steps, bytes));
    }
    let hf = entries.iter().find(|entry| entry.variant.name == tokenize::HF_WORDPIECE.name).expect("it is registered");
    println!("\n{}: {rounds} rounds of {steps} documents", kind.name());
    println!("{:18} {:>12} {:>8} {:>16}", "variant", "tokens/s", "MB/s", "x hf-wordpiece");
    for entry in &entries {
        let ratio = median(entry.mb_per_s.iter().zip(&hf.mb_per_s).map(|(ours, hf)| ours / hf));
        let (tokens, speed) = (median(entry.tokens_per_s.iter().copied()), median(entry.mb_per_s.iter().copied()));
        println!("{:18} {tokens:>12.0} {speed:>8.2} {ratio:>16.2}", entry.variant.name);
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let rounds = std::env::args()
        .find_map(|arg| arg.strip_prefix("--rounds=")?.parse().ok())
        .filter(|&rounds| rounds > 0)
        .unwrap_or(DEFAULT_ROUNDS);
    for kind in [Kind::Verse, Kind::Book, Kind::Corpus] {
        compare(kind, rounds)?;
    }
    Ok(())
}
