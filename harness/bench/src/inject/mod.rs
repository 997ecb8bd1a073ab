//! Planted regressions: controls that show that the gate isn't asleep. Hidden from help, used by tests and calibration.
//!
//! `WHAT=HOW`, several with commas or by several flags. Shares are written `5%`, `0.05` or `5e-2`; times `800ns`, `50us`,
//! `2ms`, `1s`. Each moves what it is named after, and besides that:
//!
//! - `extra-allocs=N`: `N` objects of 16 bytes more for each unit of work, freed at once; in the steps that warm up too.
//!   Moves `allocations_per_unit`, `allocated_bytes_per_unit`.
//! - `leak=S`: of the bytes allocated while measuring, its own included, the share `S` is never freed: objects of 16 bytes,
//!   paced after each step by what all threads of the process have allocated. Under `region` they are made in the step's
//!   scope, so they are escapes too, and pin its chunk. Moves `left_bytes`, `left_objects`, the peaks of live objects, RSS;
//!   and allocations per unit, since a leak allocates.
//! - `arenas=S`: while measuring, a [`heapgate_region::Arena`] for each unit of work, each with 1 KiB in it, of which the
//!   share `S` is never released; 0 makes them all the same. Moves what `leak` moves.
//! - `rss=S`: while measuring, pages of no use are resident besides: the share `S` of what is resident without them, looked
//!   at when measuring begins, then after steps, once a millisecond at most. They are mapped beside the allocator, so no
//!   exact metric moves; `minor_faults` does. A peak within one step that is gone at its end is not seen. Given back in
//!   the drain.
//! - `stall=T@P`: while measuring, a call of the allocator with probability `P` spins for `T` first. It is below the
//!   telemetry, which times it as the allocator's. No exact metric moves. All other calls cost some nanoseconds more, too.
//!   Which calls is drawn in each thread from a sequence of its own, always the same one in the first thread.
//! - `fragmentation=S`: at the end of measuring, `S` more of jemalloc's active pages holds nothing alive, as a difference
//!   of `fragmentation_share`. Whole slabs are filled and emptied to one object each, when measuring begins, and once more
//!   after the last step if the heap has changed by then. It is done beside the telemetry, so no exact metric moves; RSS,
//!   `minor_faults` and, by one object in 64, what an account of memory takes for rounding by size classes do. Under the C
//!   library's malloc the same is done, by what is resident, and nothing measures it but RSS.
//!
//! `stall` and `fragmentation` are refused by a bench with an allocator of its own, which they can't reach; `leak` where
//! nothing is counted.

mod arenas;
mod holes;
mod plant;
mod resident;
pub(crate) mod stalls;

use std::fmt;
use std::str::FromStr;

pub(crate) use plant::Planter;

/// What to plant.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Injection {
    /// Allocations more per unit of work; fractions are allowed.
    pub extra_allocs: f64,
    /// Share of the bytes allocated while measuring that is never freed.
    pub leak_share: f64,
    /// Of arenas, one made for each unit of work while measuring, the share that is never released; `None` makes none.
    pub arena_leak_share: Option<f64>,
    /// By which share more is resident while measuring.
    pub rss_share: f64,
    /// Which calls of the allocator take longer while measuring.
    pub stall: Option<Stall>,
    /// By how much the share of active pages that holds nothing alive is higher.
    pub fragmentation_share: f64,
}

/// Calls of the allocator that take longer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// By how much, ns.
    pub ns: u64,
    /// Which share of the calls, above 0.
    pub share: f64,
}

const EXTRA_ALLOCS: &str = "extra-allocs";
const LEAK: &str = "leak";
const ARENAS: &str = "arenas";
const RSS: &str = "rss";
const STALL: &str = "stall";
const FRAGMENTATION: &str = "fragmentation";
/// What plants nothing.
const NONE: &str = "none";

/// More would be another workload, and take forever.
const MAX_EXTRA_ALLOCS: f64 = 1e6;
/// A leak counts as allocated itself: at a share of 1 it would never be enough.
const MAX_LEAK_SHARE: f64 = 0.9;
/// All of them.
const MAX_ARENA_LEAK_SHARE: f64 = 1.0;
/// Resident memory eleven times as high.
const MAX_RSS_SHARE: f64 = 10.0;
/// Emptied slabs still hold an object each.
const MAX_FRAGMENTATION_SHARE: f64 = 0.9;
/// A stall of this length is a trial that has timed out.
const MAX_STALL_NS: u64 = 10_000_000_000;

/// Units of time, in the order in which they are tried: whole milliseconds are written as such, and `s` ends the names of
/// the others.
const TIMES: [(&str, u64); 4] = [("ms", 1_000_000), ("us", 1_000), ("ns", 1), ("s", 1_000_000_000)];

impl Injection {
    /// What `self` and `other` plant together.
    ///
    /// # Errors
    /// If both plant the same.
    pub fn and(self, other: Self) -> Result<Self, String> {
        let either = |what: &str, a: f64, b: f64| if a == 0.0 || b == 0.0 { Ok(a + b) } else { Err(twice(what)) };
        Ok(Self {
            extra_allocs: either(EXTRA_ALLOCS, self.extra_allocs, other.extra_allocs)?,
            leak_share: either(LEAK, self.leak_share, other.leak_share)?,
            arena_leak_share: match (self.arena_leak_share, other.arena_leak_share) {
                (Some(_), Some(_)) => return Err(twice(ARENAS)),
                (a, b) => a.or(b),
            },
            rss_share: either(RSS, self.rss_share, other.rss_share)?,
            stall: match (self.stall, other.stall) {
                (Some(_), Some(_)) => return Err(twice(STALL)),
                (a, b) => a.or(b),
            },
            fragmentation_share: either(FRAGMENTATION, self.fragmentation_share, other.fragmentation_share)?,
        })
    }

    /// What `all` plant together.
    ///
    /// # Errors
    /// If two plant the same.
    pub fn all(all: &[Self]) -> Result<Self, String> {
        all.iter().try_fold(Self::default(), |sum, &one| sum.and(one))
    }

    /// The arguments that make a trial plant this; none for nothing.
    #[must_use]
    pub fn arguments(self) -> Vec<String> {
        if self == Self::default() { Vec::new() } else { vec!["--inject".to_owned(), self.to_string()] }
    }

    /// Why a program whose global allocator is not the [`Switch`](crate::Switch) can't plant this, if it can't.
    #[must_use]
    pub fn needs_switch(self) -> Option<String> {
        let what = if self.stall.is_some() {
            STALL
        } else if self.fragmentation_share > 0.0 {
            FRAGMENTATION
        } else {
            return None;
        };
        Some(format!("--inject {what}: it can't be planted in a bench that has an allocator of its own"))
    }

    /// Why this can't be planted where no call is counted, if it can't.
    #[must_use]
    pub fn needs_counts(self) -> Option<String> {
        (self.leak_share > 0.0)
            .then(|| format!("--inject {LEAK}: it is a share of the bytes counted, and nothing is counted here"))
    }
}

fn twice(what: &str) -> String {
    format!("{what} is planted twice")
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self::default());
        }
        text.split(',').try_fold(Self::default(), |sum, one| sum.and(parse(one)?))
    }
}

fn parse(text: &str) -> Result<Injection, String> {
    let mut planted = Injection::default();
    match text.split_once('=') {
        Some((EXTRA_ALLOCS, how)) => match how.parse() {
            Ok(number) if (0.0..=MAX_EXTRA_ALLOCS).contains(&number) => planted.extra_allocs = number,
            _ => return Err(format!("'{how}' is not a number from 0 to {MAX_EXTRA_ALLOCS}")),
        },
        Some((LEAK, how)) => planted.leak_share = share(how, MAX_LEAK_SHARE)?,
        Some((ARENAS, how)) => planted.arena_leak_share = Some(share(how, MAX_ARENA_LEAK_SHARE)?),
        Some((RSS, how)) => planted.rss_share = share(how, MAX_RSS_SHARE)?,
        Some((STALL, how)) => planted.stall = stall(how)?,
        Some((FRAGMENTATION, how)) => planted.fragmentation_share = share(how, MAX_FRAGMENTATION_SHARE)?,
        _ => {
            return Err(format!(
                "'{text}' is nothing that can be planted; there is: {EXTRA_ALLOCS}=N, {LEAK}=SHARE, {ARENAS}=SHARE, \
                 {RSS}=SHARE, {STALL}=TIME@SHARE, {FRAGMENTATION}=SHARE"
            ));
        }
    }
    Ok(planted)
}

fn share(text: &str, most: f64) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match value {
        // Not −0, which would be written as another text.
        Ok(value) if (0.0..=most).contains(&value) => Ok(value.abs()),
        _ => Err(format!("'{text}' is not a share from 0 to {most} (as in 5%, 0.05 or 5e-2)")),
    }
}

fn stall(text: &str) -> Result<Option<Stall>, String> {
    let (time, of) = text.split_once('@').ok_or_else(|| format!("'{text}' is not of the form 50us@1e-4"))?;
    let (ns, share) = (nanoseconds(time)?, share(of, 1.0)?);
    Ok((share > 0.0).then_some(Stall { ns, share }))
}

fn nanoseconds(text: &str) -> Result<u64, String> {
    let unit = TIMES.iter().find_map(|(unit, ns)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, *ns)));
    unit.map(|(number, ns)| (number * ns as f64).round())
        .filter(|ns| (1.0..=MAX_STALL_NS as f64).contains(ns))
        .map(|ns| ns as u64)
        .ok_or_else(|| format!("'{text}' is not a time from 1ns to 10s (as in 800ns, 50us or 2ms)"))
}

/// What [`FromStr`] reads as the same again.
impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |what, value: f64| (value > 0.0).then(|| format!("{what}={value}"));
        let planted = [
            number(EXTRA_ALLOCS, self.extra_allocs),
            number(LEAK, self.leak_share),
            self.arena_leak_share.map(|share| format!("{ARENAS}={share}")),
            number(RSS, self.rss_share),
            self.stall.map(|stall| format!("{STALL}={stall}")),
            number(FRAGMENTATION, self.fragmentation_share),
        ];
        let planted: Vec<String> = planted.into_iter().flatten().collect();
        f.write_str(if planted.is_empty() { NONE.to_owned() } else { planted.join(",") }.as_str())
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, ns) = TIMES.into_iter().find(|(_, ns)| self.ns.is_multiple_of(*ns)).unwrap_or(("ns", 1));
        write!(f, "{}{unit}@{}", self.ns / ns, self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Injection {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn shares_and_times_are_read_in_each_form() {
        for text in ["leak=5%", "leak=0.05", "leak=5e-2"] {
            assert_eq!(read(text), Injection { leak_share: 0.05, ..Injection::default() }, "{text}");
        }
        for (text, ns) in
            [("800ns", 800), ("50us", 50_000), ("0.5ms", 500_000), ("2ms", 2_000_000), ("1s", 1_000_000_000)]
        {
            assert_eq!(read(&format!("stall={text}@1e-4")).stall, Some(Stall { ns, share: 1e-4 }), "{text}");
        }
        assert_eq!(read("extra-allocs=0.01").extra_allocs, 0.01);
    }

    #[test]
    fn several_are_planted_at_once_and_each_once() {
        let all = read("extra-allocs=1,leak=1%,arenas=0,rss=5%,stall=50us@1e-4,fragmentation=10%");
        let parts =
            ["rss=5%", "fragmentation=0.1", "stall=50us@0.01%", "extra-allocs=1", "arenas=0", "leak=0.01"].map(read);
        assert_eq!(Injection::all(&parts), Ok(all));
        assert_eq!(Injection::all(&[]), Ok(Injection::default()));
        for what in ["extra-allocs=1", "leak=1%", "arenas=0", "rss=5%", "stall=50us@1", "fragmentation=1%"] {
            let twice = format!("{what},{what}").parse::<Injection>().unwrap_err();
            assert!(twice.ends_with("is planted twice"), "{twice}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("", "nothing that can be planted; there is: extra-allocs=N, leak=SHARE"),
            ("leaks=1%", "'leaks=1%' is nothing"),
            ("leak=1%,", "'' is nothing"),
            ("extra-allocs=-1", "'-1' is not a number from 0 to 1000000"),
            ("extra-allocs=NaN", "'NaN' is not a number"),
            ("leak=91%", "'91%' is not a share from 0 to 0.9"),
            ("leak=NaN", "'NaN' is not a share"),
            ("rss=much", "'much' is not a share from 0 to 10"),
            ("rss=-1%", "'-1%' is not a share"),
            ("fragmentation=1", "'1' is not a share from 0 to 0.9"),
            ("stall=50us", "'50us' is not of the form 50us@1e-4"),
            ("stall=50@1e-4", "'50' is not a time"),
            ("stall=0us@1e-4", "'0us' is not a time from 1ns to 10s"),
            ("stall=11s@1e-4", "'11s' is not a time"),
            ("stall=50us@2", "'2' is not a share from 0 to 1"),
        ] {
            let error = text.parse::<Injection>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_plants_nothing_needs_no_argument() {
        for text in ["none", "leak=0", "stall=1ms@0", "rss=-0"] {
            assert_eq!(read(text).arguments(), Vec::<String>::new(), "{text}");
        }
        assert_eq!(read("rss=5%").arguments(), ["--inject", "rss=0.05"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(
            extra_allocs in prop_oneof![Just(0.0), 0.0..=MAX_EXTRA_ALLOCS],
            leak_share in prop_oneof![Just(0.0), 0.0..=MAX_LEAK_SHARE, 0.0..1e-9],
            arena_leak_share in proptest::option::of(0.0..=MAX_ARENA_LEAK_SHARE),
            rss_share in prop_oneof![Just(0.0), 0.0..=MAX_RSS_SHARE],
            stall in proptest::option::of((
                prop_oneof![1..=MAX_STALL_NS, (1u64..1_000).prop_map(|us| us * 1_000)],
                prop_oneof![Just(1.0), 1e-12..=1.0],
            )),
            fragmentation_share in prop_oneof![Just(0.0), 0.0..=MAX_FRAGMENTATION_SHARE],
        ) {
            let stall = stall.map(|(ns, share)| Stall { ns, share });
            let planted = Injection { extra_allocs, leak_share, arena_leak_share, rss_share, stall, fragmentation_share };
            prop_assert_eq!(planted.to_string().parse::<Injection>(), Ok(planted));
        }
    }
}
