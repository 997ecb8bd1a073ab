//! Times steps of a workload from inside, with nothing around them: for the benchmark of heapgate's own overhead, and for the
//! comparison with other profilers.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use heapgate_bench::{Error, Params, in_force};

/// Sets the variant up for `document`, takes a quarter of `steps` to warm up, then times `steps`; ns.
///
/// # Errors
/// If there is no such variant or document, `steps` is no number, or the set-up fails.
pub fn run(variant: &str, document: &str, steps: &str) -> Result<u128, Error> {
    let refuse = |name: &str, reason: &str| Error::Param { name: name.to_owned(), reason: reason.to_owned() };
    let found = crate::variants().iter().find(|v| format!("{}/{}", v.workload, v.name) == variant);
    let found = found.ok_or_else(|| refuse("variant", "there is none of that name"))?;
    let steps: u64 = steps.parse().map_err(|_| refuse("steps", "not a number"))?;
    let given = BTreeMap::from([("document".to_owned(), document.to_owned())]);
    let mut workload = (found.setup)(&Params::resolve(found.params, &given)?)?;
    let region = in_force().has_region();
    let mut step = || {
        if region {
            heapgate_region::scope(|| workload.step())
        } else {
            workload.step()
        };
    };
    (0..steps.div_ceil(4)).for_each(|_| step());
    let start = Instant::now();
    (0..steps).for_each(|_| step());
    Ok(start.elapsed().as_nanos())
}

/// Runs what the arguments of the program say, `WORKLOAD/VARIANT DOCUMENT STEPS`, and prints how long that took, ns, and the
/// most memory that the process had, KiB.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [variant, document, steps] = &arguments[..] else {
        eprintln!("usage: WORKLOAD/VARIANT DOCUMENT STEPS");
        return ExitCode::from(2);
    };
    match run(variant, document, steps) {
        Ok(ns) => {
            println!("{ns} {}", peak_rss_kib());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The most memory that this process had resident; 0 where the kernel doesn't say.
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let words = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    words.and_then(|words| words.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
