//! Call sites that allocate: from sampled stacks to names of functions.
//!
//! The child only writes addresses; everything here happens in the supervisor, after the child's end, so that nothing of
//! it is in what was measured, and a child that died is read like any other. `modules` says which file an address is
//! of, `symbols` which functions and lines, `source` where a file lies in its repository, `name` what kind of function that is and how it is called for short; this
//! file groups stacks by site. Called by the supervisor.

mod modules;
pub(crate) mod name;
pub(crate) mod source;
mod symbols;

use std::collections::BTreeMap;

use heapgate_segment::stacks::{Stack, StackSamples};

pub use modules::Modules;
use name::Kind;
pub use symbols::{FileFacts, Frame, Symbols};

use crate::report::{Counts, Site, Sites};

/// Sites that a report keeps: the rest together is a few percent, and is known by subtraction.
const KEPT: usize = 100;

/// What a site is called whose stack has only functions of the standard library, or none.
const NO_CODE: &str = "(no code outside the standard library)";
const NO_FRAMES: &str = "(unknown: the process ended while the stack was written)";

/// The sites of `samples`, from a process whose code was where `modules` says; `counts` are exact.
#[must_use]
pub fn gather(samples: &StackSamples, modules: &Modules, counts: Counts, symbols: &mut Symbols) -> Sites {
    let mut sites: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
    let period = samples.settings.call_period.max(1);
    for stack in &samples.stacks {
        let sum = sites.entry(site_of(stack, modules, symbols)).or_default();
        sum.0 = sum.0.saturating_add(stack.samples);
        // What the samples asked for, from what they stand for.
        sum.1 = sum.1.saturating_add((stack.bytes / period as f64).round() as u64);
    }
    let sum = |of: fn(&(u64, u64)) -> u64| sites.values().map(of).fold(0, u64::saturating_add);
    let (sampled, sampled_bytes, all) = (sum(|s| s.0), sum(|s| s.1), sites.len() as u64);
    let site = |(key, (samples, bytes)): (Key, _)| Site {
        call: key.call,
        function: key.function,
        file: key.file,
        line: key.line,
        samples,
        sampled_bytes: bytes,
    };
    let mut sites: Vec<Site> = sites.into_iter().map(site).collect();
    // By name where counts are equal: the same order every time.
    sites.sort_by_key(|site| std::cmp::Reverse(site.samples));
    sites.truncate(KEPT);
    Sites {
        period,
        samples: sampled,
        sampled_bytes,
        lost_samples: samples.full.saturating_add(samples.nested),
        allocation_calls: counts.allocation_calls(),
        allocated_bytes: counts.allocated_bytes(),
        distinct_sites: all,
        sites,
    }
}

/// What makes a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    call: String,
    function: String,
    file: String,
    line: u32,
}

/// From the innermost frame outwards: the allocator's own functions are passed over, then those of the standard library,
/// of which the last is what was called; the first after them is where. Where that is an inlined closure without a name,
/// the function around it, which is further out in the same file, lends its own.
fn site_of(stack: &Stack, modules: &Modules, symbols: &mut Symbols) -> Key {
    let mut call = None;
    let mut in_allocator = true;
    let mut nameless: Option<Key> = None;
    for &address in &stack.frames {
        for frame in symbols.frames(modules, address) {
            let kind = name::kind(frame);
            if let Some(key) = &mut nameless {
                if kind == Kind::Code && frame.source == key.file && !name::is_nameless(frame) {
                    key.function = name::function(frame);
                    return nameless.unwrap_or_default();
                }
                continue;
            }
            match kind {
                Kind::Allocator if in_allocator => {}
                Kind::Standard => {
                    in_allocator = false;
                    call = Some(name::short_call(frame));
                }
                Kind::Allocator | Kind::Code => {
                    let key = Key {
                        call: call.take().unwrap_or_default(),
                        function: name::function(frame),
                        file: frame.source.clone(),
                        line: frame.line,
                    };
                    if key.file.is_empty() || !name::is_nameless(frame) {
                        return key;
                    }
                    nameless = Some(key);
                }
            }
        }
    }
    if let Some(key) = nameless {
        return key;
    }
    let function = if stack.frames.is_empty() { NO_FRAMES } else { NO_CODE };
    Key { call: call.unwrap_or_default(), function: function.to_owned(), file: String::new(), line: 0 }
}
