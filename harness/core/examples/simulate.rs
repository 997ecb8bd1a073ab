//! Puts into `docs/accuracy.json`, from which `docs/accuracy.md` is made, what the gate's rule and the usual ones do on
//! simulated series: false alarms where nothing changed, power elsewhere.
//!
//! `cargo run --release -p heapgate-core --example simulate -- docs/accuracy.json`; the number of trials may follow, 10,000
//! otherwise.

use std::path::Path;
use std::thread;

use heapgate_core::accuracy::{Accuracy, Simulation};
use heapgate_core::gate::{FALSE_ALARM, MOST_LOOKS, repetitions, rule};
use heapgate_core::stats::simulate::{Order, Row, Rule, Series, Source, table};

/// Run-to-run standard deviation of wall time on a shared machine; peak RSS has a tenth of it.
const SD: f64 = 0.03;
/// The change that rules with a limit allow.
const LIMIT: f64 = 0.05;
/// No change, one standard deviation, the limit, and beyond.
const SHIFTS: [f64; 5] = [0.0, SD, LIMIT, 0.08, 0.12];
/// Repetitions that a run begins with; at its last look it has four times as many.
const REPS: u32 = 5;
/// As many metrics as a run of several cells tests together.
const FAMILY: usize = 60;
/// What textbooks and tools use.
const USUAL: f64 = 0.05;
const SEED: u64 = 1;
const TRIALS: u64 = 10_000;

fn rules(order: Order) -> Vec<Rule> {
    let gate = |limit| [1, FAMILY].map(|family| rule(limit, MOST_LOOKS, family, order));
    let mut rules =
        vec![Rule::benchstat(), Rule::mann_whitney(USUAL), Rule::welch(USUAL), Rule::mann_whitney(FALSE_ALARM)];
    rules.push(Rule::welch(FALSE_ALARM));
    rules.extend(gate(0.0));
    rules.push(Rule::medians(LIMIT));
    rules.extend([USUAL, FALSE_ALARM].map(|alpha| Rule::mann_whitney(alpha).beyond(LIMIT)));
    rules.push(Rule::welch(FALSE_ALARM).beyond(LIMIT));
    rules.extend(gate(LIMIT));
    rules
}

fn rows(order: Order, trials: u64) -> Vec<Row> {
    let sources = Series::ALL.map(|series| Source { series, order, sd: SD });
    table(&rules(order), &sources, &SHIFTS, repetitions(REPS, MOST_LOOKS - 1) as usize, trials, SEED)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file? As in: docs/accuracy.json")?;
    let trials = arguments.next().map_or(Ok(TRIALS), |n| n.parse())?;
    let mut accuracy = Accuracy::load(Path::new(&path))?;
    let rows = thread::scope(|scope| {
        let both = [Order::Interleaved, Order::Sequential].map(|order| scope.spawn(move || rows(order, trials)));
        both.into_iter().flat_map(|one| one.join().expect("it doesn't panic")).collect()
    });
    accuracy.simulated = Some(Simulation { seed: SEED, rows });
    accuracy.save(Path::new(&path))?;
    Ok(())
}
