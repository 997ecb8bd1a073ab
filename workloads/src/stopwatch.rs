//! Times steps of a workload from inside, with nothing around them: for the benchmark of heapgate's own overhead.

use std::collections::BTreeMap;
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
