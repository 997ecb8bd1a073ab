//! Where a phase's allocations were made, as a report has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a phase's allocations were made, by sampled call stacks. An allocation is an `alloc`, `alloc_zeroed` or
/// `realloc`; each was sampled with probability `1 / period`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sites {
    /// One allocation in how many was sampled, on average; at 1 everything is exact.
    pub period: u64,
    /// Samples that have a stack.
    pub samples: u64,
    /// Bytes that the sampled allocations asked for.
    pub sampled_bytes: u64,
    /// Samples that were due and have no stack: there was no room, or a signal came while another was taken.
    pub lost_samples: u64,
    /// Allocations of the phase, counted exactly.
    pub allocation_calls: u64,
    /// Bytes that they asked for, counted exactly.
    pub allocated_bytes: u64,
    /// How many sites were found; `sites` has those with most samples.
    pub distinct_sites: u64,
    /// The sites, most samples first.
    pub sites: Vec<Site>,
}

/// One place in the code that allocates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// What of the standard library was called there, for instance `Vec::push`; empty where nothing was.
    pub call: String,
    /// The function that called it, the innermost that is neither the allocator's nor the standard library's.
    pub function: String,
    /// Its source file, from its repository's root on, or, where it is of none, from its crate's folder; empty where unknown.
    pub file: String,
    /// The line; 0 where unknown.
    pub line: u32,
    /// Samples taken there.
    pub samples: u64,
    /// Bytes that those asked for.
    pub sampled_bytes: u64,
}

impl Sites {
    /// Share of `site` in all allocations, 0 to 1.
    #[must_use]
    pub fn share(&self, site: &Site) -> f64 {
        ratio(site.samples, self.samples)
    }

    /// By how much [`Self::share`] may be wrong, with 95% confidence (normal approximation of the binomial); 0 where every
    /// allocation was sampled.
    #[must_use]
    pub fn share_error(&self, site: &Site) -> f64 {
        let share = self.share(site);
        let unsampled = 1.0 - 1.0 / self.period.max(1) as f64;
        1.96 * (share * (1.0 - share) / self.samples.max(1) as f64 * unsampled).sqrt()
    }

    /// Share of `site` in all bytes, 0 to 1. Rough where few large allocations make it: [`Self::share_error`] is not its
    /// error, and only period 1 is sure to see them.
    #[must_use]
    pub fn bytes_share(&self, site: &Site) -> f64 {
        ratio(site.sampled_bytes, self.sampled_bytes)
    }

    /// The sites of several repetitions of one cell, as if they were one; `None` of none.
    #[must_use]
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        all.into_iter().cloned().reduce(|mut sum, more| {
            sum.samples += more.samples;
            sum.sampled_bytes += more.sampled_bytes;
            sum.lost_samples += more.lost_samples;
            sum.allocation_calls += more.allocation_calls;
            sum.allocated_bytes += more.allocated_bytes;
            sum.distinct_sites = sum.distinct_sites.max(more.distinct_sites);
            for site in more.sites {
                let same = |s: &&mut Site| {
                    (&s.call, &s.function, &s.file, s.line) == (&site.call, &site.function, &site.file, site.line)
                };
                match sum.sites.iter_mut().find(same) {
                    Some(there) => {
                        there.samples += site.samples;
                        there.sampled_bytes += site.sampled_bytes;
                    }
                    None => sum.sites.push(site),
                }
            }
            sum.sites.sort_by_key(|site| std::cmp::Reverse(site.samples));
            sum
        })
    }
}

impl Site {
    /// Mean size of an allocation there, bytes.
    #[must_use]
    pub fn mean_bytes(&self) -> f64 {
        ratio(self.sampled_bytes, self.samples)
    }
}

/// 0 of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
