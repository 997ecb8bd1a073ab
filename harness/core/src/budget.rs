//! Limits on one process's memory, which must agree: its own soft limit, a sidecar's that watches it, its control group's.
//!
//! Each must act before the next: the soft limit slows the process down and gives memory back, the sidecar drains it and starts
//! another, and the control group's limit kills what is left. The other way round the kernel kills a process that had not begun
//! to save, in the middle of its requests.
//!
//! ```
//! use heapgate_core::budget::{Budget, Limit};
//! const GIB: u64 = 1 << 30;
//! let agree = Budget { process: Some(8 * GIB), sidecar: Some(10 * GIB), cgroup: Some(12 * GIB) };
//! assert!(agree.faults().is_empty());
//! let reversed = Budget { process: Some(12 * GIB), ..agree };
//! assert_eq!(reversed.faults()[0].lower, Limit::Process);
//! ```

use std::fmt;

use serde::Serialize;

use crate::metric::Unit;
use crate::render::human;

/// How far a limit must at least be below the next, as a share of the next. Below 10 % a process of 10 GiB that allocates 1 GiB/s
/// passes from one to the other in less than the second in which most sidecars look.
pub const LEAST_MARGIN: f64 = 0.10;

/// A limit, the one that acts first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The soft limit that the process keeps itself to.
    Process,
    /// At which a sidecar drains and restarts it.
    Sidecar,
    /// At which the kernel kills.
    Cgroup,
}

impl Limit {
    /// All of them, the one that acts first first.
    pub const ALL: [Self; 3] = [Self::Process, Self::Sidecar, Self::Cgroup];

    /// What it does when it is reached.
    #[must_use]
    pub const fn acts(self) -> &'static str {
        match self {
            Self::Process => "gives memory back: faster decay, purges, the program's own callback",
            Self::Sidecar => "drains the process and starts another",
            Self::Cgroup => "the kernel kills",
        }
    }

    /// What the room between this one and the next is for.
    #[must_use]
    pub const fn margin_is_for(self) -> &'static str {
        match self {
            Self::Process => {
                "what is allocated until a purge has taken effect, and memory no allocator steers: stacks, mapped files"
            }
            Self::Sidecar => "the sidecar's own memory, page tables, and what is allocated while requests are drained",
            Self::Cgroup => "",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Sidecar => "sidecar",
            Self::Cgroup => "cgroup",
        })
    }
}

/// The limits of one process, bytes. Without a sidecar the process's own is held to the control group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Budget {
    /// The process's soft limit.
    pub process: Option<u64>,
    /// The sidecar's.
    pub sidecar: Option<u64>,
    /// The control group's.
    pub cgroup: Option<u64>,
}

/// Two limits that don't agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fault {
    /// The one that should act first.
    pub lower: Limit,
    /// Its value, bytes.
    pub lower_bytes: u64,
    /// The one that should act next.
    pub upper: Limit,
    /// Its value, bytes.
    pub upper_bytes: u64,
}

impl Fault {
    /// Whether the first acts before the second at all, if only just.
    #[must_use]
    pub const fn is_in_order(&self) -> bool {
        self.lower_bytes < self.upper_bytes
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: u64| human::limit(Unit::Bytes, bytes as f64);
        let (lower, upper) = (self.lower, self.upper);
        let most = bytes(most_below(self.upper_bytes));
        if self.is_in_order() {
            write!(
                f,
                "the {lower} limit, {}, is less than {} below the {upper} limit, {}: set it to {most} at most. The room is for {}",
                bytes(self.lower_bytes),
                human::percent(LEAST_MARGIN),
                bytes(self.upper_bytes),
                lower.margin_is_for(),
            )
        } else {
            write!(
                f,
                "the {lower} limit, {}, is not below the {upper} limit, {}, which acts first then ({}): set it to {most} at most",
                bytes(self.lower_bytes),
                bytes(self.upper_bytes),
                upper.acts(),
            )
        }
    }
}

impl Budget {
    /// The value of `limit`, bytes.
    #[must_use]
    pub const fn get(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Process => self.process,
            Limit::Sidecar => self.sidecar,
            Limit::Cgroup => self.cgroup,
        }
    }

    /// The neighbours among the limits that are set, and by which share of the upper one the lower is below it (negative where
    /// it is above).
    pub fn margins(&self) -> impl Iterator<Item = (Limit, Limit, f64)> {
        self.neighbours().map(|fault| {
            let share = 1.0 - fault.lower_bytes as f64 / fault.upper_bytes.max(1) as f64;
            (fault.lower, fault.upper, share)
        })
    }

    /// Where they don't agree.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.neighbours().filter(|pair| pair.lower_bytes > most_below(pair.upper_bytes)).collect()
    }

    fn neighbours(&self) -> impl Iterator<Item = Fault> {
        let set: Vec<(Limit, u64)> =
            Limit::ALL.into_iter().filter_map(|limit| Some((limit, self.get(limit)?))).collect();
        let pairs: Vec<Fault> = set
            .windows(2)
            .filter_map(|pair| match *pair {
                [(lower, lower_bytes), (upper, upper_bytes)] => Some(Fault { lower, lower_bytes, upper, upper_bytes }),
                _ => None,
            })
            .collect();
        pairs.into_iter()
    }
}

/// The most that a limit below one of `upper` bytes may be.
fn most_below(upper: u64) -> u64 {
    (upper as f64 * (1.0 - LEAST_MARGIN)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn faults(process: Option<u64>, sidecar: Option<u64>, cgroup: Option<u64>) -> Vec<(Limit, Limit)> {
        Budget { process, sidecar, cgroup }.faults().iter().map(|fault| (fault.lower, fault.upper)).collect()
    }

    #[test]
    fn limits_agree_if_each_acts_before_the_next() {
        assert_eq!(faults(Some(8 * GIB), Some(10 * GIB), Some(12 * GIB)), []);
        assert_eq!(faults(Some(9 * GIB), Some(10 * GIB), None), []);
        assert_eq!(faults(Some(9 * GIB + 1), Some(10 * GIB), None), [(Limit::Process, Limit::Sidecar)]);
        assert_eq!(faults(Some(8 * GIB), Some(12 * GIB), Some(10 * GIB)), [(Limit::Sidecar, Limit::Cgroup)]);
        assert_eq!(
            faults(Some(12 * GIB), Some(10 * GIB), Some(8 * GIB)),
            [(Limit::Process, Limit::Sidecar), (Limit::Sidecar, Limit::Cgroup)]
        );
    }

    #[test]
    fn without_a_sidecar_the_process_is_held_to_the_control_group() {
        assert_eq!(faults(Some(8 * GIB), None, Some(8 * GIB)), [(Limit::Process, Limit::Cgroup)]);
        assert_eq!(faults(Some(8 * GIB), None, None), []);
        assert_eq!(faults(Some(u64::MAX), None, Some(0)), [(Limit::Process, Limit::Cgroup)]);
    }

    #[test]
    fn a_fault_says_what_would_be_right() {
        let fault = |process, cgroup| {
            Budget { process: Some(process), sidecar: None, cgroup: Some(cgroup) }.faults()[0].to_string()
        };
        assert_eq!(
            fault(12 * GIB, 10 * GIB),
            "the process limit, 12 GiB, is not below the cgroup limit, 10 GiB, which acts first then (the kernel kills): set it \
             to 9 GiB at most"
        );
        assert!(
            fault(GIB * 19 / 2, 10 * GIB).starts_with("the process limit, 9.5 GiB, is less than 10% below"),
            "{}",
            fault(GIB * 19 / 2, 10 * GIB)
        );
    }
}
