//! Prints, as JSON, what the usual rules do on simulated series: false alarms where the shift is 0, power elsewhere.
//!
//! `cargo run --release -p heapgate-core --example simulate > table.json`; the number of trials may be given, 10,000
//! otherwise.

use heapgate_core::stats::simulate::{Order, Rule, Series, Source, table};

/// Run-to-run standard deviation of wall time on a shared machine; peak RSS has a tenth of it.
const SD: f64 = 0.03;
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let trials = std::env::args().nth(1).map_or(Ok(10_000), |n| n.parse())?;
    let rules = [Rule::mann_whitney(0.05), Rule::benchstat(), Rule::welch(0.05), Rule::medians(0.05)];
    let series = [
        Series::Normal,
        Series::LogNormal,
        Series::Bimodal,
        Series::Autocorrelated { phi: 0.6 },
        Series::Autocorrelated { phi: 0.9 },
        Series::Drifting,
    ];
    let sources: Vec<Source> = [Order::Interleaved, Order::Sequential]
        .into_iter()
        .flat_map(|order| series.map(|series| Source { series, order, sd: SD }))
        .collect();
    let shifts = [0.0, 1.0, 2.0, 4.0].map(|deviations| deviations * SD);
    let rows: Vec<_> =
        [5, 10, 20].into_iter().flat_map(|n| table(&rules, &sources, &shifts, n, trials, SEED)).collect();
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
